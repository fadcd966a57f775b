"""Netlink framing: requests sent in one batch, answers told apart, errors with the kernel's words.

Several requests travel in one datagram and are carried out in order. Only the last asks for an
acknowledgement; an earlier one that fails answers anyway (RFC 3549; netlink(7)). The kernel's
extended acknowledgement supplies the text of an error where it has one.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple

from hostlab.errors import DecodeError

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1
_SOL_NETLINK: Final = 270
_NETLINK_EXT_ACK: Final = 11
_NETLINK_CAP_ACK: Final = 10

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_ACKNOWLEDGED: Final = struct.Struct("=IIi")
"""Of an answer: the sequence number, the port, the error."""
_TYPE_MASK: Final = 0x3FFF
RECEIVE_BYTES: Final = 1 << 17
PACKED: Final = 0
"""The sequence number of all packed messages: they ask for no answer, an error is one."""
BATCH_BYTES: Final = 1 << 15
"""Requests of one datagram: well below a socket's default send buffer (212,992 bytes)."""


class Request(NamedTuple):
    """One message: its type, its flags beside NLM_F_REQUEST, its body, and what it does."""

    type: int
    flags: int
    body: bytes
    what: str


_NO_OPERATION: Final = Request(NLMSG_NOOP, 0, b"", "no operation")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding; nested ones are given as their concatenation."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Every (type, value) of a run of attributes; DecodeError on a length that cannot be."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError("netlink", f"attribute of {length} bytes at {offset} of {end}")
        yield kind & _TYPE_MASK, bytes(data[offset + 4 : offset + length])
        offset += length + (-length & 3)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Every (type, flags, sequence, body) of a datagram."""
    offset, end = 0, len(data)
    while offset + _HEADER.size <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > end:
            raise DecodeError("netlink", f"message of {length} bytes at {offset} of {end}")
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += length + (-length & 3)


def pack(requests: Iterable[Request]) -> bytes:
    """Requests that several sockets are to send, as bytes made once: `Netlink.request_packed`."""
    parts: list[bytes] = []
    for kind, flags, body, _ in requests:
        length = _HEADER.size + len(body)
        parts += (_HEADER.pack(length, kind, flags | NLM_F_REQUEST, PACKED, 0), body)
        parts.append(bytes(-length & 3))
    return b"".join(parts)


class Batch(NamedTuple):
    """Requests of one datagram, put together by one process and sent by another."""

    data: bytes
    last: int
    """The sequence number that is acknowledged."""


def batch(requests: Sequence[Request], packed: bytes = b"") -> Batch | None:
    """These requests, then what `pack` made; None for more than a datagram of BATCH_BYTES."""
    parts: list[bytes] = []
    for number, (kind, flags, body, _) in enumerate(requests, 1):
        length = _HEADER.size + len(body)
        parts += (_HEADER.pack(length, kind, flags | NLM_F_REQUEST, number, 0), body)
        parts.append(bytes(-length & 3))
    last = len(requests) + 1
    # The kernel acknowledges what it has nothing to do for, too (netlink_rcv_skb).
    end = _HEADER.pack(_HEADER.size, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, last, 0)
    data = b"".join((*parts, packed, end))
    return Batch(data, last) if len(data) <= BATCH_BYTES else None


class Netlink:
    """A socket of one netlink protocol in the network namespace where it is made."""

    def __init__(
        self, protocol: int = socket.NETLINK_ROUTE, *, adopted: socket.socket | None = None
    ) -> None:
        """`adopted` is a Netlink's `socket`, made elsewhere and now this one's."""
        self._sequence = 0
        if adopted is not None:
            self.socket = adopted
            return
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self.socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self.socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self.socket.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def request(self, requests: Sequence[Request]) -> None:
        """Carry out requests in order; OSError names the first that failed.

        Those after a failed one have been tried too: the kernel does not stop at an error.
        """
        start, size = 0, 0
        for index, request in enumerate(requests):
            size += _HEADER.size + len(request.body)
            if size > BATCH_BYTES:
                self._batch(requests[start : index + 1])
                start, size = index + 1, 0
        if start < len(requests):
            self._batch(requests[start:])

    def request_packed(self, packed: bytes) -> None:
        """Carry out what `pack` made; OSError when any of it failed, which is not said."""
        # The kernel acknowledges what it has nothing to do for, too (netlink_rcv_skb).
        self._batch([_NO_OPERATION], packed)

    def request_batch(self, made: Batch, requests: Callable[[], Sequence[Request]]) -> None:
        """Carry out a batch; `requests` gives its requests again, to name the one that failed."""
        self.socket.send(made.data)
        answer = self.socket.recv(RECEIVE_BYTES)
        if answer[8:20] == _ACKNOWLEDGED.pack(made.last, self.socket.getsockname()[0], 0):
            return
        self._sequence = made.last
        self._hear(1, [*requests(), _NO_OPERATION], answer)

    def try_each(self, requests: Iterable[Request], *, unless: Container[int]) -> None:
        """Carry out requests one by one; these errnos mean that a request was not needed."""
        for request in requests:
            try:
                self._batch([request])
            except OSError as error:
                if error.errno not in unless:
                    raise

    def _batch(self, requests: Sequence[Request], packed: bytes = b"") -> None:
        first = self._sequence + 1
        parts = [packed]
        for index, (kind, flags, body, _) in enumerate(requests):
            last = NLM_F_ACK if index == len(requests) - 1 else 0
            length = _HEADER.size + len(body)
            flags |= NLM_F_REQUEST | last
            parts.append(_HEADER.pack(length, kind, flags, first + index, 0))
            parts.append(body)
            parts.append(bytes(-length & 3))
        self._sequence = first + len(requests) - 1
        self.socket.send(b"".join(parts))
        self._hear(first, requests, self.socket.recv(RECEIVE_BYTES))

    def _hear(self, first: int, requests: Sequence[Request], data: bytes) -> None:
        """Take the answers up to the last request's; OSError for the first that failed."""
        error: OSError | None = None
        while True:
            for kind, flags, sequence, body in messages(data):
                if kind != NLMSG_ERROR or PACKED < sequence < first:
                    continue
                packed_one = sequence == PACKED
                what = "a packed request" if packed_one else requests[sequence - first].what
                failed = _failure(body, flags, what)
                error = error or failed
                if sequence == self._sequence:
                    if error is not None:
                        raise error
                    return
            data = self.socket.recv(RECEIVE_BYTES)

    def dump(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Every (type, body) of a dump; OSError when it fails, at its start or on the way."""
        self._sequence += 1
        flags = request.flags | NLM_F_REQUEST | NLM_F_DUMP
        length = _HEADER.size + len(request.body)
        self.socket.send(
            _HEADER.pack(length, request.type, flags, self._sequence, 0) + request.body
        )
        while True:
            for kind, reply_flags, sequence, body in messages(self.socket.recv(RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    # A dump that fails half-way, or has no handler, says so here (af_netlink.c).
                    number = -_ERROR.unpack_from(body)[0] if len(body) >= 4 else 0
                    if number:
                        raise OSError(number, f"{request.what}: {os.strerror(number)}")
                    return
                if kind == NLMSG_ERROR:
                    failed = _failure(body, reply_flags, request.what)
                    if failed is not None:
                        raise failed
                    return
                yield kind, body

    def ask(self, request: Request) -> Iterator[bytes]:
        """The body of each answer to a request that is no dump; OSError when it fails."""
        self._sequence += 1
        flags = request.flags | NLM_F_REQUEST | NLM_F_ACK
        length = _HEADER.size + len(request.body)
        self.socket.send(
            _HEADER.pack(length, request.type, flags, self._sequence, 0) + request.body
        )
        while True:
            for kind, reply_flags, sequence, body in messages(self.socket.recv(RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if kind != NLMSG_ERROR:
                    yield body
                    continue
                failed = _failure(body, reply_flags, request.what)
                if failed is not None:
                    raise failed
                return


def _failure(body: bytes, flags: int, what: str) -> OSError | None:
    if len(body) < 20:
        raise DecodeError("netlink", f"error message of {len(body)} bytes")
    (number,) = _ERROR.unpack_from(body)
    if number == 0:
        return None
    text = os.strerror(-number)
    if flags & NLM_F_ACK_TLVS:
        for kind, value in attributes(body[20:]):
            if kind == _NLMSGERR_ATTR_MSG:
                text = f"{text} ({value.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(-number, f"{what}: {text}")
