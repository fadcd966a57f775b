"""What answers checks on a host outside of a lab: this machine, or one that ssh reaches.

`bundle` sends this module and what it imports to the host's own Python, whose standard library is
all it needs. Questions come as lines of JSON, each is answered in a thread of its own by a line.
It ends with its input, so nothing of it is left when the connection is gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from hostlab import typed
from hostlab.checks.access import OUTPUT_BYTES, CommandResult, JobStatus, TooMuch
from hostlab.checks.questions import Question, answered, failed
from hostlab.errors import Unsupported

HELLO: Final = b'{"hello": 1}\n'
_CHUNK_BYTES: Final = 1 << 16


class OwnHost:
    """A `NodeAccess` to the host that this runs on."""

    name = "here"

    @property
    def pid(self) -> int:
        return os.getpid()

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a shell command; it and what it started are killed when it is late."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            stdout, stderr = _collected(process, time.monotonic() + timeout_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                assert pipe
                pipe.close()
        return CommandResult(status=process.returncode, stdout=stdout, stderr=stderr)

    def jobs(self, *, timeout_s: float | None = None) -> Mapping[str, JobStatus]:
        """No init of ours runs here."""
        raise Unsupported("jobs", "no init of hostlab runs on this host")


def _collected(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """What a command writes until it has ended, but not what its children write after that."""
    assert process.stdout
    assert process.stderr
    streams = (process.stdout.fileno(), process.stderr.fileno())
    parts: dict[int, list[bytes]] = {fd: [] for fd in streams}
    written = 0
    pidfd = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for fd in (*streams, pidfd):
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            has_ended = False
            while len(selector.get_map()) > 1 or not has_ended:
                left_s = until - time.monotonic()
                ready = {key.fd for key, _ in selector.select(max(0.0, left_s))}
                has_ended = has_ended or pidfd in ready
                for fd in streams:
                    while fd in ready and (read := _read(fd)):
                        parts[fd].append(read)
                        written += len(read)
                        if written > OUTPUT_BYTES:
                            message = f"the command wrote more than {OUTPUT_BYTES} bytes"
                            raise TooMuch(message, b"".join(parts[streams[0]]))
                    if fd in ready and read == b"":
                        selector.unregister(fd)
                if has_ended:
                    break
                if left_s <= 0:
                    raise TimeoutError("the command has not ended in time")
    finally:
        os.close(pidfd)
    return b"".join(parts[streams[0]]), b"".join(parts[streams[1]])


def _read(fd: int) -> bytes | None:
    """What is there; nothing at the end, None when there is nothing yet."""
    try:
        return os.read(fd, _CHUNK_BYTES)
    except BlockingIOError:
        return None


def main() -> None:
    """Answer until the input ends."""
    lock = threading.Lock()
    out = os.dup(1)
    os.dup2(2, 1)  # what anything else prints is no answer
    os.write(out, HELLO)
    access = OwnHost()

    def answer(line: bytes) -> None:
        question = typed.decode(line, Question)
        try:
            said = msgspec.json.encode(answered(question, access))
        except Exception as error:  # told to whoever asked
            said = msgspec.json.encode(failed(question, error))
        with lock:
            data = memoryview(said.replace(b"\n", b" ") + b"\n")
            while data:
                data = data[os.write(out, data) :]

    for line in sys.stdin.buffer:
        threading.Thread(target=answer, args=(line,), daemon=True).start()
    os._exit(0)  # threads that still wait are nobody's any more
