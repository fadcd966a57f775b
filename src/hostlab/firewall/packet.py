"""A packet that somebody asks about, as a value and as people write it.

    tcp 198.51.100.7:40000 -> 203.0.113.10:22 in eth0
    udp [2001:db8::7]:5353 → [2001:db8::1]:53 in wan0 established
    icmp 198.51.100.7 -> 203.0.113.10 in eth0 type echo-request
    tcp 10.0.0.1:40000 -> 192.0.2.1:443 out

`in IFACE` is where it arrives, with `out` the host itself sends it. The state is `new` where left
out; `established` and `related` belong to a connection that the kernel is told of first.

Behind that, in any order: `type NAME` or a number and `code N` of ICMP (where left out an echo
request, and destination-unreachable of what is related), `flags SA` of TCP (S where left out, A of
what is established), `uid N` of what the host sends, `length N` of the payload in bytes. A port may
be a name of /etc/services; a source port may be left out.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.errors import Place, SpecError


class Protocol(StrEnum):
    """What is above IP; `icmp` is ICMPv6 where the addresses are."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class State(StrEnum):
    """What conntrack is to think of the packet."""

    NEW = "new"
    ESTABLISHED = "established"
    RELATED = "related"
    INVALID = "invalid"


class Packet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One packet. Addresses are canonical; ports are 0 for ICMP."""

    protocol: Protocol
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    interface: str | None = None
    """Where it arrives; None: the host itself sends it."""
    state: State = State.NEW
    icmp_type: int = 8
    """Of an ICMP packet; 8 stands for an echo request in either family."""
    icmp_code: int = 0
    tcp_flags: str = "S"
    """Letters of FSRPAUEC, as tcpdump writes them."""
    payload_bytes: int = 0
    uid: int | None = None
    """Whose socket sends it, for rules about owners; only without `interface`."""


SOURCE_PORT: Final = 40000
"""Of a packet whose source port is left out."""
FLAGS: Final = "FSRPAUEC"
MAX_PAYLOAD_BYTES: Final = 65000
_MAX_UID: Final = (1 << 32) - 2
_PROTOCOLS: Final = {
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "icmp": Protocol.ICMP,
    "icmp6": Protocol.ICMP,
    "icmpv6": Protocol.ICMP,
    "ipv6-icmp": Protocol.ICMP,
}
ICMP_TYPES: Final = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
"""nft(8), ICMP TYPE."""
ICMPV6_TYPES: Final = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 8,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
}
"""nft(8), ICMPV6 TYPE; an echo request is 8 here in either family."""
_NEVER_INVALID: Final = {
    False: frozenset({8, 13, 15, 17}),
    True: frozenset({8, *range(130, 138), 139, 143}),
}
"""Types of ICMP, and of ICMPv6."""
_ARROWS: Final = ("->", "→")
_WORD: Final = re.compile(r"\S+")
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](?::(.*))?")
_EXAMPLE: Final = "tcp 198.51.100.7:40000 -> 203.0.113.10:22 in eth0"


def print_packet(packet: Packet) -> str:
    """As `parse_packet` reads it."""
    source = _endpoint(packet.protocol, packet.source, packet.source_port)
    destination = _endpoint(packet.protocol, packet.destination, packet.destination_port)
    words = [packet.protocol.value, source, "->", destination]
    words += ["in", packet.interface] if packet.interface is not None else ["out"]
    if packet.state is not State.NEW:
        words.append(packet.state.value)
    is_icmp = packet.protocol is Protocol.ICMP
    if is_icmp and packet.icmp_type != usual_type(packet.state, packet.source):
        names = {number: name for name, number in _icmp_types(packet.source).items()}
        words += ["type", names.get(packet.icmp_type, str(packet.icmp_type))]
    if packet.icmp_code:
        words += ["code", str(packet.icmp_code)]
    if packet.protocol is Protocol.TCP and packet.tcp_flags != _usual_flags(packet.state):
        words += ["flags", packet.tcp_flags or "none"]
    if packet.uid is not None:
        words += ["uid", str(packet.uid)]
    if packet.payload_bytes:
        words += ["length", str(packet.payload_bytes)]
    return " ".join(words)


def parse_packet(
    text: str, *, file: str = "<packet>", line: int = 1, column: int = 1, whole: str = ""
) -> Packet:
    """A packet as people write it; SpecError with its place.

    The text stands in `file` at this line and column, of the line `whole`.
    """
    return _Reader(text, Place(file, line, column, whole or text)).packet()


def _icmp_types(address: str) -> Mapping[str, int]:
    return ICMPV6_TYPES if ":" in address else ICMP_TYPES


def _usual_flags(state: State) -> str:
    return "A" if state is State.ESTABLISHED else "S"


def usual_type(state: State, address: str) -> int:
    """An ICMP packet is related to a connection only where it tells of an error with it."""
    name = "destination-unreachable" if state is State.RELATED else "echo-request"
    return _icmp_types(address)[name]


def is_never_invalid(packet: Packet) -> bool:
    """Whether it is asked for as invalid, and conntrack cannot find it so.

    Of ICMP that leaves it looks at nothing but the type: a request is a connection, and ICMPv6's
    discovery of neighbours and listeners is none of its concern (nf_conntrack_proto_icmpv6.c).
    """
    if packet.protocol is not Protocol.ICMP or packet.interface is not None:
        return False
    types = _NEVER_INVALID[":" in packet.source]
    return packet.state is State.INVALID and packet.icmp_type in types


def _endpoint(protocol: Protocol, address: str, port: int) -> str:
    if protocol is Protocol.ICMP:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class _Reader:
    """Goes through the words of a packet's text."""

    def __init__(self, text: str, place: Place) -> None:
        self._place = place
        self._words = [(found[0], found.start()) for found in _WORD.finditer(text)]
        self._end = len(text.rstrip())
        self._next = 0

    def packet(self) -> Packet:
        word, at = self._take("a protocol")
        protocol = _PROTOCOLS.get(word.lower())
        if protocol is None:
            self._wrong(at, f"no protocol {word!r}", "tcp, udp or icmp")
        source, source_port = self._end_of(protocol, default=SOURCE_PORT)
        word, at = self._take("->")
        if word not in _ARROWS:
            self._wrong(at, f"-> should stand here, not {word!r}", f"as in: {_EXAMPLE}")
        where = self._words[self._next][1] if self._next < len(self._words) else self._end
        destination, destination_port = self._end_of(protocol, default=None)
        if (":" in source) != (":" in destination):
            self._wrong(where, "one address is IPv4 and the other IPv6", "both of one family")
        found: dict[str, object] = {}
        for name, value, at in self._options(protocol, source):
            if name in found:
                self._wrong(at, f"{_SAID[name]} is said twice", "leave one out")
            found[name] = value
        if "interface" not in found:
            self._wrong(self._end, "where does it come from?", "`in IFACE`, or `out` of the host")
        if found.get("uid") is not None and found["interface"] is not None:
            self._wrong(self._end, "what arrives has no uid", "only what goes `out` has one")
        state = State(str(found.get("state", State.NEW)))
        if protocol is Protocol.TCP:
            found.setdefault("tcp_flags", _usual_flags(state))
        if protocol is Protocol.ICMP:
            found.setdefault("icmp_type", usual_type(state, source))
        packet = typed.convert(
            {
                "protocol": protocol,
                "source": source,
                "destination": destination,
                "source_port": source_port,
                "destination_port": destination_port,
                **found,
            },
            Packet,
        )
        if is_never_invalid(packet):
            message = "the kernel finds no request of ICMP invalid that the host itself sends"
            self._wrong(self._end, message, "another state, or `in IFACE`")
        return packet

    def _options(self, protocol: Protocol, source: str) -> Iterator[tuple[str, object, int]]:
        while self._next < len(self._words):
            word, at = self._take("")
            if word == "in":
                yield "interface", self._take("an interface")[0], at
            elif word == "out":
                yield "interface", None, at
            elif word in list(State):
                yield "state", State(word), at
            elif word == "type" and protocol is Protocol.ICMP:
                yield "icmp_type", self._icmp_type(source), at
            elif word == "code" and protocol is Protocol.ICMP:
                yield "icmp_code", self._number("a code", 255), at
            elif word == "flags" and protocol is Protocol.TCP:
                yield "tcp_flags", self._flags(), at
            elif word == "uid":
                yield "uid", self._number("a uid", _MAX_UID), at
            elif word == "length":
                yield "payload_bytes", self._number("a length", MAX_PAYLOAD_BYTES), at
            else:
                self._unknown(word, at, protocol)

    def _unknown(self, word: str, at: int, protocol: Protocol) -> NoReturn:
        if word in ("type", "code", "flags"):
            of = "TCP" if word == "flags" else "ICMP"
            self._wrong(at, f"{protocol} has no {word}", f"only {of} has")
        close = difflib.get_close_matches(word, [*_KEYWORDS, *State], 1)
        known = ", ".join([*_KEYWORDS, *State])
        self._wrong(
            at, f"{word!r} is not understood", f"did you mean {close[0]}?" if close else known
        )

    def _take(self, what: str) -> tuple[str, int]:
        if self._next == len(self._words):
            self._wrong(self._end, f"{what} is missing here", f"as in: {_EXAMPLE}")
        self._next += 1
        return self._words[self._next - 1]

    def _number(self, what: str, most: int) -> int:
        word, at = self._take(what)
        if not (word.isascii() and word.isdigit()) or int(word) > most:
            self._wrong(at, f"{word!r} is not {what}", f"a number from 0 to {most}")
        return int(word)

    def _icmp_type(self, source: str) -> int:
        word, at = self._take("a type")
        names = _icmp_types(source)
        if word in names:
            return names[word]
        if not (word.isascii() and word.isdigit()) or int(word) > 255:
            self._wrong(at, f"no ICMP type {word!r}", ", ".join(names))
        return int(word)

    def _flags(self) -> str:
        word, at = self._take("flags")
        if word == "none":
            return ""
        letters = word.upper()
        if set(letters) - set(FLAGS) or len(set(letters)) < len(letters):
            self._wrong(at, f"{word!r} are no flags", f"letters of {FLAGS}, or none")
        return "".join(letter for letter in FLAGS if letter in letters)

    def _end_of(self, protocol: Protocol, *, default: int | None) -> tuple[str, int]:
        """An address, and its port where there are ports."""
        word, at = self._take("an address")
        bracketed = _BRACKETED.fullmatch(word)
        if bracketed:
            address, port = bracketed[1], bracketed[2]
        elif word.count(":") == 1:
            address, port = word.split(":")
        else:
            address, port = word, None
        try:
            parsed = ip_address(address)
        except ValueError:
            self._wrong(at, f"{address!r} is no address", "198.51.100.7:40000, [2001:db8::7]:40000")
        if "%" in address:
            self._wrong(at, "an address has no zone here", "`in IFACE` says where it arrives")
        if protocol is Protocol.ICMP:
            if port is not None:
                self._wrong(at, "ICMP has no ports", f"write {parsed}")
            return str(parsed), 0
        if port is None and default is None:
            shown = f"[{parsed}]" if parsed.version == 6 else str(parsed)
            self._wrong(at, "a port is missing", f"{shown}:443")
        if port is None:
            assert default is not None
            return str(parsed), default
        return str(parsed), self._port(port, protocol, at + len(word) - len(port))

    def _port(self, port: str, protocol: Protocol, at: int) -> int:
        if port.isascii() and port.isdigit() and int(port) <= 0xFFFF:
            return int(port)
        try:
            return socket.getservbyname(port, protocol.value)
        except (OSError, UnicodeError):
            self._wrong(
                at, f"no port {port!r}", f"a number, or a name of {protocol} in /etc/services"
            )

    def _wrong(self, at: int, message: str, hint: str) -> NoReturn:
        place = msgspec.structs.replace(self._place, column=self._place.column + at)
        raise SpecError("packet", message, where=place, hint=hint)


_KEYWORDS: Final = ("in", "out", "type", "code", "flags", "uid", "length")
_SAID: Final = {
    "interface": "where it comes from",
    "state": "the state",
    "icmp_type": "the type",
    "icmp_code": "the code",
    "tcp_flags": "the flags",
    "uid": "the uid",
    "payload_bytes": "the length",
}
