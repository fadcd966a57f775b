"""`hostlab firewall stage`, `show` and `save`: what a source becomes in a kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from hostlab.cli.output import json_option, print_json
from hostlab.cli.targets import complete_node
from hostlab.errors import Problem, Unsupported, UsageError

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.firewall.listing import Where
    from hostlab.firewall.ruleset import Ruleset
    from hostlab.firewall.stage import StageNode
    from hostlab.firewall.staged import Staged
    from hostlab.firewall.target import Target
    from hostlab.firewall.troubles import Trouble


def complete_source(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Running nodes, and files."""
    return [*complete_node(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


SOURCE = click.argument("source", metavar="SOURCE|NODE", shell_complete=complete_source)
_SHELLS = ("sh", "bash", "zsh")


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Whose network the stage has: `--node`'s, that of `--interface`s, else this machine's."""
    for option in (
        click.option(
            "--forwarding", is_flag=True, help="The named interfaces' host forwards packets."
        ),
        click.option(
            "--route",
            "routes",
            multiple=True,
            metavar="'PREFIX via ADDRESS [dev NAME]'",
            help="A route of the target; several times.",
        ),
        click.option(
            "--interface",
            "interfaces",
            multiple=True,
            metavar="NAME[=ADDRESS,…]",
            help="An interface of the target; several times.",
        ),
        click.option(
            "--node", shell_complete=complete_node, help="A running lab's node is the target."
        ),
    ):
        function = option(function)
    return function


def stage_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a source is staged: the target's, its shell and its time."""
    for option in (
        click.option(
            "--time-limit",
            type=click.FloatRange(0.1, 86_400),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="How long it may take.",
        ),
        click.option("--shell", type=click.Choice(_SHELLS), help="For scripts that name none."),
    ):
        function = option(function)
    return target_options(function)


def chosen_target(
    node: str | None, interfaces: Sequence[str], routes: Sequence[str], *, forwarding: bool
) -> Target:
    """The target that the options say."""
    from hostlab.firewall import target_of

    named = bool(interfaces or routes or forwarding)
    if node is not None and named:
        raise UsageError("target", "either --node or --interface says what the target is")
    if node is not None:
        from hostlab.cli.targets import one_node

        return target_of.of_node(one_node(node))
    if named:
        return target_of.described(interfaces, routes, forwarding=forwarding)
    return target_of.this_machine()


def running_node(source: str) -> Node | None:
    """The running node that a source names; None for a file, a directory or standard input."""
    from hostlab.firewall.source import STDIN
    from hostlab.lab.paths import labs

    if source == STDIN or source.startswith(("/", ".")) or os.path.exists(source):
        return None
    if not labs():
        message = f"there is no file {source}, and no lab that is up to have a node so named"
        raise UsageError("no-file", message)
    from hostlab.cli.targets import one_node

    try:
        return one_node(source)
    except Problem as problem:
        message = f"there is no file {source}, and {problem.message}"
        raise UsageError("no-file", message, hint=problem.hint) from None


def target_for(source: Node | None, **options: Any) -> Target:
    """The target that the options say; where they say none, that of the node whose rules it is."""
    if source is not None and not any(options.values()):
        from hostlab.firewall import target_of

        return target_of.of_node(source)
    return chosen_target(**options)


def staged_from(
    source: str,
    *,
    shell: str | None,
    time_limit: float,
    arguments: Sequence[str] = (),
    **target: Any,
) -> Staged:
    """A source, or what a node holds, staged in a lab of its own that is gone afterwards."""
    import msgspec

    from hostlab.firewall.one_family import left_open
    from hostlab.firewall.stage import Stage

    node = running_node(source)
    with Stage(target_for(node, **target)) as stage:
        place = stage.nodes["stage"]
        found = staged_in(place, node or source, arguments=arguments, shell=shell, limit=time_limit)
    remarks = tuple(left_open(found.ruleset, stage.target))
    return msgspec.structs.replace(found, troubles=(*found.troubles, *remarks))


def staged_in(
    place: StageNode,
    source: str | Node,
    *,
    shell: str | None,
    limit: float,
    arguments: Sequence[str] = (),
    stdin: bytes | None = None,
) -> Staged:
    """A source, or what a node holds, in a node of a stage."""
    from hostlab.firewall.source import STDIN, read_source
    from hostlab.firewall.staged import stage_copy, stage_source

    if not isinstance(source, str):
        return stage_copy(place, source)
    if stdin is None:
        stdin = sys.stdin.buffer.read() if source == STDIN else b""
    found = read_source(source, stdin=stdin, shell=shell)
    return stage_source(place, found, arguments=arguments, time_limit_s=limit)


@click.command("stage", epilog="Example: hostlab firewall stage /etc/firewall/rules.d")
@SOURCE
@click.argument("arguments", nargs=-1)
@stage_options
@json_option
def stage_command(source: str, *, as_json: bool, **options: Any) -> int:
    """Run SOURCE where it can do no harm, and tell what it does and what is wrong with it.

    SOURCE is a script of sh, bash or zsh (ARGUMENTS are handed to it), a directory of rule files
    that one shell reads in the order of run-parts, the output of iptables-save, ip6tables-save or
    ipset save, an nft file, - for standard input, or a running node, whose ruleset and network are
    copied. Else the stage has this machine's interfaces,
    addresses and routes, unless others are named. Ends with 2 when the ruleset is at fault, and
    with 3 when this kernel lacks what it names.
    """
    found = staged_from(source, **options)
    if as_json:
        _print_staged(found)
    else:
        _print_summary(found)
        print_troubles(found.troubles)
    return found.exit_code


def _print_staged(found: Staged) -> None:
    from hostlab.firewall.listing import without_counters

    print_json(
        {
            "source": found.source,
            "exit": found.exit_code,
            "ruleset": without_counters(found.ruleset),
            "operations": found.operations,
            "troubles": found.troubles,
            "origins": found.origins,
            "output": found.output,
        }
    )


def _print_summary(found: Staged) -> None:
    from hostlab.firewall.listing import chains

    held = chains(found.ruleset)
    rules = sum(len(chain.rules) for chain in held)
    sets = found.ruleset.ipset.count("\ncreate ") + found.ruleset.ipset.startswith("create ")
    also = f", {sets} ipsets" if sets else ""
    print(f"{found.source}: {rules} rules in {len(held)} chains{also}")
    for each in found.operations:
        where = f"  # {each.place.file}:{each.place.line}" if each.place else ""
        only = "only on the real machine: " if each.kind == "main" else ""
        print(f"  {only}{each.describe()}{where}")


def print_troubles(found: Sequence[Trouble]) -> None:
    """Troubles on standard error: the place, the words of the tool, what can be done."""
    for each in found:
        where = f"{each.place.file}:{each.place.line}: " if each.place else ""
        kind = "remark: " if each.blame == "remark" else ""
        print(f"{where}{kind}{each.message}", file=sys.stderr)
        if each.place is not None and each.place.text and not kind:
            print(f"    {each.place.text.strip()}", file=sys.stderr)
        if each.hint:
            print(f"  hint: {each.hint}", file=sys.stderr)


@click.command("show", epilog="Example: hostlab firewall show --places rules.sh")
@click.argument("source", type=click.Path(allow_dash=True), required=False)
@click.argument("arguments", nargs=-1)
@click.option("--places", is_flag=True, help="Behind each rule the line that made it.")
@click.option("--live", is_flag=True, help="What this machine holds now; it is only read.")
@stage_options
@json_option
def show_command(
    source: str | None, *, places: bool, live: bool, as_json: bool, **options: Any
) -> int:
    """Print the ruleset that SOURCE becomes, as the kernel holds it, without counters.

    Without SOURCE it is what a node (--node) or this machine (--live) holds now.
    """
    from hostlab.firewall import listing

    found = _found(source, live=live, **options)
    place_of = found.places() if places else None
    if as_json:
        where = found.places()
        print_json([_chain_row(chain, where) for chain in listing.chains(found.ruleset)])
    else:
        sys.stdout.write(listing.text(found.ruleset, place_of))
    print_troubles([each for each in found.troubles if each.blame != "remark"])
    return found.exit_code


def _chain_row(chain: Any, where: Where) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(chain)
    row["rules"] = [
        {"rule": rule, "place": where(chain, number)} for number, rule in enumerate(chain.rules, 1)
    ]
    return row


def _found(source: str | None, *, live: bool, **options: Any) -> Staged:
    """What a source becomes, or what is held now."""
    from hostlab.firewall import kernel
    from hostlab.firewall.here import run_here
    from hostlab.firewall.staged import Staged

    if source is not None:
        if live:
            raise UsageError("usage", "--live shows this machine's ruleset: name no source")
        return staged_from(source, **options)
    node = options["node"]
    if live == (node is not None):
        raise UsageError("usage", "name a source, --node NODE, or --live")
    if node is not None:
        from hostlab.cli.targets import one_node

        return Staged(source=node, ruleset=kernel.read(one_node(node).execute))
    if os.geteuid():
        raise Unsupported("root", "only root may read this machine's filter", hint="sudo hostlab …")
    return Staged(source="this machine", ruleset=kernel.read(run_here))


@click.command("save", epilog="Example: hostlab firewall save rules.sh --output rules.saved")
@click.argument("source", type=click.Path(allow_dash=True), required=False)
@click.argument("arguments", nargs=-1)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False), help="The directory."
)
@click.option("--live", is_flag=True, help="What this machine holds now; it is only read.")
@stage_options
def save_command(source: str | None, *, output: str, live: bool, **options: Any) -> int:
    """Write the ruleset that SOURCE becomes into a directory, a file for each tool that loads it.

    Without SOURCE it is what a node (--node) or this machine (--live) holds now. The directory is
    a source itself. Nothing is written when the ruleset is at fault.
    """
    found = _found(source, live=live, **options)
    print_troubles(found.troubles)
    if not found.exit_code:
        for path in _write(found.ruleset, output):
            print(path)
    return found.exit_code


def _write(ruleset: Ruleset, output: str) -> list[str]:
    from hostlab.firewall.listing import FILES, without_counters
    from hostlab.linux.whole_files import write_whole

    plain = without_counters(ruleset)
    written = []
    try:
        os.makedirs(output, exist_ok=True)
        for field, (name, header) in FILES.items():
            path = os.path.join(output, name)
            if text := getattr(plain, field):
                write_whole(path, f"{header}{text}".encode())
                written.append(path)
            elif os.path.exists(path):
                os.unlink(path)
    except OSError as error:
        raise UsageError("output", f"{error.filename or output}: {error.strerror}") from None
    return written
