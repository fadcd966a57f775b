"""The fleet example: real daemons on 24 hosts, one defect, found, and a page that shows why."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.checks.run import Run, read_run
from hostlab.checks.verdict import Outcome
from hostlab.sync import Lab
from tests.chromium import browser, program
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[3]
DAEMONS = ("nginx", "memcached", "haproxy", "postfix", "/usr/lib/postgresql/15/bin/postgres")


class Fleet:
    """What `hostlab up` and `hostlab check --report` printed and wrote."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.name = f"fleet-{os.getpid()}"
        self.up = self.hostlab("up", "fleet.yaml")
        os.environ["HOSTLAB_RUN"] = str(place / "run")
        try:
            for node in Lab(self.name):
                node.wait_settled(within_s=300)
        finally:
            del os.environ["HOSTLAB_RUN"]
        self.check = self.hostlab("check", self.name, "--report", "out")

    def hostlab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hostlab.cli.main", *words],
            cwd=self.place,
            env={**os.environ, "HOSTLAB_RUN": str(self.place / "run")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @property
    def run(self) -> Run:
        return read_run(str(self.place / "out"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    probe()
    missing = [each for each in DAEMONS if shutil.which(each, path="/usr/sbin:/usr/bin") is None]
    if missing or os.getuid():
        pytest.skip(f"root is needed, and these daemons: {missing}")
    place = tmp_path_factory.mktemp("fleet")
    text = (ROOT / "examples/fleet/fleet.yaml").read_text()
    # What a starved machine takes to start them is no defect of the fleet.
    text = text.replace("name: fleet", f"name: fleet-{os.getpid()}").replace("60s", "240s")
    (place / "fleet.yaml").write_text(text)
    made = Fleet(place)
    try:
        yield made
    finally:
        made.hostlab("down", made.name)


@pytest.mark.timeout(600)
def test_one_cell_is_red_and_the_page_shows_why(fleet: Fleet) -> None:
    assert "24 nodes" in fleet.up.stdout, fleet.up
    assert fleet.check.returncode == 1, fleet.check
    rows = fleet.run.report.rows
    (red,) = [row for row in rows if row.outcome not in (Outcome.HOLDS, Outcome.SKIPPED)]
    assert (red.node, red.check, red.seen) == (
        "cache6",
        "memcached uses almost all memory",
        "it is 112",
    )
    # bonding is asked where there is some, and nowhere else
    skipped = [row for row in rows if row.outcome is Outcome.SKIPPED]
    assert {row.kind for row in skipped} <= {"file"}
    kinds = {row.kind for row in rows}
    assert {"listens", "file", "process", "package", "service", "user", "mount", "http"} <= kinds
    page = (fleet.place / "out/index.html").read_text()
    told = page[page.index("What does not hold") : page.index("Hosts and checks")]
    assert told.count("<h3>") == 1
    for word in (
        "cache6",
        "it is 112",
        "a number above 0 and below 64",
        "total=$(cat /etc/memory)",
    ):
        assert word in told


def test_it_is_mended_by_the_commands_of_its_page(fleet: Fleet) -> None:
    text = (ROOT / "docs/fleet.md").read_text()
    block = text[text.index("Mend it") :]
    commands = re.findall(r"^hostlab (.+)$", block, re.M)
    assert len(commands) == 3
    for command in commands:
        done = fleet.hostlab(*shlex.split(command.replace("check fleet", f"check {fleet.name}")))
        assert done.returncode == 0, done


def test_the_page_of_the_fleet_in_a_browser(fleet: Fleet, tmp_path: Path) -> None:
    if program() is None:
        pytest.skip("no chromium: apt-get install chromium")
    with browser(tmp_path) as chromium:
        chromium.size(1400, 1240)
        chromium.open(f"file://{fleet.place}/out/index.html")
        chromium.click("#scroll td .f")
        detail = chromium.tell("document.querySelector('#detail').innerText")
        assert "cache6" in detail
        assert "it is 112" in detail
        here = chromium.tell("document.querySelector('#detail .here').textContent")
        assert "name: memcached uses almost all memory" in here
        assert chromium.tell("document.querySelectorAll('#topology .node').length") == 24
        assert chromium.tell("document.querySelectorAll('#topology .node.f').length") == 1
        assert chromium.errors() == []
        if pictures := os.environ.get("HOSTLAB_SCREENSHOTS"):
            chromium.tell("scrollTo(0, 0)")
            chromium.drawn()
            chromium.picture(Path(pictures, "report-24.png"))
