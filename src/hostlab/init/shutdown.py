"""The way down: what a host emits before it ends, and then the end of what still runs.

As shutdown(8) and sendsigs did: a change of the runlevel, which services stop on; the network's
end; then every job that is left is stopped, by its own signal and within its own timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

import msgspec

from hostlab.errors import UsageError
from hostlab.init.jobs import Jobs
from hostlab.jobs import facts
from hostlab.jobs.boot import Emission, shutdown_events
from hostlab.jobs.expression import Environment
from hostlab.jobs.states import Goal

EVENTS_WITHIN_S: Final = 30.0
"""For what waits for an event on the way down; one that is blocked for ever does not hold it."""
STOPPED_WITHIN_S: Final = 30.0
"""For all jobs to stop: longer than any usual `kill timeout`, shorter than a person's patience."""

CHILDREN_WITHIN_S: Final = 3.0
"""For what jobs left behind to end over a signal."""
KILL_ROUNDS: Final = 20


async def go_down(jobs: Jobs, level: str, environment: Environment = ()) -> tuple[str, ...]:
    """Leave the present runlevel for 0, 1 or 6; the names of the jobs that would not stop."""
    first, *rest = shutdown_events(level, jobs.runlevel[1])
    told = msgspec.structs.replace(first, environment=(*first.environment, *environment))
    await emit_all(jobs, [told, *rest])
    return await stop_all(jobs)


async def emit_all(jobs: Jobs, emissions: Sequence[Emission]) -> None:
    """Emit events one after another, each with a deadline where it is waited for."""
    for emission in emissions:
        if not emission.waits:
            jobs.tell(facts.Emit(name=emission.event, environment=emission.environment))
            continue
        token = jobs.token()
        fact = facts.Emit(
            name=emission.event,
            environment=emission.environment,
            request=token,
            timeout_s=EVENTS_WITHIN_S,
        )
        await jobs.ask(token, fact)


async def stop_all(jobs: Jobs) -> tuple[str, ...]:
    """Stop whatever still runs; the names of what did not stop in time."""
    engine = jobs.engine
    for found in tuple(engine.classes.values()):
        # What has gone is not to come back by a restart that is under way.
        for instance in tuple(found.instances.values()):
            if instance.goal is not Goal.STOP:
                try:
                    jobs.tell(facts.Stop(job=found.job.name, instance=instance.name))
                except UsageError:
                    # It stopped over another's stop.
                    continue
    try:
        async with asyncio.timeout(STOPPED_WITHIN_S):
            while _live(jobs):
                jobs.changed.clear()
                await jobs.changed.wait()
    except TimeoutError:
        pass
    return _live(jobs)


async def end_children(holder: int) -> None:
    """End what else is a child of the holder: what jobs have left behind (init/quiesce.c).

    SIGTERM, and after a time SIGKILL; the caller, who is one too, is spared.
    """
    await _end(holder, signal.SIGTERM, CHILDREN_WITHIN_S)
    for _ in range(KILL_ROUNDS):
        # What is killed gives its own children to the holder.
        if not await _end(holder, signal.SIGKILL, CHILDREN_WITHIN_S):
            return


async def _end(holder: int, number: int, within_s: float) -> bool:
    """Signal all, and wait until these have ended, if they do; False when there was none."""
    pidfds: dict[int, int] = {}
    for pid in _children(holder):
        with contextlib.suppress(ProcessLookupError):
            pidfds[pid] = os.pidfd_open(pid)
    try:
        for pidfd in pidfds.values():
            for each in (number, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, each)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for pidfd in pidfds.values():
                    await _ended(pidfd)
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)
    return bool(pidfds)


async def _ended(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)


def _children(holder: int) -> list[int]:
    """The holder's children, less the caller; none where the kernel does not tell."""
    try:
        with open(f"/proc/{holder}/task/{holder}/children") as file:
            return [int(word) for word in file.read().split() if int(word) != os.getpid()]
    except OSError:
        return []


def _live(jobs: Jobs) -> tuple[str, ...]:
    return tuple(
        str(instance)
        for found in jobs.engine.classes.values()
        for instance in found.instances.values()
        if instance.processes or instance.group is not None
    )
