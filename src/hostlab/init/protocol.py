"""How an init is spoken to: JSON lines on a Unix stream socket, descriptors beside them.

Every message is one line. Descriptors travel with the first byte of the line that names them
(unix(7), SCM_RIGHTS), so a receiver that reads lines in order knows whose they are. A peer is who
the kernel says it is (SO_PEERCRED); whoever may open the socket owns the init.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError
from hostlab.linux.scm_rights import MAX_DESCRIPTORS, receive

MAX_LINE_BYTES: Final = 64 << 20
"""A description of some ten thousand nodes."""
MAX_UNTAKEN: Final = 4 * MAX_DESCRIPTORS
"""Descriptors that have come and whose message has not."""
RECEIVE_BYTES: Final = 1 << 18

BACKLOG: Final = 128
LOGS: Final = "log"
"""In an init's directory: the directory of its jobs' logs."""
CONTROL: Final = "control.sock"
"""In an init's directory: its control socket."""
OWN_LOG: Final = "init.log"
"""In an init's directory: what init itself has to say."""

HUNG_UP: Final = "hung-up"
"""Code of a Problem: who was to do it died over it. The same command can be given again."""

Message = dict[str, Any]

_encoder = msgspec.json.Encoder()
_decoder = typed.decoder(Message)


def encode(message: Any) -> bytes:
    """One message as a line."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line; DecodeError for anything but a JSON object."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError("protocol", f"not a message: {error}") from None


def send(sock: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send one message, whole, on a blocking socket."""
    data = memoryview(encode(message))
    sent = socket.send_fds(sock, [data], list(descriptors)) if descriptors else sock.send(data)
    if sent < len(data):
        sock.sendall(data[sent:])


class Receiver:
    """Bytes and descriptors in, messages out; no I/O of its own beside `receive`."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes, descriptors: Sequence[int] = ()) -> list[Message]:
        """The messages that are complete now; DecodeError when the peer breaks the protocol."""
        self._descriptors.extend(descriptors)
        if len(self._descriptors) > MAX_UNTAKEN:
            raise DecodeError("protocol", f"more than {MAX_UNTAKEN} descriptors nobody asked for")
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > self._max_line_bytes:
                text = f"a line of more than {self._max_line_bytes} bytes"
                raise DecodeError("protocol", text)
            return []
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        return [decode(bytes(line)) for line in lines]

    def receive(self, sock: socket.socket) -> list[Message] | None:
        """Read once; None at the end of the stream."""
        data, descriptors = receive(sock, RECEIVE_BYTES)
        if not data:
            return None
        return self.feed(data, descriptors)

    @property
    def unfinished(self) -> bytes:
        """What has come of a line that is not complete."""
        return bytes(self._buffer)

    @property
    def is_plain(self) -> bool:
        """Whether no descriptor waits to be taken."""
        return not self._descriptors

    def take(self, count: int) -> list[int]:
        """The next descriptors that arrived, now owned by the caller."""
        if len(self._descriptors) < count:
            raise DecodeError("protocol", f"{count} descriptors expected, fewer came")
        return [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end, as this user namespace numbers him."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("=iII", credentials)[1]
    return uid


def listen(directory: int, name: str) -> socket.socket:
    """A control socket in a directory; by descriptor, so that no path is too long (unix(7))."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    sock.bind(f"/proc/self/fd/{directory}/{name}")
    os.chmod(name, 0o600, dir_fd=directory)
    sock.listen(BACKLOG)
    return sock


def connect(directory: str, name: str) -> socket.socket:
    """Connect to a control socket; ConnectionRefusedError or FileNotFoundError when nobody is."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(fd)
    return sock
