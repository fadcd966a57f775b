"""The engine with hands, in this process: what goes wrong with one job, or in between."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from hostlab.init import boot
from hostlab.jobs import facts
from hostlab.jobs.boot import Emission
from hostlab.spec.job import Expression, Job, Match
from tests.netns.init.engine_site import as_nobody, world
from tests.netns.init.job_site import DEADLINE_S, wait_until

pytestmark = pytest.mark.netns


def test_a_boot_goes_on_with_the_events_that_it_began_with(tmp_path: Path) -> None:
    """Something is unmounted meanwhile: the next supervisor would find fewer events."""

    async def test() -> list[str]:
        async with world(tmp_path) as place:
            one, two, three = (Emission(event=name, environment=()) for name in "abc")
            await boot.emit(place.jobs(), lambda: (one, two, three))
            after = place.jobs()
            await boot.emit(after, lambda: (one,))
            return [str(after.boot_position), *place.said]

    assert asyncio.run(test()) == ["3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_that_may_not_be_signalled_keeps_no_other_from_being_stopped(
    open_path: Path,
) -> None:
    """As in a user's session, which starts a program that becomes another user."""
    become = open_path / "become"
    shutil.copy(shutil.which("setpriv") or "setpriv", become)
    become.chmod(0o4755)
    open_path.chmod(0o777)

    async def test() -> None:
        async with world(open_path) as place:
            jobs = place.jobs()
            root = (str(become), "--reuid=0", "--clear-groups", "sleep", "1000")
            stop = Expression((Match("end"),))
            for each in (Job(name="a-root", argv=root), Job(name="b-own", argv=("sleep", "1000"))):
                jobs.tell(facts.Load(job=msgspec.structs.replace(each, stop_on=stop)))
                jobs.tell(facts.Start(job=each.name))
            mine, other = (jobs.engine.instance(name) for name in ("b-own", "a-root"))
            assert mine is not None
            assert other is not None
            assert mine.main is not None
            assert other.main is not None
            assert mine.main.pid is not None
            pidfd = os.pidfd_open(mine.main.pid)
            (open_path / "pid").write_text(str(other.main.pid))
            status = Path(f"/proc/{other.main.pid}/status")
            wait_until(lambda: "Uid:\t0\t0" in status.read_text(), "another user")
            jobs.tell(facts.Emit(name="end"))
            ended, _, _ = select.select([pidfd], [], [], DEADLINE_S)
            assert ended, "it was not told to end"
            assert "Operation not permitted" in " ".join(place.said)
            os.close(pidfd)

    try:
        assert as_nobody(test) == ""
    finally:
        kill(int((open_path / "pid").read_text()))


def kill(pid: int) -> None:
    """Kill somebody else's child, and wait for its end."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    ended, _, _ = select.select([pidfd], [], [], DEADLINE_S)
    os.close(pidfd)
    assert ended, f"{pid} does not end"


def test_without_a_descriptor_the_state_goes_on_where_it_is(tmp_path: Path) -> None:
    async def test() -> None:
        async with world(tmp_path) as place:
            jobs = place.jobs()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                for number in range(40):
                    jobs.tell(facts.SetVariable(name=f"v{number}", value="x" * 10_000))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert "Too many open files" in " ".join(place.said)
            assert place.jobs().engine.environment == jobs.engine.environment
            assert len(jobs.engine.environment) >= 40

    asyncio.run(test())


def test_who_asked_a_dead_supervisor_is_not_remembered_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        async with world(tmp_path) as place:
            jobs = place.jobs()
            for _ in range(10):
                token = jobs.token()
                await jobs.ask(token, facts.Emit(name="e", request=token))
            token = "initctl/1/1"
            await jobs.request(token, facts.Emit(name="e", request=token))
            assert [each for each, _ in place.jobs().book.entries] == [token]

    asyncio.run(test())


def test_a_process_of_a_lost_state_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with world(tmp_path) as place:
            jobs = place.jobs(running={7: os.getpid()})
            jobs.tell(facts.Load(job=Job(name="true", argv=("true",))))
            jobs.tell(facts.Start(job="true"))
            assert list(jobs.engine.spawns) == [8]
            jobs.ended(7, os.getpid(), 0)
            instance = jobs.engine.instance("true")
            assert instance is not None
            assert instance.main is not None
            assert instance.main.pid is not None
            jobs.ended(8, *await asyncio.to_thread(os.waitpid, instance.main.pid, 0))

    asyncio.run(test())
