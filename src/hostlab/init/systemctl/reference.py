"""The page on systemctl, made from the tables that its programs read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostlab.init.systemctl.line import JOURNALCTL, SYSTEMCTL, Option
from hostlab.init.systemctl.program import VERBS
from hostlab.init.units import generators, replaced

_INTRODUCTION = """\
# systemctl and journalctl inside a node

This page is made from the tables in `init/systemctl`: `make docs` writes it, and a test compares
the two. [Units in nodes](units.md) tells what they are about.

Words, output and exit statuses are those of systemctl(1) of systemd 252. The status is 0 when it is
done; 1, with a text on standard error, when not; 5 for a unit that there is not. Names without a
suffix are services; globs mean loaded units, or unit files where those are changed or listed.
Only the node's root may ask.

## Verbs

| verb | | its status says |
|---|---|---|
"""
_JOURNAL = """\

## journalctl

The log of a unit is what its processes wrote, line by line; nobody has put a time before each line.
So every format of `-o` but `json` prints what `cat` prints, and `--since` leaves out whole files of
the log that were written to before only. `-f` follows until it is ended.

"""
_UNITS = """\

## Units that are not started although they are enabled

They are systemd's own, or of its distribution, and something else stands for them. Who names one,
in a description or to `systemctl start`, gets it.

"""
_GENERATORS = """\

## Generators that are not run

"""


def page() -> str:
    """The page's text."""
    verbs = "".join(
        f"| `{f'{name} {verb.usage}'.strip()}` | {verb.what} | {verb.status} |\n"
        for name, verb in VERBS.items()
    )
    parts = (
        _INTRODUCTION,
        verbs,
        "\n## Options\n\n",
        _options(SYSTEMCTL),
        _JOURNAL,
        _options(JOURNALCTL),
        _UNITS,
        _reasons(replaced.PASSED_OVER),
        _GENERATORS,
        _reasons(generators.PASSED_OVER),
    )
    return "".join(parts)


def _options(options: Iterable[Option]) -> str:
    listed = [each for each in options if each.text]
    rows = "".join(f"| {_name(each)} | {each.text} |\n" for each in listed)
    taken = ", ".join(f"`--{each.long}`" for each in options if not each.text)
    return f"| option | |\n|---|---|\n{rows}\nTaken, and without effect: {taken}.\n"


def _name(option: Option) -> str:
    short = f"`-{option.letter}`, " if option.letter else ""
    return f"{short}`--{option.long}{'=' if option.argument else ''}`"


def _reasons(table: Mapping[str, str]) -> str:
    rows = "".join(f"| `{name}` | {reason} |\n" for name, reason in table.items())
    return f"| | because |\n|---|---|\n{rows}"
