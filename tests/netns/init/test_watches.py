"""One instance of inotify for a whole init."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from hostlab.init.readiness.appearing import Files
from hostlab.init.watches import Watches
from hostlab.linux.inotify import Inotify
from tests.netns.init.standalone_site import HOSTLAB, Alone, standing

pytestmark = pytest.mark.netns


def refuse(self: Inotify, path: str, mask: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_a_path_is_awaited_without_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user's watches are used up, an awaited path is looked at instead."""
    monkeypatch.setattr(Inotify, "add", refuse)

    async def main() -> list[str]:
        warnings: list[str] = []
        files = Files(warn=warnings.append)
        appeared = asyncio.Event()
        files.wait(1, str(tmp_path / "x"), appeared.set)
        (tmp_path / "x").touch()
        async with asyncio.timeout(20):
            await appeared.wait()
        assert files.watches.count == 0
        return warnings

    first, second = asyncio.run(main())
    assert "fs.inotify.max_user_watches" in first
    assert "every 100 ms" in second


def test_many_paths_that_cannot_be_watched_are_counted() -> None:
    warnings: list[str] = []
    watches = Watches(warnings.append)
    for number in range(100):
        watches.warn(f"/p{number % 50}", OSError(errno.EMFILE, "too many"))
    assert len(warnings) == 21
    assert "fs.inotify.max_user_instances" in warnings[0]
    assert warnings[-1].startswith("changes of further paths go unseen")


def inotify_instances(pid: int) -> int:
    links = (os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))
    return sum(link == "anon_inode:inotify" for link in links)


def switches(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("a process without context switches")


SOURCES = (
    "timer CALENDAR=yearly", "timer EVERY=300d", "timer ON=zone-change", "timer ON=clock-change",
    "file FILE={root}/in/", "file FILE={root}/absent/deep/f", "file FILE={root}/*.txt",
    "path NOT_EMPTY={root}/spool", "path CHANGED={root}/spool", "usb-device-added",
    "socket PROTO=unix SOCKET_PATH={root}/socket", "net-device-added INTERFACE=absent",
    "net-address-added INTERFACE=absent", "net-route-added TO=absent",
    "net-neighbour-added ADDRESS=absent",
)  # fmt: skip


def apart(alone: Alone) -> None:
    """In a network of its own: what comes and goes in the machine's wakes who waits for that."""
    own = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")
    alone.hostlab = (*own, *HOSTLAB)


def test_an_init_with_every_source_sleeps_on_one_instance(tmp_path: Path) -> None:
    """Nothing wakes it: no look, no timer, and no change beside what is waited for."""
    jobs = {
        f"w{number}": f"start on {operand.replace('{root}', str(tmp_path))}\nexec true\n"
        for number, operand in enumerate(SOURCES)
    }
    table = tmp_path / "crontab"
    table.write_text("0 0 1 1 * root true\n")
    words = ("--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs"),
             "--crontab", str(table))  # fmt: skip
    with standing(tmp_path, jobs, words=words, before=apart) as alone:
        pid = alone.supervisor
        assert inotify_instances(pid) == 1
        beside = tmp_path / "beside"
        beside.mkdir()
        found = []
        # What was left to do at its start may take it some time: then nothing wakes it.
        for look in range(15):
            before = switches(pid)
            for number in range(100):
                (beside / f"f{look}-{number}").write_text("x")
            (table.parent / "run" / f"x{look}").touch()
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 2))
            found.append(switches(pid) - before)
            if not found[-1]:
                break
        assert found[-1] == 0, found
