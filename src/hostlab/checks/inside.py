"""Questions asked from inside nodes, without a program started there.

    caller ── hatchery ─┬─ in web1: answers requests, one thread each
                        └─ in db: …

A `Crew` forks one process, the *hatchery*, before its caller starts any thread. It is
single-threaded, so it can fork safely whenever a node is entered. Each of its children joins the
namespaces of one node (setns(2) with a pidfd) and serves one socket until the caller hangs up; what
a request and its answer mean is the business of the crew's `handler`. The namespaces of a thread
are those of the thread that started it, so questions to one node are asked at the same time.

What a child can be made to do by the file system of its node is kept small: it holds no descriptor
but its socket and imports nothing once it is inside.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final, NoReturn, Self

from hostlab.errors import Problem
from hostlab.linux.entering import enter_namespaces
from hostlab.linux.libc import close_all_but, prctl
from hostlab.linux.pidfd import has_ended
from hostlab.linux.scm_rights import receive

MESSAGE_BYTES: Final = 1 << 16
"""The longest request or answer."""
CLOSE_S: Final = 2.0
"""How long the hatchery has to end its children before it is killed, and they with it."""
PR_SET_PDEATHSIG: Final = 1
_JOINED: Final = ("user", "mnt", "net", "uts", "ipc")

Handler = Callable[[bytes], bytes]
"""Runs inside the node, in a thread of its own."""


class Gone(Problem):
    """The process inside the node ended before it had answered, most likely with the node."""


class Inside:
    """A process inside one node; requests are answered in any order."""

    def __init__(self, sock: socket.socket, node_pidfd: int) -> None:
        self._sock = sock
        self._node_pidfd = node_pidfd

    def submit(self, request: bytes) -> None:
        """Ask; `receive` says when nobody is there to be asked."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._sock.send(request)

    def receive(self, timeout_s: float) -> bytes | None:
        """The next answer; None when there is none in time.

        `Gone` when the child or the node has ended, `OSError` when it could not enter the node,
        `Problem` when the handler raised.
        """
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._node_pidfd, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(max(0.0, timeout_s) * 1000)]
        if not ready:
            return None
        if self._sock.fileno() not in ready:
            # Its namespaces live on as long as our own child is in them.
            raise Gone("node-gone", "the node ended while it was looked at")
        try:
            answer = self._sock.recv(MESSAGE_BYTES + 1)
        except ConnectionResetError:
            # The child ended with a request unread: unix(7) says that first, and once, even when
            # an answer is queued before it.
            answer = self._sock.recv(MESSAGE_BYTES + 1)
        if not answer:
            raise Gone("node-gone", "the node ended while it was looked at")
        text = answer[1:].decode(errors="replace")
        if answer[:1] == b"!":
            number, _, text = text.partition(" ")
            if int(number) == errno.ESRCH:  # Who had a pidfd of it when it ended.
                raise Gone("node-gone", "the node ended before it was looked at")
            raise OSError(int(number), text)
        if answer[:1] == b"?":
            raise Problem("inside", f"a question inside the node ended with {text}")
        return answer[1:]

    def call(self, request: bytes, timeout_s: float) -> bytes | None:
        """`submit` and `receive`, for one question at a time."""
        self.submit(request)
        return self.receive(timeout_s)

    def close(self) -> None:
        """Hang up; the child ends by itself."""
        self._sock.close()
        if self._node_pidfd >= 0:
            os.close(self._node_pidfd)
            self._node_pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Crew:
    """The hatchery, and the way into nodes; a context manager. `enter` may be called by any thread.

    Leaving it ends every child; none outlives the caller either, however that ends.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
            if pid == 0:
                _hatchery(theirs, self._handler)
            self._pidfd = os.pidfd_open(pid)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._control.close()
        if not has_ended(self._pidfd, within_s=CLOSE_S):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)

    def enter(self, pid: int) -> Inside:
        """A process inside the namespaces (user, mount, network, UTS, IPC) of process `pid`.

        Needs CAP_SYS_ADMIN over them, which the owner of a user namespace has in it. Linux 5.8.
        `OSError` with ESRCH when there is no such process.
        """
        with ExitStack() as stack:
            pidfd = os.pidfd_open(pid)
            stack.callback(os.close, pidfd)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            with theirs:
                request = str(pid).encode()
                socket.send_fds(self._control, [request], [pidfd, theirs.fileno()])
            stack.pop_all()
        return Inside(ours, pidfd)


def _hatchery(control: socket.socket, handler: Handler) -> NoReturn:
    """The hatchery's whole life; it ends when the caller closes the control socket, or dies."""
    try:
        gc.freeze()  # what was the caller's is never collected here, so it closes nothing of ours
        control_fd = fcntl.fcntl(control.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        _shed()
        close_all_but({control_fd})
        control.detach()
        _hatch(socket.socket(fileno=control_fd), handler)
    except BaseException:  # nothing of the caller's stack may run in this process
        os._exit(70)
    os._exit(0)


def _shed() -> None:
    """Let go of the caller's terminal and of its way with signals."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGHUP):
        # A terminal's signals are for the caller, who hangs up.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _hatch(control: socket.socket, handler: Handler) -> None:
    """Fork a child a request, reap those that end; at the end of requests, end them all."""
    children: dict[int, int] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        for ready, _ in poller.poll():
            if ready in children:
                poller.unregister(ready)
                _reap(ready)
                del children[ready]
                continue
            request, fds = receive(control, 64)
            if not request:
                _end(children)
                return
            if len(fds) == 2 and (child := os.fork()) == 0:
                close_all_but(fds)
                _live_inside(int(request), fds[0], socket.socket(fileno=fds[1]), handler)
            for fd in fds:
                os.close(fd)
            if len(fds) != 2:
                continue  # no descriptors left: the caller sees its socket closed
            watch = os.pidfd_open(child)
            children[watch] = child
            poller.register(watch, select.POLLIN)


def _reap(pidfd: int) -> None:
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def _end(children: dict[int, int]) -> None:
    """Kill and reap whatever is still there: the caller has hung up on all of it."""
    for pidfd in children:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for pidfd in children:
        _reap(pidfd)


def _live_inside(pid: int, pidfd: int, sock: socket.socket, handler: Handler) -> NoReturn:
    """A child's whole life: enter, answer until the caller hangs up."""
    try:
        hatchery = os.getppid()
        try:
            enter_namespaces(pid, pidfd, _JOINED)
        except OSError as error:
            sock.send(b"!%d %s" % (error.errno or 0, str(error.strerror).encode()))
            os._exit(1)
        # Changing credentials clears it (prctl(2)), so it is said here, after the user namespace.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != hatchery:
            os._exit(1)
        os.close(pidfd)
        _serve(sock, handler)
    except BaseException:  # as in _hatchery
        os._exit(70)
    os._exit(0)


def _serve(sock: socket.socket, handler: Handler) -> None:
    """Answer every request in a thread of its own, until the caller hangs up."""
    sys.path.clear()  # what is not imported by now would come from the node's own files
    sys.path_importer_cache.clear()
    while request := sock.recv(MESSAGE_BYTES):
        threading.Thread(target=_answer, args=(sock, handler, request), daemon=True).start()


def _answer(sock: socket.socket, handler: Handler, request: bytes) -> None:
    try:
        answer = b"." + handler(request)
    except Exception as error:  # raised again in the caller, by `receive`
        answer = f"?{type(error).__name__}: {error}".encode()
    with suppress(BrokenPipeError):  # the caller has lost interest
        sock.send(answer[:MESSAGE_BYTES])
