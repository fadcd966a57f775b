"""One command in one node, with the caller's own descriptors or on a terminal of the node.

Without a terminal nothing of ours touches the data: the program has the caller's pipes and files.
With one, bytes go between the caller's terminal, in raw mode, and the master of a terminal that is
made inside the node; its size follows the caller's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty as terminal_modes
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.init.client import Control

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
RELAY_BYTES: Final = 1 << 16


def run_session(node: Node, argv: Sequence[str], *, tty: bool | None, **options: Any) -> int:
    """Run a program in a node until it ends; returns its exit status (128 + signal)."""
    wants_tty = tty if tty is not None else sys.stdin.isatty() and sys.stdout.isatty()
    with node.control() as control, _signals() as signals:
        if wants_tty:
            rows, columns = _size()
            size = {"rows": rows, "columns": columns}
            number = control.send("exec", argv=list(argv), tty=size, **options)
        else:
            sys.stdout.flush()
            number = control.send("exec", (0, 1, 2), argv=list(argv), **options)
        return _follow(control, number, signals, has_tty=wants_tty)


def _follow(control: Control, number: int, signals: int, *, has_tty: bool) -> int:
    from hostlab.init.client import result

    pid = master = -1
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        poll.register(control.socket, select.POLLIN)
        poll.register(signals, select.POLLIN)
        while True:
            while control.has_answer or _wait(poll, control, signals, pid, master):
                answer = control.receive()
                if answer.get("id") != number:
                    continue
                if not answer.get("more"):
                    ended = result(answer)
                    if master >= 0:
                        _relay(master, 1)
                    return int(ended["status"])
                pid = answer["pid"]
                if has_tty:
                    (master,) = control.take(1)
                    stack.callback(os.close, master)
                    stack.enter_context(_raw_terminal())
                    os.set_blocking(master, False)
                    poll.register(master, select.POLLIN)
                    poll.register(0, select.POLLIN)


def _wait(poll: select.poll, control: Control, signals: int, pid: int, master: int) -> bool:
    """Serve terminal and signals until an answer comes; True when one is there to read."""
    while True:
        for fd, _ in poll.poll():
            if fd == control.socket.fileno():
                return True
            if fd == signals:
                for byte in os.read(signals, 64):
                    if byte == signal.SIGWINCH:
                        _resize(master)
                    elif pid < 0:
                        # Nothing has begun that could be told: its init stands still, or is busy.
                        sys.exit(128 + byte)
                    else:
                        control.send("signal", pid=pid, signal=byte)
            elif fd == 0:
                data = os.read(0, RELAY_BYTES)
                if data:
                    _write_all(master, data)
                else:
                    poll.unregister(0)
            elif not _relay(master, 1):
                poll.unregister(master)


def _relay(source: int, target: int) -> bool:
    """Move what is there; False when the source has ended (EIO: the terminal's last user left)."""
    while True:
        try:
            data = os.read(source, RELAY_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        _write_all(target, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select((), (fd,), ())


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Signals as bytes on a pipe, so that one poll waits for everything."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    wanted = (*FORWARDED, signal.SIGWINCH)
    handlers = [signal.signal(number, lambda *_: None) for number in wanted]
    try:
        yield reader
    finally:
        for number, handler in zip(wanted, handlers, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """The caller's terminal passes every key on, until the end."""
    if not sys.stdin.isatty():
        yield
        return
    saved = termios.tcgetattr(0)
    terminal_modes.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _size() -> tuple[int, int]:
    try:
        packed = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 24, 80
    rows, columns = struct.unpack("HHHH", packed)[:2]
    return rows or 24, columns or 80


def _resize(master: int) -> None:
    if master >= 0:
        rows, columns = _size()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
