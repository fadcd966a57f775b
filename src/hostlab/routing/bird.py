"""BIRD's control socket: commands and their answers, and what BIRD logs meanwhile.

A reply's lines begin with a code of four digits and a hyphen, or with a blank when they have the
code of the line before; its last line has a blank behind the code. Lines of the log that one has
asked for (`echo all`) begin with a plus and may stand anywhere (BIRD's doc/reply_codes and
nest/cli.c).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.errors import Failed
from hostlab.routing.expected import Adjacency
from hostlab.routing.sessions import ANSWER_S, Gone, Neighbour, Sessions, with_interface
from hostlab.spec.routing import RawUse, Routing

_LAST: Final = re.compile(rb"[0-9]{4} ")
_ERRORS: Final = ("8", "9")
"""The first digit of codes of errors."""
_MAX_BYTES: Final = 1 << 26
"""Of one answer."""


class BirdSocket:
    """A connection to a BIRD."""

    def __init__(self, sock: socket.socket, *, answer_s: float = ANSWER_S) -> None:
        self.socket = sock
        self.answer_s = answer_s
        self.socket.settimeout(answer_s)
        self._buffer = b""
        self._was_told = False
        self._reply()

    @property
    def has_told(self) -> bool:
        """Whether lines of the log came among answers, or behind them, since this was asked last:
        the socket has nothing more to read, and answers before them may be out of date.
        """
        told = self._was_told or self._buffer.startswith(b"+")
        self._was_told = False
        return told

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def ask(self, command: str) -> list[str]:
        """The lines of the answer, without their codes; Failed with BIRD's words for an error."""
        self.socket.settimeout(self.answer_s)
        try:
            self.socket.sendall(command.encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            raise _gone() from None
        return self._reply()

    def hear(self) -> bool:
        """Take in what BIRD has said since; False when it has hung up."""
        self.socket.settimeout(0)
        return self._take_in()

    def _take_in(self) -> bool:
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                # Whole lines of the log are of no further use.
                self._buffer = self._buffer.rpartition(b"\n")[2]
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self._buffer += data

    def _reply(self) -> list[str]:
        lines: list[str] = []
        size = 0
        for line in self._lines():
            size += len(line)
            if line.startswith(b"+"):
                self._was_told = True
                continue
            text = line.decode(errors="replace")
            if _LAST.match(line):
                if text.startswith(_ERRORS):
                    raise Failed("bird", f"BIRD says: {text[5:]}")
                if text[5:]:
                    lines.append(text[5:])
                return lines
            lines.append(text[1:] if text.startswith(" ") else text[5:])
            if size > _MAX_BYTES:
                raise Failed("bird", f"BIRD answers with more than {_MAX_BYTES} bytes")
        raise AssertionError("lines end with an exception")

    def _lines(self) -> Iterator[bytes]:
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                yield line
                continue
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                raise Failed("bird", f"BIRD has not answered in {self.answer_s:.3g} s") from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise _gone()
            self._buffer += data


def _gone() -> Gone:
    return Gone("bird", "BIRD has hung up", hint="`hostlab job log bird` may tell why")


class Bird:
    """A node's BIRD (sessions.Daemons)."""

    def __init__(
        self, routing: Routing, sock: socket.socket, *, answer_s: float = ANSWER_S
    ) -> None:
        self._bird = BirdSocket(sock, answer_s=answer_s)
        self._bird.ask("echo all")
        # Of a configuration of the user's own nothing is expected, nor are names known.
        is_ours = routing.raw_use is not RawUse.REPLACE
        ospf = routing.ospf if is_ours else None
        versions = ospf.versions if ospf is not None else ()
        self._families = tuple(4 if version == 2 else 6 for version in versions)
        # BIRD has an error for a pattern that matches no protocol.
        self._has_bgp = is_ours and routing.bgp is not None and bool(routing.bgp.peers)
        self._has_bfd = is_ours and routing.bfd is not None

    def filenos(self) -> tuple[int, ...]:
        return (self._bird.socket.fileno(),)

    def hear(self) -> bool:
        return self._bird.hear()

    def has_told(self) -> bool:
        return self._bird.has_told

    def close(self) -> None:
        self._bird.close()

    def sessions(self, *, answer_s: float = ANSWER_S) -> Sessions:
        self._bird.answer_s = answer_s
        found = Sessions()
        for family in self._families:
            lines = self._bird.ask(f"show ospf neighbors ospf{family}")
            for interface, neighbour in neighbours(lines):
                where = Adjacency(family, interface)
                found.neighbours.setdefault(where, {})[neighbour.router_id] = neighbour
        if self._has_bgp:
            told = self._bird.ask('show protocols all "bgp?_*"')
            found.peers = {peer.address: peer.state for peer in peers(told)}
        if self._has_bfd:
            found.bfd = dict(_bfd(self._bird.ask("show bfd sessions")))
        return found


def _bfd(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        words = line.split()
        # IP address, interface, state, since, interval, timeout
        if len(words) == 6 and words[0].count(":" if ":" in words[0] else ".") > 1:
            yield with_interface(words[0], words[1]), words[2].lower()


def neighbours(lines: list[str]) -> Iterator[tuple[str, Neighbour]]:
    """Interface and neighbour of each line of `show ospf neighbors`."""
    for line in lines:
        words = line.split()
        # Router ID, priority, state, time left, interface, address
        if len(words) == 6 and words[0].count(".") == 3:
            state = words[2].partition("/")[0]
            yield words[4], Neighbour(words[0], words[2], state == "Full", state == "2-Way")


class Peer(NamedTuple):
    """The other end of a session of BGP."""

    protocol: str
    """BIRD's name of the session."""
    address: str
    state: str
    """In BGP's words (RFC 4271): Established, Active, …; what has been ended for good is Down."""


def peers(lines: list[str]) -> Iterator[Peer]:
    """The sessions of `show protocols all`; no other protocol has a neighbour's address."""
    protocol = state = ""
    for line in lines:
        if line and not line[0].isspace():
            protocol = line.split()[0]
            continue
        key, _, value = line.strip().partition(":")
        if key == "BGP state":
            state = value.strip()
        elif key == "Neighbor address":
            yield Peer(protocol, value.strip().partition("%")[0], state)
