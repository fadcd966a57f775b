"""Make the pages that are made from the code; `--check` only tells which are not current."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from hostlab.cli.main import COMMANDS, cli
from hostlab.init.systemctl import reference as systemctl
from hostlab.jobs import boot, source_events
from hostlab.jobs.picture import state_machine_mermaid
from hostlab.lab.description import read_lab
from hostlab.observe.graph import FORMATS
from hostlab.spec.reference import markdown
from hostlab.spec.systemd import reference as directives

DOCS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLES = DOCS.parent / "examples"
DRAWN = {
    "failover-router.svg": "failover/failover.yaml",
    "failover-vrrp.svg": "vrrp/vrrp.yaml",
    "failover-loadbalancer.svg": "loadbalancer/loadbalancer.yaml",
}
"""Pictures of examples."""
WIDTH = 100
STATES = re.compile(r"^```mermaid\n.*?^```\n", re.M | re.S)
BOOT = re.compile(r"^<!-- boot (?P<way>up|down) -->\n.*?^<!-- boot end -->\n", re.M | re.S)
SOURCES = re.compile(r"^<!-- sources -->\n.*?^<!-- sources end -->\n", re.M | re.S)
FIELD = re.compile(r"\{\w+\}")
INTRODUCTION = """\
# The commands

This page is made from the command line's own help: `make docs` writes it, and a test compares
the two.

A node is named `NODE`, or `LAB/NODE` where several labs have one of that name; `a,b` is both of
them, `*` is every one. A lab is named by its name, by its file, or not at all when only one is up.

Everything that shows a table prints JSON with `--json`. The exit status is 0 when it is done, 1
when a check or a job failed, 2 when what was written or typed cannot be meant, 3 when the machine
lacks something, 4 when hostlab is at fault.
"""


def pages() -> dict[str, str]:
    """Name -> text of every page that is made from the code."""
    jobs, events = (DOCS / "jobs.md").read_text(), (DOCS / "events.md").read_text()
    return {
        "description.md": markdown(),
        "commands.md": commands(),
        "jobs.md": STATES.sub(_states, jobs, count=1),
        "events.md": BOOT.sub(_boot, events),
        "systemd-directives.md": directives.page(),
        "systemctl.md": systemctl.page(),
        "sources.md": SOURCES.sub(_sources, (DOCS / "sources.md").read_text()),
        **{name: _drawn(EXAMPLES / example) for name, example in DRAWN.items()},
    }


def _drawn(example: Path) -> str:
    """As `hostlab graph --format svg` draws it."""
    return FORMATS["svg"](read_lab(str(example)), {})


def _states(_: re.Match[str]) -> str:
    """The picture of the state machine: the one Mermaid block of the page on jobs."""
    return f"```mermaid\n{state_machine_mermaid()}```\n"


def _boot(block: re.Match[str]) -> str:
    """A table of the boot's events, between the two lines that mark its place."""
    table = boot.UP if block["way"] == "up" else boot.DOWN
    rows = "\n".join(
        f"| `{row.event}` | {_variables(row)} | {_emitted(row)} | {row.why} |" for row in table
    )
    header = "| event | variables | emitted | whose it was |\n|---|---|---|---|"
    return f"<!-- boot {block['way']} -->\n{header}\n{rows}\n<!-- boot end -->\n"


def _sources(_: re.Match[str]) -> str:
    """Every event of every source."""
    rows = "\n".join(
        f"| `{row.event}` | {_words(row.variables)} | {row.when} |" for row in source_events.EVENTS
    )
    header = "| event | variables | comes when |\n|---|---|---|"
    return f"<!-- sources -->\n{header}\n{rows}\n<!-- sources end -->\n"


def _words(variables: str) -> str:
    """The names as code, words of a sentence as they are."""
    return " ".join(
        f"`{word}`" if word.strip("[]=").isupper() or "=" in word else word
        for word in variables.split()
    )


def _emitted(row: boot.Milestone) -> str:
    return f"{row.each}, waits" if row.waits else row.each


def _variables(row: boot.Milestone) -> str:
    """Their names, and the value of one that is always the same."""
    return " ".join(
        f"`{name}`" if FIELD.fullmatch(value) else f"`{name}={value}`"
        for name, value in row.environment
    )


def commands() -> str:
    """The page on the command line."""
    top = click.Context(cli, info_name="hostlab", **cli.context_settings)
    summary = "\n".join(
        f"| [`{name}`](#{name}) | {help_} |" for name, (_, help_) in COMMANDS.items()
    )
    sections = [
        section
        for name in COMMANDS
        if (command := cli.get_command(top, name)) is not None
        for section in _sections(top, command, name)
    ]
    return "\n".join([INTRODUCTION, f"| command | |\n|---|---|\n{summary}\n", *sections])


def _sections(parent: click.Context, command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(
        command, parent=parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH
    )
    level = "##" if parent.parent is None else "###"
    title = context.command_path.removeprefix("hostlab ")
    yield f"{level} {title}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _sections(context, found, inner)


def main() -> int:
    """Exit status 1 when `--check` finds a page that is not current."""
    stale = [n for n, text in pages().items() if not _is_current(DOCS / n, text)]
    if sys.argv[1:] == ["--check"]:
        for name in stale:
            print(f"docs/{name} is not what the code says: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(pages()[name])
        print(f"docs/{name} written")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
