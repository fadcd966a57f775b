"""A running node from outside: commands, jobs, logs, by its control socket."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hostlab.errors import Failed, UsageError
from hostlab.init.client import Control, InitClient, result
from hostlab.init.protocol import CONTROL
from hostlab.lab.paths import LabDirectory

NODE_GONE: Final = "node-gone"
_PIPE_BYTES: Final = 1 << 16
_PAUSE_MS: Final = 10
"""So long nobody looks at a pipe again, unless the command ends: a script that is traced writes two
lines for each of its commands, and a pipe cannot tell that it is half full. One that was half full
all the same is looked at whenever there is something in it, from then on."""
_LAST_READS: Final = 16
"""What a command wrote is in its pipe when it has ended; a child it left may write for ever."""


class Completed:
    """A command that has ended: status (128 + signal if one ended it), stdout, stderr."""

    __slots__ = ("signal", "status", "stderr", "stdout")

    def __init__(self, status: int, number: int | None, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.signal = number
        self.stdout = stdout
        self.stderr = stderr


class CutOff(TimeoutError):
    """A command that was not waited for any longer, with what it had written until then."""

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class NodeConnection(InitClient):
    """A node of a running lab; each call makes a connection of its own, so threads may share it."""

    def __init__(self, lab: str, name: str, pid: int) -> None:
        self.lab = lab
        self.name = name
        self.pid = pid
        self.directory = LabDirectory.of(lab).node(name)

    def control(self) -> Control:
        """A connection to the node's init; its supervisor starts with the first one."""
        try:
            return Control.to(self.directory, CONTROL)
        except (FileNotFoundError, ConnectionRefusedError):
            raise Failed(
                NODE_GONE,
                f"node {self.name} of lab {self.lab} is not there",
                hint=f"`hostlab status {self.lab}` tells why; `hostlab up` brings it back",
                lab=self.lab,
            ) from None

    def execute(
        self,
        argv: str | Sequence[str],
        *,
        timeout_s: float | None = None,
        stdin: bytes = b"",
        output_limit_bytes: int | None = None,
        **options: Any,
    ) -> Completed:
        """Run a program, or a shell command line, and collect what it writes.

        CutOff (and SIGHUP to it) when late, or when it writes more than `output_limit_bytes`.

        `options` go to the node's `exec`: user, directory, environment.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with contextlib.ExitStack() as stack:
            control = stack.enter_context(self.control())
            null = _memory(stdin)
            ours, theirs = zip(*(os.pipe2(os.O_CLOEXEC) for _ in range(2)), strict=True)
            for fd in ours:
                stack.callback(os.close, fd)
            words = ("/bin/sh", "-c", argv) if isinstance(argv, str) else argv
            number = control.send("exec", (null, *theirs), argv=list(words), **options)
            for fd in (null, *theirs):
                os.close(fd)
            outputs, answer = _collect(control, number, ours, deadline, output_limit_bytes)
        return Completed(answer["status"], answer["signal"], outputs[0], outputs[1])

    def execute_unheard(
        self, argv: Sequence[str], *, timeout_s: float | None = None, stdin: bytes = b""
    ) -> Completed:
        """As `execute`, for what writes in small pieces (nft twice for each element of a set):
        nobody wakes before its end. Nothing bounds what it writes, and it writes to no pipe.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with contextlib.ExitStack() as stack:
            control = stack.enter_context(self.control())
            files = []
            for data in (stdin, b"", b""):
                files.append(_memory(data))
                stack.callback(os.close, files[-1])
            number = control.send("exec", files, argv=list(argv))
            _, answer = _collect(control, number, (), deadline)
            written = [_written(fd) for fd in files[1:]]
        return Completed(answer["status"], answer["signal"], *written)

    def attach(self, argv: Sequence[str], fd: int, *, into_node: bool) -> Completed:
        """Run a program with `fd` as its standard input, or as its output; collects the rest."""
        with contextlib.ExitStack() as stack:
            control = stack.enter_context(self.control())
            null = _memory(b"")
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, reader)
            fds = (fd, writer, writer) if into_node else (null, fd, writer)
            number = control.send("exec", fds, argv=list(argv))
            os.close(null)
            os.close(writer)
            outputs, answer = _collect(control, number, (reader,), None)
        return Completed(answer["status"], answer["signal"], b"", outputs[0])

    def shell(self, command: str, **options: Any) -> Completed:
        """Run a shell command line."""
        return self.execute(command, **options)


def _memory(data: bytes) -> int:
    """A file of its own: a node's root could change the mode of the machine's /dev/null."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _written(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def _collect(
    control: Control,
    number: int,
    pipes: Sequence[int],
    deadline: float | None,
    limit_bytes: int | None = None,
) -> tuple[list[bytes], Mapping[str, Any]]:
    """Read both pipes and the answer until the command has ended and its output is in.

    A child that the command leaves behind with its output open does not hold this up.
    """
    poll, pause = select.poll(), select.poll()
    for each in (poll, pause):
        each.register(control.socket, select.POLLIN)
    for fd in pipes:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    parts: dict[int, list[bytes]] = {fd: [] for fd in pipes}
    written = 0
    is_slow = True
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise _cut_off("the command has not ended in time", pipes, parts)
        if limit_bytes is not None and written > limit_bytes:
            raise _cut_off(f"the command wrote more than {limit_bytes} bytes", pipes, parts)
        ready = poll.poll(None if left is None else left * 1000 + 1)
        before = written
        for fd, _ in ready:
            if fd in parts:
                had = len(parts[fd])
                if not _drain(fd, parts[fd], reads=1):
                    poll.unregister(fd)
                written += sum(map(len, parts[fd][had:]))
        is_slow = is_slow and written - before < _PIPE_BYTES // 2
        if is_slow and written > before:
            ready += pause.poll(_PAUSE_MS)
        answered = any(fd == control.socket.fileno() for fd, _ in ready)
        while answered or control.has_answer:
            answer, answered = control.receive(), False
            if answer.get("id") == number and not answer.get("more"):
                found = result(answer)
                for fd in pipes:
                    _drain(fd, parts[fd], reads=_LAST_READS)
                return [b"".join(parts[fd]) for fd in pipes], found


def _cut_off(message: str, pipes: Sequence[int], parts: Mapping[int, list[bytes]]) -> CutOff:
    outputs = [b"".join(parts[fd]) for fd in pipes] or [b""]
    return CutOff(message, outputs[0], outputs[-1])


def _drain(fd: int, into: list[bytes], *, reads: int) -> bool:
    """Read what is there; False at the end of the stream."""
    for _ in range(reads):
        try:
            data = os.read(fd, _PIPE_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        into.append(data)
    return True


def known_node(names: Sequence[str], name: str, lab: str) -> str:
    """The name, if it is among these of a lab's nodes that are there.

    Failed for one that is described and has died, UsageError for one that is not, with a hint.
    """
    if name in names:
        return name
    from hostlab.lab.description import staged

    described = staged(lab)
    if described is not None and any(node.name == name for node in described.nodes):
        raise Failed(
            NODE_GONE,
            f"node {name} of lab {lab} is not there",
            hint=f"`hostlab status {lab}` tells why; `hostlab up` brings it back",
        )
    if name == lab:
        hint = ", ".join(f"{lab}/{each}" for each in names[:20])
        raise UsageError("no-node", f"{lab} is a lab; a node of it is wanted", hint=hint)
    import difflib

    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else "nodes: " + ", ".join(names[:20])
    raise UsageError("no-node", f"lab {lab} has no node {name!r}", hint=hint)
