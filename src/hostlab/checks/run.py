"""One judgement of a lab as a file: who was judged, where each check stands, every verdict.

A report is read long after the lab is gone, by another version, beside another one: members are
added and never renamed, and a cell is found by what was asked of whom, not by a line of a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.checks.secrets import Masking
from hostlab.checks.verdict import Report, Verdict
from hostlab.errors import UsageError
from hostlab.spec.model import Lab
from hostlab.version import __version__

FORMAT: Final = 1
"""Of the file; a higher one is not read."""
FILE: Final = "report.json"
AROUND: Final = 3
"""Lines of the description that are kept above and below each check."""

_MOST_READ: Final = 1 << 20

Cell = tuple[str, str]
"""What names a verdict: the host and the check in one line."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host that was judged."""

    name: str
    roles: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    """Those that it is on."""


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a description."""

    file: str
    first: int
    """The number of the first of them, from 1."""
    lines: tuple[str, ...]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement: all that its page and a comparison need."""

    format: int = FORMAT
    lab: str
    began: float
    """Seconds since the epoch."""
    version: str = ""
    """hostlab's."""
    hosts: tuple[Host, ...]
    report: Report
    excerpts: tuple[Excerpt, ...] = ()

    def cells(self) -> dict[Cell, Verdict]:
        """Every verdict by its host and check; one that is asked twice is numbered."""
        return dict(zip(cells_of(self.report.rows), self.report.rows, strict=True))


def run_of(lab: Lab, report: Report, *, began: float) -> Run:
    """A judgement to keep: with the hosts that were judged and the lines of their checks.

    `began` is in seconds since the epoch. A description that is not where it was has no lines.
    """
    masking = Masking(lab.secrets)
    judged = {row.node for row in report.rows}
    files = {row.place.file for row in report.rows if row.place is not None}
    return Run(
        lab=lab.name,
        began=began,
        version=__version__,
        hosts=tuple(
            Host(
                name=node.name,
                roles=node.roles,
                segments=tuple(dict.fromkeys(each.segment for each in node.interfaces)),
            )
            for node in lab.nodes
            if node.name in judged
        ),
        report=report,
        excerpts=tuple(
            masking.of(each)
            for each in excerpts(report.rows, {file: _text(file) for file in files})
        ),
    )


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_READ).decode(errors="replace")
    except OSError:
        return ""


def cells_of(rows: Iterable[Verdict]) -> list[Cell]:
    """The name of each verdict's cell, in their order."""
    times: dict[Cell, int] = {}
    found: list[Cell] = []
    for row in rows:
        plain = (row.node, row.check)
        times[plain] = number = times.get(plain, 0) + 1
        found.append(plain if number == 1 else (row.node, f"{row.check} ({number})"))
    return found


def excerpts(rows: Iterable[Verdict], texts: Mapping[str, str]) -> tuple[Excerpt, ...]:
    """The lines round each check's place, of these files; overlapping ones are one excerpt."""
    wanted: dict[str, set[int]] = {}
    for row in rows:
        if row.place is not None:
            wanted.setdefault(row.place.file, set()).add(row.place.line)
    found: list[Excerpt] = []
    for file, numbers in wanted.items():
        lines = texts.get(file, "").splitlines()
        for first, last in _stretches(sorted(numbers), len(lines)):
            found.append(Excerpt(file=file, first=first, lines=tuple(lines[first - 1 : last])))
    return tuple(found)


def _stretches(numbers: list[int], end: int) -> list[tuple[int, int]]:
    stretches: list[tuple[int, int]] = []
    for number in numbers:
        if number > end:
            continue  # the file has changed since
        first, last = max(1, number - AROUND), min(end, number + AROUND)
        if stretches and first <= stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], last)
        else:
            stretches.append((first, last))
    return stretches


def read_run(path: str) -> Run:
    """A report from its file, or from the directory that `check --report` made.

    `UsageError` when it is not there, is cut off, is something else, or is of a newer hostlab.
    """
    file = os.path.join(path, FILE) if os.path.isdir(path) else path
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError as error:
        hint = "`hostlab check --report DIR` makes one"
        raise UsageError("report", f"{file}: {error.strerror}", hint=hint) from None
    return parse_run(data, file=file)


def parse_run(data: bytes, *, file: str) -> Run:
    """`read_run` of bytes."""
    try:
        said = typed.decode(data, _Format).format
        if said > FORMAT:
            hint = "read it with that version or a later one"
            raise UsageError(
                "report", f"{file} is of a newer hostlab (format {said}, not {FORMAT})", hint=hint
            )
        return typed.decode(data, Run)
    except msgspec.DecodeError as error:
        raise UsageError("report", f"{file} is no whole report: {error}") from None


def report_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of a report's file."""
    (top,), definitions = msgspec.json.schema_components([Run], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hostlab report",
        **top,
        "$defs": definitions,
    }


class _Format(msgspec.Struct):
    format: int


def in_several_labs(runs: Iterable[Run]) -> tuple[Cell, ...]:
    """The verdicts that several labs have: they may be of different hosts that are called alike."""
    labs: dict[Cell, set[str]] = {}
    for run in runs:
        for cell in run.cells():
            labs.setdefault(cell, set()).add(run.lab)
    return tuple(cell for cell, names in labs.items() if len(names) > 1)


def merged(runs: Iterable[Run]) -> Run:
    """Several judgements as one: of a verdict that two have, the later run's is kept.

    `UsageError` when there is none.
    """
    ordered = sorted(runs, key=lambda run: run.began)
    if not ordered:
        raise UsageError("report", "there is no report to merge")
    hosts: dict[str, Host] = {}
    rows: dict[Cell, Verdict] = {}
    kept: dict[tuple[str, int], Excerpt] = {}
    for run in ordered:
        hosts |= {host.name: host for host in run.hosts}
        rows |= run.cells()
        kept |= {(each.file, each.first): each for each in run.excerpts}
    names = dict.fromkeys(run.lab for run in ordered)
    took_s = sum(run.report.took_s for run in ordered)
    return Run(
        lab=", ".join(names),
        began=ordered[0].began,
        version=ordered[-1].version,
        hosts=tuple(hosts.values()),
        report=Report(rows=tuple(rows.values()), took_s=took_s, stale=ordered[-1].report.stale),
        excerpts=tuple(kept.values()),
    )
