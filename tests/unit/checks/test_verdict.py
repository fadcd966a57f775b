"""Verdicts and reports: what they say, and that they survive JSON."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.checks.kind import hostlab_line
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.errors import Failed
from hostlab.spec.model import Place

pytestmark = pytest.mark.unit


def verdict(outcome: Outcome, node: str = "web") -> Verdict:
    return Verdict(
        node=node,
        kind="listens",
        check="listens: 80",
        outcome=outcome,
        expected="a tcp socket listening on port 80",
        seen="nothing listens",
        within_s=5.0,
        took_s=5.01,
        tries=57,
        place=Place(file="lab.yaml", line=7, column=3),
        log=("bind: in use",),
        repeat="hostlab exec web -- ss -lnt",
    )


def test_a_failure_says_where_what_and_how_to_repeat_it() -> None:
    assert str(verdict(Outcome.FAILS)).splitlines() == [
        "lab.yaml:7:3: web: listens: 80: fails: expected a tcp socket listening on port 80; "
        "nothing listens (5.0 s, 57 tries)",
        "    | bind: in use",
        "    repeat: hostlab exec web -- ss -lnt",
    ]
    assert str(verdict(Outcome.HOLDS)) == "web: listens: 80: holds: nothing listens"
    assert "(5.0 s, 1 try)" in str(msgspec.structs.replace(verdict(Outcome.FAILS), tries=1))


@pytest.mark.parametrize(
    ("outcomes", "code", "summary"),
    [
        ("", 0, "0 of 0 checks hold"),
        ("hh", 0, "2 of 2 checks hold"),
        ("hf", 1, "1 of 2 checks hold, 1 does not"),
        ("hu", 3, "1 of 2 checks hold, 1 could not be judged"),
        ("ffu", 1, "0 of 3 checks hold, 2 do not, 1 could not be judged"),
    ],
)
def test_exit_code_and_summary(outcomes: str, code: int, summary: str) -> None:
    kinds = {"h": Outcome.HOLDS, "f": Outcome.FAILS, "u": Outcome.UNKNOWN}
    report = Report(rows=tuple(verdict(kinds[letter]) for letter in outcomes))
    assert report.exit_code == code
    assert report.ok is bool(report) is (code == 0)
    assert report.summary() == summary


def test_a_report_that_must_hold_raises_what_the_command_line_prints() -> None:
    held = verdict(Outcome.HOLDS)
    Report(rows=(held,)).must_hold()
    for outcome, sign in ((Outcome.FAILS, "✗"), (Outcome.UNKNOWN, "?")):
        wrong = verdict(outcome)
        report = Report(rows=(held, wrong))
        with pytest.raises(Failed) as failed:
            report.must_hold()
        assert str(failed.value) == f"{sign} {wrong}\n{report.summary()}"


def test_what_a_host_says_commands_no_terminal_whoever_prints_it() -> None:
    wrong = msgspec.structs.replace(verdict(Outcome.FAILS), seen="\x1b[2J", log=("\x9b31m\r",))
    report = Report(rows=(wrong,))
    with pytest.raises(Failed) as failed:
        report.must_hold()
    for text in (str(wrong), str(report), str(failed.value)):
        assert r"; \x1b[2J (5.0 s" in text
        assert "    | \\x9b31m\\r\n" in text
    assert repr(report).endswith(r"web: listens: 80: \x1b[2J>")


def test_a_report_s_repr_is_one_short_line_with_what_does_not_hold() -> None:
    held, wrong = verdict(Outcome.HOLDS), verdict(Outcome.FAILS, node="db")
    assert repr(Report(rows=(held, wrong))) == (
        "<Report: 1 of 2 checks hold, 1 does not; db: listens: 80: nothing listens>"
    )
    many = Report(rows=tuple(verdict(Outcome.FAILS, node=f"db{n}") for n in range(100)))
    assert "db0: listens" in repr(many)
    assert "db99" not in repr(many)
    assert len(repr(many)) < 240


def test_a_report_survives_json() -> None:
    report = Report(rows=(verdict(Outcome.FAILS), verdict(Outcome.HOLDS)), took_s=1.5)
    text = msgspec.json.encode(report)
    assert b'"outcome":"fails"' in text
    assert msgspec.json.decode(text, type=Report) == report


def test_a_line_to_repeat_is_quoted_for_a_shell() -> None:
    line = hostlab_line("exec", "small", "web", "--", "sh", "-c", "echo 'a b'")
    assert line == """hostlab exec small/web -- sh -c 'echo '"'"'a b'"'"''"""
    assert hostlab_line("status", None, "web") == "hostlab status web"
