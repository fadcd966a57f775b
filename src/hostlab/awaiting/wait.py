"""One wait: its events, its deadline, and what the node's init tells of jobs meanwhile."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from hostlab.checks.access import JobStatus, failed_jobs, status_text
from hostlab.checks.patience import OUTPUT_LINES
from hostlab.checks.secrets import Masking
from hostlab.errors import Failed, Problem
from hostlab.init.client import Control, InitClient, result
from hostlab.init.protocol import HUNG_UP
from hostlab.jobs.job_state import JobState
from hostlab.lab.access import NODE_GONE
from hostlab.lab.description import staged

HOPE_S: Final = 0.25
"""How often a wait looks at what nobody tells of: whether anything runs in the node."""
_IDLE: Final = frozenset((JobState.WAITING, JobState.STOPPED, JobState.FAILED))

T = TypeVar("T")
Rows = Sequence[Mapping[str, Any]]


class Waker(Protocol):
    """Tells by a descriptor that there is something to look at."""

    def fileno(self) -> int:
        """The descriptor, which may be another after each look."""
        ...


class Awaited(InitClient):
    """What a wait needs of its node."""

    lab: str
    pid: int

    def job_statuses(self, rows: Rows) -> Mapping[str, JobStatus]:
        """A table of jobs by name; those of a failed one come with their log's last lines."""
        found = {}
        for row in rows:
            state = JobState(row["state"])
            log = self.log_tail(row["name"]) if state is JobState.FAILED else ()
            if state is JobState.FAILED and not log and row["reason"]:
                log = (row["reason"],)
            found[row["name"]] = JobStatus(
                state=state,
                pid=row["pid"],
                exit_status=row["status"],
                log=log,
                reason=row["reason"] or "",
                is_task=row.get("task", False),  # of an init from before it was told
            )
        return found


class Hopeless(Exception):
    """Waiting cannot mend it: why, and the last lines of a log."""

    def __init__(self, why: str, log: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.log = tuple(log)


class Wait(contextlib.ExitStack):
    """A wait for something of one node; what it holds is closed at its end.

    `missing` says what is not so, as long as it is awaited.
    """

    def __init__(self, node: Awaited, missing: str, timeout_s: float) -> None:
        super().__init__()
        self.node = node
        self.missing = missing
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s
        self.instead: Callable[[Rows], str] = lambda _: ""
        """What is so instead, to be said behind `missing`; is given the node's jobs."""
        self.rows: Rows | None = None
        """The node's jobs, as last told; None: not yet."""
        self._control: Control | None = None
        self._asked: dict[int, str] = {}
        self._is_stale = True
        self._is_booted = False
        self.callback(self._hang_up)

    def until(
        self,
        look: Callable[[], T | None],
        *,
        despair: Callable[[], None] = lambda: None,
        waker: Waker | None = None,
        every_s: float | None = None,
    ) -> T:
        """What `look` finds at last: asked at each event, and each `every_s` (None: `HOPE_S`).

        `despair` is asked when jobs have changed, and every `HOPE_S`; it raises Hopeless. Failed
        then, when the node is gone, and at the deadline.
        """
        if (found := look()) is not None:
            return found
        try:
            life = os.pidfd_open(self.node.pid)
        except ProcessLookupError:
            raise self._gone() from None
        self.callback(os.close, life)
        ask_at = time.monotonic()
        while True:
            self._listen()
            if (found := look()) is not None:
                return found
            now = time.monotonic()
            if self.rows is not None and now >= ask_at:
                ask_at = now + HOPE_S
                try:
                    despair()
                except Hopeless as found_why:
                    # It may have come about right before the end that is told.
                    if (found := look()) is not None:
                        return found
                    raise self._failed(found_why.why, found_why.log) from None
            if now >= self.deadline:
                raise self._late()
            pause_s = min(self.deadline - now, HOPE_S if every_s is None else every_s)
            ready = self._sleep(pause_s, life, waker)
            if life in ready:
                raise self._gone()
            if self._hear(ready):
                ask_at = now

    @property
    def is_settled(self) -> bool:
        """Whether the boot is over and no job on its way."""
        return self._is_booted and _is_quiet(self.rows or ())

    def rows_of(self, job: str) -> Rows:
        """The job's rows, one an instance; none before they were told."""
        return [row for row in self.rows or () if row["name"] == job]

    def nothing_will(self) -> None:
        """Hopeless when no job runs or may start, and no other process is in the node either."""
        assert self.rows is not None
        jobs = self.node.job_statuses(self.rows)
        if jobs and (failed_jobs(jobs) is None or not self.is_settled):
            return
        # The one child of the holder that is always there is the supervisor, which has answered.
        if len(_children(self.node.pid)) > 1:
            return
        if (seen := failed_jobs(jobs)) is not None:
            raise Hopeless(seen.text, seen.log)
        raise Hopeless("nothing will: nothing runs in the node")

    def job_never(self, name: str, wanted: JobState | None) -> None:
        """Hopeless when a job will not come into a state by itself; None: when it has ended."""
        assert self.rows is not None
        rows = self.rows_of(name)
        if not rows:
            if self.is_settled:
                known = ", ".join(dict.fromkeys(row["name"] for row in self.rows)) or "none"
                raise Hopeless(f"there is no such job; the node's jobs: {known}")
            return
        if any(row["state"] not in _IDLE for row in rows) or wanted is JobState.FAILED:
            return
        status = self.node.job_statuses(rows)[name]
        if status.state is JobState.FAILED:
            raise Hopeless(f"{name} is {status_text(status)}", status.log[-OUTPUT_LINES:])
        if self.is_settled and not self._is_started_by_events(name):
            raise Hopeless(
                f"{name} is {status_text(status)}, and nothing starts it",
                self.node.log_tail(name),
            )

    def _is_started_by_events(self, name: str) -> bool:
        try:
            jobs = {job.name: job for job in self.node.configuration()}
        except Failed as failure:
            if failure.code not in (HUNG_UP, NODE_GONE):
                raise
            return True  # As far as one knows; who has hung up is dealt with by `_listen`.
        return name not in jobs or (jobs[name].start_on is not None and not jobs[name].manual)

    def _listen(self) -> None:
        """Have a connection on which jobs are told of; ask for their table when it has changed."""
        try:
            if self._control is None:
                self._control = self.node.control()
                within_s = max(0.0, self.deadline - time.monotonic())
                self._asked = {
                    self._control.send("monitor"): "monitor",
                    self._control.send("settled", within_s=within_s): "settled",
                }
                self._is_stale = True
            if self._is_stale and "jobs" not in self._asked.values():
                self._is_stale = False
                self._asked[self._control.send("jobs")] = "jobs"
        except Failed as failure:
            if failure.code == NODE_GONE:
                raise self._gone() from None
            # Of a supervisor that was killed; the next one is asked anew.
            if failure.code != HUNG_UP:
                raise
            self._hang_up()

    def _hear(self, ready: frozenset[int]) -> bool:
        """Take what the init tells; whether the jobs are known anew."""
        control, is_new = self._control, False
        if control is None or control.socket.fileno() not in ready:
            return False
        try:
            while True:
                is_new |= self._told(control.receive())
                if not control.has_answer:
                    return is_new
        except Failed as failure:
            if failure.code != HUNG_UP:
                raise
            self._hang_up()
            return False

    def _told(self, answer: Mapping[str, Any]) -> bool:
        what = self._asked.get(answer.get("id", -1))
        if what == "monitor":
            self._is_stale |= "effect" in answer
            return False
        if what is None:
            return False
        del self._asked[answer["id"]]
        self.rows = result(dict(answer))
        if what == "settled":
            # It answers when the boot is over and nothing is on its way, or at its own deadline.
            self._is_booted = _is_quiet(self.rows)
        return True

    def _sleep(self, seconds: float, life: int, waker: Waker | None) -> frozenset[int]:
        poll = select.poll()
        poll.register(life, select.POLLIN)
        if self._control is not None:
            poll.register(self._control.socket, select.POLLIN)
        if waker is not None:
            poll.register(waker.fileno(), select.POLLIN)
        return frozenset(fd for fd, _ in poll.poll(max(0.0, seconds) * 1000))

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _gone(self) -> Failed:
        return Failed(
            NODE_GONE,
            f"{self.node.name}: {self.missing}; nothing will: the node has ended",
            hint=f"`hostlab status {self.node.lab}` tells why; `hostlab up` brings it back",
            lab=self.node.lab,
        )

    def _late(self) -> Failed:
        log: tuple[str, ...] = ()
        with contextlib.suppress(Problem, OSError):
            failed = [row for row in self.rows or () if row["state"] == JobState.FAILED]
            log = self.node.log_tail(failed[0]["name"]) if failed else ()
        return self._failed(f"after {self.timeout_s:g} s", log)

    def _failed(self, why: str, log: Sequence[str]) -> Failed:
        hint = f"hostlab exec {self.node.lab}/{self.node.name} -- sh"
        missing = self.missing
        with contextlib.suppress(Problem, OSError):
            missing += self.instead(self.rows or ())
        message = told(self.node, f"{self.node.name}: {missing}: {why}{quoted(log)}")
        return Failed("wait", message, hint=hint, lab=self.node.lab)


def told(node: Awaited, text: str) -> str:
    """A text about a node without the secrets of its description."""
    described = staged(node.lab)
    return text if described is None else Masking(described.secrets).text(text)


def quoted(log: Sequence[str]) -> str:
    """Lines of a log below a message."""
    return "".join(f"\n    | {line}" for line in log)


def _is_quiet(rows: Rows) -> bool:
    return all(JobState(row["state"]) in _IDLE | {JobState.RUNNING} for row in rows)


def _children(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
