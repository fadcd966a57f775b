"""A job's class: the description that new instances get, and the instances that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hostlab.jobs.expression import Progress, Tree
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import Goal
from hostlab.spec.job import Job, Step


class Last(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an instance ended, remembered when it is gone."""

    instance: str = ""
    failed: bool = False
    failed_step: Step | None = None
    """None with `failed`: it was respawning too fast."""
    exit_status: int | None = None
    """Of the step that failed: exit status, or signal << 8; None when there was no process."""
    main_status: int | None = None
    """How the last run's main process ended, in the same way; None when there was none."""
    trouble: str = ""
    """Which step of a process' set-up failed, and why; empty when there was a process."""
    extra: dict[str, Any] = {}
    """What a later version's state said of it and this one does not know."""


class JobClass:
    """A job by its name.

    A description that changes while there are instances waits until the last of them has gone,
    as init/job_class.c's job_class_reconsider() has it.
    """

    def __init__(self, job: Job, serial: int) -> None:
        self.serial = serial
        """Its place among the classes; a changed description keeps it."""
        self.job = job
        self.stop_tree: Tree | None = None
        self.start_on: Progress[int] | None = None
        """What has matched of `start on`; all instances share it."""
        self.instances: dict[str, Instance] = {}
        self.successor: Job | None = None
        self.deleted = False
        self.last: Last | None = None
        """How the instance that was the last to go ended; None when none has gone yet."""
        self.extra: dict[str, Any] = {}
        self.describe(job)

    def describe(self, job: Job) -> None:
        """Take a description; only while there is no instance."""
        assert not self.instances
        self.successor = None
        self.deleted = False
        self.take(job)

    def take(self, job: Job) -> None:
        """Take a description with its conditions; who has instances looks after theirs."""
        self.job = job
        self.stop_tree = Tree(job.stop_on) if job.stop_on else None
        self.start_on = Progress(Tree(job.start_on)) if job.start_on else None

    def cannot_work(self, why: str, give_up: Callable[[Instance, str], None]) -> None:
        """What all of it needs cannot be had: it has failed, whether it ran or not."""
        for instance in tuple(self.instances.values()):
            if instance.goal is not Goal.STOP:
                give_up(instance, why)
        if not self.instances:
            self.last = Last(failed=True, failed_step=Step.MAIN, trouble=why)

    @property
    def start_order(self) -> tuple[int, int, int]:
        """Where its `start on` stands among the listeners."""
        return (self.serial, 1, 0)

    def stop_order(self, instance: Instance) -> tuple[int, int, int]:
        """Where an instance's `stop on` stands: before any start of the class."""
        return (self.serial, 0, instance.serial)
