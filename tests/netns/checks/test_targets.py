"""What a check that fails tells of the node that it has asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hostlab.checks.evidence import with_logs
from hostlab.checks.formats import tap
from hostlab.checks.judge import judge
from hostlab.checks.page import page
from hostlab.checks.run import run_of
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.observe.in_node import pids_in
from hostlab.sync import Lab
from tests.netns.lab.lab_site import described, probe, site

pytestmark = pytest.mark.netns

_DESCRIPTION = """
segments: [lan]
nodes:
  missing: {jobs: {web: pyton3 -m http.server 80}}
  other: {jobs: {web: python3 -m http.server 8080}}
  two: {jobs: {web: python3 -m http.server 8080, more: python3 -m http.server 8081}}
  dead: {jobs: {web: "sh -c 'echo opensesame is no door >&2; exit 3'"}}
  inner: {jobs: {web: "sh -c 'python3 -m http.server 80 --bind 127.0.0.1; true'"}}
  waits: {jobs: {web: {exec: sleep infinity, start_on: never}, done: {exec: "true", task: true}}}
  bare:
  client:
    links: ["other:shop"]
checks:
  - {on: client, http: "http://missing/", within: 0.2s}
  - {on: client, http: "http://other/", within: 0.2s}
  - {on: client, http: "http://shop/", within: 0.2s}
  - {on: client, reaches: "dead:80", within: 0.2s}
  - {on: client, tcp: "inner:80", within: 0.2s}
  - {on: client, tcp: "other:80-82,8080", within: 0.2s}
  - {on: client, tcp: {targets: "two:80,8080-8081", want: closed}, within: 0.2s}
  - {on: client, reaches: "waits:53/udp", within: 0.2s}
  - {on: client, http: "http://bare/", within: 0.2s}
  - {on: client, not_reaches: "other:8080", within: 0.2s}
  - {on: client, http: "http://other:8080/none", within: 0.2s}
  - {on: other, listens: 80, within: 0.2s}
  - {on: client, http: "http://other:8080/", within: 30s}
  - {on: client, not_reaches: "missing:80", within: 0.2s}
  - {on: client, command: {run: "true", stdout: !secret "opensesame"}, within: 0.2s}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
        with Lab(described(f"targets-{os.getpid()}", _DESCRIPTION)) as staged:
            nodes = staged.nodes()
            for name in ("missing", "dead"):
                nodes[name].wait_for_job("web", "failed")
            nodes["waits"].wait_for_job("done", "stopped")
            nodes["other"].wait_for_open_port(8080)
            nodes["inner"].wait_for_open_port(80)
            for port in (8080, 8081):
                nodes["two"].wait_for_open_port(port)
            yield staged


@pytest.fixture(scope="module")
def report(lab: Lab) -> Report:
    return lab.check()


def _row(report: Report, check: str) -> Verdict:
    (found,) = (row for row in report.rows if row.check == check)
    return found


def _log(report: Report, check: str) -> tuple[str, ...]:
    row = _row(report, check)
    assert row.outcome is Outcome.FAILS
    return row.log


@pytest.mark.parametrize(
    ("check", "lines"),
    [
        (
            "http: http://missing/",
            (
                "missing: nothing listens on tcp 80",
                "missing: job web failed: execute: No such file or directory: pyton3",
            ),
        ),
        (
            "http: http://other/",
            ("other: nothing listens on tcp 80; web listens on 8080 (0.0.0.0)",),
        ),
        (
            "http: http://shop/",
            ("other: nothing listens on tcp 80; web listens on 8080 (0.0.0.0)",),
        ),
        (
            "reaches: dead:80",
            (
                "dead: nothing listens on tcp 80",
                "dead: job web failed: exit status 3",
                "dead/web: •••••• is no door",
            ),
        ),
        (
            "tcp: inner:80",
            (
                "inner refused: 80",
                "inner: nothing listens on tcp 80 at its addresses; web listens on 80 (127.0.0.1)",
            ),
        ),
        (
            "tcp: other:80-82,8080",
            (
                "other refused: 80-82",
                "other answered: 8080",
                "other: nothing listens on tcp 80-82; web listens on 8080 (0.0.0.0)",
            ),
        ),
        (
            "tcp: two:80,8080-8081",
            (
                "two refused: 80",
                "two answered: 8080-8081",
                "two: web listens on 8080 (0.0.0.0), more on 8081 (0.0.0.0)",
            ),
        ),
        (
            "reaches: waits:53/udp",
            ("waits: nothing listens on udp 53", "waits: job web is waiting"),
        ),
        ("http: http://bare/", ("bare: nothing listens on tcp 80",)),
        ("not_reaches: other:8080", ("other: web listens on 8080 (0.0.0.0)",)),
        ("listens: 80", ("other: nothing listens on tcp 80; web listens on 8080 (0.0.0.0)",)),
    ],
)
def test_what_is_so_in_the_node_that_was_asked(
    report: Report, check: str, lines: tuple[str, ...]
) -> None:
    assert _log(report, check) == lines


def test_every_address_that_was_tried_is_named(report: Report) -> None:
    seen = _row(report, "http: http://missing/").seen
    assert seen == "no answer: 10.0.0.1, fd00::1: Connection refused"


def test_who_listens_is_no_matter_when_a_server_has_answered(report: Report) -> None:
    log = _log(report, "http: http://other:8080/none")
    assert "File not found" in "".join(log)
    assert not [line for line in log if line.startswith("other")]


@pytest.mark.parametrize("check", ["http: http://other:8080/", "not_reaches: missing:80"])
def test_what_holds_is_not_looked_into(report: Report, check: str) -> None:
    row = _row(report, check)
    assert (row.outcome, row.log) == (Outcome.HOLDS, ())


def test_it_is_in_text_and_json_and_page(lab: Lab, report: Report) -> None:
    line = "missing: job web failed: execute: No such file or directory: pyton3"
    assert f"\n    | {line}\n" in str(_row(report, "http: http://missing/"))
    run = run_of(lab.description, report, began=1.0)
    for made in (msgspec.json.encode(report).decode(), page(run), tap(run)):
        assert line in made
        assert "opensesame" not in made


def test_a_report_has_what_the_jobs_of_the_node_wrote(lab: Lab, report: Report) -> None:
    told = with_logs(report, lab.nodes(), lab.description)
    assert _row(told, "reaches: dead:80").jobs_said == ("dead/web: •••••• is no door",)
    assert _row(told, "http: http://missing/").jobs_said == (
        "missing/web: hostlab: main process: unable to execute: No such file or directory: pyton3",
    )
    assert _row(told, "http: http://other:8080/").jobs_said == ()


def test_a_node_that_is_frozen_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An init that does not answer holds nobody up: what its kernel knows is told alone."""
    text = """
segments: [lan]
nodes:
  server: {jobs: {web: sleep infinity}}
  client:
checks:
  - {on: client, http: "http://server/", within: 0.2s}
"""
    with site(tmp_path, monkeypatch) as place:
        lab = place.up(text)
        server = lab.nodes()["server"]
        server.wait_for_job("web")
        frozen = tuple(pids_in(server.pid).values())
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            (row,) = lab.check().rows
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert row.log == ("server: nothing listens on tcp 80",)
        report = judge(lab.description.checks, {"client": lab["client"]}, described=lab.description)
        assert report.rows[0].log == ("server: the node is not there",)
