"""Outcomes as a table for people, as JSON for programs, as Markdown for docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from bench.measure import Outcome, Sample, Verdict

Machine = Mapping[str, str]

LOAD: Final = "load before"
"""The fact of a machine that belongs to one measurement."""

_HEAD: Final = (
    "# Benchmarks",
    "",
    "This page is written by `make bench`, or in parts by `python -m bench NAME … --write`; do not "
    "edit it. What is compared, and how, is said in `bench/__init__.py`. A ratio is of medians; "
    "the contenders of one table took turns in the same run. All were measured on:",
)
_TARGETS: Final = (
    "| work | metric | to reach | measured | |",
    "|---|---|---|---|---|",
)


def as_text(outcome: Outcome) -> str:
    """Ratios first, then medians with least and greatest, then who is absent."""
    lines = [f"{outcome.benchmark.name}: {outcome.benchmark.title}"]
    for verdict in outcome.verdicts:
        target = verdict.target
        lines.append(
            f"  {_measured(verdict):>9}  {target.own} {target.metric}, "
            f"to reach {target.text}: {_mark(verdict)}"
        )
    width = max((len(name) for name in outcome.samples), default=0)
    for name, metric, sample in _rows(outcome):
        lines.append(
            f"    {name:<{width}}  {metric:<16} {_number(sample.median):>9}  {_spread(sample)}"
        )
    lines += [f"    {name}: not measured: {reason}" for name, reason in outcome.absent.items()]
    if outcome.notes:
        lines += [f"    {line}" for line in outcome.notes.splitlines()]
    return "\n".join(lines)


def as_json(outcomes: Sequence[Outcome], machine: Machine, command: str) -> str:
    """One object: machine, command, and per benchmark the targets, samples and absentees."""
    document = {
        "machine": dict(machine),
        "command": command,
        "benchmarks": [_as_object(outcome) for outcome in outcomes],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _as_object(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.benchmark.name,
        "title": outcome.benchmark.title,
        "targets": [
            {
                "contender": verdict.target.own,
                "metric": verdict.target.metric,
                "target": verdict.target.text,
                "measured": verdict.ratio,
                "met": verdict.met,
            }
            for verdict in outcome.verdicts
        ],
        "contenders": {
            name: {
                metric: {"median": sample.median, "rounds": sample.values}
                for metric, sample in metrics.items()
            }
            for name, metrics in outcome.samples.items()
        },
        "absent": dict(outcome.absent),
        "notes": outcome.notes,
    }


def as_markdown(
    outcomes: Sequence[Outcome],
    machine: Machine,
    when: str,
    *,
    titles: Sequence[str],
    before: str = "",
) -> str:
    """The page docs/benchmarks.md: these outcomes, and what `before` says of the other titles.

    `titles` are all benchmarks' in their order; what the page had under another one is dropped.
    """
    rows, sections = _targets_before(before), _sections_before(before)
    measured = f"Measured {when}, load before: {machine[LOAD]}."
    for outcome in outcomes:
        title = outcome.benchmark.title
        rows[title] = [
            f"| {title} | {_own(verdict)} | {verdict.target.text} "
            f"| {_measured(verdict)} | {_mark(verdict)} |"
            for verdict in outcome.verdicts
        ]
        sections[title] = "\n".join(_section(outcome, measured))
    known = [title for title in titles if title in sections]
    lines = [*_HEAD, "", *_facts(machine), "", "## Targets", "", *_TARGETS]
    lines += [row for title in known for row in rows.get(title, ())]
    for title in known:
        lines += ["", sections[title]]
    return "\n".join(lines) + "\n"


def is_of(page: str, machine: Machine) -> bool:
    """Whether a page's figures are of this machine, and others of it may stand beside them."""
    head = page.partition("\n## ")[0].splitlines()
    return [line for line in head if line.startswith("- ")] == _facts(machine)


def _facts(machine: Machine) -> list[str]:
    return [f"- {key}: {value}" for key, value in machine.items() if key != LOAD]


def _targets_before(page: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in page.partition("\n## Targets\n")[2].partition("\n## ")[0].splitlines():
        if line.startswith("| ") and line not in _TARGETS:
            rows.setdefault(line.split(" | ")[0].removeprefix("| "), []).append(line)
    return rows


def _sections_before(page: str) -> dict[str, str]:
    parts = page.split("\n## ")[2:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}" for part in parts}


def _section(outcome: Outcome, measured: str) -> list[str]:
    lines = [
        f"## {outcome.benchmark.title}",
        "",
        measured,
        "",
        "| contender | metric | median | least – greatest | rounds |",
        "|---|---|---|---|---|",
    ]
    for name, metric, sample in _rows(outcome):
        lines.append(
            f"| {name} | {metric} | {_number(sample.median)} | {_spread(sample)} "
            f"| {len(sample.values)} |"
        )
    for name, reason in outcome.absent.items():
        lines += ["", f"Not measured: {name}: {reason.splitlines()[0]}"]
    if outcome.notes:
        lines += ["", "```", outcome.notes, "```"]
    return lines


def _rows(outcome: Outcome) -> list[tuple[str, str, Sample]]:
    return [
        (contender.name, metric, sample)
        for contender in outcome.benchmark.contenders
        for metric, sample in outcome.samples.get(contender.name, {}).items()
    ]


def _own(verdict: Verdict) -> str:
    target = verdict.target
    return target.metric if target.own == "hostlab" else f"{target.metric} ({target.own})"


def _measured(verdict: Verdict) -> str:
    if verdict.ratio is None:
        return "–"
    times = "" if verdict.target.against is None else " ×"
    return _number(verdict.ratio) + times


def _mark(verdict: Verdict) -> str:
    if verdict.met is None:
        return "not measured"
    return "reached" if verdict.met else "MISSED"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _spread(sample: Sample) -> str:
    return f"{_number(min(sample.values))} – {_number(max(sample.values))}"
