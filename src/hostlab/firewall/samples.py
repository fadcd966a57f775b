"""Packets that tell two rulesets apart: beside and on each boundary that a rule draws; pure.

For each rule a packet that it and the rules that lead to it ask for, and its neighbours: each
dimension just outside what is asked for, the others unchanged. Rules that only one ruleset has are
crossed, two dimensions at a time. What a rule leaves open is filled from the target: an address
behind the interface, the host's own, a port that no rule names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_interface
from itertools import combinations, islice
from typing import Final

from hostlab.firewall.boundaries import Demand, Dimension, Interval, Value
from hostlab.firewall.demands import PlacedRule, Way
from hostlab.firewall.frames import ICMP_ERRORS, ICMPV6_ERRORS
from hostlab.firewall.packet import Packet, Protocol, State, is_never_invalid
from hostlab.firewall.target import Target, TargetInterface

MAX_PACKETS: Final = 20_000
MAX_MIXED: Final = 60
"""Rules that one that differs is put together with; more that differ are not put together."""
MAX_VALUES: Final = 64
"""Of one dimension of one rule: a set of 50,000 addresses is sampled."""
MAX_OWN: Final = 4
"""Of the host's interfaces and addresses that are tried where a rule names another."""
OUTSIDE: Final = {False: "198.51.100.7", True: "2001:db8:ffff::7"}
"""Somebody far away, of the documentation's prefixes (RFC 5737, RFC 3849)."""
SOURCE_PORT: Final = 40_000
OTHER_PORT: Final = 33_333
_LAST: Final = {
    Dimension.SOURCE_PORT: 65_535, Dimension.DESTINATION_PORT: 65_535, Dimension.ICMP_TYPE: 255,
    Dimension.OWNER: 65_534,
}  # fmt: skip
_LAST_ADDRESS: Final = {False: (1 << 32) - 1, True: (1 << 128) - 1}
_CONVERSATIONS: Final = {False: (0, 8, 13, 14, 15, 16, 17, 18), True: (128, 129)}
"""Types of ICMP that conntrack keeps as connections: requests and their replies."""
_ERRORS: Final = {False: ICMP_ERRORS, True: ICMPV6_ERRORS}
_ADDRESSES: Final = (Dimension.SOURCE, Dimension.DESTINATION)
_STATES: Final = {state.value: state for state in State}
_PROTOCOLS: Final = {protocol.value: protocol for protocol in Protocol}

Choice = dict[Dimension, Value]


def sample_packets(
    rules: Sequence[PlacedRule], changed: frozenset[int], target: Target
) -> list[Packet]:
    """The packets, each once, in a fixed order; at most MAX_PACKETS.

    `changed` are the numbers of the rules that only one of the rulesets has.
    """
    source = _Packets(target)
    found: dict[Packet, None] = dict.fromkeys(source.sweep())
    # What differs comes first, so that a limit takes away the rest.
    for number in sorted(range(len(rules)), key=lambda number: number not in changed):
        rule = rules[number]
        is_changed = number in changed
        for way in rule.ways if is_changed else rule.ways[:1]:
            found |= dict.fromkeys(source.of_rule(rule.demand, way, is_crossed=is_changed))
        if is_changed and len(changed) <= MAX_MIXED:
            found |= dict.fromkeys(source.mixed(rule, rules))
        if len(found) >= MAX_PACKETS:
            break
    return list(islice(found, MAX_PACKETS))


class _Packets:
    """Makes packets for one target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.interfaces = [each for each in target.interfaces if each.is_up]
        self.families = [
            is_v6
            for is_v6 in (False, True)
            if any(_own(each, is_v6=is_v6) for each in self.interfaces)
        ] or [False]

        self._own = {
            is_v6: [
                int(ip_address(own))
                for each in self.interfaces[:MAX_OWN]
                if (own := _own(each, is_v6=is_v6))
            ]
            for is_v6 in (False, True)
        }

    def sweep(self) -> Iterator[Packet]:
        """What policies alone decide: every interface, protocol and state."""
        for is_v6 in self.families:
            for hook in ("input", "forward", "output"):
                for each in self.interfaces if hook != "output" else self.interfaces[:1]:
                    for protocol in Protocol:
                        for state in (State.NEW, State.ESTABLISHED):
                            choice: Choice = {
                                Dimension.PROTOCOL: protocol.value,
                                Dimension.STATE: state.value,
                            }
                            if hook != "output":
                                choice[Dimension.IN] = each.name
                            yield from self._packet(choice, hook, is_v6=is_v6)

    def of_rule(self, demand: Demand, way: Way, *, is_crossed: bool) -> Iterator[Packet]:
        """A packet that the rule asks for, and those just beside."""
        for is_v6 in self._families_of((demand, *way.demands)):
            for hook in _hooks(way.hook):
                base: Choice = {}
                for each in (*way.demands, demand):
                    base.update(self._inside(each, hook, is_v6=is_v6))
                yield from self._packet(base, hook, is_v6=is_v6)
                beside = {
                    dimension: list(self._beside(demand, dimension, hook, is_v6=is_v6))
                    for dimension in {*demand.wants, *demand.unwanted}
                }
                for dimension in sorted(beside):
                    for value in beside[dimension]:
                        yield from self._packet({**base, dimension: value}, hook, is_v6=is_v6)
                if is_crossed:
                    yield from self._crossed(base, beside, hook, is_v6=is_v6)

    def mixed(self, rule: PlacedRule, rules: Sequence[PlacedRule]) -> Iterator[Packet]:
        """What a rule asks for, and what is just beside, together with what each other asks for.

        A rule that drops differs only for packets that a later one would accept.
        """
        hooks = {way.hook for way in rule.ways}
        others = [r for r in rules if r is not rule and hooks & {way.hook for way in r.ways}]
        step = max(1, len(others) // MAX_MIXED)
        for other in others[::step]:
            for is_v6 in self._families_of((rule.demand, other.demand)):
                for hook in {hook for way in rule.ways for hook in _hooks(way.hook)}:
                    theirs = self._inside(other.demand, hook, is_v6=is_v6)
                    ours = self._inside(rule.demand, hook, is_v6=is_v6)
                    yield from self._packet({**theirs, **ours}, hook, is_v6=is_v6)
                    for dimension in {*rule.demand.wants, *rule.demand.unwanted}:
                        values = self._beside(rule.demand, dimension, hook, is_v6=is_v6)
                        for value in islice(values, 8):
                            choice = {**theirs, **ours, dimension: value}
                            yield from self._packet(choice, hook, is_v6=is_v6)

    def _inside(self, demand: Demand, hook: str, *, is_v6: bool) -> Choice:
        """A value of each dimension that is asked for; of the host itself where it is to come."""
        choice = _inside(demand, is_v6=is_v6)
        if hook == "input" and Dimension.DESTINATION in choice:
            for own in self._own[is_v6][::-1]:
                if _is_asked(demand, own):
                    choice[Dimension.DESTINATION] = (own, own)
        return choice

    def _beside(
        self, demand: Demand, dimension: Dimension, hook: str, *, is_v6: bool
    ) -> Iterator[Value]:
        """On and beside each boundary; what else there is of addresses to come to, of interfaces.

        Else no packet for the host would be beside a prefix that has one of its addresses.
        """
        if dimension is Dimension.DESTINATION and hook == "input":
            yield from ((each, each) for each in self._own[is_v6])
        if dimension in (Dimension.IN, Dimension.OUT):
            yield from (each.name for each in self.interfaces[:MAX_OWN])
        yield from islice(_beside(demand, dimension, is_v6=is_v6), MAX_VALUES)

    def _families_of(self, demands: Iterable[Demand]) -> list[bool]:
        said = {demand.is_v6 for demand in demands} - {None}
        if len(said) > 1:
            return []
        return self.families if not said else [bool(said.pop())]

    def _crossed(
        self,
        base: Choice,
        beside: dict[Dimension, list[Value]],
        hook: str,
        *,
        is_v6: bool,
    ) -> Iterator[Packet]:
        extra: dict[Dimension, list[Value]] = {
            Dimension.STATE: ["new", "established"],
            Dimension.PROTOCOL: ["tcp", "udp", "icmp"],
            Dimension.IN: [each.name for each in self.interfaces],
        }
        values = {**extra, **beside}
        for one, other in combinations(sorted(values), 2):
            for first in values[one][:8]:
                for second in values[other][:8]:
                    choice = {**base, one: first, other: second}
                    yield from self._packet(choice, hook, is_v6=is_v6)

    def _packet(self, choice: Choice, hook: str, *, is_v6: bool) -> Iterator[Packet]:
        """The packet of these values; none where they cannot be together."""
        protocol = _PROTOCOLS.get(str(choice.get(Dimension.PROTOCOL, _implied(choice))))
        state = _STATES.get(str(choice.get(Dimension.STATE, "new")))
        if protocol is None or state is None:
            return
        place = self._place(choice, hook, is_v6=is_v6)
        if place is None:
            return
        interface, source, destination = place
        is_icmp = protocol is Protocol.ICMP
        kind = _number(choice, Dimension.ICMP_TYPE, 128 if is_v6 else 8)
        if is_icmp and state is State.ESTABLISHED and kind not in _CONVERSATIONS[is_v6]:
            return
        if is_icmp and state is State.RELATED and kind not in _ERRORS[is_v6]:
            # Only an error belongs to another connection; ICMP's 3 and ICMPv6's 1: no way there.
            kind = 1 if is_v6 else 3
        is_new = state in (State.NEW, State.RELATED)
        uid = choice.get(Dimension.OWNER)
        packet = Packet(
            protocol=protocol,
            source=source,
            destination=destination,
            source_port=0 if is_icmp else _number(choice, Dimension.SOURCE_PORT, SOURCE_PORT),
            destination_port=(
                0 if is_icmp else _number(choice, Dimension.DESTINATION_PORT, OTHER_PORT)
            ),
            interface=interface,
            state=state,
            icmp_type=8 if kind == 128 and is_v6 else kind,
            tcp_flags="S" if is_new else "A",
            uid=uid[0] if isinstance(uid, tuple) and interface is None else None,
        )
        if not is_never_invalid(packet):
            yield packet

    def _place(
        self, choice: Choice, hook: str, *, is_v6: bool
    ) -> tuple[str | None, str, str] | None:
        """Interface, source and destination, as the hook and the choice want them."""
        wanted = choice.get(Dimension.IN)
        arriving = self._interface(wanted)
        leaving = self._interface(choice.get(Dimension.OUT), unlike=arriving)
        source = _text(choice.get(Dimension.SOURCE), is_v6=is_v6)
        destination = _text(choice.get(Dimension.DESTINATION), is_v6=is_v6)
        if hook == "output":
            own = next(
                (o for i in (leaving, *self.interfaces) if i and (o := _own(i, is_v6=is_v6))), None
            )
            if own is None:
                return None
            far = _behind(leaving, is_v6=is_v6) or OUTSIDE[is_v6]
            return None, source or own, destination or far
        if arriving is None:
            return None
        near = _behind(arriving, is_v6=is_v6) or OUTSIDE[is_v6]
        if hook == "input":
            own = _own(arriving, is_v6=is_v6)
            if own is None and destination is None:
                return None
            return arriving.name, source or near, destination or own or ""
        far = _behind(leaving, is_v6=is_v6) or OUTSIDE[is_v6]
        return arriving.name, source or near, destination or far

    def _interface(
        self, wanted: Value | None, *, unlike: TargetInterface | None = None
    ) -> TargetInterface | None:
        """The interface of a name (`eth+` and `eth*` are any such), or the first."""
        names = [each for each in self.interfaces if each is not unlike]
        if isinstance(wanted, str):
            pattern = wanted.rstrip("+*")
            is_prefix = pattern != wanted
            for each in self.interfaces:
                if each.name == wanted or (is_prefix and each.name.startswith(pattern)):
                    return each
            return None
        return names[0] if names else None


def _hooks(hook: str) -> Sequence[str]:
    match hook:
        case "prerouting":
            return ("input", "forward")
        case "postrouting":
            return ("forward", "output")
        case "input" | "forward" | "output":
            return (hook,)
        case _:
            return ("input", "forward")


def _implied(choice: Choice) -> str:
    if Dimension.ICMP_TYPE in choice:
        return "icmp"
    return "tcp"


def _inside(demand: Demand, *, is_v6: bool) -> Choice:
    """A value of each dimension that is asked for."""
    choice: Choice = {}
    for dimension, values in demand.wants.items():
        fitting = [value for value in values if _fits(value, dimension, is_v6=is_v6)]
        if fitting:
            value = fitting[0]
            choice[dimension] = value if isinstance(value, str) else (_inner(value), 0)
    for dimension, values in demand.unwanted.items():
        for value in values:
            if isinstance(value, tuple) and dimension not in choice:
                choice[dimension] = (_outer(value, dimension, is_v6=is_v6), 0)
    return choice


def _is_asked(demand: Demand, destination: int) -> bool:
    wanted = demand.wants.get(Dimension.DESTINATION)
    unwanted = demand.unwanted.get(Dimension.DESTINATION, ())
    return (wanted is None or _is_within(wanted, destination)) and not _is_within(
        unwanted, destination
    )


def _is_within(values: Iterable[Value], number: int) -> bool:
    return any(isinstance(each, tuple) and each[0] <= number <= each[1] for each in values)


def _inner(interval: Interval) -> int:
    """Not the first address of a network, which is no host's."""
    first, last = interval
    return first + 1 if last - first > 1 else first


def _outer(interval: Interval, dimension: Dimension, *, is_v6: bool) -> int:
    first, last = interval
    return last + 1 if last < _limit(dimension, is_v6=is_v6) else max(0, first - 1)


def _limit(dimension: Dimension, *, is_v6: bool) -> int:
    return _LAST_ADDRESS[is_v6] if dimension in _ADDRESSES else _LAST.get(dimension, 0)


def _fits(value: Value, dimension: Dimension, *, is_v6: bool) -> bool:
    return isinstance(value, str) or value[1] <= _limit(dimension, is_v6=is_v6)


def _beside(demand: Demand, dimension: Dimension, *, is_v6: bool) -> Iterator[Value]:
    """On both ends of each interval, and just outside; other words than those asked for."""
    values = (*demand.wants.get(dimension, ()), *demand.unwanted.get(dimension, ()))
    step = max(1, len(values) // (MAX_VALUES // 4))
    limit = _limit(dimension, is_v6=is_v6)
    for value in values[::step]:
        if isinstance(value, str):
            yield value
            continue
        first, last = value
        for number in dict.fromkeys((first, last, first - 1, last + 1)):
            if 0 <= number <= limit:
                yield (number, 0)
    if dimension is Dimension.STATE:
        yield from ("new", "established", "related", "invalid")
    elif dimension is Dimension.PROTOCOL:
        yield from ("tcp", "udp", "icmp")


def _number(choice: Choice, dimension: Dimension, default: int) -> int:
    value = choice.get(dimension)
    return value[0] if isinstance(value, tuple) else default


def _text(value: Value | None, *, is_v6: bool) -> str | None:
    if not isinstance(value, tuple):
        return None
    address = ip_address(value[0].to_bytes(16 if is_v6 else 4))
    # Nobody sends to or from these; the kernel throws them away before any rule but the first.
    return None if address.is_unspecified else str(address)


def _own(interface: TargetInterface, *, is_v6: bool) -> str | None:
    for text in interface.addresses:
        address = ip_interface(text).ip
        if (address.version == 6) is is_v6 and not address.is_link_local:
            return str(address)
    return None


def _behind(interface: TargetInterface | None, *, is_v6: bool) -> str | None:
    """Some neighbour's address on the interface's network."""
    if interface is None:
        return None
    for text in interface.addresses:
        here = ip_interface(text)
        if (here.version == 6) is not is_v6 or here.network.num_addresses < 4:
            continue
        if here.ip.is_link_local:
            continue
        last = int(here.network.broadcast_address)
        number = last - 1 if last - 1 != int(here.ip) else last - 2
        return str(ip_address(number.to_bytes(16 if is_v6 else 4)))
    return None


def covered(rules: Iterable[PlacedRule]) -> dict[str, int]:
    """How many boundaries each dimension has in these rules."""
    found: dict[str, set[Value]] = {}
    for rule in rules:
        for demands in (rule.demand.wants, rule.demand.unwanted):
            for dimension, values in demands.items():
                found.setdefault(dimension.value, set()).update(values)
    return {name: len(values) for name, values in sorted(found.items())}


def beyond(rules: Iterable[PlacedRule]) -> tuple[str, ...]:
    """What rules ask for that no sample varies."""
    return tuple(sorted({word for rule in rules for word in rule.demand.beyond}))
