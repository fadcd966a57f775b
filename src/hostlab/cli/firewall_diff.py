"""`hostlab firewall diff` and `translate`: what two rulesets have, and do, that is different."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from hostlab.cli.firewall_stage import (
    chosen_target,
    complete_source,
    print_troubles,
    running_node,
    stage_options,
    staged_in,
    target_for,
)
from hostlab.cli.output import json_option, print_json
from hostlab.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hostlab.firewall.answer import Answer
    from hostlab.firewall.difference import PlaceChange
    from hostlab.firewall.meaning import Disagreement, Meaning
    from hostlab.firewall.ruleset import Ruleset
    from hostlab.firewall.stage import Stage

SIGNS: Final = {"added": "+", "removed": "-", "moved": "~"}
_NEITHER_FAMILY: Final = "nothing of any dimension"


@click.command("diff", epilog="Example: hostlab firewall diff old.rules new.sh")
@click.argument("old", metavar="OLD|NODE", shell_complete=complete_source)
@click.argument("new", metavar="NEW|NODE", shell_complete=complete_source)
@click.option("--text", "only_text", is_flag=True, help="Compare what they say, send nothing.")
@stage_options
@json_option
def diff_command(old: str, new: str, *, only_text: bool, as_json: bool, **options: Any) -> int:
    """Compare two rulesets by their text and by their meaning; exit 1 where they differ.

    Both are staged; a running node is copied, with its network. By text: rules, policies and
    elements, without what does not matter. By meaning: packets on and beside every boundary that
    either mentions are sent through both.
    """
    from hostlab.firewall.difference import text_difference
    from hostlab.firewall.meaning import meaning_difference

    with _two_staged(old, new, options) as (stage, before, after):
        differences = text_difference(before, after)
        meaning = None
        if not only_text:
            meaning = meaning_difference(stage, "old", "new", rulesets=(before, after))
    if as_json:
        print_json({"text": differences, "meaning": meaning})
    else:
        print_differences(differences)
        if meaning is not None:
            print_meaning(meaning)
    return 1 if differences or (meaning is not None and meaning.disagreements) else 0


@contextlib.contextmanager
def _two_staged(
    old: str, new: str, options: dict[str, Any]
) -> Iterator[tuple[Stage, Ruleset, Ruleset]]:
    """A stage with one ruleset in each of two nodes."""
    from hostlab.firewall.source import STDIN
    from hostlab.firewall.stage import Stage

    how = {"shell": options.pop("shell"), "limit": options.pop("time_limit")}
    stdin = sys.stdin.buffer.read() if STDIN in (old, new) else b""
    nodes = running_node(old), running_node(new)
    with Stage(target_for(nodes[0] or nodes[1], **options), ("old", "new")) as stage:
        found = []
        for place, path, node in zip(("old", "new"), (old, new), nodes, strict=True):
            staged = staged_in(stage.nodes[place], node or path, stdin=stdin, **how)
            print_troubles(staged.troubles)
            found.append(staged.require())
        yield stage, found[0], found[1]


def print_differences(differences: Sequence[PlaceChange]) -> None:
    """What each place has more, less, or elsewhere."""
    for place in differences:
        print(f"{place.part} {place.place}")
        for line in place.changes:
            at = f"{line.at}: " if line.at else ""
            print(f"  {SIGNS[line.change]} {at}{line.text}")
    if not differences:
        print("by text nothing differs")


def print_meaning(meaning: Meaning) -> None:
    """The packets that are treated differently, and how far it was looked."""
    for each in meaning.disagreements:
        _print_disagreement(each)
    number = len(meaning.disagreements)
    what = f"{number} differences" if number != 1 else "1 difference"
    boundaries = ", ".join(f"{n} of {name}" for name, n in meaning.covered.items())
    print(
        f"by meaning {'nothing differs' if not number else what}:"
        f" {meaning.packets} packets were sent through both, on and beside"
        f" the boundaries that they mention ({boundaries or _NEITHER_FAMILY})"
    )
    if meaning.beyond:
        print(f"not varied: {', '.join(meaning.beyond)}")


def _print_disagreement(each: Disagreement) -> None:
    from hostlab.firewall.packet import print_packet

    more = f"  (and {each.others} like it)" if each.others else ""
    print(f"{print_packet(each.packet)}{more}")
    print(f"  - {_said(each.old)}")
    print(f"  + {_said(each.new)}")


def _said(answer: Answer) -> str:
    from hostlab.firewall.packet import print_packet

    step = answer.decided_by
    by = "" if step is None else f" by {step.rule or f'the policy of {step.table} {step.chain}'}"
    left = f", leaves by {answer.left_by}" if answer.left_by else ""
    became = f" as {print_packet(answer.left_as)}" if answer.left_as else ""
    return f"{answer.verdict}{left}{became}{by}"


@click.command("translate", epilog="Example: hostlab firewall translate rules.v4 > rules.nft")
@click.argument("source", type=click.Path(allow_dash=True))
@click.option("--unproved", is_flag=True, help="Do not send packets through both.")
@stage_options
def translate_command(source: str, *, unproved: bool, **options: Any) -> int:
    """Write iptables' rules as nft's own, and prove by packets that they do the same.

    The text is on standard output, what was proved on standard error. Exit 1 where a packet is
    treated differently, or where a rule has no form in nft.
    """
    from hostlab.firewall.meaning import meaning_difference
    from hostlab.firewall.source import STDIN, read_source
    from hostlab.firewall.stage import Stage
    from hostlab.firewall.staged import stage_source
    from hostlab.firewall.translate import translate

    shell, limit = options.pop("shell"), options.pop("time_limit")
    stdin = sys.stdin.buffer.read() if source == STDIN else b""
    with Stage(chosen_target(**options), ("old", "new")) as stage:
        old, new = stage.nodes["old"], stage.nodes["new"]
        staged = stage_source(
            old, read_source(source, stdin=stdin, shell=shell), time_limit_s=limit
        )
        print_troubles(staged.troubles)
        found = translate(staged.require(), old.tool)
        sys.stdout.write(found.ruleset.nft)
        sys.stdout.flush()
        for rule in found.left:
            print(f"no form in nft: {rule}", file=sys.stderr)
        if found.left:
            raise Failed("translate", f"{len(found.left)} rules have no form in nft here")
        if unproved:
            return 0
        new.load(found.ruleset)
        rulesets = (staged.ruleset, new.read())
        meaning = meaning_difference(stage, "old", "new", rulesets=rulesets)
    with contextlib.redirect_stdout(sys.stderr):
        print_meaning(meaning)
    return 1 if meaning.disagreements else 0
