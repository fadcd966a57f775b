"""How soon the page of a large judgement is there in a browser (issue 8, "The matrix page")."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab.checks.page import page
from hostlab.checks.run import Host, Run
from hostlab.checks.verdict import Outcome, Report, Verdict
from tests.chromium import Browser, browser, program

HOSTS: Final = 1000
CHECKS: Final = 200
FAILS_EVERY: Final = 97
MOST_MS: Final = 1000.0
_TIMING: Final = "JSON.stringify(performance.getEntriesByType('navigation')[0])"


def page_case(hosts: int = HOSTS, checks: int = CHECKS) -> Benchmark:
    """From a click on the file until all is drawn; the browser is there already."""
    return Benchmark(
        name="page",
        title=f"the page of {hosts:,} hosts and {checks} checks opens in Chromium",
        contenders=(Contender("hostlab", functools.partial(_opened, hosts, checks), _missing),),
        targets=(Target("drawn_ms", MOST_MS),),
        rounds=5,
    )


def _missing() -> str | None:
    return None if program() else "needs chromium: apt-get install chromium"


@functools.cache
def _page(hosts: int, checks: int) -> str:
    rows = tuple(
        Verdict(
            node=f"host{host}",
            kind="listens",
            check=f"check {check}",
            outcome=Outcome.HOLDS if (host * checks + check) % FAILS_EVERY else Outcome.FAILS,
            expected="something",
            seen="as it is",
            within_s=5.0,
            took_s=0.5,
        )
        for host in range(hosts)
        for check in range(checks)
    )
    known = tuple(Host(name=f"host{n}", roles=(f"role{n % 5}",)) for n in range(hosts))
    report = Report(rows=rows, took_s=1.0)
    return page(Run(lab="fleet", began=1.0, hosts=known, report=report))


def _opened(hosts: int, checks: int) -> Metrics:
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as name:
        directory = Path(name)
        (directory / "empty.html").write_text("<!doctype html><p>here")
        (directory / "page.html").write_text(_page(hosts, checks))
        with browser(directory) as chromium:
            chromium.size(1280, 900)
            # The first page of a browser starts a process for it.
            _open(chromium, directory / "empty.html")
            return _open(chromium, directory / "page.html")


def _open(chromium: Browser, file: Path) -> Metrics:
    chromium.open(f"file://{file}")
    chromium.drawn()
    drawn_ms = chromium.tell("performance.now()")
    return {"drawn_ms": drawn_ms, "load_ms": json.loads(chromium.tell(_TIMING))["loadEventEnd"]}


PAGE_CASES: Mapping[str, Callable[[], Benchmark]] = {"page": page_case}
