"""Every way of being ready, with real programs under a real holder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.daemons import look
from hostlab.spec.job import Expect, Readiness
from tests.netns.init.ready_site import Site, ready_site

pytestmark = pytest.mark.netns

PYTHON = "/usr/bin/python3"
STAY = "sleep 1000"


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
    return f"exec {PYTHON} -c '{body}'"


def main_of(site: Site, spawn: int) -> int:
    """The pid that the engine would have now."""
    return int([f for f in site.call("facts", spawn=spawn) if f.get("pid")][-1]["pid"])


def test_stop(any_site: Site) -> None:
    spawn = any_site.start(Readiness(kind=Expect.STOP), f"kill -STOP $$; {STAY}")
    any_site.wait(spawn, "Stopped")
    assert any_site.facts(spawn) == ["Started", "~", "Stopped"]
    # A later stop is somebody's wish, and no readiness.
    os.kill(main_of(any_site, spawn), signal.SIGSTOP)
    any_site.wait(spawn, "~", count=2)
    assert any_site.facts(spawn) == ["Started", "~", "Stopped", "~"]


ONE_FORK = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(1000)"
TWO_FORKS = (
    "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\n"
    "if os.fork(): os._exit(0)\ntime.sleep(1000)"
)


@pytest.mark.parametrize("kind", [Expect.FORK, Expect.DAEMON])
@pytest.mark.parametrize("program", [ONE_FORK, TWO_FORKS], ids=["forks once", "forks twice"])
def test_a_daemon_is_followed_whichever_count_is_written(
    any_site: Site, kind: Expect, program: str
) -> None:
    spawn = any_site.start(Readiness(kind=kind), python(program))
    any_site.wait(spawn, "Ready")
    first = any_site.call("facts", spawn=spawn)[0]["pid"]

    def daemon() -> int | None:
        process = look(main_of(any_site, spawn))
        return process.pid if process and process.parent == any_site.holder else None

    until(lambda: daemon() not in (None, first))
    pid = daemon()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    (end,) = any_site.wait(spawn, "Ended")
    assert (end["pid"], end["status"]) == (pid, signal.SIGKILL)


def until(condition: Any, *, seconds: float = 10.0) -> None:
    """Look again until it is so; what another process does in /proc is told by nobody."""
    import select
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.002)


def test_a_newline_on_a_descriptor(any_site: Site) -> None:
    spawn = (
        any_site.start(
            Readiness(kind=Expect.FD, fd=5),
            f"printf abc >&5; read line < $DIR/go; echo >&5; {STAY}",
        )
        if (os.mkfifo(any_site.directory / "go") is None)
        else 0
    )
    assert any_site.facts(spawn) == ["Started"]
    (any_site.directory / "go").write_text("\n")
    any_site.wait(spawn, "Ready")


def test_a_file_and_a_port(any_site: Site) -> None:
    path = any_site.directory / "a" / "b" / "c.pid"
    spawn = any_site.start(
        Readiness(kind=Expect.FILE, path=str(path)), f"mkdir -p {path.parent}; : > {path}; {STAY}"
    )
    any_site.wait(spawn, "Ready")
    program = (
        'import socket,time\ns=socket.socket()\ns.bind(("127.0.0.1", 45871))\ns.listen()\n'
        "time.sleep(1000)"
    )
    spawn = any_site.start(Readiness(kind=Expect.PORT, port=45871), python(program))
    any_site.wait(spawn, "Ready")


def test_notify(any_site: Site) -> None:
    spawn = any_site.start(
        Readiness(kind=Expect.NOTIFY),
        f"systemd-notify --status='half way'; systemd-notify --ready --status=here; {STAY}",
    )
    any_site.wait(spawn, "Ready")
    assert any_site.call("notes", spawn=spawn)["status"] == "here"
    assert any_site.call("warnings") == []
