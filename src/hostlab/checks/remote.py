"""Hosts outside of a lab: this machine, and those that ssh reaches.

One process a host, OpenSSH's own client for those of others, so that its configuration, keys,
agents and jump hosts are what they are by hand. Over its one connection goes the code of checks
(`bundle`), then every question, so many checks take one round trip. A host that is not reached, has
another key than known, accepts and never answers, or dies in the middle, is told as that.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from hostlab import typed
from hostlab.checks.agent import HELLO
from hostlab.checks.bundle import BOOT, PYTHON, bundle
from hostlab.errors import Problem

HELLO_S: Final = 30.0
"""A host has so long to log us in and to begin to answer."""
CONNECT_S: Final = 10
ALIVE_S: Final = 5
ALIVE_TRIES: Final = 3
"""A connection that is silent for their product has died."""
LINE_BYTES: Final = 1 << 20
"""The longest answer."""
ERROR_BYTES: Final = 1 << 14
END_S: Final = 2.0
_CHUNK_BYTES: Final = 1 << 16
OPTIONS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT_S),
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": str(ALIVE_TRIES),
    "ControlMaster": "no",
    "LogLevel": "ERROR",
    "RequestTTY": "no",
}

_REASONS: Final = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its key is not the one that is known"),
    ("Host key verification failed", "its key is not known"),
    ("Permission denied", "it does not let us in"),
)


class NotReached(Problem):
    """A host that cannot be asked, and why."""


class _Answer(msgspec.Struct):
    """The first line; of any other that it is one."""

    hello: int = 0
    lacks: str = ""


class RemoteHost:
    """A host that is asked by `argv`, a command that runs the command line it is given last.

    None: this machine, by a process of its own.
    """

    def __init__(
        self,
        name: str,
        argv: tuple[str, ...] | None,
        *,
        python: str = "python3",
        hello_s: float = HELLO_S,
    ) -> None:
        self.name = name
        self.python = sys.executable if argv is None else python
        self.argv = argv
        self.hello_s = hello_s

    @contextmanager
    def connected(self) -> Iterator[Talk]:
        """A connection, once the host's Python has begun to answer."""
        program = f"{shlex.quote(self.python)} -ISBc {shlex.quote(BOOT)}"
        argv: tuple[str, ...]
        if self.argv is None:
            argv = ("/bin/sh", "-c", f"exec {program}")
        else:
            found = f"command -v {shlex.quote(self.python)} >/dev/null"
            lacks = shlex.quote(msgspec.json.encode({"lacks": self.python}).decode())
            script = f"{found} && exec {program}; printf '%s\\n' {lacks}"
            argv = (*self.argv, f"/bin/sh -c {shlex.quote(script)}")
        talk = Talk(self.name, argv)
        try:
            talk.begin(self.hello_s)
            yield talk
        finally:
            talk.close()

    def repeat(self, on_the_host: tuple[str, ...]) -> str:
        """A command line that runs this command on the host; none for what takes hostlab there."""
        if self.argv is None:
            return shlex.join(on_the_host)
        if on_the_host[0] == "hostlab":
            return ""
        options = {f"{key}={value}" for key, value in OPTIONS.items()}
        words = [word for word in self.argv if word not in options]
        plain = [
            w for w, after in zip(words, [*words[1:], ""], strict=True) if not _is_bare(w, after)
        ]
        return shlex.join([*plain, shlex.join(on_the_host)])


def _is_bare(word: str, after: str) -> bool:
    """A `-o` whose option was taken away."""
    return word == "-o" and "=" not in after


class Talk:
    """A `Conversation` with a process that speaks for a host."""

    def __init__(self, name: str, argv: tuple[str, ...]) -> None:
        self.name = name
        self._errors = os.memfd_create("errors", os.MFD_CLOEXEC)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._buffer = bytearray()
        self._has_begun = False
        self._queue: list[bytes] = []
        self._sender: threading.Thread | None = None

    def begin(self, timeout_s: float) -> None:
        """Send the code and wait for the answer; `NotReached`, which says why there is none."""
        self._send(bundle())
        line = self.receive(timeout_s)
        if line is None:
            raise NotReached("ssh", f"it accepts, and has not answered for {timeout_s:g} s")
        try:
            said = typed.decode(line, _Answer)
        except msgspec.DecodeError:
            text = line[:80].decode(errors="replace")
            raise NotReached("ssh", f"it answers with something else: {text!r}") from None
        if said.lacks:
            wanted = f"checks need Python {PYTHON[0]}.{PYTHON[1]} or later there"
            raise NotReached("ssh", f"it lacks {said.lacks}", hint=wanted)
        assert line + b"\n" == HELLO
        self._has_begun = True

    def submit(self, request: bytes) -> None:
        """Ask; `receive` says when nobody is there to be asked."""
        self._send(request.replace(b"\n", b" ") + b"\n")

    def _send(self, data: bytes) -> None:
        """A pipe is full when the host does not read: then a thread waits, and not we."""
        with contextlib.suppress(BrokenPipeError):
            if self._sender is None:
                os.set_blocking(self._in.fileno(), False)
                written = self._written(data)
                if written == len(data):
                    return
                self._queue.append(data[written:])
                self._sender = threading.Thread(target=self._send_rest, daemon=True)
                self._sender.start()
            else:
                self._sender.join(HELLO_S)
                self._sender = None
                self._send(data)

    def _written(self, data: bytes) -> int:
        try:
            return os.write(self._in.fileno(), data)
        except BlockingIOError:
            return 0

    def _send_rest(self) -> None:
        os.set_blocking(self._in.fileno(), True)
        with contextlib.suppress(OSError, ValueError):
            for data in self._queue:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._in.fileno(), rest) :]
        self._queue.clear()

    def receive(self, timeout_s: float) -> bytes | None:
        """The next line; None when there is none in time; `NotReached` when there will be none."""
        until = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._out.fileno(), select.POLLIN)
        while True:
            line, newline, rest = bytes(self._buffer).partition(b"\n")
            if newline:
                self._buffer = bytearray(rest)
                return self._checked(line)
            if len(self._buffer) > LINE_BYTES:
                raise NotReached("ssh", f"it answers with more than {LINE_BYTES} bytes at once")
            left_s = until - time.monotonic()
            if not poller.poll(max(0.0, left_s) * 1000):
                return None
            try:
                read = os.read(self._out.fileno(), _CHUNK_BYTES)
            except BlockingIOError:
                continue
            if not read:
                raise self._ended()
            self._buffer += read

    def _checked(self, line: bytes) -> bytes:
        if self._has_begun:
            try:
                typed.decode(line, _Answer)
            except msgspec.DecodeError:
                raise NotReached("ssh", "it answers with something that is no answer") from None
        return line

    def _ended(self) -> NotReached:
        """Why the connection is at its end."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            status = 0
        size = os.fstat(self._errors).st_size
        told = os.pread(self._errors, ERROR_BYTES, max(0, size - ERROR_BYTES))
        text = told.decode(errors="replace").strip()
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit status {status}"
        if self._has_begun:
            return NotReached("ssh", f"the connection has ended in the middle: {last}")
        for word, reason in _REASONS:
            if word in text:
                return NotReached("ssh", f"not reached: {reason}: {last}")
        return NotReached("ssh", f"not reached: {last}")

    def _kill(self) -> None:
        """It and what it started, as a jump host's ssh."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Hang up; the process ends by itself, or is ended."""
        with contextlib.suppress(OSError):
            os.set_blocking(self._in.fileno(), False)
        if self._sender is not None and self._sender.is_alive():
            self._kill()
            self._sender.join()
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._out.close()
        os.close(self._errors)
