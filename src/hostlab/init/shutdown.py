"""The way down: what a host emits before it ends, and then the end of what still runs.

As shutdown(8) and sendsigs did: a change of the runlevel, which services stop on; the network's
end; then every job that is left is stopped, by its own signal and within its own timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from hostlab.errors import UsageError
from hostlab.init.jobs import Jobs
from hostlab.jobs import Goal, facts
from hostlab.jobs.boot import Emission, shutdown_events
from hostlab.jobs.expression import Environment

EVENTS_WITHIN_S: Final = 30.0
"""For what waits for an event on the way down; one that is blocked for ever does not hold it."""
STOPPED_WITHIN_S: Final = 30.0
"""For all jobs to stop: longer than any usual `kill timeout`, shorter than a person's patience."""


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


def _live(jobs: Jobs) -> tuple[str, ...]:
    return tuple(
        str(instance)
        for found in jobs.engine.classes.values()
        for instance in found.instances.values()
        if instance.processes or instance.group is not None
    )
