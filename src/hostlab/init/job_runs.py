"""Which jobs run, for a source that is about a job: its timer, or the path it waits for."""

from __future__ import annotations

from collections.abc import Callable

from hostlab.init.jobs import Jobs
from hostlab.jobs import effects
from hostlab.jobs.effects import Effect


def runs(jobs: Jobs, name: str) -> bool:
    """Whether a job has an instance, be it starting or stopping."""
    found = jobs.engine.classes.get(name)
    return found is not None and bool(found.instances)


def watch_jobs(jobs: Jobs, told: Callable[[str], None]) -> Callable[[], None]:
    """Have `told` called with a job's name when an instance of it has come or gone."""

    def watcher(effect: Effect, wall: float) -> None:
        if isinstance(effect, effects.InstanceAdded | effects.InstanceRemoved):
            told(effect.job)

    return jobs.subscribe(watcher)
