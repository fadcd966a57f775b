"""Every way of being ready, with real programs under a real holder."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.holder import PR_SET_CHILD_SUBREAPER
from hostlab.init.readiness import following
from hostlab.init.readiness.appearing import Port, Ports
from hostlab.init.readiness.daemons import look, orphans
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, clone3, namespace_fd
from hostlab.linux.libc import prctl
from hostlab.spec.job import Expect, Readiness
from tests.netns.activation.activation_site import free_port
from tests.netns.init.init_site import children
from tests.netns.init.ready_site import Site, ready_site, until

pytestmark = pytest.mark.netns

STAY = "exec sleep 1000"
RACES = 120
ONE_FORK = "import os,signal\nif os.fork(): os._exit(0)\nos.setsid()\nsignal.pause()"
TWO_FORKS = (
    "import os,signal\nif os.fork(): os._exit(0)\nos.setsid()\n"
    "if os.fork(): os._exit(0)\nsignal.pause()"
)
LATE_SECOND_FORK = (
    "import os,signal\nif os.fork(): os._exit(0)\nos.setsid()\n"
    'open(os.environ["DIR"] + "/go").read()\n'
    "if os.fork(): os._exit(0)\nsignal.pause()"
)
SLOW_TO_END_BYTES = 64 << 20
DAEMONS = pytest.mark.parametrize("kind", [Expect.FORK, Expect.DAEMON])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ready_site(tmp_path) as found:
        yield found


@pytest.fixture(params=[True, False], ids=["cgroup", "no cgroup"])
def any_site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with ready_site(tmp_path, has_cgroup=request.param) as found:
        yield found


def python(body: str) -> str:
    """A shell command that becomes a Python program."""
    return f"exec /usr/bin/python3 -c '{body}'"


def main_of(site: Site, spawn: int) -> int:
    """The pid that the engine would have now."""
    return int([fact for fact in site.call("facts", spawn=spawn) if fact.get("pid")][-1]["pid"])


def go(site: Site) -> Path:
    """A fifo; who reads it waits until the test writes."""
    path = site.directory / "go"
    os.mkfifo(path)
    return path


def daemon_of(site: Site, spawn: int) -> int:
    """The main process once it is a living child of the holder that was not the one started."""
    first = site.call("facts", spawn=spawn)[0]["pid"]

    def is_followed() -> bool:
        process = look(main_of(site, spawn))
        return process is not None and process.pid != first and process.parent == site.holder

    until(is_followed)
    return main_of(site, spawn)


def assert_end_is_told(site: Site, spawn: int, pid: int) -> None:
    """Whoever is followed really is watched."""
    os.kill(pid, signal.SIGKILL)
    (end,) = site.wait(spawn, "Ended")
    assert (end["pid"], end["status"]) == (pid, signal.SIGKILL)


# expect stop


def test_stop(any_site: Site) -> None:
    spawn = any_site.start(Readiness(kind=Expect.STOP), f"kill -STOP $$; {STAY}")
    any_site.wait(spawn, "Stopped")
    assert any_site.facts(spawn) == ["Started", "~", "Stopped"]
    # A later stop is somebody's wish, and no readiness.
    os.kill(main_of(any_site, spawn), signal.SIGSTOP)
    any_site.wait(spawn, "~", count=2)
    assert any_site.facts(spawn) == ["Started", "~", "Stopped", "~"]


def test_a_stop_that_was_told_to_a_supervisor_that_died_is_told_again(site: Site) -> None:
    path = go(site)
    spawn = site.start(Readiness(kind=Expect.STOP), f"read line < {path}; kill -STOP $$; {STAY}")
    pid = main_of(site, spawn)
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    path.write_text("\n")
    until(lambda: " T " in Path(f"/proc/{pid}/stat").read_text())
    os.kill(supervisor, signal.SIGKILL)
    site.reconnect()
    site.wait(spawn, "Stopped")
    until(lambda: " S " in Path(f"/proc/{pid}/stat").read_text())


def test_one_whose_supervisor_died_before_it_let_it_go_on_goes_on(site: Site) -> None:
    """The fact is in the journal, the signal was never sent."""
    path = go(site)
    spawn = site.start(Readiness(kind=Expect.STOP), f"read line < {path}; kill -STOP $$; {STAY}")
    pid = main_of(site, spawn)
    site.call("die_after", kind="Stopped")
    path.write_text("\n")
    site.reconnect()
    until(lambda: " S " in Path(f"/proc/{pid}/stat").read_text())
    assert "Stopped" in site.facts(spawn)


# expect fork, expect daemon


@DAEMONS
@pytest.mark.parametrize("program", [ONE_FORK, TWO_FORKS, LATE_SECOND_FORK])
def test_a_daemon_is_followed_whichever_count_is_written(
    any_site: Site, kind: Expect, program: str
) -> None:
    path = go(any_site)
    spawn = any_site.start(Readiness(kind=kind), python(program))
    any_site.wait(spawn, "Ready")
    daemon_of(any_site, spawn)
    if program is LATE_SECOND_FORK:
        path.write_text("")
        any_site.wait(spawn, "MainPid", count=1 if kind is Expect.FORK else 2)
    elif program is TWO_FORKS:
        until(lambda: (found := look(main_of(any_site, spawn))) and found.session != found.pid)
    assert_end_is_told(any_site, spawn, daemon_of(any_site, spawn))


@DAEMONS
def test_a_daemon_that_ends_at_once_has_ended(any_site: Site, kind: Expect) -> None:
    spawn = any_site.start(Readiness(kind=kind), "exit 0")
    (end,) = any_site.wait(spawn, "Ended")
    assert end["status"] == 0
    assert "no daemon" in any_site.call("warnings")[0]


@DAEMONS
def test_a_first_process_that_fails_has_failed_whatever_it_leaves(
    any_site: Site, kind: Expect
) -> None:
    spawn = any_site.start(Readiness(kind=kind), "sleep 1000 & exit 3")
    (end,) = any_site.wait(spawn, "Ended")
    assert os.waitstatus_to_exitcode(end["status"]) == 3


def test_a_first_process_that_forks_and_stays_is_the_main_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "STAYS_S", 0.2)
    with ready_site(tmp_path) as site:
        stays(site)


def stays(site: Site) -> None:
    silent = site.start(Readiness(kind=Expect.FORK), STAY)
    spawn = site.start(Readiness(kind=Expect.FORK), "sleep 1000 & wait")
    site.wait(spawn, "Ready")
    assert main_of(site, spawn) == site.call("facts", spawn=spawn)[0]["pid"]
    until(lambda: len(site.call("warnings")) >= 2)
    warnings = site.call("warnings")
    assert any("has forked and stays" in text for text in warnings)
    assert any("waits for its first process to leave" in text for text in warnings)
    assert site.facts(silent) == ["Started"]


def test_a_session_that_a_daemon_leaves_behind_is_no_daemon(site: Site) -> None:
    """As sshd's sessions are: they go on, and sshd has ended."""
    path = go(site)
    body = (
        "import os,signal\nif os.fork(): os._exit(0)\nos.setsid()\n"
        'if os.fork():\n os.close(os.open("' + str(path) + '", os.O_RDONLY))\n os._exit(0)\n'
        "os.setsid()\nsignal.pause()"
    )
    spawn = site.start(Readiness(kind=Expect.FORK), python(body))
    site.wait(spawn, "Ready")
    daemon = daemon_of(site, spawn)
    until(lambda: len(sessions(site, spawn)) == 2)
    path.write_text("")
    (end,) = site.wait(spawn, "Ended")
    assert (end["pid"], end["status"]) == (daemon, 0)


def sessions(site: Site, spawn: int) -> set[int]:
    """The sessions of a spawn's processes."""
    assert site.cgroup is not None
    pids = map(int, (site.cgroup / str(spawn) / "cgroup.procs").read_text().split())
    return {process.session for pid in pids if (process := look(pid)) is not None}


@DAEMONS
def test_a_daemon_is_followed_over_its_supervisors_death(site: Site, kind: Expect) -> None:
    path = go(site)
    body = ONE_FORK.replace(
        "if os.fork(): os._exit(0)", f'if os.fork():\n open("{path}").read()\n os._exit(0)'
    )
    spawn = site.start(Readiness(kind=kind), python(body))
    first = main_of(site, spawn)
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    path.write_text("")
    until(lambda: look(first) is None)
    os.kill(supervisor, signal.SIGKILL)
    site.reconnect()
    site.wait(spawn, "Ready")
    assert_end_is_told(site, spawn, daemon_of(site, spawn))


def test_the_one_that_settles_is_ready_after_its_supervisors_death_too(site: Site) -> None:
    spawn = site.start(Readiness(kind=Expect.DAEMON), python(ONE_FORK))
    site.wait(spawn, "MainPid")
    site.kill_supervisor()
    site.wait(spawn, "Ready")
    assert_end_is_told(site, spawn, daemon_of(site, spawn))


@DAEMONS
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "not reaped"])
def test_whoever_ends_before_it_is_adopted_is_not_lost(
    any_site: Site, kind: Expect, reaped: bool
) -> None:
    """It was seen living, and ends before the holder is told that it is to be watched."""
    path = go(any_site)
    body = f'import os\nif os.fork(): os._exit(0)\nopen("{path}").read()\nos._exit(7)'
    any_site.call("end_when_adopted", fifo=str(path), reaped=reaped)
    spawn = any_site.start(Readiness(kind=kind), python(body))
    first = any_site.call("facts", spawn=spawn)[0]["pid"]
    assert ended_once(any_site, spawn) == 7 << 8
    assert main_of(any_site, spawn) != first


def test_a_daemon_is_found_by_a_parent_that_is_not_listed_and_not_gone() -> None:
    """As between the kernel's `cgroup_exit` and `exit_notify`; it frees memory to be seen there."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            daemon = os.fork()
            if daemon == 0:
                signal.pause()
            memory = mmap.mmap(-1, SLOW_TO_END_BYTES)
            memory[:] = bytes(SLOW_TO_END_BYTES)
            os.write(writer, str(daemon).encode())
        finally:
            os._exit(0)
    daemon = int(os.read(reader, 20))
    try:
        until(lambda: (process := look(middle)) is None or process.is_leaving)
        (found,) = orphans(lambda: (daemon,), os.getpid(), lambda process: True)
        assert found.pid in (middle, daemon)
        os.waitpid(middle, 0)
        (found,) = orphans(lambda: (daemon,), os.getpid(), lambda process: True)
        assert found.pid == daemon
    finally:
        os.kill(daemon, signal.SIGKILL)
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        while children(os.getpid()):
            os.wait()
        os.close(reader)
        os.close(writer)


def test_whoever_ends_while_it_is_adopted_is_not_lost(any_site: Site) -> None:
    """Daemons that live for some microseconds: each end is told once, none is waited for."""
    body = (
        "import os,sys\nif os.fork(): os._exit(0)\n"
        "if os.fork(): os._exit(0)\n"
        "for _ in range(int(sys.argv[1])): pass\nos._exit(7)"
    )
    program = f"exec /usr/bin/python3 -S -c '{body}'"
    for number in range(RACES if any_site.cgroup else RACES // 10):
        kind = Expect.DAEMON if number % 2 else Expect.FORK
        spawn = any_site.start(Readiness(kind=kind), f"{program} {number * 50}")
        # 0: the daemon had ended before its parent's end was told. 7: it was adopted, or almost.
        assert ended_once(any_site, spawn) in (0, 7 << 8)


def ended_once(site: Site, spawn: int) -> int:
    """The status of a spawn that has ended whole, which was told once."""
    site.wait(spawn, "Ended")
    (end,) = [fact for fact in site.call("facts", spawn=spawn) if fact["type"] == "Ended"]
    assert end["left"] == [], "its daemon lives, and nobody follows it"
    assert look(end["pid"]) is None
    return int(end["status"])


# expect fd


def test_a_newline_on_a_descriptor(any_site: Site) -> None:
    path = go(any_site)
    program = f"printf abc >&5; read line < {path}; echo >&5; {STAY}"
    spawn = any_site.start(Readiness(kind=Expect.FD, fd=5), program)
    assert any_site.facts(spawn) == ["Started"]
    path.write_text("\n")
    any_site.wait(spawn, "Ready")


def test_a_descriptor_that_is_closed_without_a_newline_says_nothing(site: Site) -> None:
    spawn = site.start(Readiness(kind=Expect.FD, fd=3), "printf abc >&3; exec 3>&-; sleep 0.1")
    site.wait(spawn, "Ended")
    assert site.facts(spawn) == ["Started", "Ended"]


def test_a_newline_before_the_end_counts(site: Site) -> None:
    path = go(site)
    spawn = site.start(Readiness(kind=Expect.FD, fd=3), f"read line < {path}; echo >&3; exit 0")
    first = main_of(site, spawn)
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    path.write_text("\n")
    until(lambda: look(first) is None)
    os.kill(supervisor, signal.SIGKILL)
    site.reconnect()
    site.wait(spawn, "Ended")
    assert site.facts(spawn) == ["Started", "Ready", "Ended"]


def test_a_newline_that_a_dead_supervisor_was_sent_is_heard(site: Site) -> None:
    path = go(site)
    spawn = site.start(Readiness(kind=Expect.FD, fd=3), f"read l <{path}; echo >&3; {STAY}")
    supervisor = site.call("ping")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    path.write_text("\n")
    os.kill(supervisor, signal.SIGKILL)
    site.reconnect()
    site.wait(spawn, "Ready")


# expect file, expect port


def test_a_file_in_directories_that_are_not_there_yet(site: Site) -> None:
    path = site.directory / "a" / "b" / "c.pid"
    program = f"mkdir -p {path.parent}; : > {path.parent}/new; mv {path.parent}/new {path}; {STAY}"
    spawn = site.start(Readiness(kind=Expect.FILE, path=str(path)), program)
    site.wait(spawn, "Ready")
    spawn = site.start(Readiness(kind=Expect.FILE, path=str(path)), STAY)
    site.wait(spawn, "Ready")
    assert site.call("inotifies") == 0


def test_a_file_whose_directory_goes_and_comes(site: Site) -> None:
    path = go(site)
    place = site.directory / "place"
    place.mkdir()
    wanted = place / "deep" / "file"
    program = f"rmdir {place}; mkdir -p {wanted.parent}; read l < {path}; : > {wanted}; {STAY}"
    spawn = site.start(Readiness(kind=Expect.FILE, path=str(wanted)), program)
    path.write_text("\n")
    site.wait(spawn, "Ready")


@pytest.mark.parametrize("kind", ["STREAM", "DGRAM"])
def test_a_port(any_site: Site, kind: str) -> None:
    port = free_port(socket.AF_INET6)
    listen = "s.listen()" if kind == "STREAM" else "pass"
    path = go(any_site)
    body = (
        f"import signal,socket\ns=socket.socket(socket.AF_INET6, socket.SOCK_{kind})\n"
        f'open("{path}").read()\ns.bind(("::1", {port}))\n{listen}\nsignal.pause()'
    )
    spawn = any_site.start(Readiness(kind=Expect.PORT, port=port), python(body))
    assert any_site.facts(spawn) == ["Started"]
    path.write_text("\n")
    any_site.wait(spawn, "Ready")


class taken_port:
    """A port of this machine's loopback that somebody listens on inside the block."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET6)
        self.socket.bind(("::1", 0))

    def __enter__(self) -> int:
        self.socket.listen()
        return int(self.socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def test_anothers_socket_is_not_the_jobs(site: Site) -> None:
    with taken_port() as port:
        spawn = site.start(Readiness(kind=Expect.PORT, port=port), "exec sleep 0.3")
        site.wait(spawn, "Ended")
        assert site.facts(spawn) == ["Started", "Ended"]


def test_a_port_in_another_network_namespace(tmp_path: Path) -> None:
    """Its sockets are listed there, and what listens here is none of it."""
    reader, writer = os.pipe()
    pid, pidfd = clone3(CLONE_NEWNET | (CLONE_NEWUSER if os.geteuid() else 0))
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            with socket.socket() as sock:
                sock.bind(("0.0.0.0", 4587))
                sock.listen()
                signal.pause()
        finally:
            os._exit(0)
    os.close(reader)
    home = namespace_fd(pid, "net")
    seen: list[str] = []

    async def look_twice() -> None:
        ports, listens = Ports(warn=seen.append), asyncio.Event()
        ports.wait(1, Port(4587, tuple, None, lambda: seen.append("here")))
        ports.wait(2, Port(4587, tuple, home, listens.set))
        assert not listens.is_set()
        os.write(writer, b"x")
        async with asyncio.timeout(60):
            await listens.wait()
        ports.forget(1)
        assert seen == []
        ports.wait(3, Port(4587, tuple, reader_of_nothing, listens.set))

    reader_of_nothing = os.open("/dev/null", os.O_RDONLY)
    try:
        asyncio.run(look_twice())
        assert "cannot be awaited" in seen[0]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (pidfd, home, writer, reader_of_nothing):
            os.close(fd)
