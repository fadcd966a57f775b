"""Reports in the formats of others: JUnit's XML, TAP, Prometheus' text; pure.

All text in a report comes from hosts and descriptions, so each format has its own way of writing
down what it cannot contain.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from hostlab.checks.run import Host, Run, cells_of
from hostlab.checks.verdict import Outcome, Verdict

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot contain, not even as a reference."""


def junit(run: Run) -> str:
    """A suite for each host, as Jenkins, GitLab and GitHub's actions read it.

    What cannot be judged is an error, not a failure.
    """
    counts = {
        "tests": str(len(run.report.rows)),
        "failures": str(run.report.count(Outcome.FAILS)),
        "errors": str(run.report.count(Outcome.UNKNOWN)),
        "time": f"{run.report.took_s:.3f}",
    }
    top = ElementTree.Element("testsuites", {"name": _xml(run.lab), **counts})
    began = datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for host, cases in _by_host(run).items():
        suite = ElementTree.SubElement(
            top,
            "testsuite",
            {
                "name": _xml(host.name),
                "hostname": _xml(host.name),
                "timestamp": began,
                "tests": str(len(cases)),
                "failures": _count(cases, Outcome.FAILS),
                "errors": _count(cases, Outcome.UNKNOWN),
                "skipped": _count(cases, Outcome.SKIPPED),
                "time": f"{sum(verdict.took_s for _, verdict in cases):.3f}",
            },
        )
        for check, verdict in cases:
            _junit_case(suite, run, check, verdict)
    ElementTree.indent(top)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(top, "unicode")}\n'


def _junit_case(suite: ElementTree.Element, run: Run, check: str, verdict: Verdict) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": _xml(f"{run.lab}.{verdict.node}"),
            "name": _xml(check),
            "time": f"{verdict.took_s:.3f}",
        },
    )
    if verdict.place:
        case.set("file", _xml(verdict.place.file))
        case.set("line", str(verdict.place.line))
    if verdict.outcome is Outcome.SKIPPED:
        ElementTree.SubElement(case, "skipped", {"message": _xml(verdict.seen)})
    if not verdict.ok:
        tag = "failure" if verdict.outcome is Outcome.FAILS else "error"
        why = {"message": _xml(verdict.detail), "type": verdict.kind}
        ElementTree.SubElement(case, tag, why).text = _xml(str(verdict))


def _xml(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _by_host(run: Run) -> dict[Host, list[tuple[str, Verdict]]]:
    """The verdicts of each host with the name of their check; hosts that have some."""
    known = {host.name: host for host in run.hosts}
    found: dict[Host, list[tuple[str, Verdict]]] = {}
    for (_, check), verdict in zip(cells_of(run.report.rows), run.report.rows, strict=True):
        host = known.get(verdict.node) or Host(name=verdict.node)
        found.setdefault(host, []).append((check, verdict))
    return found


def _count(cases: list[tuple[str, Verdict]], outcome: Outcome) -> str:
    return str(sum(verdict.outcome is outcome for _, verdict in cases))


def tap(run: Run) -> str:
    """TAP version 14, a line for each verdict; those that do not hold say why below it."""
    lines = ["TAP version 14", f"1..{len(run.report.rows)}"]
    for number, ((host, check), verdict) in enumerate(
        zip(cells_of(run.report.rows), run.report.rows, strict=True), 1
    ):
        state = "ok" if verdict.ok else "not ok"
        skipped = verdict.outcome is Outcome.SKIPPED
        skip = f" # SKIP {_one_line(verdict.seen)}" if skipped else ""
        lines.append(f"{state} {number} - {_tap(f'{host}: {check}')}{skip}")
        if not verdict.ok:
            lines += _tap_why(verdict)
    return "\n".join(lines) + "\n"


def _tap(text: str) -> str:
    """A description: `#` would begin a directive, and a line break end it."""
    return _one_line(text).replace("\\", "\\\\").replace("#", "\\#")


def _tap_why(verdict: Verdict) -> Iterator[str]:
    yield "  ---"
    yield f"  outcome: {verdict.outcome}"
    yield f"  expected: {_quoted(verdict.expected)}"
    yield f"  seen: {_quoted(verdict.seen)}"
    if verdict.place:
        yield f"  at: {_quoted(f'{verdict.place.file}:{verdict.place.line}')}"
    if verdict.log:
        yield "  log:"
        yield from (f"    - {_quoted(line)}" for line in verdict.log)
    yield "  ..."


def _quoted(text: str) -> str:
    """A scalar of YAML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(_yaml_character(each) for each in escaped)}"'


def _yaml_character(each: str) -> str:
    return each if each.isprintable() else f"\\U{ord(each):08x}"


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def prometheus(run: Run) -> str:
    """The text format, for the textfile collector of node_exporter.

    What is not asked has no `hostlab_check_holds`; nor has what cannot be judged, which is 1 in
    `hostlab_check_unknown`.
    """
    rows = list(zip(cells_of(run.report.rows), run.report.rows, strict=True))

    def family(name: str, help_: str, value: Callable[[Verdict], float | None]) -> Iterator[str]:
        yield f"# HELP {name} {help_}"
        yield f"# TYPE {name} gauge"
        for (host, check), verdict in rows:
            if (number := value(verdict)) is not None:
                said = {"lab": run.lab, "host": host, "kind": verdict.kind, "check": check}
                labels = ",".join(f'{key}="{_label(text)}"' for key, text in said.items())
                yield f"{name}{{{labels}}} {number:g}"

    def holds(verdict: Verdict) -> float | None:
        is_known = verdict.outcome in (Outcome.HOLDS, Outcome.FAILS)
        return float(verdict.ok) if is_known else None

    lab = _label(run.lab)
    return "\n".join(
        (
            *family("hostlab_check_holds", "Whether what is expected holds.", holds),
            *family(
                "hostlab_check_unknown",
                "Whether it could not be judged.",
                lambda verdict: float(verdict.outcome is Outcome.UNKNOWN),
            ),
            *family(
                "hostlab_check_duration_seconds",
                "How long it took to decide.",
                lambda verdict: verdict.took_s,
            ),
            "# HELP hostlab_checks_began_timestamp_seconds When they were judged.",
            "# TYPE hostlab_checks_began_timestamp_seconds gauge",
            f'hostlab_checks_began_timestamp_seconds{{lab="{lab}"}} {run.began:.3f}',
            "",
        )
    )


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
