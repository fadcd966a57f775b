"""A file and the lab that was staged from it differ: `check` and `up` say so."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cli.cli_site import Hostlab

pytestmark = pytest.mark.netns

TEXT = """\
nodes:
  server:
    files: {/etc/said: {copy: said}}
    jobs: {idle: sleep 1000}
checks:
- {on: server, file: /etc/said}
"""


class Site:
    def __init__(self, hostlab: Hostlab, directory: Path) -> None:
        self.hostlab = hostlab
        self.name = f"stale-{os.getpid()}"
        self.text = f"name: {self.name}\n{TEXT}"
        self.file = directory / f"{self.name}.yaml"
        (directory / "said").write_text("one\n")
        self.write(self.text)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def __call__(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self.hostlab(*arguments, status=status)

    def up(self) -> str:
        return self("up", str(self.file)).stdout

    def told(self, lab: str | None = None, status: int = 0) -> str:
        return self("check", lab or self.name, status=status).stderr

    def line(self, what: str) -> str:
        changed = f"{self.file} has changed since it was staged ({what})"
        return f"warning: {changed}: hostlab up {self.file}\n"


@pytest.fixture(scope="module")
def hostlab(tmp_path_factory: pytest.TempPathFactory) -> Hostlab:
    return Hostlab(tmp_path_factory.mktemp("stale") / "run")


@pytest.fixture
def site(hostlab: Hostlab, tmp_path: Path) -> Iterator[Site]:
    site = Site(hostlab, tmp_path)
    site.up()
    try:
        yield site
    finally:
        site("down", site.name)


def test_nothing_is_said_of_a_file_that_is_as_it_was(site: Site) -> None:
    assert site.told() == site.told(str(site.file)) == ""
    os.utime(site.file)
    assert site.told() == ""


def test_a_changed_job_is_named_by_name_and_by_file_until_it_is_up(site: Site) -> None:
    site.write(site.text.replace("1000", "2000"))
    line = site.line("job server/idle")
    assert site.told() == line
    assert site.told(str(site.file)) == line
    assert f"warning: {json.loads(site('check', site.name, '--json').stdout)['stale']}\n" == line
    site.up()
    assert site.told() == site.told(str(site.file)) == ""
    assert json.loads(site("check", site.name, "--json").stdout)["stale"] == ""


def test_a_changed_file_that_is_copied_is_told(site: Site) -> None:
    (site.file.parent / "said").write_text("two\n")
    assert site.told() == site.line("files of server")


def test_a_changed_check_is_told_and_taken_over(site: Site) -> None:
    site.write(site.text.replace("file: /etc/said", "file: /etc/none"))
    assert site.told() == site.line("1 check")
    assert site("plan", str(site.file)).stdout == "nothing to do; 1 check changed\n"
    assert site.up() == f"{site.name} is up already; 1 check changed\n"
    assert site.told(status=1) == ""
    assert site.up() == f"{site.name} is up already, as described\n"


def test_lines_that_moved_are_told_where_their_places_are_old(site: Site) -> None:
    site.write("# moved\n" + site.text)
    assert site.told() == site.line("only where its lines are")
    assert site.told(str(site.file)) == ""


def test_a_file_that_is_wrong_now_or_gone_breaks_no_check(site: Site) -> None:
    site.write(site.text.replace("checks:", "chekcs:"))
    told = site.told()
    assert told.startswith(
        f"warning: {site.file} has changed since it was staged, and is wrong now"
    )
    assert f"{site.file}:6:1: unknown key `chekcs` in a lab" in told
    assert told.count("\n") == 1
    site.file.unlink()
    assert site.told() == ""


def test_another_file_of_the_same_lab_differs(site: Site) -> None:
    other = site.file.with_name("other.yaml")
    other.write_text(site.text.replace("1000", "2000"))
    line = f"{other} differs from what is staged (job server/idle): hostlab up {other}\n"
    assert site.told(str(other)) == f"warning: {line}"
    assert site.told() == ""


def test_a_lab_from_standard_input_has_no_file(site: Site) -> None:
    site.hostlab("up", "-", stdin=site.text.replace("copy: said", "content: x"))
    site.write(site.text.replace("1000", "2000"))
    assert site.told() == ""


def test_one_is_no_plural_and_a_lab_is_no_node(site: Site) -> None:
    site.write(site.text.replace("1000", "2000"))
    assert " is up: 1 node, 1 operation, " in site.up()
    told = site("logs", site.name, status=2).stderr
    assert told.endswith(f"a node of it is wanted\n  hint: {site.name}/server\n")


def test_of_a_lab_that_is_not_up_it_is_said_how_it_comes_up(site: Site) -> None:
    site("down", site.name)
    message = f"hostlab: lab {site.name} is not up\n  hint: "
    told = site.told(str(site.file), status=2)
    assert told == f"{message}stage it and judge it: `hostlab up --check {site.file}`\n"
    told = site("status", str(site.file), status=2).stderr
    assert told == f"{message}stage it first: `hostlab up {site.file}`\n"
    told = site("exec", f"{site.name}/server", "--", "true", status=2).stderr
    assert (
        told == f"{message}`hostlab up FILE` stages it; `hostlab ls` lists the labs that are up\n"
    )
    told = site("up", f"{site.name}-none.yaml", status=2).stderr
    assert told.startswith(f"hostlab: no such file: {site.name}-none.yaml\n")
