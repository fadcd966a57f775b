"""A supervisor killed at any instant while processes become ready: each is told, and followed."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
from functools import partial
from pathlib import Path

import pytest

from hostlab.init.readiness.daemons import look
from hostlab.spec.job import Expect, Readiness
from tests.netns.init.ready_site import Site, ready_site, until
from tests.netns.init.test_readiness import main_of

pytestmark = pytest.mark.netns

ROUNDS = 15
SEED = 20_261_121
LAST = "open('/proc/self/comm', 'w').write('last')\n"
FORKS = 'exec /usr/bin/python3 -S -c "import os, signal\n{}' + LAST + 'signal.pause()"'
LEAVE = "if os.fork(): os._exit(0)\n"
SESSION = "os.setsid()\n"
WAYS = (
    (Readiness(kind=Expect.STOP), "kill -STOP $$; exec sleep 1000"),
    (Readiness(kind=Expect.FORK), FORKS.format(LEAVE)),
    (Readiness(kind=Expect.DAEMON), FORKS.format(LEAVE + SESSION + LEAVE)),
    (Readiness(kind=Expect.FORK), FORKS.format(LEAVE + SESSION + LEAVE)),
    (Readiness(kind=Expect.DAEMON), FORKS.format(LEAVE + SESSION)),
    (Readiness(kind=Expect.NOTIFY), "systemd-notify --ready; exec sleep 1000"),
    (Readiness(kind=Expect.FD, fd=3), "echo >&3; exec sleep 1000"),
)


def is_last(site: Site, spawn: int) -> bool:
    """Whether a main process is the holder's child, and beyond its last fork and `execve`."""
    main = main_of(site, spawn)
    process = look(main)
    if process is None or process.parent != site.holder:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{main}/comm").read_text() in ("last\n", "sleep\n")
    return False


@pytest.mark.parametrize("has_cgroup", [True, False], ids=["cgroup", "no cgroup"])
def test_kills_at_random_instants_lose_no_readiness(tmp_path: Path, has_cgroup: bool) -> None:
    chance = random.Random(SEED)
    with ready_site(tmp_path, has_cgroup=has_cgroup) as site:
        for _ in range(ROUNDS):
            spawns = [site.start(how, program) for how, program in WAYS]
            pid = site.call("ping")["pid"]
            select.select([], [], [], chance.random() * 0.06)
            os.kill(pid, signal.SIGKILL)
            site.reconnect()
            for spawn in spawns:
                told = site.wait(spawn, "Ready", "Stopped")
                assert len(told) >= 1
            for spawn in spawns:
                until(partial(is_last, site, spawn))
                os.kill(main_of(site, spawn), signal.SIGKILL)
                (end,) = site.wait(spawn, "Ended")
                assert look(end["pid"]) is None
                assert end["left"] == []
