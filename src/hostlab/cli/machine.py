"""Commands about this machine, and about files: no lab need be there."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import coloured, json_option, print_json, print_table
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.observe.finding import Finding

SHELLS = ("bash", "zsh", "fish")
_MARKS = {"ok": "✓", "limited": "~", "missing": "✗"}
_MAX_WIDTH = 100


@click.command("doctor", epilog="Example: hostlab doctor")
@click.option("--all", "every", is_flag=True, help="Say how what is there was tried, too.")
@json_option
def doctor_command(*, every: bool, as_json: bool) -> int:
    """Tell what this machine offers, what is missing, and how to get it.

    Each thing is tried, with the rights that you have now. Exit 3 when no lab can stand here.
    """
    from hostlab.observe.doctor import blocking, doctor

    findings = doctor()
    stopping = blocking(findings)
    if as_json:
        print_json(findings)
    else:
        _print_findings(findings, every=every)
        if stopping:
            names = ", ".join(one.name for one in stopping)
            print(f"\nno lab can stand here, for want of: {names}", file=sys.stderr)
    return 3 if stopping else 0


def _print_findings(findings: tuple[Finding, ...], *, every: bool) -> None:
    group = ""
    indent = " " * 6
    width = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    for one in findings:
        if one.group != group:
            print(f"{'' if not group else chr(10)}{one.group}")
            group = one.group
        is_ok = one.state.value == "ok"
        print(f"  {coloured(_MARKS[one.state.value], good=is_ok)} {one.name}", end="")
        print("" if is_ok else f" ({one.state.value})")
        for label, text in (("", one.detail), ("get it: ", one.remedy)):
            if text and (every or not is_ok):
                text = label + text
                print(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent))


@click.command("schema", epilog="Example: hostlab schema > hostlab.schema.json")
def schema_command() -> None:
    """Print the JSON Schema of descriptions, for editors."""
    from hostlab.spec import schema

    print_json(schema())


@click.command("completion", epilog='Example: eval "$(hostlab completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script for a shell: commands, options, labs, nodes."""
    from click.shell_completion import get_completion_class

    from hostlab.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    print(kind(cli, {}, "hostlab", "_HOSTLAB_COMPLETE").source())


@click.command("audit", epilog="Example: hostlab audit")
@click.option("--save", type=click.Path(), help="Write down what is on the machine now.")
@click.option("--since", type=click.Path(), help="Compare with what was written down.")
@json_option
def audit_command(*, save: str | None, since: str | None, as_json: bool) -> int:
    """Prove that nothing of any lab is left on the machine, or name what is; exit 1 then.

    Labs that run, or that somebody stages or takes down now, and task namespaces are listed, and
    are no leftovers. With --since everything counts that differs, whoever made it: links,
    namespaces, mounts, cgroups, nft tables, processes, sockets and files.
    """
    if save is not None and since is not None:
        raise UsageError("usage", "--save and --since are two calls: one before, one after")
    if save is not None:
        from hostlab.observe.snapshot import take

        _write(save, take())
        return 0
    if since is not None:
        return _since(since, as_json=as_json)
    return _audit(as_json=as_json)


def _write(path: str, value: Any) -> None:
    import msgspec

    try:
        with open(path, "wb") as file:
            file.write(msgspec.json.encode(value))
    except OSError as error:
        raise UsageError("no-file", f"{path}: {error.strerror}") from None


def _since(path: str, *, as_json: bool) -> int:
    from hostlab.observe.snapshot import decode, differences, take

    now = take()
    try:
        with open(path, "rb") as file:
            before = decode(file.read(), path)
    except OSError as error:
        raise UsageError("no-file", f"{path}: {error.strerror}") from None
    found = differences(before, now)
    if as_json:
        print_json(found)
    elif not found:
        print(f"everything is as it was when {path} was written")
    for one in () if as_json else found:
        print(one)
    return 1 if found else 0


def _audit(*, as_json: bool) -> int:
    from hostlab.lab.audit import Remnant, audit
    from hostlab.tasks.survey import survey

    found = audit()
    namespaces, remains = survey()
    left = (*found.left, *(Remnant(r.namespace, r.kind, r.what, r.remedy) for r in remains))
    if as_json:
        print_json(
            {
                "running": found.running,
                "changing": found.changing,
                "task_namespaces": namespaces,
                "left": left,
            }
        )
        return 1 if left else 0
    for lab in found.running:
        print(f"{lab.name} is running in {lab.directory}")
    for lab in found.changing:
        print(f"{lab.name} is being staged or taken down in {lab.directory}")
    for one in namespaces:
        print(f"task namespace {one.name} is in {one.directory}, {one.running} tasks run")
    if left:
        print_table(
            ("KIND", "LEFT", "LAB", "REMEDY"),
            [(one.kind, one.what, one.lab or "-", one.remedy) for one in left],
        )
    else:
        others = "else " if found.running or found.changing or namespaces else ""
        print(f"nothing {others}of any lab is left")
    return 1 if left else 0
