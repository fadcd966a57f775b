"""Where rules split the space of packets: what each says of a packet, as sets of values; pure.

A rule is read as far as it speaks of addresses, ports, protocols, interfaces, states, types of
ICMP, TCP flags and owners. What else it says (rates, times, marks that are set elsewhere) is
named in `Demand.beyond`, so whoever samples packets can say what the samples do not cover.

A value of a dimension is a closed interval of numbers: addresses as integers, ports, types; words
(interfaces, states, protocols) are kept as they are.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec


class Dimension(StrEnum):
    """What a packet has, and a rule can ask for."""

    SOURCE = "source"
    DESTINATION = "destination"
    PROTOCOL = "protocol"
    SOURCE_PORT = "source port"
    DESTINATION_PORT = "destination port"
    ICMP_TYPE = "icmp type"
    IN = "interface in"
    OUT = "interface out"
    STATE = "state"
    FLAGS = "tcp flags"
    OWNER = "owner"


Interval = tuple[int, int]
Value = Interval | str


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule asks for; a dimension that is left out is not asked for."""

    wants: Mapping[Dimension, tuple[Value, ...]]
    """Any of these; of a negated match the values that it excludes stand in `unwanted`."""
    unwanted: Mapping[Dimension, tuple[Value, ...]]
    beyond: tuple[str, ...] = ()
    """Matches that are not of these dimensions, in their tool's words."""
    target: str = ""
    """The chain that it leads to, or the verdict, in its tool's words."""
    is_v6: bool | None = None
    """The family that its addresses or its table say; None: both."""


_PORTS: Final = re.compile(r"(\d+|[a-zA-Z][\w-]*)?(?:([:-])(\d+|[a-zA-Z][\w-]*)?)?")
_ICMP: Final = {
    "echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11,
    "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14, "any": 8,
}  # fmt: skip
_ICMP6: Final = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "router-solicitation": 133,
    "router-advertisement": 134, "neighbour-solicitation": 135, "neighbour-advertisement": 136,
    "neighbor-solicitation": 135, "neighbor-advertisement": 136, "nd-router-solicit": 133,
    "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136,
    "redirect": 137, "nd-redirect": 137,
}  # fmt: skip
_NUMBERS: Final = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmp", "ipv6-icmp": "icmp",
                   "icmpv6": "icmp", "icmp6": "icmp"}  # fmt: skip
_TARGETS: Final = ("-j", "-g")
_QUIET: Final = frozenset({"--comment", "--to-destination", "--to-source", "--to-ports", "--to",
                           "--reject-with", "--log-prefix", "--log-level", "--nflog-prefix",
                           "--nflog-group", "--set-mark", "--set-xmark", "--ulog-prefix",
                           "--clamp-mss-to-pmtu", "--set-mss", "--log-ip-options"})  # fmt: skip
_ALONE: Final = frozenset({"--clamp-mss-to-pmtu", "--log-ip-options"})
_SILENT_MATCHES: Final = frozenset({"tcp", "udp", "icmp", "icmp6", "multiport", "conntrack",
                                    "state", "comment", "iprange", "set", "owner"})  # fmt: skip
_OF_PORTS: Final = {
    "--dport": (Dimension.DESTINATION_PORT,), "--dports": (Dimension.DESTINATION_PORT,),
    "--sport": (Dimension.SOURCE_PORT,), "--sports": (Dimension.SOURCE_PORT,),
    "--ports": (Dimension.DESTINATION_PORT, Dimension.SOURCE_PORT),
}  # fmt: skip
_OF_ADDRESSES: Final = {"-s": Dimension.SOURCE, "-d": Dimension.DESTINATION,
                        "--src-range": Dimension.SOURCE,
                        "--dst-range": Dimension.DESTINATION}  # fmt: skip
_OF_INTERFACES: Final = {"-i": Dimension.IN, "-o": Dimension.OUT}

Sets = Mapping[str, Sequence[str]]
"""The elements of sets by their names."""


class _Reading:
    """What has been read of a rule so far."""

    def __init__(self, *, is_v6: bool | None) -> None:
        self.wants: dict[Dimension, list[Value]] = {}
        self.unwanted: dict[Dimension, list[Value]] = {}
        self.beyond: list[str] = []
        self.target = ""
        self.is_v6 = is_v6

    def add(self, dimension: Dimension, values: Iterable[Value], *, is_negated: bool) -> None:
        into = self.unwanted if is_negated else self.wants
        into.setdefault(dimension, []).extend(values)

    def addresses(self, dimension: Dimension, text: str, *, is_negated: bool) -> None:
        found = address_interval(text)
        if found is None:
            self.beyond.append(text)
            return
        interval, self.is_v6 = found
        self.add(dimension, [interval], is_negated=is_negated)

    def end(self) -> Demand:
        return Demand(
            wants={name: tuple(values) for name, values in self.wants.items()},
            unwanted={name: tuple(values) for name, values in self.unwanted.items()},
            beyond=tuple(dict.fromkeys(self.beyond)),
            target=self.target,
            is_v6=self.is_v6,
        )


def demand_of_saved(words: Sequence[str], *, is_v6: bool, sets: Sets) -> Demand:
    """What a rule of iptables-save asks for."""
    reading = _Reading(is_v6=is_v6)
    left = list(words)
    is_negated = False
    while left:
        word = left.pop(0)
        if word == "!":
            is_negated = True
            continue
        _saved_option(reading, word, left, is_negated=is_negated, sets=sets)
        is_negated = False
    return reading.end()


def _saved_option(
    reading: _Reading, word: str, left: list[str], *, is_negated: bool, sets: Sets
) -> None:
    if word in _ALONE:
        return
    value = left.pop(0) if left and (not left[0].startswith("-") or word in _QUIET) else ""
    if word in _OF_ADDRESSES:
        reading.addresses(_OF_ADDRESSES[word], value, is_negated=is_negated)
    elif word in _OF_INTERFACES:
        reading.add(_OF_INTERFACES[word], [value], is_negated=is_negated)
    elif word in _OF_PORTS:
        for dimension in _OF_PORTS[word]:
            reading.add(dimension, port_intervals(value), is_negated=is_negated)
    elif word == "-p":
        reading.add(Dimension.PROTOCOL, [protocol_name(value)], is_negated=is_negated)
    elif word in ("--ctstate", "--state"):
        states = [state.lower() for state in value.split(",")]
        reading.add(Dimension.STATE, states, is_negated=is_negated)
    elif word in ("--icmp-type", "--icmpv6-type"):
        number = icmp_type(value, is_v6=word == "--icmpv6-type")
        reading.add(Dimension.ICMP_TYPE, [(number, number)], is_negated=is_negated)
    elif word == "--tcp-flags":
        flags = left.pop(0) if left else ""
        reading.add(Dimension.FLAGS, [f"{value} {flags}"], is_negated=is_negated)
    elif word == "--uid-owner" and value.isdecimal():
        reading.add(Dimension.OWNER, [(int(value), int(value))], is_negated=is_negated)
    elif word == "--match-set":
        directions = (left.pop(0) if left and not left[0].startswith("-") else "").split(",")
        _saved_set(reading, sets.get(value, ()), directions, is_negated=is_negated)
    elif word in _TARGETS:
        reading.target = value
    elif word == "-m":
        if value not in _SILENT_MATCHES:
            reading.beyond.append(value)
    elif word not in _QUIET:
        # Options of a match that was named above already, or of a target.
        return


def _saved_set(
    reading: _Reading, elements: Sequence[str], directions: Sequence[str], *, is_negated: bool
) -> None:
    """The parts of each element: `10.0.0.0/8`, `10.0.0.1,tcp:80`."""
    for element in elements:
        parts = element.split(" ")[0].split(",")
        for part, direction in zip(parts, directions, strict=False):
            is_source = direction == "src"
            if address_interval(part) is not None:
                dimension = Dimension.SOURCE if is_source else Dimension.DESTINATION
                reading.addresses(dimension, part, is_negated=is_negated)
                continue
            protocol, _, ports = part.rpartition(":")
            if protocol:
                reading.add(Dimension.PROTOCOL, [protocol_name(protocol)], is_negated=False)
            dimension = Dimension.SOURCE_PORT if is_source else Dimension.DESTINATION_PORT
            reading.add(dimension, port_intervals(ports), is_negated=is_negated)


def address_interval(text: str) -> tuple[Interval, bool] | None:
    """An address, a prefix or a range as numbers, and whether it is IPv6; None for none."""
    try:
        if "-" in text:
            first, last = (ip_address(part) for part in text.split("-", 1))
            return (int(first), int(last)), first.version == 6
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return (int(network.network_address), int(network.broadcast_address)), network.version == 6


def port_intervals(text: str) -> list[Value]:
    """`22`, `80:90`, `1024:`, `ssh,http`; what is no port is left out."""
    found: list[Value] = []
    for part in text.split(","):
        match = _PORTS.fullmatch(part.strip())
        if match is None:
            continue
        first = 0 if match[1] is None else _port(match[1])
        last = first if match[2] is None else 65535 if match[3] is None else _port(match[3])
        if first is not None and last is not None:
            found.append((first, last))
    return found


def _port(text: str) -> int | None:
    if text.isdecimal():
        return int(text)
    for protocol in ("tcp", "udp"):
        try:
            return socket.getservbyname(text, protocol)
        except OSError:
            continue
    return None


def protocol_name(text: str) -> str:
    """tcp, udp, icmp for either family, or what else it is."""
    return _NUMBERS.get(text.lower(), text.lower())


def icmp_type(text: str, *, is_v6: bool) -> int:
    """The number of a type; a code behind it is left out. Echo requests for what is unknown."""
    name = text.split("/")[0]
    table = _ICMP6 if is_v6 else _ICMP
    return int(name) if name.isdecimal() else table.get(name, table["echo-request"])


_TOKEN: Final = re.compile(r'"[^"]*"|\{|\}|,|!=|[^\s{},"]+')
_NFT_ADDRESS: Final = {
    ("ip", "saddr"): (Dimension.SOURCE, False), ("ip", "daddr"): (Dimension.DESTINATION, False),
    ("ip6", "saddr"): (Dimension.SOURCE, True), ("ip6", "daddr"): (Dimension.DESTINATION, True),
}  # fmt: skip
_NFT_TRANSPORT: Final = frozenset({"tcp", "udp", "th"})
_NFT_NAMES: Final = {"iifname": Dimension.IN, "iif": Dimension.IN, "oifname": Dimension.OUT,
                     "oif": Dimension.OUT}  # fmt: skip
_NFT_BEYOND: Final = frozenset({"limit", "quota", "numgen", "jhash", "fib", "socket", "rt", "time",
                                "hour", "day", "cgroup", "cgroupv2", "mark", "length", "dscp",
                                "ttl", "hoplimit", "connlimit", "count", "update",
                                "random"})  # fmt: skip
_VERDICTS: Final = frozenset({"accept", "drop", "reject", "return", "continue", "masquerade",
                              "redirect", "dnat", "snat"})  # fmt: skip


def demand_of_nft(rule: str, *, family: str, sets: Sets) -> Demand:
    """What a rule of nft's listing asks for."""
    reading = _Reading(is_v6={"ip": False, "ip6": True}.get(family))
    tokens = _TOKEN.findall(rule)
    at = 0
    while at < len(tokens):
        at = _nft_match(reading, tokens, at, sets)
    return reading.end()


def _nft_match(reading: _Reading, tokens: Sequence[str], at: int, sets: Sets) -> int:
    """Read what begins at a token; where the next begins."""
    word, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
    if (word, following) in _NFT_ADDRESS:
        dimension, is_v6 = _NFT_ADDRESS[word, following]
        reading.is_v6 = is_v6
        values, is_negated, end = _nft_values(tokens, at + 2, sets)
        for value in values:
            reading.addresses(dimension, value, is_negated=is_negated)
        return end
    if word in _NFT_TRANSPORT and following in ("sport", "dport"):
        if word != "th":
            reading.add(Dimension.PROTOCOL, [word], is_negated=False)
        port = Dimension.SOURCE_PORT if following == "sport" else Dimension.DESTINATION_PORT
        values, is_negated, end = _nft_values(tokens, at + 2, sets)
        found = [each for value in values for each in port_intervals(value)]
        reading.add(port, found, is_negated=is_negated)
        return end
    if word == "tcp" and following == "flags":
        values, is_negated, end = _nft_values(tokens, at + 2, sets)
        reading.add(Dimension.FLAGS, values, is_negated=is_negated)
        return end
    if word in ("icmp", "icmpv6") and following == "type":
        values, is_negated, end = _nft_values(tokens, at + 2, sets)
        reading.is_v6 = word == "icmpv6"
        numbers = [icmp_type(value, is_v6=reading.is_v6) for value in values]
        reading.add(Dimension.PROTOCOL, ["icmp"], is_negated=False)
        reading.add(Dimension.ICMP_TYPE, [(n, n) for n in numbers], is_negated=is_negated)
        return end
    return _nft_word(reading, tokens, at, sets)


def _nft_word(reading: _Reading, tokens: Sequence[str], at: int, sets: Sets) -> int:
    word, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
    if word in _NFT_NAMES:
        values, is_negated, end = _nft_values(tokens, at + 1, sets)
        names = [value.strip('"') for value in values]
        reading.add(_NFT_NAMES[word], names, is_negated=is_negated)
        return end
    if (word, following) in (("ct", "state"), ("ip", "protocol"), ("meta", "l4proto"),
                             ("ip6", "nexthdr"), ("meta", "skuid")):  # fmt: skip
        values, is_negated, end = _nft_values(tokens, at + 2, sets)
        if following == "state":
            reading.add(Dimension.STATE, values, is_negated=is_negated)
        elif following == "skuid":
            owners = [(int(value), int(value)) for value in values if value.isdecimal()]
            reading.add(Dimension.OWNER, owners, is_negated=is_negated)
        else:
            names = [protocol_name(value) for value in values]
            reading.add(Dimension.PROTOCOL, names, is_negated=is_negated)
        return end
    if word in ("jump", "goto"):
        reading.target = following
        return at + 2
    if word in _VERDICTS:
        reading.target = reading.target or word
        return len(tokens) if word in ("dnat", "snat", "redirect", "masquerade") else at + 1
    if word in ("comment", "prefix", "log"):
        return at + 2 if word != "log" else at + 1
    if word in _NFT_BEYOND:
        reading.beyond.append(word)
    return at + 1


def _nft_values(tokens: Sequence[str], at: int, sets: Sets) -> tuple[tuple[str, ...], bool, int]:
    """The values behind a match: one, `{ … }`, `@set`, `a,b`; negated or not; where they end."""
    is_negated = at < len(tokens) and tokens[at] == "!="
    at += is_negated
    if at >= len(tokens):
        return (), is_negated, at
    if tokens[at] == "vmap":
        at += 1
    if tokens[at] == "{":
        end = at
        while end < len(tokens) and tokens[end] != "}":
            end += 1
        inside = [token for token in tokens[at + 1 : end] if token != ","]
        return tuple(_keys(inside)), is_negated, end + 1
    if tokens[at].startswith("@"):
        elements = sets.get(tokens[at][1:], ())
        return tuple(part for each in elements for part in _keys(each.split())), is_negated, at + 1
    values = [tokens[at]]
    while at + 2 < len(tokens) and tokens[at + 1] == ",":
        at += 2
        values.append(tokens[at])
    return tuple(values), is_negated, at + 1


def _keys(tokens: Sequence[str]) -> Iterator[str]:
    """Without what an element leads to (`: accept`) and what is said of it (`timeout 5m`)."""
    skip = 0
    for number, token in enumerate(tokens):
        if skip:
            skip -= 1
        elif token in (":", "timeout", "expires", "comment"):
            is_jump = tokens[number + 1 : number + 2] in (["jump"], ["goto"])
            skip = 2 if is_jump else 1
        elif token != "." and token != "counter":
            yield token.rstrip(":")
