"""A judgement as one page that needs nothing else; pure.

What does not hold is written into the page and is there without scripts and on paper. The table of
hosts and checks is drawn from data by `page_script`, only the rows that are in sight: a thousand
hosts with two hundred checks each are two hundred thousand cells. Data reach the page as text only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import msgspec

from hostlab.checks.page_script import SCRIPT
from hostlab.checks.page_style import CSS
from hostlab.checks.run import AROUND, Excerpt, Host, Run
from hostlab.checks.verdict import Outcome, Verdict
from hostlab.spec.model import Place

MOST_TOLD: Final = 200
"""Verdicts that do not hold and are told in full at the top; the table has all."""
NO_ROLE: Final = "no role"
LETTERS: Final = {
    Outcome.HOLDS: "h",
    Outcome.FAILS: "f",
    Outcome.UNKNOWN: "u",
    Outcome.SKIPPED: "s",
}
NOT_ASKED: Final = "-"


def page(run: Run) -> str:
    """The whole document."""
    title = f"{run.lab}: {run.report.summary()}"
    began = datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>",
            f"<h1>{escape(run.lab)}</h1>",
            f"<p class=soft>Judged {began} in {run.report.took_s:.1f} s by hostlab "
            f"{escape(run.version)}.</p>",
            _sums(run),
            *_failures(run),
            _CONTROLS,
            f"<script type=application/json id=data>{_json(run)}</script>",
            f"<script>{SCRIPT}</script>\n</main>\n</body>\n</html>\n",
        )
    )


_CONTROLS: Final = """<h2>Hosts and checks</h2>
<noscript><p>The table needs scripts; what does not hold is told above.</p></noscript>
<div class=controls hidden>
<label>Search <input id=search type=search placeholder="host, role or check"></label>
<label><input id=only type=checkbox> only what does not hold</label>
<span id=count class=soft role=status></span>
</div>
<div class=split><div id=scroll class=scroll tabindex=-1></div>
<aside id=detail hidden aria-live=polite></aside></div>
<ul class=legend>
<li><span class="mark h">✓</span>holds</li>
<li><span class="mark f">✗</span>does not hold</li>
<li><span class="mark u">?</span>could not be judged</li>
<li><span class="mark none">–</span>is not asked of this host</li>
</ul>
<section id=topology hidden><h2>Topology</h2></section>
<p class="soft keys">Arrows move, Enter opens a cell, Escape closes it, / searches.</p>"""


def _sums(run: Run) -> str:
    report = run.report
    fails, unknown = report.count(Outcome.FAILS), report.count(Outcome.UNKNOWN)
    items = [
        f"<li class={'bad' if fails else 'good'}><b>{fails}</b>"
        f"{'does not hold' if fails == 1 else 'do not hold'}</li>"
    ]
    if unknown:
        items.append(f"<li class=unsure><b>{unknown}</b>could not be judged</li>")
    items.append(f"<li><b>{report.count(Outcome.HOLDS)}</b>hold</li>")
    items.append(f"<li><b>{len(run.hosts)}</b>{'host' if len(run.hosts) == 1 else 'hosts'}</li>")
    return f"<ul class=sums>{''.join(items)}</ul>"


def _failures(run: Run) -> Iterator[str]:
    """What does not hold, in full: it is what people open the page for."""
    wrong = [(cell, verdict) for cell, verdict in run.cells().items() if not verdict.ok]
    if not wrong:
        return
    wrong.sort(key=lambda each: each[1].outcome is not Outcome.FAILS)
    yield "<h2>What does not hold</h2>\n<ul class=wrong>"
    for (host, check), verdict in wrong[:MOST_TOLD]:
        letter = LETTERS[verdict.outcome]
        sign = "✗" if letter == "f" else "?"
        yield f"<li class={letter}><h3><span class='mark {letter}'>{sign}</span>"
        # A name that turns the direction of what is written turns its own alone.
        yield f"<bdi>{escape(host)}</bdi> <code>{escape(check)}</code></h3>"
        yield "".join(_told(verdict, run.excerpts))
        yield "</li>"
    yield "</ul>"
    if len(wrong) > MOST_TOLD:
        yield f"<p>and {len(wrong) - MOST_TOLD} more, in the table</p>"


def _told(verdict: Verdict, excerpts: tuple[Excerpt, ...]) -> Iterator[str]:
    yield f"<dl><dt>expected<dd>{escape(verdict.expected)}<dt>seen<dd>{escape(verdict.seen)}"
    tries = "1 try" if verdict.tries == 1 else f"{verdict.tries} tries"
    took = f"{verdict.took_s:.1f} s of {verdict.within_s:g} s, {tries}"
    yield f"<dt>time<dd>{took}</dl>"
    if verdict.place is not None:
        place = verdict.place
        yield f"<p class=soft>{escape(place.file)}:{place.line}</p>"
        if excerpt := _excerpt(verdict, excerpts):
            yield "<pre class=source>"
            for number, line in enumerate(excerpt.lines, excerpt.first):
                if abs(number - place.line) <= AROUND:
                    mark = " class=here" if number == place.line else ""
                    yield f"<span{mark}>{number:4}  {escape(line)}\n</span>"
            yield "</pre>"
    if verdict.trace:
        yield "<ol class=trace>"
        yield from (
            f"<li><b>{step.at_s:.2f} s</b> {escape(step.text)}</li>" for step in verdict.trace
        )
        yield "</ol>"
    if verdict.log:
        yield f"<pre class=log>{escape(chr(10).join(verdict.log))}</pre>"
    for word, lines in (("jobs", verdict.jobs_said), ("packets", verdict.packets)):
        if lines:
            text = escape(chr(10).join(lines))
            yield f"<details><summary>{word}</summary><pre class=log>{text}</pre></details>"
    if verdict.repeat:
        yield f"<p>repeat: <code>{escape(verdict.repeat)}</code></p>"


def _excerpt(verdict: Verdict, excerpts: tuple[Excerpt, ...]) -> Excerpt | None:
    place = verdict.place
    for each in excerpts:
        if place and each.file == place.file:
            lines = range(each.first, each.first + len(each.lines))
            if place.line in lines:
                return each
    return None


def _json(run: Run) -> str:
    """The data of the table. `<` is written so that no text of theirs can end the script."""
    encoded = msgspec.json.encode(table(run)).decode()
    return encoded.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def table(run: Run) -> dict[str, Any]:
    """Hosts in groups of the same roles, checks in the order in which they were asked.

    What many cells share, the texts and the places, is there once; each names it by its number.
    """
    cells = run.cells()
    columns = list(dict.fromkeys(check for _, check in cells))
    shared = _Shared()
    groups: dict[str, list[dict[str, Any]]] = {}
    for host in _hosts(run):
        row = _row(host, [cells.get((host.name, check)) for check in columns], shared)
        groups.setdefault(", ".join(host.roles) or NO_ROLE, []).append(row)
    return {
        "columns": columns,
        "groups": [{"roles": roles, "hosts": rows} for roles, rows in groups.items()],
        "texts": list(shared.texts),
        "places": list(shared.places),
        "excerpts": run.excerpts,
    }


@dataclass
class _Shared:
    texts: dict[str, int] = field(default_factory=dict)
    places: dict[tuple[str, int], int] = field(default_factory=dict)

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def place(self, place: Place | None) -> int:
        if place is None:
            return -1
        return self.places.setdefault((place.file, place.line), len(self.places))


def _hosts(run: Run) -> list[Host]:
    """Those that were judged, and those that only verdicts know."""
    known = {host.name: host for host in run.hosts}
    for row in run.report.rows:
        known.setdefault(row.node, Host(name=row.node))
    return list(known.values())


def _row(host: Host, verdicts: list[Verdict | None], shared: _Shared) -> dict[str, Any]:
    return {
        "name": host.name,
        "on": [shared.text(each) for each in host.segments],
        "states": "".join(LETTERS[each.outcome] if each else NOT_ASKED for each in verdicts),
        "seen": [shared.text(each.seen) if each else -1 for each in verdicts],
        "at": [shared.place(each.place) if each else -1 for each in verdicts],
        "took": [round(each.took_s * 1000) if each else 0 for each in verdicts],
        "more": {
            number: _more(each) for number, each in enumerate(verdicts) if each and not each.ok
        },
    }


def _more(verdict: Verdict) -> dict[str, Any]:
    """What a cell that does not hold tells beside what every one does."""
    return {
        "expected": verdict.expected,
        "within": verdict.within_s,
        "tries": verdict.tries,
        "log": verdict.log,
        "jobs": verdict.jobs_said,
        "packets": verdict.packets,
        "trace": [[step.at_s, step.text] for step in verdict.trace],
        "repeat": verdict.repeat,
    }
