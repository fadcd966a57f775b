"""One capture, from its socket in the node's network to the counts at its end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hostlab.errors import UsageError
from hostlab.observe.in_node import capture_socket_in, interfaces_in
from hostlab.observe.packet_filter import compile_filter
from hostlab.observe.pcapng import write_capture

if TYPE_CHECKING:
    import socket

    from hostlab.api import Node

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def capture(
    node: Node, interface: str | None, out: int, *, expression: str | None, count: int | None
) -> None:
    """Write what passes an interface to `out`; None is the first that is not the loopback."""
    if interface is None:
        names = interfaces_in(node.pid)
        interface = next((name for name in names if name != "lo"), "lo")
    program = compile_filter(expression) if expression else b""
    with _ending() as stop, _socket(node, interface, program) as sock:
        if sys.stderr.isatty():
            print(f"capturing on {node.name} {interface}; Ctrl-C ends it", file=sys.stderr)
        done = write_capture(
            sock, out, interface=interface, count=count, stop=stop, expression=expression
        )
    if done.reason == "gone":
        print(f"{interface} of {node.name} has gone", file=sys.stderr)
    packets = "packet" if done.packets == 1 else "packets"
    lost = f", {done.dropped} lost" if done.dropped else ""
    print(f"{done.packets} {packets} captured on {node.name} {interface}{lost}", file=sys.stderr)


def _socket(node: Node, interface: str, program: bytes) -> socket.socket:
    try:
        return capture_socket_in(node.pid, interface, program)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    hint = "its interfaces: " + ", ".join(interfaces_in(node.pid))
    raise UsageError("no-interface", f"node {node.name} has no interface {interface!r}", hint=hint)


@contextlib.contextmanager
def _ending() -> Iterator[int]:
    """A descriptor that becomes readable when the caller wants an end."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = [signal.signal(number, lambda *_: None) for number in _ENDING]
    try:
        yield reader
    finally:
        for number, handler in zip(_ENDING, handlers, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
