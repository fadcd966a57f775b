"""How checks reach a node: the seam that whoever stages nodes implements."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol, runtime_checkable

import msgspec

from hostlab.checks.patience import OUTPUT_LINES, Seen
from hostlab.jobs.job_state import JobState

OUTPUT_BYTES: Final = 1 << 24
"""As much may a command write."""


class TooMuch(TimeoutError):
    """A command that wrote more than anybody reads, and was ended for it."""

    def __init__(self, message: str, stdout: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended."""

    status: int
    """Exit status; the negative number of the signal that killed it."""
    stdout: bytes = b""
    stderr: bytes = b""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one instant."""

    state: JobState
    pid: int | None = None
    exit_status: int | None = None
    """Of its last run; the negative number of the signal that killed it."""
    log: tuple[str, ...] = ()
    """Its last lines."""
    reason: str = ""
    """Why it could not be started, when that is why it does not run."""
    is_task: bool = False
    """It is to come to its end."""

    @property
    def is_done(self) -> bool:
        """Whether it is a task that has come to a good end."""
        return self.is_task and self.state is JobState.STOPPED and self.exit_status == 0


def status_text(status: JobStatus) -> str:
    """A job's state in words, with how it ended."""
    if status.exit_status is None or status.state in (JobState.RUNNING, JobState.STARTING):
        return str(status.state)
    return f"{status.state} ({exit_text(status.exit_status)})"


def failed_jobs(jobs: Mapping[str, JobStatus]) -> Seen | None:
    """Why nothing will begin to listen any more: a job has failed, and none runs or starts."""
    idle = {JobState.FAILED, JobState.STOPPED}
    failed = [name for name, status in jobs.items() if status.state is JobState.FAILED]
    if not failed or any(status.state not in idle for status in jobs.values()):
        return None
    status = jobs[failed[0]]
    text = f"nothing will: job {failed[0]} is {status_text(status)} and no other runs"
    return Seen(ok=False, text=text, hopeless=True, log=status.log[-OUTPUT_LINES:])


def ended_text(status: JobStatus) -> str:
    """How a job's last run ended, in words; empty where nobody knows."""
    return "" if status.exit_status is None else exit_text(status.exit_status)


def exit_text(status: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


class Conversation(Protocol):
    """Questions to one host, answered in any order, each in bytes."""

    def submit(self, request: bytes) -> None:
        """Ask; `receive` says when nobody is there to be asked."""
        ...

    def receive(self, timeout_s: float) -> bytes | None:
        """The next answer; None when there is none in time.

        `Problem` or `OSError`, which say why, when there will be none.
        """
        ...


@runtime_checkable
class OutsideAccess(Protocol):
    """A host outside of a lab."""

    name: str

    def repeat(self, on_the_host: tuple[str, ...]) -> str:
        """A command line that runs this command on the host; empty where nobody can."""
        ...


@runtime_checkable
class HostAccess(OutsideAccess, Protocol):
    """One which answers questions by one connection."""

    def connected(self) -> AbstractContextManager[Conversation]:
        """A connection; `Problem` or `OSError`, which say why, when there is none."""
        ...


class NodeAccess(Protocol):
    """A running node. Its methods are called from several threads at once.

    They raise `Problem` or `OSError` when the node cannot be asked; the check is then not judged.
    """

    name: str

    @property
    def pid(self) -> int:
        """The node's holder as seen from the machine; its namespaces are entered."""
        ...

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a shell command in the node; `TimeoutError` when it has not ended in time.

        `TooMuch` when it has written more than `OUTPUT_BYTES`.
        """
        ...

    def jobs(self, *, timeout_s: float | None = None) -> Mapping[str, JobStatus]:
        """The node's jobs by name; `timeout_s` is for an answer that is not to be waited for."""
        ...
