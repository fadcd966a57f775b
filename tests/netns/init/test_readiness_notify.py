"""`sd_notify` with real programs under a real holder: who may speak, and what is done."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.readiness.daemons import look
from hostlab.spec.job import Expect, Kill, Readiness
from tests.netns.init.ready_site import Site, ready_site, until

pytestmark = pytest.mark.netns

NOTIFY = Readiness(kind=Expect.NOTIFY)
STAY = "signal.pause()"
PREFIX = """
import os, signal, socket, sys
name = os.environ["NOTIFY_SOCKET"]
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect("\\0" + name[1:] if name.startswith("@") else name)

def say(text, *fds):
    socket.send_fds(sock, [text.encode()], fds)

"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ready_site(tmp_path) as found:
        yield found


@pytest.fixture(params=[True, False], ids=["cgroup", "no cgroup"])
def any_site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with ready_site(tmp_path, has_cgroup=request.param) as found:
        yield found


def start(site: Site, *lines: str, how: Readiness = NOTIFY, **more: Any) -> int:
    """Start a Python program that can `say`."""
    path = site.directory / f"program{site.next}.py"
    path.write_text(PREFIX + "\n".join(lines) + "\n")
    return site.start(how, f"exec /usr/bin/python3 -S {path}", **more)


def say(site: Site, spawn: int, text: str) -> None:
    """Say something to a job's socket as somebody else."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(str(site.directory / "notify" / str(spawn)))
        sock.send(text.encode())


def first_of(site: Site, spawn: int) -> int:
    return int(site.call("facts", spawn=spawn)[0]["pid"])


def out(site: Site, spawn: int) -> str:
    return (site.directory / f"out.{spawn}").read_text()


def test_ready_with_a_status_and_the_rest_of_what_may_be_said(any_site: Site) -> None:
    spawn = start(
        any_site,
        'say("STATUS=half way\\nERRNO=2\\nBUSERROR=a.b\\nEXIT_STATUS=3\\nX_ELSE=1")',
        'say("READY=1\\nSTATUS=here")',
        'say("RELOADING=1\\nMONOTONIC_USEC=17")',
        'say("EXTEND_TIMEOUT_USEC=2500000")',
        STAY,
    )
    (extension,) = any_site.wait(spawn, "ExtendDeadline")
    assert extension["seconds"] == 2.5
    assert any_site.facts(spawn) == ["Started", "Ready", "ExtendDeadline"]
    notes = {
        "status": "here",
        "errno": 2,
        "bus_error": "a.b",
        "exit_status": 3,
        "reloading": True,
        "monotonic_usec": 17,
    }
    assert any_site.call("notes", spawn=spawn) == notes
    any_site.kill_supervisor()
    assert any_site.call("notes", spawn=spawn) == notes
    assert any_site.call("warnings") == []


def test_systemds_own_tool_is_heard_although_it_has_ended(any_site: Site) -> None:
    program = "systemd-notify --ready --status=here --no-block; exec sleep 1000"
    spawn = any_site.start(NOTIFY, program)
    any_site.wait(spawn, "Ready")
    assert any_site.call("notes", spawn=spawn)["status"] == "here"


def test_a_sender_that_has_ended_before_it_is_heard_is_known_by_its_cgroup(site: Site) -> None:
    os.mkfifo(site.directory / "go")
    spawn = start(
        site,
        f'open("{site.directory}/go").read()',
        "pid = os.fork()",
        'if pid == 0:\n    if os.fork() == 0: say("READY=1")\n    os._exit(0)',
        "os.waitpid(pid, 0)",
        'open("said", "w").close()',
        STAY,
        directory=str(site.directory),
    )
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    (site.directory / "go").write_text("")
    until(lambda: (site.directory / "said").exists())
    until(lambda: len(site.members(spawn)) == 1)
    os.kill(supervisor, signal.SIGCONT)
    site.wait(spawn, "Ready")


def test_nobody_else_may_speak_and_that_is_said_once(any_site: Site) -> None:
    spawn = start(any_site, STAY)
    for _ in range(3):
        say(any_site, spawn, "READY=1\nSTATUS=not me\nMAINPID=2")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(str(any_site.directory / "notify" / str(spawn)))
                os.setresuid(65534, 65534, 65534)
                sock.send(b"READY=1")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    until(lambda: len(any_site.call("warnings")) == 2)
    mine, nobodys = any_site.call("warnings")
    assert f"process {os.getpid()} of user 0 is refused" in mine
    assert "of user 65534 is refused" in nobodys
    assert any_site.facts(spawn) == ["Started"]
    assert any_site.call("notes", spawn=spawn) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a job of another user")
def test_a_job_of_another_user_may_speak(open_path: Path) -> None:
    with ready_site(open_path) as site:
        spawn = start(site, 'say("READY=1")', STAY, user="nobody")
        site.wait(spawn, "Ready")


@pytest.mark.parametrize("garbage", [b"", b"\0", b"READY\0=1", b"=" * 5000, b"\xff=\xfe\nREADY="])
def test_garbage_is_passed_over_and_what_follows_is_heard(site: Site, garbage: bytes) -> None:
    spawn = start(site, f"sock.send({garbage!r})", 'say("READY=1")', STAY)
    site.wait(spawn, "Ready")


def test_a_job_with_a_root_of_its_own_has_a_name_without_a_path(site: Site) -> None:
    spawn = start(site, 'say("READY=1\\nSTATUS=" + name[0])', STAY, chroot="/")
    site.wait(spawn, "Ready")
    assert site.call("notes", spawn=spawn)["status"] == "@"


def test_what_was_said_before_the_end_counts(site: Site) -> None:
    """It lies in the socket when the next supervisor is told of the end."""
    os.mkfifo(site.directory / "go")
    lines = (f'open("{site.directory}/go").read()', 'say("READY=1\\nSTATUS=last words")')
    spawn = start(site, *lines)
    first = first_of(site, spawn)
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    (site.directory / "go").write_text("")
    until(lambda: look(first) is None)
    os.kill(supervisor, signal.SIGKILL)
    site.reconnect()
    site.wait(spawn, "Ended")
    assert site.facts(spawn) == ["Started", "Ready", "Ended"]
    assert not (site.directory / "notify" / str(spawn)).exists()


def test_what_was_told_but_not_taken_is_told_again(site: Site) -> None:
    os.mkfifo(site.directory / "go")
    spawn = start(site, f'open("{site.directory}/go").read()', 'say("READY=1\\nSTATUS=x")', STAY)
    site.call("die_after", kind="Ready")
    (site.directory / "go").write_text("")
    site.reconnect()
    assert "Ready" in site.facts(spawn)
    until(lambda: site.call("notes", spawn=spawn).get("status") == "x")


# MAINPID


def test_a_daemon_that_says_its_pid(any_site: Site) -> None:
    os.mkfifo(any_site.directory / "go")
    spawn = start(
        any_site,
        "if os.fork():",
        f'    open("{any_site.directory}/go").read()',
        "    os._exit(0)",
        "os.setsid()",
        'say(f"READY=1\\nMAINPID={os.getpid()}")',
        STAY,
    )
    (ready,) = any_site.wait(spawn, "Ready")
    process = look(ready["pid"])
    assert process is not None
    assert process.parent == first_of(any_site, spawn)
    assert any_site.call("strangers") == [ready["pid"]]
    (any_site.directory / "go").write_text("")
    until(lambda: (p := look(ready["pid"])) is not None and p.parent == any_site.holder)
    until(lambda: look(first_of(any_site, spawn)) is None)
    until(lambda: any_site.call("strangers") == [])
    os.kill(ready["pid"], signal.SIGKILL)
    (end,) = any_site.wait(spawn, "Ended")
    assert (end["pid"], end["status"]) == (ready["pid"], signal.SIGKILL)


@pytest.mark.parametrize("killed", [False, True], ids=["", "supervisor killed"])
def test_a_main_process_that_is_anothers_child_gives_way_to_its_parent(
    any_site: Site, killed: bool
) -> None:
    spawn = start(
        any_site,
        "pid = os.fork()",
        "if pid == 0: signal.pause()",
        'say(f"READY=1\\nMAINPID={pid}")',
        "os.waitpid(pid, 0)",
        STAY,
    )
    (ready,) = any_site.wait(spawn, "Ready")
    if killed:
        supervisor = any_site.call("ping")["pid"]
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(ready["pid"], signal.SIGKILL)
        os.kill(supervisor, signal.SIGKILL)
        any_site.reconnect()
    else:
        os.kill(ready["pid"], signal.SIGKILL)
    (moved,) = any_site.wait(spawn, "MainPid")
    assert moved["pid"] == first_of(any_site, spawn)
    os.kill(moved["pid"], signal.SIGKILL)
    (end,) = any_site.wait(spawn, "Ended")
    assert end["pid"] == moved["pid"]


def test_a_pid_that_is_not_the_jobs_is_refused(any_site: Site) -> None:
    spawn = start(any_site, f'say("READY=1\\nMAINPID={os.getpid()}")', 'say("MAINPID=4")', STAY)
    any_site.wait(spawn, "Ready")
    until(lambda: len(any_site.call("warnings")) == 2)
    assert "is refused" in any_site.call("warnings")[0]
    assert any_site.facts(spawn) == ["Started", "Ready"]


# The watchdog


def beat(period_s: float) -> str:
    """A line that has SIGALRM come every so often, to be waited for."""
    return (
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM});"
        f" signal.setitimer(signal.ITIMER_REAL, {period_s}, {period_s})"
    )


def test_a_missed_watchdog_ends_the_process(tmp_path: Path) -> None:
    """With a cgroup and without one, both at the same time: it is a matter of waiting."""
    how = Readiness(kind=Expect.NOTIFY, watchdog_s=3.0)
    with ExitStack() as stack:
        sites = []
        for has_cgroup in (True, False):
            directory = tmp_path / f"{has_cgroup}"
            directory.mkdir()
            sites.append(stack.enter_context(ready_site(directory, has_cgroup=has_cgroup)))
        lines = (
            'assert os.environ["WATCHDOG_USEC"] == "3000000"',
            'say("READY=1")',
            beat(0.5),
            'for _ in range(8):\n    say("WATCHDOG=1"); signal.sigwait({signal.SIGALRM})',
            'open("alive", "w").close()',
            STAY,
        )
        spawns = [start(site, *lines, how=how, directory=str(site.directory)) for site in sites]
        for site, spawn in zip(sites, spawns, strict=True):
            (end,) = site.wait(spawn, "Ended")
            assert os.WTERMSIG(end["status"]) == signal.SIGABRT
            assert (site.directory / "alive").exists()
            assert "alive, sending SIGABRT" in site.call("warnings")[0]


def test_one_that_survives_sigabrt_is_killed(site: Site) -> None:
    how = Readiness(kind=Expect.NONE, watchdog_s=100.0)
    spawn = start(
        site,
        "signal.signal(signal.SIGABRT, signal.SIG_IGN)",
        'say("WATCHDOG=trigger")',
        STAY,
        how=how,
        kill=Kill(timeout_s=0.1),
    )
    (end,) = site.wait(spawn, "Ended")
    assert os.WTERMSIG(end["status"]) == signal.SIGKILL


def test_a_watchdog_of_its_own_and_none_while_stopping(site: Site) -> None:
    spawn = start(site, 'say("READY=1\\nWATCHDOG_USEC=50000")', STAY)
    (end,) = site.wait(spawn, "Ended")
    assert os.WTERMSIG(end["status"]) == signal.SIGABRT
    lines = (beat(0.3), 'say("READY=1\\nWATCHDOG_USEC=100000\\nSTOPPING=1")')
    spawn = start(site, *lines, "signal.sigwait({signal.SIGALRM})")
    (end,) = site.wait(spawn, "Ended")
    assert end["status"] == 0


# Stored descriptors


RESTORED = (
    'names = os.environ.get("LISTEN_FDNAMES", "").split(":")',
    'assert os.environ["LISTEN_PID"] == str(os.getpid())',
    'assert int(os.environ["LISTEN_FDS"]) == len(names)',
    "for fd, fdname in enumerate(names, 3):",
    '    print(fdname, os.read(fd, 100).decode(), end=";", flush=True)',
)


def test_what_is_stored_comes_back_after_two_deaths(any_site: Site) -> None:
    spawn = start(
        any_site,
        "def pipe(text): r, w = os.pipe(); os.write(w, text.encode()); return r",
        'a, b, c = pipe("first"), pipe("second"), pipe("third")',
        'say("FDSTORE=1\\nFDNAME=one\\nFDPOLL=0", a, b)',
        'say("FDSTORE=1\\nFDNAME=one\\nFDPOLL=0", a)',
        'say("FDSTORE=1\\nFDPOLL=0", c)',
        'say("FDSTORE=1\\nFDNAME=gone\\nFDPOLL=0", pipe("x"))',
        'say("FDSTOREREMOVE=1\\nFDNAME=gone")',
        'say("READY=1")',
        STAY,
        name="net/a job",
        instance="eth0: é",
    )
    any_site.wait(spawn, "Ready")
    any_site.kill_supervisor()
    os.kill(first_of(any_site, spawn), signal.SIGKILL)
    any_site.wait(spawn, "Ended")
    again = start(any_site, *RESTORED, 'say("READY=1")', name="net/a job", instance="eth0: é")
    any_site.wait(again, "Ready", "Ended")
    assert sorted(out(any_site, again).split(";")) == [
        "",
        "one first",
        "one second",
        "stored third",
    ]
    other = start(any_site, 'say("STATUS=" + os.environ.get("LISTEN_FDS", "none"))', "")
    any_site.wait(other, "Ended")
    any_site.call("release", job="net/a job", instance="eth0: é")
    assert [name for name in any_site.kept() if name.startswith("store:")] == []


def test_a_descriptor_whose_other_end_hangs_up_is_forgotten(site: Site) -> None:
    spawn = start(
        site,
        "a, b = socket.socketpair()",
        "c, d = socket.socketpair()",
        'say("FDSTORE=1\\nFDNAME=polled", a.fileno())',
        'say("FDSTORE=1\\nFDNAME=not\\nFDPOLL=0", c.fileno())',
        'say("READY=1")',
    )
    site.wait(spawn, "Ended")
    until(lambda: [k for k in site.kept() if k.startswith("store:")] == ["store:tested//not:0!"])


def test_too_many_are_refused(site: Site) -> None:
    spawn = start(
        site,
        'for _ in range(70): say("FDSTORE=1\\nFDPOLL=0", os.open("/dev/null", os.O_RDONLY))',
        'say("READY=1")',
        STAY,
    )
    site.wait(spawn, "Ready")
    assert len([name for name in site.kept() if name.startswith("store:")]) == 64
    assert "too many" in site.call("warnings")[0]


def test_a_barrier_is_lifted_when_all_before_it_is_done(site: Site) -> None:
    spawn = start(
        site,
        "import select",
        "r, w = os.pipe()",
        'say("STATUS=before")',
        'say("BARRIER=1", w)',
        "os.close(w)",
        "poll = select.poll()",
        "poll.register(r, 0)",
        "assert poll.poll(60000)",
        'say("READY=1")',
        STAY,
    )
    site.wait(spawn, "Ready", "Ended")
    assert site.facts(spawn) == ["Started", "Ready"]


def test_nothing_is_kept_of_one_that_is_over(any_site: Site) -> None:
    spawns = [
        start(any_site, 'say("READY=1\\nSTATUS=x")'),
        any_site.start(Readiness(kind=Expect.FD, fd=3), "exit 1"),
        any_site.start(Readiness(kind=Expect.STOP), "exit 1"),
        any_site.start(Readiness(kind=Expect.FORK), "exit 0"),
    ]
    for spawn in spawns:
        any_site.wait(spawn, "Ended")
    until(lambda: any_site.kept() == [])
    any_site.kill_supervisor()
    assert any_site.kept() == []
