"""A packet filter as a value, what it makes of a packet, and its words in each tool; pure.

The model knows what the random rules say and no more: nothing of it is taken from `hostlab`, so
that what is answered and compared there can be held against it. The host is `prober_site.TARGET`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from hostlab.firewall.answer import Answer
from hostlab.firewall.packet import Packet, Protocol
from hostlab.firewall.ruleset import Ruleset

FILTERING = ("INPUT", "FORWARD", "OUTPUT")
OWN = ("ONE", "TWO")
"""Chains of the ruleset's own: rules lead from the hooks to either, and from the first on."""
REWRITING = ("PREROUTING", "POSTROUTING")
KINDS = ("nft", "inet", "iptables", "legacy")
HOST = {
    "203.0.113.10": "wan0", "10.0.0.1": "lan0", "2001:db8::10": "wan0", "fd00::1": "lan0",
    # Of a router, which answers for each of its networks (RFC 4291, 2.6.1).
    "2001:db8::": "wan0", "fd00::": "lan0",
}  # fmt: skip
LAN = (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))
BROADCAST = {"203.0.113.255": "wan0", "10.0.0.255": "lan0"}
_NEW_ICMP = {4: (8, 13, 15, 17), 6: (128, 139)}
"""Requests: what begins a connection (nf_conntrack_proto_icmp.c, valid_new)."""
_UNTRACKED = (*range(130, 138), 143)
"""Listener and neighbour discovery (nf_conntrack_proto_icmpv6.c, noct_valid_new)."""

Address = IPv4Address | IPv6Address
Ports = tuple[tuple[int, int], ...]


class Rule(NamedTuple):
    """What a rule demands, None or nothing where it does not, and where it leads."""

    target: str
    """ACCEPT, DROP, REJECT, RETURN, DNAT, SNAT, or a chain."""
    version: int | None = None
    """Of the addresses; None: either."""
    source: str | None = None
    """A prefix, `@SET`, either with a `!` before it."""
    destination: str | None = None
    protocol: str | None = None
    sports: Ports = ()
    dports: Ports = ()
    is_port_negated: bool = False
    icmp_type: int | None = None
    arrives: str | None = None
    leaves: str | None = None
    states: tuple[str, ...] = ()
    is_goto: bool = False
    to: str = ""
    """Of NAT: an address, a port behind `#`."""


class Filter(NamedTuple):
    """A ruleset: what one tool holds for one family, or for both."""

    kind: str
    version: int
    """4 or 6; 0 for nft's `inet`."""
    chains: dict[str, tuple[Rule, ...]]
    policies: dict[str, str]
    sets: dict[str, tuple[str, ...]]


class Outcome(NamedTuple):
    """What can be told of a packet's end from outside."""

    verdict: str
    left_by: str | None = None
    left_as: tuple[str, int, str, int] | None = None


def outcome_of(answer: Answer) -> Outcome:
    """What hostlab said."""
    left = answer.left_as
    if left is None:
        return Outcome(answer.verdict.value, answer.left_by)
    ends = (left.source, left.source_port, left.destination, left.destination_port)
    return Outcome(answer.verdict.value, answer.left_by, ends)


class _Seen(NamedTuple):
    """A packet as a rule sees it at some hook."""

    version: int
    source: Address
    sport: int
    destination: Address
    dport: int
    protocol: str
    icmp_type: int
    arrives: str
    leaves: str
    state: str


def outcome(held: Filter, packet: Packet) -> Outcome:
    """The end of a packet that comes alone to a host with this filter."""
    version = ip_address(packet.source).version
    if held.version not in (0, version):
        held = Filter(held.kind, 0, {}, {}, {})
    return _Walk(held, packet, version).end()


class _Walk:
    def __init__(self, held: Filter, packet: Packet, version: int) -> None:
        self.held, self.packet, self.version = held, packet, version
        is_icmp = packet.protocol is Protocol.ICMP
        number = 128 if version == 6 and packet.icmp_type == 8 else packet.icmp_type
        self.seen = _Seen(
            version=version,
            source=ip_address(packet.source),
            sport=packet.source_port,
            destination=ip_address(packet.destination),
            dport=packet.destination_port,
            protocol=packet.protocol.value,
            icmp_type=number if is_icmp else -1,
            arrives=packet.interface or "",
            leaves="",
            state=packet.state.value,
        )
        if is_icmp and packet.state == "new" and number not in _NEW_ICMP[version]:
            is_apart = version == 6 and number in _UNTRACKED
            self.seen = self.seen._replace(state="untracked" if is_apart else "invalid")

    def end(self) -> Outcome:
        if self.packet.interface is None:
            return self._sent()
        self._rewrite("PREROUTING", "DNAT")
        leaves = "" if self._is_local() else self._way_out()
        # What came for everybody goes no further (ip_forward.c).
        is_for_all = self.packet.destination in BROADCAST
        if self._is_impossible(str(self.seen.source), leaves) or (leaves and is_for_all):
            return Outcome("lost")
        self.seen = self.seen._replace(leaves=leaves)
        return self._filtered("FORWARD" if leaves else "INPUT")

    def _sent(self) -> Outcome:
        destination = str(self.seen.destination)
        leaves = "lo" if destination in HOST else BROADCAST.get(destination) or self._way_out()
        self.seen = self.seen._replace(leaves=leaves)
        found = self._filtered("OUTPUT")
        if found.verdict != "accept" or leaves != "lo":
            return found
        self.seen = self.seen._replace(arrives="lo", leaves="")
        return self._filtered("INPUT")

    def _filtered(self, hook: str) -> Outcome:
        rules = self.held.chains.get(hook, ())
        end = self._judged(rules) or self.held.policies.get(hook, "ACCEPT")
        if end in ("return", "RETURN"):
            end = self.held.policies.get(hook, "ACCEPT")
        if end != "ACCEPT":
            return Outcome(end.lower())
        if hook != "INPUT":
            self._rewrite("POSTROUTING", "SNAT")
        seen, packet = self.seen, self.packet
        now = (str(seen.source), seen.sport, str(seen.destination), seen.dport)
        before = (packet.source, packet.source_port, packet.destination, packet.destination_port)
        left_by = None if hook == "INPUT" else seen.leaves
        return Outcome("accept", left_by, now if now != before else None)

    def _judged(self, rules: tuple[Rule, ...]) -> str | None:
        """The target that ends the packet; `return` where a goto does, None for a chain's end."""
        for rule in rules:
            if not self._demands(rule):
                continue
            if rule.target not in OWN:
                return rule.target
            end = self._judged(self.held.chains.get(rule.target, ()))
            if end not in (None, "RETURN", "return"):
                return end
            if rule.is_goto:
                return "return"
        return None

    def _demands(self, rule: Rule) -> bool:
        seen = self.seen
        return (
            rule.version in (None, seen.version)
            and self._is_in(rule.source, seen.source)
            and self._is_in(rule.destination, seen.destination)
            and rule.protocol in (None, seen.protocol)
            and (not rule.sports or _in_ports(rule.sports, seen.sport))
            and (not rule.dports or _in_ports(rule.dports, seen.dport) is not rule.is_port_negated)
            and rule.icmp_type in (None, seen.icmp_type)
            and rule.arrives in (None, seen.arrives)
            and rule.leaves in (None, seen.leaves)
            and (not rule.states or seen.state in rule.states)
        )

    def _is_in(self, wanted: str | None, address: Address) -> bool:
        if wanted is None:
            return True
        name = wanted.lstrip("!")
        prefixes = self.held.sets[name[1:]] if name.startswith("@") else (name,)
        return any(address in ip_network(each) for each in prefixes) is not wanted.startswith("!")

    def _rewrite(self, hook: str, target: str) -> None:
        """NAT is asked once, of what begins a connection."""
        if self.seen.state != "new":
            return
        rule = next((each for each in self.held.chains.get(hook, ()) if self._demands(each)), None)
        if rule is None or rule.target != target:
            return
        address, _, port = rule.to.partition("#")
        if target == "SNAT":
            self.seen = self.seen._replace(source=ip_address(address))
        else:
            number = int(port) if port else self.seen.dport
            self.seen = self.seen._replace(destination=ip_address(address), dport=number)

    def _is_local(self) -> bool:
        return str(self.seen.destination) in (*HOST, *BROADCAST)

    def _way_out(self) -> str:
        return "lan0" if any(self.seen.destination in each for each in LAN) else "wan0"

    def _is_impossible(self, source: str, leaves: str) -> bool:
        """An address that nobody else can send from; IPv6 does not mind.

        Others are looked at closely where a packet leaves as it came (fib_frontend.c,
        fib_validate_source).
        """
        if self.version == 6:
            return False
        return source in HOST or (source in BROADCAST and leaves == self.packet.interface)


def _in_ports(ports: Ports, number: int) -> bool:
    return any(first <= number <= last for first, last in ports)


def printed(held: Filter) -> Ruleset:
    """The filter as its tool reads it."""
    if held.kind in ("nft", "inet"):
        return Ruleset(nft=_nft(held))
    name = {4: "iptables", 6: "ip6tables"}[held.version]
    field = name if held.kind == "iptables" else f"legacy_{name}"
    return Ruleset(**{field: _saved(held), "ipset": _ipsets(held)})


def _ipsets(held: Filter) -> str:
    family = "inet" if held.version == 4 else "inet6"
    lines = []
    for name, elements in held.sets.items():
        lines.append(f"create {name} hash:net family {family}")
        lines += [f"add {name} {each}" for each in elements]
    return "".join(f"{line}\n" for line in lines)


def _saved(held: Filter) -> str:
    lines = ["*nat", *(f":{chain} ACCEPT [0:0]" for chain in REWRITING)]
    lines += [_saved_rule(c, rule, held) for c in REWRITING for rule in held.chains.get(c, ())]
    lines += ["COMMIT", "*filter"]
    lines += [f":{chain} {held.policies.get(chain, 'ACCEPT')} [0:0]" for chain in FILTERING]
    lines += [f":{chain} - [0:0]" for chain in OWN]
    chains = (*FILTERING, *OWN)
    lines += [_saved_rule(c, rule, held) for c in chains for rule in held.chains.get(c, ())]
    return "\n".join([*lines, "COMMIT", ""])


def _saved_rule(chain: str, rule: Rule, held: Filter) -> str:
    words = [f"-A {chain}"]
    for option, where, wanted in (("-s", "src", rule.source), ("-d", "dst", rule.destination)):
        if wanted is None:
            continue
        no = "! " if wanted.startswith("!") else ""
        name = wanted.lstrip("!")
        is_set = name.startswith("@")
        in_set = f"-m set {no}--match-set {name[1:]} {where}"
        words.append(in_set if is_set else f"{no}{option} {name}")
    words += [f"-i {rule.arrives}"] if rule.arrives else []
    words += [f"-o {rule.leaves}"] if rule.leaves else []
    is_icmp6 = rule.protocol == "icmp" and held.version == 6
    words += [f"-p {'ipv6-icmp' if is_icmp6 else rule.protocol}"] if rule.protocol else []
    no = "! " if rule.is_port_negated else ""
    if len(rule.sports) + len(rule.dports) == 1:
        words += [f"--sport {_ports(rule.sports, ':')}"] if rule.sports else []
        words += [f"{no}--dport {_ports(rule.dports, ':')}"] if rule.dports else []
    else:
        words += [f"-m multiport --sports {_ports(rule.sports, ':')}"] if rule.sports else []
        words += [f"-m multiport {no}--dports {_ports(rule.dports, ':')}"] if rule.dports else []
    if rule.icmp_type is not None:
        words.append(f"--icmp{'v6' if is_icmp6 else ''}-type {rule.icmp_type}")
    if rule.states:
        words.append(f"-m conntrack --ctstate {','.join(rule.states).upper()}")
    words.append(f"-{'g' if rule.is_goto else 'j'} {rule.target}")
    if rule.to:
        option = "--to-destination" if rule.target == "DNAT" else "--to-source"
        words.append(f"{option} {_end(rule.to)}")
    return " ".join(words)


def _nft(held: Filter) -> str:
    family = {0: "inet", 4: "ip", 6: "ip6"}[held.version]
    text = ""
    for name, elements in held.sets.items():
        kind = "ipv6_addr" if ":" in elements[0] else "ipv4_addr"
        listed = f"{{ {', '.join(elements)} }}"
        text += f"set {name} {{ type {kind}; flags interval; elements = {listed}; }}\n"
    for chain in (*reversed(OWN), *FILTERING):
        policy = held.policies.get(chain, "ACCEPT").lower()
        head = f"type filter hook {chain.lower()} priority 0; policy {policy};\n"
        body = "".join(f"{_nft_rule(rule, held)}\n" for rule in held.chains.get(chain, ()))
        text += f"chain {chain} {{\n{'' if chain in OWN else head}{body}}}\n"
    for chain, priority in (("PREROUTING", "dstnat"), ("POSTROUTING", "srcnat")):
        body = "".join(f"{_nft_rule(rule, held)}\n" for rule in held.chains.get(chain, ()))
        head = f"type nat hook {chain.lower()} priority {priority}; policy accept;\n"
        text += f"chain {chain} {{\n{head}{body}}}\n" if body else ""
    return f"table {family} f {{\n{text}}}\n"


def _nft_rule(rule: Rule, held: Filter) -> str:
    version = rule.version or held.version
    ip = "ip6" if version == 6 else "ip"
    words = []
    for side, wanted in (("saddr", rule.source), ("daddr", rule.destination)):
        if wanted is not None:
            words.append(f"{ip} {side} {'!= ' * wanted.startswith('!')}{wanted.lstrip('!')}")
    if rule.version and not held.version and not (rule.source or rule.destination):
        words.append(f"meta nfproto ipv{rule.version}")
    words += [f'iifname "{rule.arrives}"'] if rule.arrives else []
    words += [f'oifname "{rule.leaves}"'] if rule.leaves else []
    if rule.protocol and not (rule.sports or rule.dports or rule.icmp_type is not None):
        is_icmp6 = rule.protocol == "icmp" and version == 6
        words.append(f"meta l4proto {'ipv6-icmp' if is_icmp6 else rule.protocol}")
    words += [f"{rule.protocol} sport {{ {_ports(rule.sports, '-')} }}"] if rule.sports else []
    if rule.dports:
        no = "!= " if rule.is_port_negated else ""
        words.append(f"{rule.protocol} dport {no}{{ {_ports(rule.dports, '-')} }}")
    if rule.icmp_type is not None:
        words.append(f"icmp{'v6' if version == 6 else ''} type {rule.icmp_type}")
    words += [f"ct state {','.join(rule.states)}"] if rule.states else []
    if rule.target in OWN:
        words.append(f"{'goto' if rule.is_goto else 'jump'} {rule.target}")
    elif rule.to:
        words.append(f"{rule.target.lower()} {'' if held.version else f'{ip} '}to {_end(rule.to)}")
    else:
        words.append(rule.target.lower())
    return " ".join(words)


def _ports(ports: Ports, dash: str) -> str:
    both = "," if dash == ":" else ", "
    return both.join(str(a) if a == b else f"{a}{dash}{b}" for a, b in ports)


def _end(to: str) -> str:
    address, _, port = to.partition("#")
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
