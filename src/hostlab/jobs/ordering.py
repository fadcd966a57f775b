"""Order and requirement between jobs, as units have them (`Job.after`, `Job.requires`).

Ordering is no requirement: it only says who waits when two are under way at once. So an instance
whose `starting` is handled lets that event be held by

- each instance of a job that it is `after` and that is on its way up or down,
- each instance of a job that is `after` it and on its way down: stops come before starts;

and one whose `stopping` is handled, by each instance of a job that is `after` it and on its way
down. That is just what an event does with the jobs that it has started or stopped itself, so
nothing else is needed: they let go when they run, or are done, or have stopped; and when the one
that waits is told to stop before its turn has come.

A requirement is looked at once, when `starting` is over: a job that is required and whose last run
has failed, or that nobody knows, makes the start fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hostlab.jobs.classes import JobClass
from hostlab.jobs.events import Blocker, BlockerKind, Queue
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import Goal, State


class Ordering:
    """Who is ordered behind whom, among the classes of an engine."""

    def __init__(self, classes: Mapping[str, JobClass]) -> None:
        self.classes = classes
        self._behind: dict[str, list[str]] | None = None

    def forget(self) -> None:
        """A class has come, gone or changed."""
        self._behind = None

    def before(self, instance: Instance) -> Iterator[Instance]:
        """The instances that must be done before this one goes on from its event."""
        name = instance.job.name
        if instance.state is State.STARTING:
            for other in self.earlier(instance):
                if is_rising(other) or is_falling(other):
                    yield other
        elif instance.state is not State.STOPPING:
            return
        for later in self._later(name):
            for other in self._instances(later):
                if is_falling(other) and name in other.job.after:
                    yield other

    def earlier(self, instance: Instance) -> Iterator[Instance]:
        """Every instance that it never starts beside."""
        for name in instance.job.after:
            yield from self._instances(name)

    def let_go(self, instance: Instance, queue: Queue) -> None:
        """An instance's `starting` waits for nobody's turn any longer.

        Who is before it may be about to wait until this one has stopped.
        """
        event = queue.events.get(instance.blocker or 0)
        if event is None:
            return
        for other in self.earlier(instance):
            blocker = Blocker(BlockerKind.JOB, other.job.name, other.name)
            while event.serial in other.blocking:
                other.blocking.remove(event.serial)
                queue.unblock(event.serial, blocker)

    def unmet(self, instance: Instance) -> str | None:
        """What it requires and does not have, when it is about to go on from `starting`."""
        if instance.state is not State.STARTING or instance.goal is Goal.STOP:
            return None
        for name in instance.job.requires:
            found = self.classes.get(name)
            if found is None:
                return f"there is no job {name}, which it requires"
            if any(not each.failed for each in found.instances.values()):
                continue
            if found.instances or found.last is None or found.last.failed:
                return f"{name}, which it requires, has not started"
        return None

    def _instances(self, name: str) -> list[Instance]:
        found = self.classes.get(name)
        return list(found.instances.values()) if found else []

    def _later(self, name: str) -> list[str]:
        if self._behind is None:
            self._behind = {}
            for found in self.classes.values():
                jobs = {found.job.after, *(each.job.after for each in found.instances.values())}
                for earlier in {one for after in jobs for one in after}:
                    self._behind.setdefault(earlier, []).append(found.job.name)
        return self._behind.get(name, [])


def is_rising(instance: Instance) -> bool:
    """Whether it is being started; a task is until it is done."""
    at_rest = instance.state is State.RUNNING and not instance.job.task
    return instance.goal is not Goal.STOP and not at_rest


def is_falling(instance: Instance) -> bool:
    """Whether it is being stopped."""
    return instance.goal is Goal.STOP
