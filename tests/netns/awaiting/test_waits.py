"""Waiting for ports, jobs, files, logs and commands of a node, and giving up when hope is gone."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlab.aio import AsyncNode
from hostlab.awaiting.lines import AwaitedLine
from hostlab.awaiting.wait import Wait
from hostlab.checks.access import JobStatus
from hostlab.errors import Failed, UsageError
from hostlab.jobs.job_state import JobState
from hostlab.linux import cgroups
from hostlab.linux.entering import from_inside
from hostlab.linux.sockdiag import listening_inodes
from hostlab.observe.in_node import pid_in
from hostlab.observe.socket_owners import JobProcesses, owners
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import DEADLINE_S, site

pytestmark = pytest.mark.netns

LAB = """
segments: [lan]
nodes:
  bare:
  web:
    jobs:
      www: {exec: python3 -u -m http.server 80, start_on: open-up}
      idle: {exec: sleep infinity, manual: true}
      broken:
        pre_start: sh -c 'echo the key is missing >&2; exit 3'
        exec: sleep infinity
        start_on: break
      waiter:
        pre_start: mkfifo /srv/go
        exec: sh -c 'read x </srv/go; echo it $x; exec sleep infinity'
        start_on: go
      forks:
        exec: sh -c 'python3 -m http.server 84 & wait'
        manual: true
      other.service: sleep infinity
      each: {exec: "sh -c 'echo it is $N; exec sleep infinity'", instance: $N, start_on: each}
      talker: {exec: "sh -c 'echo ready at last; exec sleep infinity'", start_on: talk}
  wrong:
    jobs:
      www: sh -c 'echo no such device >&2; exit 7'
"""
LISTEN = "import socket; s = socket.create_server(('', {port})); open('/tmp/up', 'w'); s.accept()"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with (
        pytest.MonkeyPatch.context() as patch,
        site(tmp_path_factory.mktemp("waits"), patch, kind="waits") as place,
    ):
        lab = place.up(LAB)
        for node in lab:
            node.job_table()  # From now on each has its supervisor, which is no test's.
        yield lab


@contextlib.contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Something that another thread does at the same time, whichever is first."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE_S)
    assert not errors
    assert not thread.is_alive()


def test_a_port_opens_and_closes(lab: Lab) -> None:
    web = lab["web"]
    with meanwhile(lambda: web.emit("open-up")):
        web.wait_for_open_port(80)
    assert "Directory listing" in lab["bare"].succeed("curl -s http://web/")
    web.wait_for_open_port(80, address="10.0.0.2")
    with meanwhile(lambda: web.job("www", "stop")):
        web.wait_for_closed_port(80)
    assert lab["bare"].execute("curl -s http://web/").status


def test_a_port_of_another_protocol_or_address_is_none(lab: Lab) -> None:
    bare = lab["bare"]
    with background(bare, "import socket; s = socket.create_server(('127.0.0.1', 81))"):
        bare.wait_for_open_port(81, address="127.0.0.1")
        for other in ({"address": "10.0.0.1"}, {"protocol": "udp"}):
            with pytest.raises(Failed, match=r"bare: nothing listens on (tcp|udp) port 81"):
                bare.wait_for_open_port(81, timeout_s=0, **other)
    both = "import socket; s = socket.create_server(('::', 87), family=10, dualstack_ipv6=True)"
    with background(bare, both):
        bare.wait_for_open_port(87, address="10.0.0.1")
    with pytest.raises(UsageError, match="is no port"):
        bare.wait_for_open_port(0)
    with pytest.raises(UsageError, match="does not appear to be"):
        bare.wait_for_open_port(80, address="web")


def test_what_listens_instead_is_told_with_its_job(lab: Lab) -> None:
    web, bare = lab["web"], lab["bare"]
    with pytest.raises(Failed, match=r"web: nothing listens on tcp port 8080: after 0 s"):
        web.wait_for_open_port(8080, timeout_s=0)
    web.job("forks", "start")
    web.wait_for_open_port(84)
    with background(web, "import socket; s = socket.create_server(('127.0.0.1', 85))"):
        web.wait_for_open_port(85)
        with pytest.raises(Failed) as failed:
            web.wait_for_open_port(8080, timeout_s=2)  # The init tells its jobs meanwhile.
        told = "nothing listens on tcp port 8080 (84 does: job forks; 85 does: python3): after"
        assert told in str(failed.value)
        with pytest.raises(Failed) as failed:
            web.wait_for_open_port(85, address="10.0.0.2", timeout_s=0)
        assert "port 85 (127.0.0.1:85 does: python3): after" in str(failed.value)
    web.job("forks", "stop")
    with background(bare, "import socket; s = socket.create_server(('', 86))"):
        bare.wait_for_open_port(86)
        with pytest.raises(Failed, match=r"udp port 86: after"):
            bare.wait_for_open_port(86, protocol="udp", timeout_s=0)


def test_whose_a_socket_is_is_known_by_the_cgroup_and_by_the_parents(lab: Lab) -> None:
    web = lab["web"]
    web.job("forks", "start")
    web.wait_for_open_port(84)
    data, _ = from_inside(
        web.pid, ("user", "net"), lambda: (b"%d" % min(listening_inodes("tcp", 84)), [])
    )
    rows = web.job_table()
    cases = [(rows, "job forks"), ([], "python3"), (_with(rows, instance="other"), "job forks")]
    if cgroups.find().unified is not None:
        cases.append((_with(rows, processes={}), "job forks"))
    for known, whose in cases:
        jobs = [JobProcesses(r["name"], r["instance"], r["processes"].values()) for r in known]
        found = owners(web.pid, [int(data)], jobs)
        assert {inode: [str(owner) for owner in each] for inode, each in found.items()} == {
            int(data): [whose]
        }
    assert owners(web.pid, [], []) == {}
    web.job("forks", "stop")


def _with(rows: list[dict[str, Any]], **change: object) -> list[dict[str, Any]]:
    return [{**row, **change} for row in rows]


@contextlib.contextmanager
def background(node: Node, program: str) -> Iterator[str]:
    """A Python program that runs in a node until the block's end, by its pid there."""
    words = f"python3 -c {program + '; import signal; signal.pause()'!r}"
    pid = node.succeed(f"{words} >/dev/null 2>&1 & echo $!").strip()
    try:
        yield pid
    finally:
        node.execute(f"kill {pid}")


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a wait sleeps until an event comes: nothing is looked at by the clock any more."""
    monkeypatch.setattr("hostlab.awaiting.wait.HOPE_S", 2 * DEADLINE_S)
    sleep, found = Wait._sleep, threading.Event()

    def told(self: Wait, seconds: float, *others: Any) -> frozenset[int]:
        if self.is_settled and seconds > 1:  # The init has nothing more to tell.
            found.set()
        ready = sleep(self, seconds, *others)
        # Else the last look, at the deadline, would find what no event has told.
        assert ready or seconds <= 1, "the clock has woken it"
        return ready

    monkeypatch.setattr(Wait, "_sleep", told)
    return found


def test_the_kernel_tells_what_closes(lab: Lab, asleep: threading.Event) -> None:
    bare = lab["bare"]
    program = "import socket; s = socket.create_server(('', 82)); s.accept()"
    bare.succeed(f"python3 -c {program!r} >/dev/null 2>&1 &")
    bare.wait_for_open_port(82)

    def close() -> None:
        assert asleep.wait(DEADLINE_S)
        bare.succeed("bash -c ': < /dev/tcp/127.0.0.1/82'")

    with meanwhile(close):
        bare.wait_for_closed_port(82, timeout_s=DEADLINE_S)


def test_inotify_tells_of_a_file(lab: Lab, asleep: threading.Event) -> None:
    bare = lab["bare"]

    def make() -> None:
        assert asleep.wait(DEADLINE_S)
        bare.succeed("mkdir -p /tmp/slept/on && echo > /tmp/slept/on/file")

    with background(bare, "pass"), meanwhile(make):
        bare.wait_for_file("/tmp/slept/on/file", timeout_s=DEADLINE_S)


@pytest.mark.parametrize(
    ("before", "path", "action"),
    [
        (
            "mkdir /tmp/real; ln -s real /tmp/relative",
            "/tmp/relative/file",
            "echo > /tmp/real/file",
        ),
        ("mkdir /tmp/else; ln -s /tmp/else/x /tmp/dangling", "/tmp/dangling", "echo > /tmp/else/x"),
    ],
    ids=["relative", "dangling"],
)
def test_inotify_tells_of_a_file_behind_a_link(
    lab: Lab, asleep: threading.Event, before: str, path: str, action: str
) -> None:
    bare = lab["bare"]
    bare.succeed(before)

    def make() -> None:
        assert asleep.wait(DEADLINE_S)
        bare.succeed(action)

    with background(bare, "pass"), meanwhile(make):
        bare.wait_for_file(path, timeout_s=DEADLINE_S)


def test_the_kernel_tells_what_closes_of_udp(lab: Lab, asleep: threading.Event) -> None:
    bare = lab["bare"]

    def close() -> None:
        assert asleep.wait(DEADLINE_S)
        bare.succeed(f"kill {pid}")

    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 88))"
    )
    with background(bare, program) as pid:
        bare.wait_for_open_port(88, protocol="udp")
        with meanwhile(close):
            bare.wait_for_closed_port(88, protocol="udp", timeout_s=DEADLINE_S)


def test_inotify_tells_of_a_line(lab: Lab, asleep: threading.Event) -> None:
    web = lab["web"]
    web.job("waiter", "start")

    def write() -> None:
        assert asleep.wait(DEADLINE_S)
        web.succeed("echo went > /srv/go")

    with meanwhile(write):
        assert web.wait_for_log("waiter", "it (.*)", timeout_s=DEADLINE_S)[1] == "went"
    web.job("waiter", "stop")


def test_nothing_will_open_a_port_of_a_node_in_which_nothing_runs(lab: Lab) -> None:
    bare = lab["bare"]
    with pytest.raises(Failed, match="nothing will: nothing runs in the node"):
        bare.wait_for_open_port(4242, timeout_s=float("inf"))
    with pytest.raises(Failed, match="nothing will: nothing runs in the node"):
        bare.wait_for_file("/tmp/never", timeout_s=float("inf"))


def test_nothing_will_open_a_port_whose_job_has_failed(lab: Lab) -> None:
    with pytest.raises(Failed) as failed:
        lab["wrong"].wait_for_open_port(80, timeout_s=float("inf"))
    assert "nothing will: job www is failed (exit status 7)" in str(failed.value)
    assert "| no such device" in str(failed.value)


def test_a_background_process_is_hope(lab: Lab) -> None:
    bare = lab["bare"]
    bare.execute(f"python3 -c {LISTEN.format(port=83)!r} >/dev/null 2>&1 &")
    bare.wait_for_open_port(83)
    bare.wait_for_file("/tmp/up")
    bare.succeed("bash -c ': < /dev/tcp/127.0.0.1/83'")
    bare.wait_for_closed_port(83)


def test_a_job_that_is_started_meanwhile(lab: Lab) -> None:
    web = lab["web"]
    with meanwhile(lambda: web.emit("talk")):
        assert web.wait_for_job("talker").pid
        assert web.wait_for_log("talker", r"ready (at) last")[1] == "at"
    with meanwhile(lambda: web.job("talker", "stop")):
        web.wait_for_job("talker", "stopped")
    web.wait_for_job("idle", "stopped")


def test_a_job_that_nothing_starts_or_that_is_not_there(lab: Lab) -> None:
    web = lab["web"]
    with pytest.raises(Failed, match="idle is waiting, and nothing starts it"):
        web.wait_for_job("idle", timeout_s=float("inf"))
    # Somebody may start it by hand, and it may fail then.
    with pytest.raises(Failed, match=r"job idle is not failed: after 0\.5 s"):
        web.wait_for_job("idle", "failed", timeout_s=0.5)
    assert web.wait_for_unit("other").pid
    with pytest.raises(Failed, match=r"no such job; the node's jobs: .*talker"):
        web.wait_for_unit("nginx", timeout_s=float("inf"))
    with pytest.raises(UsageError, match="none of running, stopped, failed"):
        web.wait_for_job("idle", "up")


def test_the_log_of_one_instance(lab: Lab) -> None:
    web = lab["web"]
    for number in ("1", "2"):
        web.emit("each", [("N", number)])
    for number in ("1", "2"):
        assert web.wait_for_log("each", "it is (.)", instance=number)[1] == number


def test_a_line_that_comes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with contextlib.closing(AwaitedLine(str(path), re.compile("^one line$"))) as line:
        for part in ("first\none", " line", " more\none li"):
            with open(path, "a") as file:
                file.write(part)
            found = line.look()
            assert (found is not None) is (part == " line")
        with open(path, "a") as file:
            file.write("ne\nlast\n")
        assert line.look()


def test_a_job_that_fails_is_told_with_its_last_lines(lab: Lab) -> None:
    web = lab["web"]
    with (
        meanwhile(lambda: web.emit("break", wait=False)),
        pytest.raises(Failed) as failed,
    ):
        web.wait_for_job("broken", timeout_s=float("inf"))
    assert "job broken is not running: broken is failed" in str(failed.value)
    assert "\n    | the key is missing" in str(failed.value)
    assert web.wait_for_job("broken", "failed").log == ("the key is missing",)
    web.wait_for_log("broken", "key is missing")
    with pytest.raises(Failed, match="broken is failed"):
        web.wait_for_log("broken", "never said", timeout_s=float("inf"))
    with pytest.raises(UsageError, match="is no pattern"):
        web.wait_for_log("broken", "(")


def test_a_file_appears_in_a_directory_that_is_not_there_yet(lab: Lab) -> None:
    bare = lab["bare"]
    bare.succeed("ln -s /tmp/deep /tmp/link")
    with meanwhile(lambda: bare.succeed("mkdir -p /tmp/deep/er && touch /tmp/deep/er/file")):
        bare.wait_for_file("/tmp/link/er/file")
    with meanwhile(lambda: bare.succeed("mv /tmp/deep /tmp/deeper")):
        bare.wait_for_file("/tmp/deeper/er/file")


def test_a_command_is_repeated_until_it_succeeds_or_fails(lab: Lab) -> None:
    bare = lab["bare"]
    count = "echo x >> /tmp/count; test $(wc -l < /tmp/count) -ge 3 && cat /tmp/count"
    assert bare.wait_until_succeeds(count) == "x\nx\nx\n"
    bare.succeed("rm /tmp/count")
    assert bare.wait_until_fails(f"! {{ {count}; }}") == "x\nx\nx\n"
    with pytest.raises(Failed) as failed:
        bare.wait_until_succeeds("echo why >&2; exit 9", timeout_s=0)
    assert "has not succeeded in 0 s, tried once: exit status 9\n    | why" in str(failed.value)
    assert f"hostlab exec {lab.name}/bare -- sh -c" in str(failed.value)


def test_several_nodes_are_waited_for_at_once_by_asyncio(lab: Lab) -> None:
    async def all_of_them() -> tuple[JobStatus, None, str]:
        web, bare = AsyncNode(lab["web"]), AsyncNode(lab["bare"])
        return await asyncio.gather(
            web.wait_for_job("talker"),
            bare.wait_for_file("/tmp/at-last"),
            bare.wait_until_succeeds("cat /tmp/at-last"),
        )

    def act() -> None:
        lab["web"].emit("talk")
        lab["bare"].succeed("echo it is > /tmp/new && mv /tmp/new /tmp/at-last")

    with meanwhile(act):
        job, _, said = asyncio.run(all_of_them())
    assert job.state is JobState.RUNNING
    assert said == "it is\n"
    lab["web"].job("talker", "stop")


SECRET = """
nodes:
  a:
    jobs: {www: {exec: "sh -c 'echo opensesame; exit 3'", respawn: false}}
    files: {/etc/word: !secret "opensesame"}
"""


def test_secrets_are_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(tmp_path, monkeypatch, kind="secret") as place:
        node = place.up(SECRET)["a"]
        calls: list[Callable[[], object]] = [
            lambda: node.wait_for_open_port(80),
            lambda: node.wait_for_job("www"),
            lambda: node.wait_until_succeeds("cat /etc/word; exit 1", timeout_s=0),
            lambda: node.succeed("cat /etc/word; exit 1"),
            lambda: node.succeed(": opensesame; exit 1"),
            lambda: node.fail(": opensesame"),
        ]
        for call in calls:
            with pytest.raises(Failed) as failed:
                call()
            assert "••••••" in str(failed.value)
            assert "opensesame" not in str(failed.value)


def test_asyncio_has_every_wait(lab: Lab) -> None:
    waits = {name for name in dir(lab["web"]) if name.startswith("wait_")} - {"wait_settled"}
    assert len(waits) == 8
    node = AsyncNode(lab["web"])
    for name in waits:
        own, theirs = getattr(lab["web"], name), getattr(node, name)
        assert inspect.iscoroutinefunction(theirs)
        assert inspect.signature(own).parameters == inspect.signature(theirs).parameters


def test_a_killed_supervisor_ends_no_wait_and_a_killed_node_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(tmp_path, monkeypatch, kind="kills") as place:
        lab = place.up(LAB)
        with pytest.raises(Failed, match="no such job"):  # It is the first that asks this node.
            lab["bare"].wait_for_log("none", "x", timeout_s=float("inf"))
        web = lab["web"]
        with web.control() as control:
            pid = pid_in(web.pid, control.call("ping")["pid"])

        def act() -> None:
            os.kill(pid, signal.SIGKILL)
            web.emit("talk")

        with meanwhile(act):
            web.wait_for_job("talker")
        with (
            meanwhile(lambda: os.kill(web.pid, signal.SIGKILL)),
            pytest.raises(Failed, match="the node has ended"),
        ):
            web.wait_for_log("talker", "never said", timeout_s=float("inf"))
