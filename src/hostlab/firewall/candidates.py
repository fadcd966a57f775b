"""Packets that a rule is likely to have something to do with, read off its text; pure.

Only what is said plainly is read: addresses, ports, protocols, interfaces, states. Whether a packet
tells two rulesets apart is found out by sending it, so a guess that is wrong costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from itertools import pairwise
from typing import Final

from hostlab.firewall.mutants import RuleKey, Written
from hostlab.firewall.packet import Packet, Protocol, State, usual_type
from hostlab.firewall.target import Target

Said = Mapping[str, str]
"""What a rule demands: source, destination, protocol, sport, dport, in, out, state."""

MAX_DEPTH: Final = 4
"""Of chains that lead to a rule's."""
MAX_WAYS: Final = 8
"""Of combinations of them that are tried."""
_WORLD: Final = {4: "198.51.100.7", 6: "2001:db8:ffff::7"}
_BEHIND: Final = {4: "192.0.2.9", 6: "2001:db8:eeee::9"}
"""Where a packet comes from and goes to if the rules do not say: documentation's (RFC 5737)."""
_STRANGER: Final = {4: "192.0.2.77", 6: "2001:db8:dddd::77"}
"""Somebody whom no rule has named."""
LOOPBACK: Final = "lo"
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
_IPTABLES: Final = {
    "source": re.compile(r"(?<!! )-s (\S+)"),
    "destination": re.compile(r"(?<!! )-d (\S+)"),
    "protocol": re.compile(r"(?<!! )-p (\S+)"),
    "sport": re.compile(r"(?<!! )--sports? (\d+)"),
    "dport": re.compile(r"(?<!! )--dports? (\d+)"),
    "in": re.compile(r"(?<!! )-i (\S+)"),
    "out": re.compile(r"(?<!! )-o (\S+)"),
    "state": re.compile(r"--(?:ct)?state (\S+)"),
    "icmp": re.compile(r"--icmp(?:v6)?-type (\d+)"),
}
_NFT: Final = {
    "source": re.compile(r"\bip6? saddr \{?\s?([\da-fA-F.:]+(?:/\d+)?)"),
    "destination": re.compile(r"\bip6? daddr \{?\s?([\da-fA-F.:]+(?:/\d+)?)"),
    "protocol": re.compile(r"\b(?:l4proto|protocol|nexthdr) (\w+)|\b(tcp|udp) [sd]port"),
    "sport": re.compile(r"\bsport \{?\s?(\d+)"),
    "dport": re.compile(r"\bdport \{?\s?(\d+)"),
    "in": re.compile(r'\biif(?:name)? "?([^"\s{]+)"?'),
    "out": re.compile(r'\boif(?:name)? "?([^"\s{]+)"?'),
    "state": re.compile(r"\bct state (\S+)"),
}
_JUMP: Final = re.compile(r"(?:^| )-[jg] (\S+)|\b(?:jump|goto) (\S+)")
_STATES: Final = tuple(State)


def candidates(rules: Sequence[Written], target: Target) -> dict[RuleKey, tuple[Packet, ...]]:
    """For each rule packets that may come to it."""
    callers: dict[tuple[str, ...], list[Written]] = {}
    for rule in rules:
        for jump in _JUMP.finditer(rule.text):
            callers.setdefault((*rule.key[:2], jump[1] or jump[2]), []).append(rule)
    found = {rule.key: tuple(_packets(rule, callers, target)) for rule in rules}
    for rule, following in pairwise(rules):
        if rule.key[:3] == following.key[:3]:
            # Whether their order matters is told by a packet that both are meant for.
            both = rule._replace(text=f"{rule.text} {following.text}")
            found[rule.key] += (*found[following.key], *_packets(both, callers, target))
    return {key: tuple(dict.fromkeys(packets)) for key, packets in found.items()}


def _said(rule: Written) -> dict[str, str]:
    patterns = _NFT if rule.field == "nft" else _IPTABLES
    said = {}
    for name, pattern in patterns.items():
        if found := pattern.search(rule.text):
            said[name] = next(group for group in found.groups() if group)
    return said


def _ways(
    rule: Written, callers: Mapping[tuple[str, ...], list[Written]], depth: int = 0
) -> Iterator[tuple[Said, str]]:
    """What the rule and those that lead to it demand, and the chain where that begins."""
    mine = _said(rule)
    calling = callers.get(tuple(rule.key[:3]), [])
    if not calling or depth >= MAX_DEPTH:
        yield mine, rule.key.chain.lower()
        return
    for each in calling[:MAX_WAYS]:
        for said, chain in _ways(each, callers, depth + 1):
            yield {**said, **mine}, chain


def _packets(
    rule: Written, callers: Mapping[tuple[str, ...], list[Written]], target: Target
) -> Iterator[Packet]:
    for number, (said, chain) in enumerate(_ways(rule, callers)):
        if number >= MAX_WAYS:
            return
        for version in _versions(rule.key.family, said):
            yield from _filled(said, chain, version, target)


def _versions(family: str, said: Said) -> tuple[int, ...]:
    for end in ("source", "destination"):
        if end in said:
            return (6,) if ":" in said[end] else (4,)
    return {"ip": (4,), "ip6": (6,)}.get(family, (4, 6))


def _filled(said: Said, chain: str, version: int, target: Target) -> Iterator[Packet]:
    """What is not demanded is filled in: by hook as the chain's name tells it, else all three."""
    hooks = [hook for hook in ("input", "forward", "output") if hook in chain]
    if "prerouting" in chain or "postrouting" in chain or not hooks:
        hooks = ["input", "forward", "output"] if "prerouting" not in chain else hooks or [
            "input", "forward"]  # fmt: skip
    for hook in hooks:
        for interface in _incoming(said, hook, target):
            source, destination = _ends(said, hook, interface, version, target)
            if source is None or destination is None:
                continue
            others = (_STRANGER[version],) if hook != "output" and "source" not in said else ()
            for each in (source, *(() if interface == LOOPBACK else others)):
                for protocol in _protocols(said):
                    for state in _wanted_states(said):
                        yield _packet(said, protocol, each, destination, interface, state)


def _incoming(said: Said, hook: str, target: Target) -> list[str | None]:
    if hook == "output":
        return [None]
    if said.get("in") == LOOPBACK:
        return [LOOPBACK] if hook == "input" else []
    names: list[str | None] = [each.name for each in target.interfaces if each.is_up]
    wanted = said.get("in", "").rstrip("+*")
    if "in" in said:
        exact = said["in"] == wanted
        names = [n for n in names if n and (n == wanted if exact else n.startswith(wanted))]
    return names[:MAX_WAYS]


def _ends(
    said: Said, hook: str, interface: str | None, version: int, target: Target
) -> tuple[str | None, str | None]:
    if interface == LOOPBACK:
        return _LOOPBACK[version], _LOOPBACK[version]
    own = _addresses(target, interface if hook == "input" else said.get("out"), version)
    source = _host(said["source"]) if "source" in said else None
    destination = _host(said["destination"]) if "destination" in said else None
    if hook == "input":
        return source or _WORLD[version], destination or next(iter(own), None)
    there = _neighbour(target, said.get("out"), version) or _BEHIND[version]
    if hook == "output":
        return source or next(iter(own), None), destination or there
    return source or _neighbour(target, interface, version) or _WORLD[version], destination or there


def _addresses(target: Target, interface: str | None, version: int) -> list[str]:
    found = [
        str(ip_interface(address).ip)
        for each in target.interfaces
        if interface is None or each.name == interface
        for address in each.addresses
    ]
    return [each for each in found if ip_address(each).version == version]


def _neighbour(target: Target, interface: str | None, version: int) -> str | None:
    """Another address of an interface's network."""
    for each in target.interfaces:
        for address in each.addresses if each.name == interface else ():
            parsed = ip_interface(address)
            if parsed.version == version and parsed.network.num_addresses > 2:
                offset = 1 if parsed.ip != parsed.network[1] else 2
                return str(parsed.network[offset])
    return None


def _host(text: str) -> str | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return str(network[min(1, network.num_addresses - 1)])


def _protocols(said: Said) -> Iterable[Protocol]:
    word = said.get("protocol", "").removeprefix("ipv6-").removesuffix("6").removesuffix("v6")
    if word in list(Protocol):
        return (Protocol(word),)
    if "sport" in said or "dport" in said:
        return (Protocol.TCP, Protocol.UDP)
    return (Protocol.TCP, Protocol.UDP, Protocol.ICMP)


def _wanted_states(said: Said) -> tuple[State, ...]:
    words = re.split(r"[,\s{}]+", said.get("state", "").lower())
    found = tuple(state for state in _STATES if state.value in words)
    return found or (State.NEW,)


def _packet(
    said: Said,
    protocol: Protocol,
    source: str,
    destination: str,
    interface: str | None,
    state: State,
) -> Packet:
    is_icmp = protocol is Protocol.ICMP
    usual = usual_type(state, source) if is_icmp else 8
    return Packet(
        protocol=protocol,
        source=source,
        destination=destination,
        source_port=0 if is_icmp else int(said.get("sport", "40002")),
        destination_port=0 if is_icmp else int(said.get("dport", "40003")) & 0xFFFF,
        interface=interface,
        state=state,
        icmp_type=int(said.get("icmp", usual)) & 0xFF if is_icmp else usual,
        tcp_flags="A" if state is State.ESTABLISHED and protocol is Protocol.TCP else "S",
    )
