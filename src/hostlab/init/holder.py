"""The holder: PID 1 of a node, and the one process that must not fail.

It reaps, records and keeps: every exit status until the supervisor has acknowledged it, every
descriptor that must survive, the control socket. It decides nothing. Everything clever lives in
the supervisor, a child that may be killed at any instant: the next one is told what is running,
what has ended, and gets the kept descriptors back.

A job is started by the supervisor with CLONE_PARENT, so it is the holder's child, not the
supervisor's: a status that the supervisor had reaped would be lost with it. Before `execve` the
job's process sends `+ KEY` on the channel; the kernel's credentials say its pid, seen from here.

The channel is a SOCK_SEQPACKET pair; a datagram is one command:

    to the holder                        to the supervisor
    + KEY            I am this job       + KEY PID           this job runs
    = PID KEY        status noted        - KEY PID STATUS    this process ended (wait status)
    * PID KEY        adopt this one      ~ KEY PID           a signal has stopped this process
    < NAME  (fd)     keep this           < NAME  (fd)        you kept this
    > NAME           drop it             .                   that is all from before
    ?                tell all again      ! NUMBER            this signal was sent to the holder
    = NUMBER !       signal acted on
    x                end, with everything in the node

Adopting: an orphan, which the kernel has made the holder's child, is from then on recorded and
reported under KEY like a process that has introduced itself. Had it ended before, that is told
under KEY now: with its status where the holder still has it (`MAX_ORPHANS`), else, and for what
is no child of the holder, with `GONE`, which is no wait status.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import struct
import sys

from hostlab.linux.libc import prctl, sigaddset, sigemptyset, signalfd, sigprocmask

TYPE_CHECKING = False
"""As `typing` has it, which a holder need not load (`standalone.program`)."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
SFD_NONBLOCK_CLOEXEC: Final = 0o2004000
SIGNALFD_SIGINFO_BYTES: Final = 128
SIGSET_BYTES: Final = 128
"""sizeof(sigset_t) of glibc and musl."""
WALL: Final = 0x40000000
DATAGRAM_BYTES: Final = 4096
MAX_KEPT: Final = 4096
"""Descriptors kept for the supervisor, above which a further one is refused."""
MAX_ORPHANS: Final = 256
"""Ended processes without a key whose status is remembered, for one that is adopted too late."""
GONE: Final = -1
"""Instead of a wait status, which is 0 to 65535: not the holder's child, or not any more."""
RESTARTS_AT_ONCE: Final = 5
RESTART_PAUSE_MS: Final = 1000
"""After so many supervisors died without a word, or of an error of theirs, the next one waits."""
SIGNALLED: Final = "!"
"""In place of a key: a signal's number is acknowledged, not a process' end."""
_NO_KEY: Final = "?"


class Inheritance:
    """What a supervisor is given when it starts."""

    __slots__ = ("channel", "control")

    def __init__(self, control: socket.socket, channel: socket.socket) -> None:
        self.control = control
        """The listening control socket."""
        self.channel = channel
        """To the holder."""


class Holder:
    """Holds a node up. `supervise` is the supervisor's whole life, run in a forked child."""

    def __init__(
        self,
        control: socket.socket,
        supervise: Callable[[Inheritance], None],
        *,
        eager: bool,
        dies_with_holder: bool = False,
        passes_on: tuple[int, ...] = (),
    ) -> None:
        """`passes_on` are signals that the supervisor is told of, instead of their effect."""
        self.control = control
        self.supervise = supervise
        self.eager = eager
        self.dies_with_holder = dies_with_holder
        self.running: dict[int, str] = {}
        self.ended: dict[tuple[int, str], int] = {}
        self.stopped: set[int] = set()
        self.orphans: dict[int, int] = {}
        self.kept: dict[str, int] = {}
        self.unheard: set[int] = set()
        """Signals to be passed on that no supervisor has acted on yet."""
        self.supervisor = 0
        self.channel: socket.socket | None = None
        self.failures = 0
        self.has_spoken = False
        self.asked_for = False
        self.signals = _blocked(_mask((signal.SIGCHLD, *passes_on)) if passes_on else _SIGCHLD)

    def hold(self) -> NoReturn:
        """Never returns; the node ends when its holder does.

        A holder that shares another node's pid namespace is not PID 1 there: as a subreaper it
        still is the one who hears of every orphan (prctl(2), PR_SET_CHILD_SUBREAPER).
        """
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # What it keeps for hundreds of jobs is more than the usual limit; a job has that again.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        # A collector walks, and so copies, the pages that every holder shares with the hub.
        gc.disable()
        poll = select.poll()
        poll.register(self.signals, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        pause = self._restart(poll, has_paused=False)
        while True:
            ready = poll.poll(pause)
            for fd, _ in ready:
                if self.channel is not None and fd == self.channel.fileno():
                    self._drain(poll)
                elif fd == self.signals:
                    self._signalled(os.read(self.signals, 4096))
                    self._reap(poll)
                elif self.supervisor == 0:
                    self.asked_for = True
            pause = self._restart(poll, has_paused=pause is not None and not ready)

    def _signalled(self, data: bytes) -> None:
        """Pass on what is no SIGCHLD (signalfd(2), struct signalfd_siginfo)."""
        for offset in range(0, len(data), SIGNALFD_SIGINFO_BYTES):
            number = int.from_bytes(data[offset : offset + 4], sys.byteorder)
            if number == signal.SIGCHLD:
                continue
            self.unheard.add(number)
            if self.channel is not None:
                self._tell(f"! {number}")

    def _restart(self, poll: select.poll, *, has_paused: bool) -> int | None:
        """Start a supervisor if one is needed; the milliseconds to wait first if they die young."""
        # What is kept may be written into or connected to, also when no job runs any more.
        work = self.asked_for or self.eager or self.running or self.ended or self.kept
        if self.supervisor or not work:
            return None
        if self.failures < RESTARTS_AT_ONCE or has_paused:
            # A node without a process or a descriptor to be had lives on: that may change.
            with contextlib.suppress(OSError):
                self._start_supervisor(poll)
                return None
        _unregister(poll, self.control.fileno())
        return RESTART_PAUSE_MS

    def _start_supervisor(self, poll: select.poll) -> None:
        self.failures += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pid = os.fork()
        if pid == 0:
            self._become_supervisor(ours, theirs)
        theirs.close()
        _unregister(poll, self.control.fileno())
        self.supervisor, self.channel = pid, ours
        self.asked_for = self.has_spoken = False
        poll.register(ours, select.POLLIN)
        self._tell_all()

    def _tell_all(self) -> None:
        for child, key in self.running.items():
            self._tell(f"+ {key} {child}")
        for (child, key), status in self.ended.items():
            self._tell(f"- {key} {child} {status}")
        for child in self.stopped:
            self._tell(f"~ {self.running[child]} {child}")
        for name, fd in self.kept.items():
            self._tell(f"< {name}", fd)
        self._tell(".")
        for number in self.unheard:
            self._tell(f"! {number}")

    def _become_supervisor(self, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        status = 1
        try:
            gc.enable()
            if self.dies_with_holder:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            ours.close()
            os.close(self.signals)
            for fd in self.kept.values():
                os.close(fd)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self.supervise(Inheritance(self.control, theirs))
            status = 0
        except Exception:
            # What it says needs no module: a node may have no files to load one from.
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _tell(self, text: str, fd: int | None = None) -> None:
        """Best effort: a supervisor that is gone is told again by the next one's start."""
        if self.channel is None:
            return
        try:
            if fd is None:
                self.channel.send(text.encode())
            else:
                socket.send_fds(self.channel, [text.encode()], [fd])
        except OSError:
            return

    def _drain(self, poll: select.poll) -> None:
        assert self.channel is not None
        while True:
            try:
                data, ancillary, _, _ = self.channel.recvmsg(
                    DATAGRAM_BYTES,
                    socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except (BlockingIOError, ConnectionError):
                return
            if not data:
                _unregister(poll, self.channel.fileno())
                return
            self.has_spoken = True
            self._command(data.decode(errors="replace"), ancillary)

    def _command(self, text: str, ancillary: list[tuple[int, int, bytes]]) -> None:
        pid, fd = _sender(ancillary)
        verb, _, rest = text.partition(" ")
        if verb == "+" and pid:
            self.running[pid] = rest
        elif verb == "=":
            number, _, key = rest.partition(" ")
            if number.isdecimal():
                self.ended.pop((int(number), key), None)
            if key == SIGNALLED and number.isdigit():
                self.unheard.discard(int(number))
        elif verb == "*":
            number, _, key = rest.partition(" ")
            if number.isdecimal() and key:
                self._adopt(int(number), key)
        elif verb == "?":
            self._tell_all()
        elif verb == "x":
            os._exit(0)
        elif verb == "<" and fd is not None and (rest in self.kept or len(self.kept) < MAX_KEPT):
            self._drop(rest)
            self.kept[rest], fd = fd, None
        elif verb == ">":
            self._drop(rest)
        if fd is not None:
            os.close(fd)

    def _adopt(self, pid: int, key: str) -> None:
        """One that has ended and is not reaped yet is a child still: `_reap` finds its key."""
        if self.running.get(pid, key) == key and _is_child(pid):
            self.running[pid] = key
            return
        status = self.orphans.pop(pid, GONE)
        self.ended[pid, key] = status
        self._tell(f"- {key} {pid} {status}")

    def _drop(self, name: str) -> None:
        fd = self.kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _reap(self, poll: select.poll) -> None:
        """Collect every child that ended or stopped: a pending SIGCHLD stands for many.

        The kernel sends SIGCHLD for a stop whatever a child's exit signal is (kernel/signal.c,
        do_notify_parent_cldstop).
        """
        if self.channel is not None:
            self._drain(poll)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED | WALL)
            except ChildProcessError:
                return
            if pid == 0:
                return
            has_ended = not (os.WIFSTOPPED(status) or os.WIFCONTINUED(status))
            if pid == self.supervisor:
                if has_ended:
                    self._supervisor_ended(poll)
                    if self.has_spoken and (os.WIFSIGNALED(status) or status == 0):
                        self.failures = 0
                continue
            if has_ended:
                self._has_ended(pid, status, poll)
            else:
                self._has_stopped(pid, poll, is_stopped=os.WIFSTOPPED(status))

    def _has_ended(self, pid: int, status: int, poll: select.poll) -> None:
        self.stopped.discard(pid)
        if pid not in self.running:
            self.orphans.pop(pid, None)
            self.orphans[pid] = status
            if len(self.orphans) > MAX_ORPHANS:
                del self.orphans[next(iter(self.orphans))]
            # It may have introduced itself, or have been adopted, since the last look.
            if self.channel is not None:
                self._drain(poll)
        key = self.running.pop(pid, None)
        if key is not None:
            self.orphans.pop(pid, None)
            self.ended[pid, key] = status
            self._tell(f"- {key} {pid} {status}")
        elif pid in self.orphans:
            self._tell(f"- {_NO_KEY} {pid} {status}")

    def _has_stopped(self, pid: int, poll: select.poll, *, is_stopped: bool) -> None:
        """Stopped or going on again; a stop is remembered for the next supervisor."""
        if pid not in self.running and self.channel is not None:
            self._drain(poll)
        key = self.running.get(pid)
        if not is_stopped or key is None:
            self.stopped.discard(pid)
            return
        self.stopped.add(pid)
        self._tell(f"~ {key} {pid}")

    def _supervisor_ended(self, poll: select.poll) -> None:
        assert self.channel is not None
        with contextlib.suppress(OSError):
            # A job that has not introduced itself by now cannot any more, and gives up (EPIPE).
            self.channel.shutdown(socket.SHUT_RD)
        self._drain(poll)
        _unregister(poll, self.channel.fileno())
        self.channel.close()
        self.supervisor, self.channel = 0, None
        poll.register(self.control, select.POLLIN)


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:
        return False
    return True


def _unregister(poll: select.poll, fd: int) -> None:
    try:
        poll.unregister(fd)
    except KeyError:
        return


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int | None]:
    pid, fd = 0, None
    for level, kind, value in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(value) >= 12:
            pid = struct.unpack("=iII", value[:12])[0]
        elif kind == socket.SCM_RIGHTS and len(value) >= 4:
            (fd,) = struct.unpack("=i", value[:4])
    return pid, fd


def _mask(signals: tuple[int, ...]) -> ctypes.Array[ctypes.c_char]:
    mask = ctypes.create_string_buffer(SIGSET_BYTES)
    sigemptyset(mask)
    for number in signals:
        sigaddset(mask, number)
    return mask


_SIGCHLD: Final = _mask((signal.SIGCHLD,))
"""Made once, in the hub: what a holder does not make it need not keep."""


def _blocked(mask: ctypes.Array[ctypes.c_char]) -> int:
    """Signals as a descriptor: nothing is missed between a check and a wait (signalfd(2))."""
    sigprocmask(signal.SIG_BLOCK, mask, None)
    return signalfd(-1, mask, SFD_NONBLOCK_CLOEXEC)
