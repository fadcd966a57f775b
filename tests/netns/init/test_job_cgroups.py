"""Cgroups of jobs: a limit binds, a signal reaches all, the kernel tells when nothing is left."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hostlab.init.spawning.cgroups import JobCgroups
from hostlab.init.spawning.group_names import group_name
from hostlab.init.spawning.launch import Launched
from hostlab.spec.job import Job, KillMode, Resources
from tests.netns.init.job_site import DEADLINE_S, Site, needs_v2, site, wait, wait_empty, wait_until

pytestmark = pytest.mark.netns


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Site]:
    needs_v2()
    with site(tmp_path) as found:
        yield found


def needs(jobs: Site, controller: str) -> None:
    """Skip where neither version has the controller."""
    assert jobs.path is not None
    if (
        controller not in jobs.v1
        and controller not in (jobs.path / "cgroup.controllers").read_text().split()
    ):
        pytest.skip(f"here: no {controller} controller")


@pytest.mark.parametrize("others", [0, 2])
def test_a_limit_of_processes_refuses_a_fork(jobs: Site, others: int) -> None:
    """It is the instance's: what runs beside the process counts."""
    needs(jobs, "pids")
    script = "for i in 0 1 2 3 4 5 6 7 8 9; do\nsleep 1000 >/dev/null 2>&1 &\ndone\nexit 3\n"
    limited = Job(name="a", script=script, resources=Resources(pids=6 + others))
    sleeper = Job(name="a", exec="sleep 1000", resources=limited.resources)
    slept = [jobs.launch(sleeper)[1] for _ in range(others)]
    ran = jobs.run(limited, keep=True)
    _end_all(jobs)
    for each in slept:
        wait(each.pid, each.pidfd)
    assert ran.status != 3
    assert "annot fork" in ran.out
    ran = jobs.run(Job(name="a", script=script), keep=True)
    _end_all(jobs)
    assert ran.status == 3


def _end_all(jobs: Site) -> None:
    for spawn in jobs.cgroups.spawns:
        jobs.cgroups.signal(spawn, signal.SIGKILL, KillMode.CONTROL_GROUP, pid=None)
        wait_empty(jobs.cgroups, spawn)
    jobs.launcher.forget("a", "")


def test_a_limit_of_memory_kills(jobs: Site) -> None:
    needs(jobs, "memory")
    take = ("python3", "-c", "x = bytearray(256 << 20); print(len(x))")
    limited = Job(name="a", argv=take, resources=Resources(memory_bytes=64 << 20))
    assert jobs.run(limited).status == -signal.SIGKILL
    assert jobs.run(Job(name="a", argv=take)).status == 0


def test_a_limit_of_cpu_time_holds(jobs: Site) -> None:
    needs(jobs, "cpu")
    spin = (
        "import os, time\nbefore = sum(os.times()[:2])\nend = time.monotonic() + 1\n"
        "while time.monotonic() < end: pass\nprint(sum(os.times()[:2]) - before)"
    )
    argv = ("python3", "-c", spin)
    limited = Job(name="a", argv=argv, resources=Resources(cpu=0.2))
    assert float(jobs.run(limited).out) < 0.5


def test_every_start_has_a_leaf_of_its_own_so_a_kill_takes_no_later_one(jobs: Site) -> None:
    job = Job(name="a", exec="sleep 1000")
    first, one = jobs.launch(job)
    second, two = jobs.launch(job)
    jobs.cgroups.signal(first, signal.SIGKILL, KillMode.CONTROL_GROUP, pid=one.pid)
    assert wait(one.pid, one.pidfd) == -signal.SIGKILL
    third, three = jobs.launch(job)
    jobs.cgroups.remove(first)
    assert jobs.cgroups.members(second) == (two.pid,)
    assert jobs.cgroups.members(third) == (three.pid,)
    _end(jobs, (second, two), (third, three))


def _end(jobs: Site, *running: tuple[int, Launched]) -> None:
    for spawn, got in running:
        jobs.cgroups.signal(spawn, signal.SIGKILL, KillMode.CONTROL_GROUP, pid=got.pid)
        wait(got.pid, got.pidfd)
        wait_empty(jobs.cgroups, spawn)
        jobs.cgroups.remove(spawn)
    assert jobs.path is not None
    assert not [each for each in jobs.path.iterdir() if each.is_dir()]


@pytest.mark.parametrize("pause", ["", "sleep 1"])
def test_what_forks_away_for_ever_is_stopped_whole(jobs: Site, pause: str) -> None:
    """lanĉo's quick tour; without the sleep, as fast as it can."""
    needs(jobs, "pids")
    job = Job(
        name="a",
        argv=(
            "/bin/sh",
            "-c",
            f"exec 2>/dev/null; trap '' TERM; while true; do (sleep 30 &)&\n{pause}\ndone",
        ),
        resources=Resources(pids=100),
    )
    spawn, got = jobs.launch(job)
    wait_until(lambda: len(jobs.cgroups.members(spawn)) >= 3, "it forks")
    jobs.cgroups.signal(spawn, signal.SIGTERM, KillMode.CONTROL_GROUP, pid=got.pid)
    assert not jobs.cgroups.is_empty(spawn), "it ignores that"
    jobs.cgroups.signal(spawn, signal.SIGKILL, KillMode.CONTROL_GROUP, pid=got.pid)
    # A shell that can no longer fork ends by itself; what it has started does not.
    assert wait(got.pid, got.pidfd) in (2, -signal.SIGKILL)
    wait_empty(jobs.cgroups, spawn)
    assert jobs.cgroups.members(spawn) == ()
    jobs.cgroups.remove(spawn)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (KillMode.PROCESS, 2),
        (KillMode.PROCESS_GROUP, 1),
        (KillMode.CONTROL_GROUP, 0),
        (KillMode.NONE, 3),
    ],
)
def test_whom_a_signal_reaches(jobs: Site, scope: KillMode, left: int) -> None:
    """The main process, one of its group, one in a session of its own."""
    job = Job(name="a", script="sleep 1000 &\nsetsid sleep 1000 &\nexec sleep 1000\n")
    spawn, got = jobs.launch(job)
    wait_until(lambda: _commands(jobs, spawn) == ["sleep"] * 3, "three of them")
    jobs.cgroups.signal(spawn, signal.SIGTERM, scope, pid=got.pid)
    if scope is not KillMode.NONE:
        assert wait(got.pid, got.pidfd) == -signal.SIGTERM
    wait_until(lambda: len(jobs.cgroups.members(spawn)) == left, f"{left} are left")
    jobs.cgroups.signal(spawn, signal.SIGKILL, KillMode.CONTROL_GROUP, pid=None)
    if scope is KillMode.NONE:
        assert wait(got.pid, got.pidfd) == -signal.SIGKILL
    wait_empty(jobs.cgroups, spawn)
    jobs.cgroups.remove(spawn)


def _commands(jobs: Site, spawn: int) -> list[str]:
    found = []
    for pid in jobs.cgroups.members(spawn):
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return found


def test_a_stopped_process_that_ignores_term_goes_too(jobs: Site) -> None:
    job = Job(name="a", argv=("/bin/sh", "-c", "trap '' TERM; kill -STOP $$; sleep 1000"))
    spawn, got = jobs.launch(job)
    os.waitpid(got.pid, os.WUNTRACED)
    _end(jobs, (spawn, got))


def test_a_job_that_makes_cgroups_of_its_own_goes_with_them(jobs: Site) -> None:
    if os.geteuid():
        pytest.skip("only root can make cgroups below its own here")
    spawn, got = jobs.launch(Job(name="a", exec="sleep 1000"))
    assert jobs.path is not None
    below = jobs.path / "job.a" / str(spawn) / "a" / "b"
    below.mkdir(parents=True)
    (below / "cgroup.procs").write_text(str(got.pid))
    assert jobs.cgroups.members(spawn) == (got.pid,)
    assert not jobs.cgroups.is_empty(spawn)
    _end(jobs, (spawn, got))


def test_a_new_supervisor_finds_what_the_one_before_started(jobs: Site) -> None:
    spawn, got = jobs.launch(Job(name="net/a", exec="sleep 1000"), instance="x/y")
    _, other = jobs.launch(Job(name="b", exec="true"))
    wait(other.pid, other.pidfd)
    after = JobCgroups(jobs.cgroups.directory, jobs.cgroups.v1)
    assert list(after.spawns) == list(jobs.cgroups.spawns) == [1, 2]
    assert after.members(spawn) == (got.pid,)
    after.signal(spawn, signal.SIGTERM, KillMode.CONTROL_GROUP, pid=None)
    assert wait(got.pid, got.pidfd) == -signal.SIGTERM
    after.remove_instance("net/a", "x/y")
    assert list(after.spawns) == [2]
    after.close()


def test_many_are_watched_with_one_descriptor_each_and_told_once(jobs: Site) -> None:
    job = Job(name="a", exec="cat", resources=Resources())
    count = 100
    told: list[int] = []

    async def go() -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        all_told = asyncio.Event()

        def tell(spawn: int) -> None:
            told.append(spawn)
            if len(told) >= count:
                all_told.set()

        running = []
        for _ in range(count):
            effect = jobs.spawn(job)
            got = jobs.launcher.launch(effect, stdio=(reader, 1, 2))
            running.append((effect.spawn, got))
            jobs.cgroups.watch_empty(effect.spawn, partial(tell, effect.spawn))
        os.close(reader)
        assert told == []
        os.close(writer)
        await asyncio.wait_for(all_told.wait(), DEADLINE_S)
        for spawn, got in running:
            wait(got.pid, got.pidfd)
            jobs.cgroups.remove(spawn)

    asyncio.run(go())
    assert sorted(told) == list(range(1, count + 1))
    assert jobs.cgroups.spawns == ()


def test_what_is_removed_while_it_runs_goes_when_it_has_ended(jobs: Site) -> None:
    async def go() -> None:
        spawn, got = jobs.launch(Job(name="a", exec="sleep 1000"))
        jobs.launcher.forget("a", "")
        assert jobs.cgroups.members(spawn) == (got.pid,)
        gone = asyncio.Event()
        jobs.cgroups.watch_empty(spawn, gone.set)
        os.kill(got.pid, signal.SIGKILL)
        await asyncio.wait_for(gone.wait(), DEADLINE_S)
        wait(got.pid, got.pidfd)

    asyncio.run(go())
    assert jobs.cgroups.spawns == ()
    assert jobs.path is not None
    assert not [each for each in jobs.path.iterdir() if each.is_dir()]


def test_without_cgroups_a_process_group_stands_for_all(tmp_path: Path) -> None:
    with site(tmp_path, unified=False, v1=False) as jobs:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        effect = jobs.spawn(Job(name="a", script="sleep 1000 &\nsleep 1000\n"))
        got = jobs.launcher.launch(effect, stdio=(0, writer, 2))
        os.close(writer)
        assert jobs.cgroups.members(effect.spawn) == ()
        jobs.cgroups.signal(effect.spawn, signal.SIGTERM, KillMode.CONTROL_GROUP, pid=got.pid)
        assert wait(got.pid, got.pidfd) == -signal.SIGTERM
        assert select.select([reader], [], [], DEADLINE_S)[0], "both have ended"
        os.close(reader)
        wait_empty(jobs.cgroups, effect.spawn)
        jobs.launcher.forget("a", "")


def test_different_instances_have_different_directories() -> None:
    names = [
        ("a", ""),
        ("a/b", ""),
        ("a%2fb", ""),
        ("a", "b"),
        ("a:b", ""),
        ("a", "b/c"),
        ("a", "."),
    ]
    names += [("a", "x" * 5000), ("a", "x" * 5001), ("x" * 5000, ""), ("é\n", "\0")]
    found = [group_name(*each) for each in names]
    assert len(set(found)) == len(found)
    assert all(len(name.encode()) < 256 and "/" not in name and "\n" not in name for name in found)
