"""An instance of a job: what is remembered of it between two facts."""

from __future__ import annotations

from typing import Any

from hostlab.jobs.expression import Environment, Progress, Tree
from hostlab.jobs.states import Goal, State
from hostlab.spec.job import Job, KillMode, Step
from hostlab.spec.signals import signal_name

GROUP_MODES = frozenset({KillMode.CONTROL_GROUP, KillMode.MIXED})
"""The kill modes that wait for a whole cgroup."""


class Running:
    """A process of an instance."""

    __slots__ = ("pid", "spawn")

    def __init__(self, spawn: int, pid: int | None = None) -> None:
        self.spawn = spawn
        self.pid = pid
        """None until `Spawned` told it."""


class Instance:
    """One run of a job's class, from its first start until it is waiting again.

    It keeps the description that its class had when it was made: a changed file counts for the
    next instance.
    """

    def __init__(self, job: Job, name: str, serial: int, stop_tree: Tree | None) -> None:
        self.job = job
        self.name = name
        self.serial = serial
        self.goal = Goal.STOP
        self.state = State.WAITING
        self.environment: dict[str, str] = {}
        self.start_environment: dict[str, str] | None = None
        """Becomes the environment when it next enters `starting`."""
        self.stop_environment: dict[str, str] | None = None
        """What stopped it, for `pre-stop` and `post-stop`."""
        self.stop_on: Progress[int] | None = Progress(stop_tree) if stop_tree else None
        self.processes: dict[Step, Running] = {}
        self.group: int | None = None
        """The main process whose cgroup may still hold something, in a group kill mode."""
        self.blocker: int | None = None
        """The event that must finish before it goes on."""
        self.blocking: list[int | tuple[str, str]] = []
        """Events, and requests as (token, verb), that wait for it."""
        self.reloading: tuple[str, ...] = ()
        """Requests that wait for the reload that runs."""
        self.fds: tuple[int, ...] = ()

        self.failed = False
        self.skipped = False
        """A condition did not hold, so nothing of this run was started."""
        self.failed_step: Step | None = None
        self.exit_status: int | None = None
        self.main_status: int | None = None
        """How this run's main process ended: exit status, or signal << 8."""
        self.trouble = ""
        """What was wrong with the set-up of the process that failed it."""

        self.kill_at: float | None = None
        self.ready_at: float | None = None
        self.hold_at: float | None = None
        """When a delayed respawn goes on."""

        self.respawn_since: float | None = None
        self.respawn_count = 0
        self.main_since: float | None = None
        self.last_delay_s = 0.0
        self.delay_s = 0.0
        """How long the respawn that is under way will be held."""
        self.extra: dict[str, Any] = {}
        """What a later version's state said of it and this one does not know."""

    def __str__(self) -> str:
        return f"{self.job.name} ({self.name})" if self.name else self.job.name

    @property
    def main(self) -> Running | None:
        """Its main process."""
        return self.processes.get(Step.MAIN)

    def process_environment(self, step: Step) -> Environment:
        """What a process of it finds in its environment, before the shell adds its own."""
        environment = dict(self.environment)
        if self.stop_environment and step in (Step.PRE_STOP, Step.POST_STOP):
            environment.update(self.stop_environment)
        environment["UPSTART_JOB"] = self.job.name
        environment["UPSTART_INSTANCE"] = self.name
        process = self.job.process(step)
        if process is not None and process.commands and self.main and self.main.pid:
            # What the commands of a unit know their service by (systemd.exec(5)).
            environment["MAINPID"] = str(self.main.pid)
        return tuple(environment.items())

    def event_environment(self, *, stop: bool) -> Environment:
        """What its events say: who it is, how it ended, and the variables it exports."""
        environment = {"JOB": self.job.name, "INSTANCE": self.name}
        if stop:
            environment.update(self._result())
        for name in self.job.export:
            if name in self.environment:
                environment.setdefault(name, self.environment[name])
        return tuple(environment.items())

    def _result(self) -> dict[str, str]:
        if self.skipped:
            return {"RESULT": "skipped"}
        if not self.failed:
            return {"RESULT": "ok"}
        if self.failed_step is None:
            return {"RESULT": "failed", "PROCESS": "respawn"}
        result = {"RESULT": "failed", "PROCESS": self.failed_step.value}
        status = self.exit_status
        if status is not None:
            if status > 0xFF:
                result["EXIT_SIGNAL"] = signal_name(status >> 8)
            else:
                result["EXIT_STATUS"] = str(status)
        return result
