"""A node that can be waited for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Final

from hostlab.awaiting.lines import AwaitedLine
from hostlab.awaiting.places import AwaitedPath
from hostlab.awaiting.ports import LOOK_S, AwaitedPort
from hostlab.awaiting.wait import Awaited, Wait, quoted, told
from hostlab.checks.access import JobStatus
from hostlab.checks.patience import OUTPUT_LINES, Patience, Seen
from hostlab.errors import Failed, UsageError
from hostlab.jobs.job_state import JobState
from hostlab.lab.access import Completed, NodeConnection

WAIT_S: Final = 60.0
"""How long a wait is patient, unless it is told."""
_STATES: Final = (JobState.RUNNING, JobState.STOPPED, JobState.FAILED)


class AwaitedNode(NodeConnection, Awaited):
    """Each wait returns as soon as it is so; Failed when it is not in `timeout_s` seconds, or at
    once when it cannot come about any more, with the last lines of the log.
    """

    def wait_until_succeeds(self, command: str, *, timeout_s: float = WAIT_S) -> str:
        """Run a shell command again and again until it exits with 0; its standard output."""
        return self._repeat(command, "succeeded", lambda status: not status, timeout_s)

    def wait_until_fails(self, command: str, *, timeout_s: float = WAIT_S) -> str:
        """Run a shell command again and again until it does not exit with 0; its output."""
        return self._repeat(command, "failed", bool, timeout_s)

    def wait_for_open_port(
        self,
        port: int,
        *,
        address: str | None = None,
        protocol: str = "tcp",
        timeout_s: float = WAIT_S,
    ) -> None:
        """Wait until something listens on a port, so that it takes what is sent to `address`."""
        with Wait(self, f"nothing listens on {protocol} port {port}", timeout_s) as wait:
            awaited = AwaitedPort(self.pid, port, protocol, address)
            wait.callback(awaited.close)
            wait.instead = awaited.others
            wait.until(awaited.is_open, despair=wait.nothing_will, every_s=LOOK_S)

    def wait_for_closed_port(
        self,
        port: int,
        *,
        address: str | None = None,
        protocol: str = "tcp",
        timeout_s: float = WAIT_S,
    ) -> None:
        """Wait until nothing listens on a port that takes what is sent to `address`."""
        with Wait(self, f"something listens on {protocol} port {port}", timeout_s) as wait:
            awaited = AwaitedPort(self.pid, port, protocol, address)
            wait.callback(awaited.close)
            wait.until(awaited.is_closed, waker=awaited)

    def wait_for_job(
        self, name: str, state: str = JobState.RUNNING, *, timeout_s: float = WAIT_S
    ) -> JobStatus:
        """Wait until a job, or any instance of it, is `running`, `stopped` or `failed`.

        One that has not been started yet counts as stopped.
        """
        if state not in _STATES:
            raise UsageError("state", f"{state!r} is none of {', '.join(_STATES)}")
        wanted = JobState(state)
        alike = {wanted, JobState.WAITING} if wanted is JobState.STOPPED else {wanted}
        with Wait(self, f"job {name} is not {wanted}", timeout_s) as wait:

            def look() -> JobStatus | None:
                rows = [row for row in wait.rows_of(name) if row["state"] in alike]
                return self.job_statuses(rows)[name] if rows else None

            return wait.until(look, despair=lambda: wait.job_never(name, wanted))

    def wait_for_unit(self, name: str, *, timeout_s: float = WAIT_S) -> JobStatus:
        """`wait_for_job` by NixOS's name, for a job that was a unit or any other."""
        known = {row["name"] for row in self.job_table()}
        found = next((each for each in (name, f"{name}.service") if each in known), name)
        return self.wait_for_job(found, timeout_s=timeout_s)

    def wait_for_file(self, path: str, *, timeout_s: float = WAIT_S) -> None:
        """Wait until a path is there, whatever it is; a link that leads nowhere is not."""
        with Wait(self, f"there is no {path}", timeout_s) as wait:
            awaited = AwaitedPath(self.pid, path)
            wait.callback(awaited.close)
            wait.until(awaited.look, despair=wait.nothing_will, waker=awaited)

    def wait_for_log(
        self, job: str, pattern: str, *, instance: str = "", timeout_s: float = WAIT_S
    ) -> re.Match[str]:
        """Wait until a line of a job's log matches a regular expression; the match.

        Lines from before count, too, and the last one though it has no end yet.
        """
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise UsageError("pattern", f"{pattern!r} is no pattern: {error}") from None
        with Wait(self, f"the log of {job} has no line like {pattern!r}", timeout_s) as wait:
            path = self.log_path(job, instance)
            if not os.path.isdir(os.path.dirname(path)):
                self.job_table()  # The first connection starts the supervisor, which makes it.
            awaited = AwaitedLine(path, wanted)
            wait.callback(awaited.close)
            return wait.until(
                awaited.look, despair=lambda: wait.job_never(job, None), waker=awaited
            )

    def _repeat(
        self, command: str, ended: str, good: Callable[[int], bool], timeout_s: float
    ) -> str:
        outputs = [b""]

        def attempt(left_s: float) -> Seen:
            try:
                done = self.shell(command, timeout_s=left_s)
            except TimeoutError:
                return Seen(ok=False, heard=0, text=f"still running after {left_s:.1f} s")
            outputs.append(done.stdout)
            return Seen(
                ok=good(done.status), text=f"exit status {done.status}", log=last_lines(done)
            )

        waited = Patience(timeout_s, attempt_s=math.inf).judged(attempt)
        if waited.seen.ok:
            return outputs[-1].decode(errors="replace")
        tries = "once" if waited.tries == 1 else f"{waited.tries} times"
        text = f"has not {ended} in {timeout_s:g} s, tried {tries}: {waited.seen.text}"
        raise self._failed("wait", command, f"{text}{quoted(waited.seen.log)}")

    def _failed(self, code: str, command: str, text: str) -> Failed:
        """What became of a command, and how to repeat it, without secrets."""
        return Failed(
            code,
            told(self, f"{self.name}: {command!r} {text}"),
            hint=told(self, f"hostlab exec {self.lab}/{self.name} -- sh -c {command!r}"),
            lab=self.lab,
        )


def last_lines(done: Completed) -> tuple[str, ...]:
    """The last lines that a command wrote, of its errors if there are any."""
    text = (done.stderr.strip() or done.stdout).decode(errors="replace")
    return tuple(text.rstrip().splitlines()[-OUTPUT_LINES:])
