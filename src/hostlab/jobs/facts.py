"""What the engine is told: requests of people and programs, and facts about processes.

All are frozen values that survive JSON, so that a run can be written down and played again. A
process is named by its spawn number, which the engine gave in its `Spawn` effect and uses once: a
fact that comes late never hits another process.
"""

from __future__ import annotations

import msgspec

from hostlab.jobs.expression import Environment
from hostlab.spec.job import Job


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that the engine is told."""


class Load(Fact, frozen=True, kw_only=True):
    """A job's description is new or has changed; running instances keep the one they have."""

    job: Job
    related: bool = False
    """What it says of other jobs (conditions, order, requirements) counts for what runs, too."""


class Unload(Fact, frozen=True, kw_only=True):
    """A job's description is gone."""

    name: str


class Emit(Fact, frozen=True, kw_only=True):
    """Emit an event."""

    name: str
    environment: Environment = ()
    request: str | None = None
    """Whom to answer when the event is finished; None waits for nothing (`emit --no-wait`)."""
    timeout_s: float | None = None
    """Answer after this at the latest; the event itself stays."""
    fds: tuple[int, ...] = ()
    """Descriptors that the jobs which it starts are given."""


class JobRequest(Fact, frozen=True, kw_only=True):
    """Base of what can be asked of a job."""

    job: str
    environment: Environment = ()
    """Names the instance, and for `Start` and `Restart` becomes part of its environment."""
    instance: str | None = None
    """The instance's name itself; its environment then stays as it is."""
    request: str | None = None
    """Whom to answer when it is done; None does not wait."""


class Start(JobRequest, frozen=True, kw_only=True):
    """Start an instance."""


class Stop(JobRequest, frozen=True, kw_only=True):
    """Stop an instance."""

    failure: str | None = None
    """What of the job cannot work: it has failed because of it, whether it ran or not."""


class Restart(JobRequest, frozen=True, kw_only=True):
    """Stop an instance and start it again with the description that it has."""


class Reload(JobRequest, frozen=True, kw_only=True):
    """Send the reload signal to an instance's main process, or run what it reloads with."""


class SetVariable(Fact, frozen=True, kw_only=True):
    """Set or, with None, unset a variable of every job's environment (`initctl set-env`)."""

    name: str
    value: str | None
    job: str | None = None
    """Only of this job's instance, for what it starts from now on; None is every new instance."""
    instance: str = ""
    running: bool = False
    """With no job: of the instances that there are, too (`initctl set-env --global`)."""


class ProcessFact(Fact, frozen=True, kw_only=True):
    """Base of the facts about one process."""

    spawn: int


class Spawned(ProcessFact, frozen=True, kw_only=True):
    """The process exists and its program runs."""

    pid: int


class SpawnFailed(ProcessFact, frozen=True, kw_only=True):
    """There is no process: a step of its set-up failed."""

    step: str
    """What was being done: `chdir`, `setuid`, `execve`."""
    errno: int
    reason: str = ""


class Skipped(ProcessFact, frozen=True, kw_only=True):
    """The process was not started: what the job needs of its node is not so, and that is well."""

    reason: str


class Exited(ProcessFact, frozen=True, kw_only=True):
    """The process ended by itself."""

    status: int


class Signalled(ProcessFact, frozen=True, kw_only=True):
    """A signal ended the process."""

    signal: int


class Stopped(ProcessFact, frozen=True, kw_only=True):
    """SIGSTOP stopped the process."""


class Ready(ProcessFact, frozen=True, kw_only=True):
    """The main process is ready, in whichever way the job says."""

    pid: int | None = None
    """The process that is to be watched from now on, when it has forked away."""


class MainPid(ProcessFact, frozen=True, kw_only=True):
    """The main process says that it is another one (`MAINPID=`)."""

    pid: int


class ExtendDeadline(ProcessFact, frozen=True, kw_only=True):
    """It asks for more time to become ready or to stop (`EXTEND_TIMEOUT_USEC=`)."""

    seconds: float


class Emptied(ProcessFact, frozen=True, kw_only=True):
    """Nothing is left in the cgroup of this main process, itself included.

    Told for jobs whose kill mode is `control-group` or `mixed`, after the main process's end.
    """


class Elapsed(Fact, frozen=True, kw_only=True):
    """Nothing but time has passed; to be told at `next_deadline()`."""


class Forget(Fact, frozen=True, kw_only=True):
    """How a job's last run ended matters no longer (`systemctl reset-failed`)."""

    name: str
