"""`hostlab check --watch`: what has changed is told when it changes, and nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostlab.checks.watching import Watch, untold
from hostlab.spec import load
from hostlab.sync import Lab
from tests.netns.lab.lab_site import probe, wait_until

pytestmark = pytest.mark.netns

DEADLINE_S = 90.0
MOST_TOLD = 1000
_DESCRIPTION = """
name: watch-{pid}
segments: [lan]
nodes:
  a:
    jobs: {{web: sleep infinity}}
    checks:
      - {{job: {{web: running}}, within: 30s, if: {{interface: lo}}}}
      - {{file: {{path: /srv/note, is: absent}}, within: 0s}}
      - {{route: 10.9.0.0/16, within: 0s}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "lab.yaml").write_text(_DESCRIPTION.format(pid=os.getpid()))
    return tmp_path


class Follower:
    """A `hostlab check --watch` and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.buffer = b""

    def line(self) -> str:
        assert self.process.stdout
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
            assert ready, f"nothing is told: {self.buffer!r}"
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, f"it has ended: {self.process.wait()}"
            self.buffer += read
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def change(self) -> tuple[str, str]:
        """What became of which check."""
        line = self.line()
        while not line.startswith("{"):  # what is wrong with a description
            line = self.line()
        told = json.loads(line)
        return told["change"], told["check"]


@contextmanager
def following(place: Path, *words: str) -> Iterator[Follower]:
    """One that has judged once; nothing is looked at again but what is told of."""
    command = [sys.executable, "-m", "hostlab.cli.main", "check", "lab.yaml", "--watch", "--json"]
    process = subprocess.Popen(
        [*command, "--every", "3600", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        follower = Follower(process)
        while follower.line() != "}":  # the first judgement is one value, indented
            pass
        yield follower
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_what_is_told_is_judged_again(place: Path) -> None:
    with Lab(place / "lab.yaml") as lab:
        node = lab["a"]
        node.succeed("true")
        with following(place) as follower:
            node.succeed("echo x > /srv/note")
            assert follower.change() == ("broken", "file: /srv/note (absent)")
            node.succeed("ip route add 10.9.0.0/16 dev eth0")
            assert follower.change() == ("mended", "route: 10.9.0.0/16")
            node.succeed("rm /srv/note; ip route del 10.9.0.0/16")
            both = {follower.change(), follower.change()}
            assert both == {
                ("broken", "route: 10.9.0.0/16"),
                ("mended", "file: /srv/note (absent)"),
            }
            text = (place / "lab.yaml").read_text()
            (place / "lab.yaml").write_text(text.replace("is: absent", "is: absent, mode: 9"))
            while not follower.line().startswith("lab.yaml:"):
                pass
            (place / "lab.yaml").write_text(text.replace("/srv/note", "/srv/other"))
            assert {follower.change(), follower.change()} == {
                ("new", "file: /srv/other (absent)"),
                ("gone", "file: /srv/note (absent)"),
            }
            lines = (place / "lab.yaml").read_text().splitlines(keepends=True)
            (place / "lab.yaml").write_text("".join(each for each in lines if "/srv" not in each))
            assert follower.change() == ("gone", "file: /srv/other (absent)")
            follower.process.send_signal(signal.SIGINT)
            assert follower.process.wait(DEADLINE_S) == 1


def test_it_ends_with_its_lab_or_after_enough_changes(place: Path) -> None:
    with Lab(place / "lab.yaml") as lab:
        lab["a"].succeed("ip route add 10.9.0.0/16 dev eth0")
        with following(place, "--count", "1") as counting, following(place) as ending:
            lab["a"].succeed("ip route del 10.9.0.0/16")
            assert counting.change() == ("broken", "route: 10.9.0.0/16")
            assert counting.process.wait(DEADLINE_S) == 1
            assert ending.change() == ("broken", "route: 10.9.0.0/16")
            lab.down()
            assert ending.process.wait(DEADLINE_S) in (1, 3)


def test_what_nobody_tells_of_is_looked_at_again_and_the_rest_stays(place: Path) -> None:
    described = place / "lab.yaml"
    described.write_text(
        described.read_text() + "      - {command: test -e /tmp/flag, within: 0s}\n"
    )
    with Lab(described) as lab, following(place, "--every", "0.1") as follower:
        # Where no file is watched, and from outside: a node's init tells of what it starts.
        flag = Path(f"/proc/{lab['a'].pid}/root/tmp/flag")
        flag.touch()
        assert follower.change() == ("mended", "command: test -e /tmp/flag")
        flag.unlink()
        assert follower.change() == ("broken", "command: test -e /tmp/flag")
        flag.touch()
        assert follower.change() == ("mended", "command: test -e /tmp/flag")


def test_checks_that_nobody_tells_of() -> None:
    text = """
nodes:
  a:
    checks:
      - {file: /a}
      - {file: /b, if: {interface: lo}}
      - {file: /c, if: {command: "true"}}
      - {command: "true", if: {interface: lo}}
"""
    checks = load(text, file="lab.yaml").checks
    assert untold(checks) == checks[2:]


def test_each_source_tells(place: Path) -> None:
    """Whatever is done is done from outside: what a node's init starts, it tells of."""
    described = place / "lab.yaml"
    with Lab(described) as lab:
        pid = lab["a"].pid
        file = Path(f"/proc/{pid}/root/srv/note")
        other = file.with_name("from") / "other"
        other.parent.mkdir()
        other.touch()
        # The last address to come by itself comes into use a while after its link.
        wait_until(
            lambda: "fe80" in lab["a"].succeed("ip -6 address show dev eth0 -tentative"),
            "no address of IPv6 is tentative",
            timeout_s=DEADLINE_S,
        )
        # Nobody can enter the user namespace in which one is.
        is_ours = os.path.samefile(f"/proc/{pid}/ns/user", "/proc/self/ns/user")
        enter = ["nsenter", "-t", str(pid), "-n", *([] if is_ours else ["-U"])]

        def ip(words: str) -> Callable[[], object]:
            return lambda: subprocess.run([*enter, "ip", *words.split()], check=True)

        changes: dict[str, Callable[[], object]] = {
            "a file that is made": lambda: file.write_text("x"),
            "a file that is written": lambda: file.write_text("y"),
            "another mode": lambda: file.chmod(0o600),
            "a file that goes": file.unlink,
            "one that comes under its name": lambda: other.rename(file),
            "a route": ip("route add 10.9.0.0/16 dev eth0"),
            "one of IPv6": ip("route add fd09::/64 dev eth0"),
            "a link": ip("link set eth0 mtu 1400"),
            "an address": ip("address add 192.0.2.1/32 dev eth0 noprefixroute"),
            "the description": lambda: described.write_text(described.read_text() + "\n"),
            "a job": lambda: lab["a"].job("web", "stop"),
        }
        checks = lab.description.checks
        with Watch(lab.nodes(), checks, [str(described)]) as watch:
            for what, change in changes.items():
                while watch.wait(0):
                    pass
                change()
                assert watch.wait(DEADLINE_S), what
            os.kill(pid, signal.SIGKILL)
            assert watch.wait(DEADLINE_S)
            # It ends once, and nothing is told of it any more.
            for _ in range(MOST_TOLD):
                if not watch.wait(0.1):
                    break
            else:
                pytest.fail("the end of a node is told for ever")
