"""What an init's jobs do, as the signals of com.ubuntu.Upstart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hostlab.init.dbus import objects
from hostlab.init.dbus.objects import INSTANCE, JOB, MANAGER
from hostlab.jobs import effects
from hostlab.jobs.classes import JobClass
from hostlab.jobs.effects import Effect
from hostlab.spec.job import Job

NO_PROCESS: Final = -1
"""The status of a failure for which there was no process to have one (init/job.c)."""

Announce = Callable[[str, str, str, list[Any]], None]
"""Path, interface, signal, arguments."""


class Announcer:
    """Says on the bus what happens, while somebody is there to say it (`announce`)."""

    def __init__(self, classes: Callable[[], Mapping[str, JobClass]], announce: Announce) -> None:
        self._classes = classes
        self._announce = announce
        self._known: dict[str, Job] = {}

    def begin(self) -> None:
        """From now on: who asks now for the jobs is told of them as they are."""
        self._known = {name: found.job for name, found in self._classes().items()}

    def described(self) -> None:
        """A job has come, gone or changed; one that has changed has gone and come."""
        now = {name: found.job for name, found in self._classes().items()}
        for name, job in self._known.items():
            if now.get(name) is not job:
                self._announce(objects.ROOT, MANAGER, "JobRemoved", [objects.job_path(name)])
        for name, job in now.items():
            if self._known.get(name) is not job:
                self._announce(objects.ROOT, MANAGER, "JobAdded", [objects.job_path(name)])
        self._known = now

    def happened(self, effect: Effect, _wall: float) -> None:
        """An effect of the engine was carried out."""
        for signal in signals(effect):
            self._announce(*signal)
        if isinstance(effect, effects.InstanceRemoved) and not self._classes().get(effect.job):
            self.described()


def signals(effect: Effect) -> Iterator[tuple[str, str, str, list[Any]]]:
    """The signal of an effect, if it has one."""
    match effect:
        case effects.EventFinished():
            env = [f"{key}={value}" for key, value in effect.environment]
            yield objects.ROOT, MANAGER, "EventEmitted", [effect.name, env]
        case effects.InstanceAdded() | effects.InstanceRemoved():
            path = objects.instance_path(effect.job, effect.instance)
            yield objects.job_path(effect.job), JOB, type(effect).__name__, [path]
        case effects.GoalChanged():
            path = objects.instance_path(effect.job, effect.instance)
            yield path, INSTANCE, "GoalChanged", [effect.goal.value]
        case effects.StateChanged():
            path = objects.instance_path(effect.job, effect.instance)
            yield path, INSTANCE, "StateChanged", [effect.state.value]
        case effects.InstanceFailed():
            path = objects.instance_path(effect.job, effect.instance)
            status = effect.status
            if status is None:
                status = 0 if effect.step is None else NO_PROCESS
            yield path, INSTANCE, "Failed", [status]
        case _:
            return
