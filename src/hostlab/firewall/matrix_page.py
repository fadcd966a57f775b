"""A matrix as one page that needs nothing else; pure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import Final

from hostlab.firewall.matrix import Cell, Matrix, Probe, State
from hostlab.firewall.matrix_style import CSS, SCRIPT
from hostlab.firewall.packet import print_packet
from hostlab.firewall.probing import told_step

SYMBOLS: Final = {
    State.OPEN: "✓",
    State.SHUT: "–",
    State.PARTLY: "◐",
    State.LEAK: "!",
    State.BROKEN: "✕",
}
WORDS: Final = {
    State.OPEN: "reached, as meant",
    State.SHUT: "denied, as meant",
    State.PARTLY: "some of it reached, as meant",
    State.LEAK: "reached, and not meant to be",
    State.BROKEN: "not as meant: it should be reached, or be denied otherwise",
}
MOST_PROBES: Final = 40
"""Packets of a cell that the page tells of; --json has all."""


def page(matrix: Matrix, *, ruleset: str, intent: str) -> str:
    """The whole document."""
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(ruleset)}: who may reach what</title>",
            f"<style>{CSS}</style>\n</head>\n<body>\n<main>",
            f"<h1>Who may reach what</h1>\n<p class=soft>Packets sent through "
            f"<code>{escape(ruleset)}</code>, beside what <code>{escape(intent)}</code> means.</p>",
            _sums(matrix),
            *_differences(matrix),
            *_table(matrix),
            *_details(matrix),
            '</main>\n<div id=tip role="tooltip"></div>',
            f"<script>{SCRIPT}</script>\n</body>\n</html>\n",
        )
    )


def _sums(matrix: Matrix) -> str:
    wrong = len(matrix.wrong)
    kind, text = ("bad", "not as meant") if wrong else ("good", "differences: all is as meant")
    return (
        f"<ul class=sums><li class={kind}><b>{wrong}</b>{text}</li>"
        f"<li><b>{len(matrix.cells) - wrong}</b>as meant</li>"
        f"<li><b>{matrix.packets}</b>packets sent</li></ul>"
    )


def _differences(matrix: Matrix) -> Iterator[str]:
    numbers = _numbers(matrix)
    if not matrix.differences:
        return
    yield "<h2>Differences</h2>\n<ul class=diffs>"
    for each in matrix.differences:
        cell = each.first
        yield f"<li class={cell.state}><h3>{_mark(cell)} {_zones(cell)}"
        for one in each.cells:
            yield f"<a class=chip href='#{numbers[_key(one)]}'>{escape(one.service)}</a>"
        yield f"</h3><p class=soft>{WORDS[cell.state]} · {escape(meant(cell))}</p>"
        causes = "".join(_probe(cause.sample, cause.count) for cause in each.causes)
        yield f"<ul class=probes>{causes}</ul></li>"
    yield "</ul>"


def meant(cell: Cell) -> str:
    """What the file says of a cell, in words."""
    ends = sorted({each.end for each in cell.told})
    where = f"{cell.place.file}:{cell.place.line}" if cell.place else "nothing is said of them"
    return f"meant: {' or '.join(ends)} ({where})"


def _table(matrix: Matrix) -> Iterator[str]:
    numbers = _numbers(matrix)
    yield "<h2>From each zone to each other</h2>\n<div class=scroll><table class=matrix>"
    heads = "".join(f"<th scope=col>{escape(each)}</th>" for each in matrix.services)
    yield f"<thead><tr><th scope=col></th>{heads}</tr></thead>"
    for destination in matrix.zones:
        rows = [
            source
            for source in matrix.zones
            if any((source, destination, each) in matrix.cells for each in matrix.services)
        ]
        if not rows:
            continue
        span = len(matrix.services)
        yield f"<tbody><tr class=to><th scope=rowgroup>to {escape(destination)}</th>"
        yield f"<td colspan={span}></td></tr>"
        for source in rows:
            yield f"<tr><th scope=row>from {escape(source)}</th>"
            for service in matrix.services:
                cell = matrix.cells.get((source, destination, service))
                yield _square(cell, numbers) if cell else "<td class=none>·</td>"
            yield "</tr>"
        yield "</tbody>"
    yield "</table></div>\n<ul class=legend>"
    for state in State:
        yield f"<li><span class='mark {state}'>{SYMBOLS[state]}</span>{WORDS[state]}</li>"
    yield "</ul>"


def _square(cell: Cell, numbers: dict[tuple[str, str, str], str]) -> str:
    said = f"{cell.source} to {cell.destination}, {cell.service}: {WORDS[cell.state]}"
    return (
        f'<td><a class={cell.state} href="#{numbers[_key(cell)]}" aria-label="{escape(said)}">'
        f"{SYMBOLS[cell.state]}</a></td>"
    )


def _details(matrix: Matrix) -> Iterator[str]:
    numbers = _numbers(matrix)
    yield "<h2>Every packet</h2>"
    for (source, destination), found in groupby(
        matrix.cells.values(), key=lambda each: (each.source, each.destination)
    ):
        cells = list(found)
        wrong = sum(each.is_difference for each in cells)
        note = f"{wrong} not as meant" if wrong else "all as meant"
        yield f"<details><summary>{escape(source)} → {escape(destination)} "
        yield f"<span class=soft>{note}</span></summary>"
        for cell in cells:
            yield f'<div class=cell id="{numbers[_key(cell)]}">'
            yield f"<h4>{_mark(cell)} {_title(cell)}</h4><p class=soft>{escape(meant(cell))}</p>"
            ordered = sorted(cell.probes, key=lambda each: each.is_as_meant)
            probes = "".join(_probe(each) for each in ordered[:MOST_PROBES])
            yield f"<ul class=probes>{probes}</ul>"
            if len(ordered) > MOST_PROBES:
                yield f"<p class=soft>and {len(ordered) - MOST_PROBES} packets more</p>"
            yield "</div>"
        yield "</details>"


def _probe(probe: Probe, count: int = 1) -> str:
    answer = probe.answer
    kind = "" if probe.is_as_meant else " class=wrong"
    step = answer.decided_by
    by = told_step(step) if step is not None else "no rule"
    if step is None and answer.verdict == "lost":
        by = "no rule: there is no way for it"
    more = f" <span class=soft>and {count - 1} more</span>" if count > 1 else ""
    packet = escape(print_packet(answer.packet))
    return (
        f"<li{kind}><b>{answer.verdict}</b> <code>{packet}</code>{more}"
        f"<br><span class=rule>{escape(by)}</span></li>"
    )


def _mark(cell: Cell) -> str:
    state = cell.state
    return f'<span class="mark {state}" title="{WORDS[state]}">{SYMBOLS[state]}</span>'


def _zones(cell: Cell) -> str:
    return f"{escape(cell.source)} → {escape(cell.destination)}"


def _title(cell: Cell) -> str:
    return f"{_zones(cell)}: {escape(cell.service)}"


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.source, cell.destination, cell.service


def _numbers(matrix: Matrix) -> dict[tuple[str, str, str], str]:
    """Names of cells for links, which have no user's characters in them."""
    return {key: f"c{number}" for number, key in enumerate(matrix.cells)}
