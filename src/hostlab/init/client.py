"""Speaking to an init: one connection, one command at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

from hostlab import typed
from hostlab.errors import Failed, Problem, Unsupported, UsageError
from hostlab.init.logs.files import opened, read_last
from hostlab.init.logs.policy import log_name
from hostlab.init.protocol import CONTROL, HUNG_UP, LOGS, OWN_LOG, Message, Receiver, connect, send
from hostlab.spec.job import Job

LOG_LINES: Final = 10
ANSWER_S: Final = 30.0
"""What an init needs nothing else for, it answers at once; one that has not by then is broken."""
SILENT: Final = "silent"
_KINDS = {"UsageError": UsageError, "Unsupported": Unsupported}


class Control:
    """A connection to a control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._receiver = Receiver()
        self._pending: list[Message] = []
        self._next = 0

    @classmethod
    def to(cls, directory: str, name: str) -> Control:
        """Connect; OSError when nobody listens there."""
        return cls(connect(directory, name))

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self._receiver.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, op: str, fds: Sequence[int] = (), **arguments: Any) -> int:
        """Send a command; returns its id."""
        self._next += 1
        try:
            send(self.socket, {"op": op, "id": self._next, **arguments}, fds)
        except ConnectionError:
            raise _hung_up() from None
        return self._next

    def receive(self) -> Message:
        """The next answer, whatever it answers; Failed when the other side hangs up."""
        while not self._pending:
            try:
                messages = self._receiver.receive(self.socket)
            except TimeoutError:
                raise Failed(
                    SILENT,
                    "the init has not answered in time",
                    hint="its supervisor may not come up: init.log, or the lab's hub.log, says why",
                ) from None
            except ConnectionError:
                messages = None
            if messages is None:
                raise _hung_up()
            self._pending += messages
        return self._pending.pop(0)

    @property
    def has_answer(self) -> bool:
        """Whether an answer is here already, so that waiting for the socket would be wrong."""
        return bool(self._pending)

    def take(self, count: int) -> list[int]:
        """Descriptors that came with the answer just received."""
        return self._receiver.take(count)

    def ask(self, op: str, *, timeout_s: float | None = None, **arguments: Any) -> Any:
        """`call` for what is answered at once; Failed `silent` when it is not."""
        self.socket.settimeout(ANSWER_S if timeout_s is None else timeout_s)
        try:
            return self.call(op, **arguments)
        finally:
            self.socket.settimeout(None)

    def call(
        self,
        op: str,
        fds: Sequence[int] = (),
        *,
        more: Callable[[Message], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Send a command and wait for its last answer; raises the Problem that it answers with."""
        number = self.send(op, fds, **arguments)
        while True:
            answer = self.receive()
            if answer.get("id") != number:
                continue
            if answer.get("more"):
                if more is not None:
                    more(answer)
                continue
            return result(answer)


def _hung_up() -> Failed:
    return Failed(
        HUNG_UP,
        "the lab's init hung up before it had answered",
        hint="`hostlab status` tells what is there; the same command can be repeated",
    )


def result(answer: Message) -> Any:
    """The value of a last answer, or its Problem raised."""
    if "error" in answer:
        error = answer["error"]
        kind = _KINDS.get(error.get("kind", ""), Failed if error.get("exit") == 1 else Problem)
        raise kind(error["code"], error["message"], hint=error.get("hint"))
    return answer.get("ok")


class InitClient:
    """An init and its jobs; each call makes a connection of its own, so threads may share it."""

    name: str
    directory: str
    """With its control socket, its own log, and `log/` with those of its jobs."""

    def control(self) -> Control:
        """A connection to the init; its supervisor starts with the first one."""
        raise NotImplementedError

    def job_table(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """Every job of the node with its state; Failed `silent` when it is not told in time."""
        with self.control() as control:
            table: list[dict[str, Any]] = control.ask("jobs", timeout_s=timeout_s)
            return table

    def status_of(
        self, name: str, environment: Sequence[tuple[str, str]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """A job's rows, or the row of the instance that this environment names, and the lines of
        `initctl status`.
        """
        with self.control() as control:
            found = control.ask("status", name=name, environment=list(environment))
            return found["rows"], found["lines"]

    def job(
        self,
        name: str,
        action: str,
        *,
        environment: Sequence[tuple[str, str]] = (),
        wait: bool = True,
    ) -> list[dict[str, Any]]:
        """start, stop, restart or reload a job; its rows afterwards."""
        with self.control() as control:
            rows: list[dict[str, Any]] = control.call(
                "job", name=name, action=action, environment=list(environment), wait=wait
            )
            return rows

    def emit(
        self,
        event: str,
        environment: Sequence[tuple[str, str]] = (),
        *,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Emit an event in the node, and wait until what it started and stopped is done.

        Failed when a job failed over it, or when it is still blocked after `timeout_s`.
        """
        with self.control() as control:
            pairs = list(environment)
            control.call("emit", name=event, environment=pairs, wait=wait, timeout_s=timeout_s)

    def reexec(self) -> dict[str, Any]:
        """Have the init become the program that is installed now; its pid and version then.

        Failed when that program cannot go on with the jobs' state; nothing has changed then.
        """
        with self.control() as control:
            found: dict[str, Any] = control.call("reexec")
            return found

    def waits(self) -> list[dict[str, Any]]:
        """Who waits for whom, and why."""
        with self.control() as control:
            rows: list[dict[str, Any]] = control.ask("waits")
            return rows

    def timers(self) -> list[dict[str, Any]]:
        """Every timer with when it comes next, and whose it is."""
        with self.control() as control:
            rows: list[dict[str, Any]] = control.ask("timers")
            return rows

    def configuration(self) -> tuple[Job, ...]:
        """Every job's description, as the node's init has it."""
        with self.control() as control:
            return typed.convert(control.ask("configuration"), tuple[Job, ...])

    def wait_settled(self, *, within_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until the boot is over and no job is starting or stopping; every job's rows."""
        with self.control() as control:
            rows: list[dict[str, Any]] = control.call("settled", within_s=within_s)
            return rows

    def monitor(self) -> Control:
        """A connection on which every answer tells one thing that happens in the node's init."""
        control = self.control()
        number = control.send("monitor")
        while control.receive().get("id") != number:
            continue
        return control

    def init_log_path(self) -> str:
        """The machine's file with what the node's init has to say."""
        return f"{self.directory}/{OWN_LOG}"

    def log_path(self, job: str, instance: str = "") -> str:
        """The machine's file with the output of a job's instance; rotated ones beside it."""
        return f"{self.directory}/{LOGS}/{log_name(job, instance)}.log"

    def log_tail(self, job: str, lines: int = LOG_LINES, *, instance: str = "") -> tuple[str, ...]:
        """The last lines that a job wrote."""
        with opened(self.log_path(job, instance)) as files:
            data = read_last(files, lines)
        return tuple(data.decode(errors="replace").splitlines()[-lines:])


class LocalInit(InitClient):
    """An init of this machine that belongs to no lab (`hostlab init`)."""

    name = "init"

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def control(self) -> Control:
        try:
            return Control.to(self.directory, CONTROL)
        except (FileNotFoundError, ConnectionRefusedError):
            hint = "start one: `hostlab init`, or `hostlab init --user`"
            raise UsageError("no-init", "no init runs here", hint=hint) from None

    def is_there(self) -> bool:
        """Whether it answers."""
        try:
            Control.to(self.directory, CONTROL).close()
        except OSError:
            return False
        return True
