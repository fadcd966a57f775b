"""One direction of a relayed TCP connection: bytes move from socket to socket inside the kernel.

splice(2) needs a pipe between two sockets. A flow borrows one only while bytes lie in it, so an
idle connection costs two descriptors, and a slow reader stops its writer: nothing is read while
the pipe is not empty, and then the kernel's own windows close.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

PIPE_BYTES = 1 << 18
"""Asked for; the kernel may grant less (`fs.pipe-user-pages-soft`), which only costs speed."""

SPARE_PIPES = 32
"""Empty pipes kept for the next flow."""

TURNS = 16
"""Pipefuls that one flow moves before the others have their turn."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

Pipe = tuple[int, int]


class Pipes:
    """Empty pipes to borrow."""

    def __init__(self) -> None:
        self._spare: list[Pipe] = []

    def take(self) -> Pipe:
        """An empty non-blocking pipe; OSError (EMFILE) when there is none left."""
        if self._spare:
            return self._spare.pop()
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return pipe

    def give(self, pipe: Pipe, *, empty: bool) -> None:
        """Give one back; what still holds bytes is closed."""
        if empty and len(self._spare) < SPARE_PIPES:
            self._spare.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])

    def close(self) -> None:
        """Close the spare ones."""
        for read_end, write_end in self._spare:
            os.close(read_end)
            os.close(write_end)
        self._spare.clear()


class End:
    """One of a connection's two sockets, with what epoll said of it (edge-triggered)."""

    __slots__ = ("failed", "fd", "readable", "sock", "writable")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.readable = False
        self.writable = False
        self.failed = False
        """The peer reset it: nothing can be written, what had arrived can be read."""


class Flow:
    """Bytes from `source` to `sink`, the end of them included."""

    __slots__ = ("_ended", "_pending", "_pipe", "_pipes", "done", "moved", "sink", "source")

    def __init__(self, source: End, sink: End, pipes: Pipes) -> None:
        self.source = source
        self.sink = sink
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._pending = 0
        self._ended = False
        self.done = False
        """Everything has been passed on, and the end of it too; or nothing can be any more."""
        self.moved = 0
        """Bytes handed to `sink` since this was last set to 0."""

    def pump(self) -> bool:
        """Move what can be moved now; True when it stopped out of fairness alone.

        OSError when the source failed, after all that had arrived from it was passed on.
        """
        for _ in range(TURNS):
            if self.done:
                return False
            if self.sink.failed:
                self.drop()
                return False
            if not self._pending and not self._fill():
                return False
            if self._pending and not self._drain():
                return False
            if self._ended:
                self._finish()
        return not self.done

    def drop(self) -> None:
        """Give up on this direction."""
        self.done = True
        self._release(empty=not self._pending)

    def _fill(self) -> bool:
        """Take from the source until it has no more for now; False when nothing came."""
        if not self.source.readable:
            return False
        if self._pipe is None:
            self._pipe = self._pipes.take()
        try:
            count = os.splice(self.source.fd, self._pipe[1], PIPE_BYTES, flags=_FLAGS)
        except BlockingIOError:
            self.source.readable = False
            self._release(empty=True)
            return False
        self._pending = count
        self._ended = not count
        return True

    def _drain(self) -> bool:
        """Hand on what the pipe holds; False when the sink takes no more for now."""
        assert self._pipe is not None
        if not self.sink.writable:
            return False
        while self._pending:
            try:
                count = os.splice(self._pipe[0], self.sink.fd, self._pending, flags=_FLAGS)
            except BlockingIOError:
                self.sink.writable = False
                return False
            except (BrokenPipeError, ConnectionResetError):
                self.sink.failed = True
                self.sink.readable = True  # what it had sent before can be read all the same
                return True
            self._pending -= count
            self.moved += count
        return True

    def _finish(self) -> None:
        self.drop()
        # The sink may have been reset since; the other direction will find out.
        with contextlib.suppress(OSError):
            self.sink.sock.shutdown(socket.SHUT_WR)

    def _release(self, *, empty: bool) -> None:
        if self._pipe is not None:
            self._pipes.give(self._pipe, empty=empty)
            self._pipe = None
