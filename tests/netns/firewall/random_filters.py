"""Random filters of `filter_model.py`, others that differ from them a little, packets near both."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from random import Random
from typing import Any

from hostlab.firewall.packet import Packet, Protocol, State, usual_type
from tests.netns.firewall.filter_model import (
    FILTERING,
    KINDS,
    OWN,
    REWRITING,
    Filter,
    Rule,
)

SOURCES = {
    4: ("198.51.100.7/32", "198.51.100.0/25", "198.51.100.0/24", "203.0.113.77/32",
        "203.0.113.64/26", "10.0.0.9/32", "10.0.0.0/25", "192.0.2.0/24"),
    6: ("2001:db8:5::7/128", "2001:db8:5::/65", "2001:db8:5::/64", "2001:db8::77/128",
        "2001:db8::/80", "fd00::9/128", "fd00::/112", "2001:db8:2::/48"),
}  # fmt: skip
DESTINATIONS = {
    4: ("203.0.113.10/32", "203.0.113.0/28", "10.0.0.1/32", "10.0.0.0/24", "10.0.0.9/32",
        "192.0.2.9/32", "192.0.2.0/25"),
    6: ("2001:db8::10/128", "2001:db8::/124", "fd00::1/128", "fd00::/64", "fd00::9/128",
        "2001:db8:2::9/128", "2001:db8:2::/49"),
}  # fmt: skip
PORTS = ((22, 22), (80, 80), (80, 90), (443, 443), (1024, 65535), (53, 53), (8000, 8080))
ICMP = {4: (8, 0, 3, 11, 13), 6: (128, 129, 1, 3, 135)}
STATES = ("new", "established", "related", "invalid")
TARGETS = ("ACCEPT", "DROP", "REJECT", "RETURN")
NAT = {
    4: {"DNAT": ("10.0.0.9", "10.0.0.9#8080", "203.0.113.10#22", "192.0.2.9"),
        "SNAT": ("203.0.113.10", "10.0.0.1")},
    6: {"DNAT": ("fd00::9", "fd00::9#8080", "2001:db8::10#22", "2001:db8:2::9"),
        "SNAT": ("2001:db8::10", "fd00::1")},
}  # fmt: skip
INTERFACES = ("wan0", "lan0")


def drawn(rng: Random) -> Filter:
    """Any filter."""
    kind = rng.choice(KINDS)
    version = 0 if kind == "inet" else rng.choice((4, 4, 6))
    sets = {}
    for family in (version,) if version else (4, 6):
        elements = _disjoint(rng.sample(SOURCES[family], 3))
        sets[f"set{family}"] = elements
    held = Filter(kind, version, {}, {}, sets)
    chains = {name: _rules(rng, held, name, rng.randrange(6)) for name in (*FILTERING, *OWN)}
    chains |= {name: _rules(rng, held, name, rng.choice((0, 0, 1, 2))) for name in REWRITING}
    policies = {name: rng.choice(("ACCEPT", "DROP")) for name in FILTERING}
    return Filter(kind, version, chains, policies, sets)


def _disjoint(prefixes: list[str]) -> tuple[str, ...]:
    """No element within another: what tools make of such a set differs."""
    found: list[str] = []
    for each in prefixes:
        if not any(ip_network(each).overlaps(ip_network(other)) for other in found):
            found.append(each)
    return tuple(found)


def _rules(rng: Random, held: Filter, chain: str, count: int) -> tuple[Rule, ...]:
    return tuple(_rule(rng, held, chain) for _ in range(count))


def _rule(rng: Random, held: Filter, chain: str) -> Rule:
    """Every demand is there once in a while."""
    version = held.version or rng.choice((4, 6))
    source = _address(rng, held, version, SOURCES[version]) if rng.random() < 0.5 else None
    destination = None
    if rng.random() < 0.3:
        destination = _address(rng, held, version, DESTINATIONS[version])
    protocol = rng.choice((None, "tcp", "udp", "icmp"))
    rule = Rule(target="ACCEPT", source=source, destination=destination, protocol=protocol)
    if protocol in ("tcp", "udp"):
        dports = _some_ports(rng) if rng.random() < 0.7 else ()
        sports = _some_ports(rng) if rng.random() < 0.15 else ()
        negated = bool(dports) and rng.random() < 0.15
        rule = rule._replace(dports=dports, sports=sports, is_port_negated=negated)
    if protocol == "icmp" and rng.random() < 0.5:
        rule = rule._replace(icmp_type=rng.choice(ICMP[version]))
    if chain not in ("OUTPUT", "POSTROUTING") and rng.random() < 0.3:
        rule = rule._replace(arrives=rng.choice(INTERFACES))
    if chain not in ("INPUT", "PREROUTING") and rng.random() < 0.3:
        rule = rule._replace(leaves=rng.choice(INTERFACES))
    if rng.random() < 0.3 and chain not in REWRITING:
        rule = rule._replace(states=tuple(rng.sample(STATES, rng.choice((1, 2)))))
    if chain in REWRITING:
        target = "DNAT" if chain == "PREROUTING" else "SNAT"
        rule = rule._replace(target=target, to=rng.choice(NAT[version][target]), version=version)
        # A port is written for what has ports.
        has_ports = protocol in ("tcp", "udp")
        return rule if has_ports else rule._replace(to=rule.to.partition("#")[0])
    # Addresses, and what is only ICMP's, are of one family; elsewhere a rule is for both.
    is_of_one = held.version or source or destination or protocol == "icmp"
    rule = rule._replace(version=version if is_of_one else None)
    further = {"ONE": ("TWO",), "TWO": ()}.get(chain, OWN)
    target = rng.choice((*TARGETS, *TARGETS, *further))
    return rule._replace(target=target, is_goto=target in OWN and rng.random() < 0.25)


def _address(rng: Random, held: Filter, version: int, pool: tuple[str, ...]) -> str:
    name = f"@set{version}" if rng.random() < 0.15 else rng.choice(pool)
    return f"!{name}" if rng.random() < 0.15 else name


def _some_ports(rng: Random) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first, last in rng.sample(PORTS, rng.choice((1, 1, 2, 3))):
        if all(last < a or b < first for a, b in found):
            found.append((first, last))
    return tuple(sorted(found))


def mutated(rng: Random, held: Filter) -> Filter:
    """The filter with one, two or three things changed; some of these change nothing it does."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        held = rng.choice((_less, _more, _swapped, _changed, _changed, _changed, _policy, _elements,
                           _other_tool, _in_halves, _repeated))(rng, held)  # fmt: skip
    return held


def _place(rng: Random, held: Filter) -> tuple[str, int] | None:
    places = [(name, n) for name, rules in held.chains.items() for n in range(len(rules))]
    return rng.choice(places) if places else None


def _with(held: Filter, chain: str, rules: tuple[Rule, ...]) -> Filter:
    return held._replace(chains={**held.chains, chain: rules})


def _less(rng: Random, held: Filter) -> Filter:
    if (place := _place(rng, held)) is None:
        return held
    chain, at = place
    rules = held.chains[chain]
    return _with(held, chain, (*rules[:at], *rules[at + 1 :]))


def _more(rng: Random, held: Filter) -> Filter:
    chain = rng.choice((*FILTERING, *OWN, *REWRITING))
    rules = held.chains[chain]
    at = rng.randint(0, len(rules))
    return _with(held, chain, (*rules[:at], _rule(rng, held, chain), *rules[at:]))


def _swapped(rng: Random, held: Filter) -> Filter:
    if (place := _place(rng, held)) is None:
        return held
    chain, at = place
    rules = list(held.chains[chain])
    rules.insert(rng.randrange(len(rules)), rules.pop(at))
    return _with(held, chain, tuple(rules))


def _changed(rng: Random, held: Filter) -> Filter:
    """One demand of a rule as another has it."""
    if (place := _place(rng, held)) is None:
        return held
    chain, at = place
    rules = held.chains[chain]
    rule, other = rules[at], _rule(rng, held, chain)
    if rule.version == other.version:
        changes: list[dict[str, Any]] = [
            {"source": other.source}, {"destination": other.destination},
            {"arrives": other.arrives}, {"leaves": other.leaves}, {"states": other.states},
        ]  # fmt: skip
        if chain not in REWRITING:
            changes.append({"target": other.target, "is_goto": other.is_goto})
        if rule.protocol in ("tcp", "udp"):
            changes.append({"dports": _some_ports(rng)})
            changes.append({"dports": _one_beside(rng, rule)})
        change = rng.choice(changes)
        if not (held.version == 0 and rule.version and {"source", "destination"} & change.keys()):
            other = rule._replace(**change)
    return _with(held, chain, (*rules[:at], other, *rules[at + 1 :]))


def _one_beside(rng: Random, rule: Rule) -> tuple[tuple[int, int], ...]:
    if not rule.dports:
        return ((79, 80),)
    first, last = rule.dports[0]
    beside = rng.choice(((first - 1, last), (first, min(last + 1, 65535)), (last, last)))
    return (beside, *(each for each in rule.dports[1:] if each[0] > beside[1]))


def _policy(rng: Random, held: Filter) -> Filter:
    chain = rng.choice(FILTERING)
    other = "DROP" if held.policies[chain] == "ACCEPT" else "ACCEPT"
    return held._replace(policies={**held.policies, chain: other})


def _elements(rng: Random, held: Filter) -> Filter:
    name = rng.choice(sorted(held.sets))
    elements = _disjoint(rng.sample(SOURCES[int(name[-1])], 3))
    return held._replace(sets={**held.sets, name: elements})


def _other_tool(rng: Random, held: Filter) -> Filter:
    if not held.version:
        return held
    return held._replace(kind=rng.choice([each for each in KINDS if each != "inet"]))


def _in_halves(rng: Random, held: Filter) -> Filter:
    """A rule about a prefix as two about its halves: the same in other words, but for NAT."""
    if (place := _place(rng, held)) is None:
        return held
    chain, at = place
    rules = held.chains[chain]
    rule = rules[at]
    if not rule.source or rule.source[0] in "!@" or ip_network(rule.source).num_addresses < 2:
        return held
    halves = [rule._replace(source=str(half)) for half in ip_network(rule.source).subnets()]
    return _with(held, chain, (*rules[:at], *halves, *rules[at + 1 :]))


def _repeated(rng: Random, held: Filter) -> Filter:
    """A rule once more at the end of its chain: it says nothing there."""
    if (place := _place(rng, held)) is None:
        return held
    chain, at = place
    rules = held.chains[chain]
    return _with(held, chain, (*rules, rules[at]))


def packets(rng: Random, filters: tuple[Filter, ...], count: int) -> Iterator[Packet]:
    """Random ones, mostly on or beside what the filters mention."""
    said = {each.version for each in filters}
    versions = [4, 6] if 0 in said else sorted(said)
    pools = {version: _Pool(filters, version) for version in versions}
    for _ in range(count):
        version = rng.choice(versions)
        yield pools[version].packet(rng)


class _Pool:
    def __init__(self, filters: tuple[Filter, ...], version: int) -> None:
        self.version = version
        rules = [rule for each in filters for rules in each.chains.values() for rule in rules]
        prefixes = {*SOURCES[version], *DESTINATIONS[version]}
        for each in filters:
            prefixes |= set(each.sets.get(f"set{version}", ()))
        found = set()
        for prefix in sorted(prefixes):
            network = ip_network(prefix)
            first, last = network.network_address, network.broadcast_address
            found |= {first, last, first - 1, last + 1, first + (int(last) - int(first)) // 2}
        self.addresses = [str(each) for each in sorted(found)]
        self.own = ("203.0.113.10", "10.0.0.1") if version == 4 else ("2001:db8::10", "fd00::1")
        ports = {each for rule in rules for each in (*rule.dports, *rule.sports)} | set(PORTS)
        numbers = {n for a, b in ports for n in (a, b, a - 1, b + 1) if 0 < n < 65536}
        self.ports = sorted(numbers | {33333})

    def packet(self, rng: Random) -> Packet:
        """One that can be sent."""
        interface = rng.choice((*INTERFACES, "wan0", None))
        protocol = rng.choice(list(Protocol))
        state = State(rng.choice(STATES))
        is_icmp = protocol is Protocol.ICMP
        source = rng.choice(self.addresses)
        destination = rng.choice((*self.addresses, *self.own * 4))
        if interface is None and is_icmp and state is State.INVALID:
            # `test_what_the_host_sends_of_icmp_is_not_found_invalid`
            state = State.NEW
        if interface is None:
            source = rng.choice(self.own)
        kind = usual_type(state, source)
        if is_icmp and state is State.NEW:
            kind = rng.choice(ICMP[self.version])
        return Packet(
            protocol=protocol,
            source=source,
            destination=destination,
            source_port=0 if is_icmp else rng.choice(self.ports),
            destination_port=0 if is_icmp else rng.choice(self.ports),
            interface=interface,
            state=state,
            icmp_type=8 if kind == 128 else kind,
            tcp_flags="A" if state is State.ESTABLISHED else "S",
        )
