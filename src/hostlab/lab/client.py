"""Speaking to an init: one connection, one command at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from hostlab.errors import Failed, Problem, Unsupported, UsageError
from hostlab.init.protocol import HUNG_UP, Message, Receiver, send
from hostlab.lab.paths import connect

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
