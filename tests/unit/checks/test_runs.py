"""Judgements as files, beside one another, and as a selection."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hostlab import spec
from hostlab.checks.changes import compare
from hostlab.checks.run import Run, cells_of, excerpts, merged, parse_run, read_run, run_of
from hostlab.checks.selecting import said, selected
from hostlab.checks.verdict import Outcome, Report
from hostlab.errors import UsageError
from tests.unit.checks.run_site import a_run, verdict

pytestmark = pytest.mark.unit
LAB = """
name: shop
segments: [lan]
roles:
  web: {checks: [{listens: 80}, {job: {www: running}}], jobs: {www: "true"}}
nodes:
  web1: {roles: web}
  web2: {roles: web}
  db: {checks: [{listens: 5432}]}
  bare:
"""


def lab() -> spec.Lab:
    return spec.load(LAB.encode(), file="lab.yaml", seed=None)


def test_a_report_is_read_back_from_its_file_or_its_directory(tmp_path: Path) -> None:
    run = a_run(verdict("web1", "listens: 80"), verdict("web2", "listens: 80", "f"))
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(run))
    assert read_run(str(tmp_path)) == read_run(str(tmp_path / "report.json")) == run


@pytest.mark.parametrize("cut", [0, 1, 20, 200, -1])
def test_a_report_that_is_cut_off_is_said_to_be(cut: int) -> None:
    data = msgspec.json.encode(a_run(verdict("web1", "listens: 80")))
    with pytest.raises(UsageError, match="no whole report"):
        parse_run(data[:cut], file="report.json")


def test_one_of_a_newer_hostlab_is_not_guessed_at_and_unknown_members_are_no_reason() -> None:
    data = msgspec.json.decode(msgspec.json.encode(a_run(verdict("web1", "listens: 80"))))
    data["colour"] = data["report"]["rows"][0]["weather"] = "new"
    assert parse_run(msgspec.json.encode(data), file="x").hosts[0].name == "web1"
    data["format"] = 2
    data["hosts"] = "something else"
    with pytest.raises(UsageError, match="newer hostlab"):
        parse_run(msgspec.json.encode(data), file="x")


def test_no_report_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--report DIR"):
        read_run(str(tmp_path / "none"))


def test_a_check_that_is_asked_twice_has_two_cells() -> None:
    rows = [verdict("web1", "listens: 80")] * 3 + [verdict("web2", "listens: 80")]
    assert cells_of(rows) == [
        ("web1", "listens: 80"),
        ("web1", "listens: 80 (2)"),
        ("web1", "listens: 80 (3)"),
        ("web2", "listens: 80"),
    ]


def test_lines_round_checks_are_kept_once() -> None:
    rows = [
        msgspec.structs.replace(
            verdict("web", "x: 1"), place=spec.Place(file="lab.yaml", line=number, column=1)
        )
        for number in (2, 4, 20, 99)
    ]
    found = excerpts(rows, {"lab.yaml": "".join(f"line {n}\n" for n in range(1, 31))})
    assert [(each.first, len(each.lines)) for each in found] == [(1, 7), (17, 7)]
    assert found[1].lines[3] == "line 20"
    assert excerpts(rows, {"lab.yaml": ""}) == excerpts(rows, {}) == ()


def test_a_judgement_keeps_the_hosts_it_is_about() -> None:
    report = Report(rows=(verdict("db", "listens: 5432"), verdict("web2", "listens: 80")))
    run = run_of(lab(), report, began=5.0)
    assert [(host.name, host.roles) for host in run.hosts] == [("web2", ("web",)), ("db", ())]
    assert [host.segments for host in run.hosts] == [("lan",), ("lan",)]
    assert run.lab == "shop"
    assert run.version


def test_of_two_reports_the_later_verdict_counts() -> None:
    early = a_run(verdict("web1", "x: 1", "f"), verdict("web1", "y: 1"), began=1.0)
    late = a_run(verdict("web1", "x: 1"), verdict("web2", "x: 1"), began=2.0)
    for order in ([early, late], [late, early]):
        run = merged(order)
        assert {cell: found.outcome for cell, found in run.cells().items()} == {
            ("web1", "x: 1"): "holds",
            ("web1", "y: 1"): "holds",
            ("web2", "x: 1"): "holds",
        }
        assert [host.name for host in run.hosts] == ["web1", "web2"]
        assert (run.lab, run.began, run.report.took_s) == ("shop", 1.0, 3.0)
    with pytest.raises(UsageError, match="no report to merge"):
        merged([])


def test_what_is_merged_has_the_lines_of_all_and_the_later_version() -> None:
    place = spec.Place(file="other.yaml", line=2, column=3)
    early = a_run(verdict("web1", "x: 1"), began=1.0)
    late = a_run(msgspec.structs.replace(verdict("web2", "x: 1"), place=place), began=2.0)
    other = msgspec.structs.replace(early.excerpts[0], file="other.yaml")
    run = merged(
        [
            msgspec.structs.replace(late, excerpts=(other,), version="2"),
            msgspec.structs.replace(early, version="1"),
        ]
    )
    assert run.excerpts == (*early.excerpts, other)
    assert run.version == "2"


def changes(*outcomes: str) -> list[tuple[str, str, bool]]:
    """One letter a check and run; `.` where it is not asked."""
    runs: list[Run] = []
    for letters in outcomes:
        rows = [verdict("web", f"x: {n}", o) for n, o in enumerate(letters) if o != "."]
        runs.append(a_run(*rows))
    return [(each.check, each.change.value, each.flaky) for each in compare(runs)]


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ("h", "f", "broken"),
        ("u", "f", "broken"),
        (".", "f", "broken"),
        ("h", "u", "lost"),
        ("f", "u", "lost"),
        (".", "u", "lost"),
        ("f", "h", "mended"),
        ("u", "h", "mended"),
        (".", "h", "new"),
        ("h", ".", "gone"),
        ("f", ".", "gone"),
        ("f", "f", "still failing"),
        ("u", "u", "still failing"),
        ("s", "h", "new"),
        ("s", "f", "broken"),
        ("s", ".", "gone"),
    ],
)
def test_what_became_of_a_check(before: str, now: str, change: str) -> None:
    assert changes(before, now) == [("x: 0", change, False)]


def test_what_holds_as_before_is_not_told_and_the_worst_is_told_first() -> None:
    assert changes("hh", "hh") == []
    told = [change for _, change, _ in changes("hfhfh", "hfuhf")]
    assert told == ["broken", "lost", "mended", "still failing"]


@pytest.mark.parametrize("before", ["h", "f", "s", "."])
def test_what_is_not_asked_any_more_of_this_host_is_not_told(before: str) -> None:
    assert changes(before, "s") == []


def test_a_change_says_what_is_seen_now_and_what_was() -> None:
    runs = [
        a_run(verdict("web", "x: 1", outcome, text))
        for outcome, text in (("u", "first"), ("f", "before"), ("h", "now"))
    ]
    (found,) = compare(runs)
    assert (found.before, found.now, found.seen) == (Outcome.FAILS, Outcome.HOLDS, "now")


def test_what_changes_more_than_once_is_flaky() -> None:
    assert changes("h", "f", "h", "f") == [("x: 0", "broken", True)]
    assert changes("h", "h", "h", "f") == [("x: 0", "broken", False)]


def test_checks_of_hosts_roles_and_words() -> None:
    def told(**chosen: list[str]) -> list[tuple[str, tuple[str, ...]]]:
        return [(said(check), check.nodes) for check in selected(lab(), **chosen)]

    everything = [
        ("listens: 80", ("web1", "web2")),
        ("job: www: running", ("web1", "web2")),
        ("listens: 5432", ("db",)),
    ]
    assert told() == everything
    assert told(hosts=["web1"]) == [(text, ("web1",)) for text, _ in everything[:2]]
    assert told(hosts=["w*", "db"]) == everything
    assert told(roles=["web"], words=["LISTENS"]) == everything[:1]
    assert told(hosts=["web1", "bare"], words=["job"]) == [("job: www: running", ("web1",))]
    assert told(hosts=["bare"]) == []


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"hosts": ["web3"]}, "no host is called web3\n  hint: there are: web1, web2, db, bare"),
        ({"roles": ["wep"]}, "no role is called wep\n  hint: there are: web"),
        ({"words": ["ping"]}, "no check says ping"),
        ({"words": ["ping", "x"]}, "no check says ping or x"),
        ({"words": ["listens"], "hosts": ["bare"]}, "no check says listens on these hosts"),
        ({"hosts": ["db"], "roles": ["web"]}, "no host called db has the role web"),
    ],
)
def test_what_is_not_there_is_no_empty_success(chosen: dict[str, list[str]], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        selected(lab(), **chosen)
    assert str(raised.value) == said
