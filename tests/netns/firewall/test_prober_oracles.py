"""What is answered held against others who know: sockets on the wire, nft itself, a model."""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hostlab.firewall.answer import Verdict
from hostlab.firewall.packet import Packet, parse_packet, print_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage
from hostlab.firewall.witnesses import SENTINEL
from tests.netns.firewall.prober_site import TARGET, World, on_one_processor, packets, replace
from tests.netns.firewall.test_prober import NFT, SAVED
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

RULESETS = int(os.environ.get("HOSTLAB_RULESETS", "8"))
"""Random rulesets that are asked of."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
        with Stage(TARGET, ("new",)) as found:
            found.nodes["new"].shell(
                "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit;"
                "echo 0 > /proc/sys/net/ipv6/icmp/ratelimit"
            )
            yield found


ON_THE_WIRE = [
    f"{protocol} {source}:{number} -> {destination}:{port} in {interface}"
    for number, (protocol, source, destination, port, interface) in enumerate(
        (
            (protocol, source, destination, port, interface)
            for source, destination, interface in (
                ("198.51.100.7", "203.0.113.10", "wan0"),
                ("198.51.100.8", "203.0.113.10", "wan0"),
                ("198.51.100.8", "10.0.0.9", "wan0"),
                ("10.0.0.9", "198.51.100.8", "lan0"),
                ("198.51.100.66", "10.0.0.1", "wan0"),
                ("[2001:db8::9]", "[2001:db8::10]", "wan0"),
                ("[2001:db8::9]", "[fd00::9]", "wan0"),
            )
            for protocol, port in (("tcp", 22), ("tcp", 80), ("udp", 53))
        ),
        50_000,
    )
] + [
    "icmp 198.51.100.7 -> 203.0.113.10 in wan0",
    "icmp 198.51.100.7 -> 10.0.0.9 in wan0",
    "icmp 2001:db8::9 -> fd00::9 in wan0",
    "tcp 198.51.100.8:1 -> 203.0.113.10:81 in wan0",
    "udp 127.0.0.1:1 -> 203.0.113.10:53 in wan0",
]
SIX = (
    SAVED.partition("*nat")[0].replace("198.51.100.7", "2001:db8::9").replace("10.0.0.9", "fd00::9")
)


@pytest.mark.parametrize(
    "ruleset",
    [
        Ruleset(iptables=SAVED, ip6tables=SIX),
        Ruleset(legacy_iptables=SAVED, legacy_ip6tables=SIX),
        Ruleset(nft=NFT),
        Ruleset(),
    ],
    ids=["iptables", "legacy", "nft", "none"],
)
def test_the_wire_agrees(stage: Stage, ruleset: Ruleset) -> None:
    """Handshakes, datagrams and pings with sockets in the node; what it forwards is caught."""
    replace(stage.nodes["new"], ruleset)
    asked = packets(*ON_THE_WIRE)
    with Prober(stage, "new") as prober:
        answers = prober.ask(asked)
    said = {
        print_packet(each.packet): Verdict.DROP if each.verdict == "lost" else each.verdict
        for each in answers
    }
    with ExitStack() as stack:
        world = World(stage, "new", stack)
        with on_one_processor():
            seen = {print_packet(packet): world.verdict(packet) for packet in asked}
    assert said == seen
    assert len(set(said.values())) > 1


TRACE = re.compile(r"trace id \w+ (\S+) (\S+) (\S+) (?:rule .*\(verdict (.*)\)|policy (\w+))\s*$")


class Monitor:
    """`nft monitor trace` in a node, read up to the frame behind a question."""

    def __init__(self, process: subprocess.Popen[bytes], prober: Prober) -> None:
        assert process.stdout is not None
        self.fd = process.stdout.fileno()
        self.prober = prober
        self.heard = ""

    def begin(self, packet: Packet) -> None:
        """It says nothing when it begins to listen: ask until it has heard a question."""
        for _ in range(400):
            self.prober.ask((packet,))
            if select.select([self.fd], [], [], 0.05)[0]:
                self.until_told()
                return
        raise AssertionError("nft monitor hears nothing")

    def until_told(self) -> str:
        """What it has said since the last time."""
        source = (SENTINEL + self.prober._batch.to_bytes(3)).hex().lstrip("0")
        end = re.compile(rf"@ll,0,112 0x{source}0800 .*\n.*verdict drop\)\s*\n")
        while not (found := end.search(self.heard)):
            assert select.select([self.fd], [], [], 20)[0], self.heard
            self.heard += os.read(self.fd, 1 << 16).decode()
        said, self.heard = self.heard[: found.end()], self.heard[found.end() :]
        return said


def test_nft_monitor_says_the_same_way(stage: Stage) -> None:
    node = stage.nodes["new"]
    replace(node, Ruleset(nft=NFT, iptables=SAVED))
    enter = ("nsenter", "-t", str(node.pid), "-U", "-n", "--preserve-credentials")
    command = (*enter, "nft", "monitor", "trace")
    asked = packets(*ON_THE_WIRE, "tcp 10.0.0.1:1 -> 10.0.0.9:5 out uid 33")
    with Prober(stage, "new") as prober, subprocess.Popen(command, stdout=subprocess.PIPE) as nft:
        try:
            monitor = Monitor(nft, prober)
            monitor.begin(asked[0])
            ways = [(prober.ask((packet,))[0], monitor.until_told()) for packet in asked]
        finally:
            nft.terminate()
    for answer, text in ways:
        told = [TRACE.search(line) for line in text.splitlines()]
        way = [
            (found[1], found[2], found[3], found[4] or found[5])
            for found in told
            if found is not None and found[2] != "hostlab_trace"
        ]
        assert way == [
            (step.family, step.table, step.chain, step.verdict.replace("reject", "drop"))
            for step in answer.steps
        ], print_packet(answer.packet)
    assert sum(len(answer.steps) for answer, _ in ways) > len(ways)


SOURCES = ("198.51.100.7", "203.0.113.77", "10.0.0.9")
PORTS = (22, 80, 443)
PROTOCOLS = ("tcp", "udp", "icmp")
CHAINS = ("INPUT", "FORWARD", "ONE", "TWO")
DESTINATIONS = ("203.0.113.10", "10.0.0.1", "192.0.2.9")


class Rule(NamedTuple):
    """What a random rule demands, None where it does not, and where it leads."""

    source: str | None
    protocol: str | None
    port: int | None
    interface: str | None
    state: str | None
    target: str

    def demands(self, packet: Packet) -> bool:
        """Whether the packet is meant."""
        pairs = (
            (self.source, packet.source),
            (self.protocol, packet.protocol.value),
            (self.port, packet.destination_port),
            (self.interface, packet.interface),
            (self.state, packet.state.value),
        )
        return all(wanted is None or wanted == found for wanted, found in pairs)

    def saved(self, chain: str) -> str:
        """For iptables-restore."""
        words = [f"-A {chain}"]
        words += [f"-s {self.source}"] if self.source else []
        words += [f"-i {self.interface}"] if self.interface else []
        words += [f"-p {self.protocol}"] if self.protocol else []
        words += [f"--dport {self.port}"] if self.port else []
        words += [f"-m conntrack --ctstate {self.state.upper()}"] if self.state else []
        return " ".join([*words, f"-j {self.target}"])

    def nft(self) -> str:
        """For nft."""
        words = [f"ip saddr {self.source}"] if self.source else []
        words += [f'iifname "{self.interface}"'] if self.interface else []
        words += [f"meta l4proto {self.protocol}"] if self.protocol else []
        words += [f"{self.protocol} dport {self.port}"] if self.port else []
        words += [f"ct state {self.state}"] if self.state else []
        jump = f"jump {self.target}" if self.target in CHAINS else self.target.lower()
        return " ".join([*words, jump])


@st.composite
def rules(draw: st.DrawFn, chain: str) -> Rule:
    protocol = draw(st.none() | st.sampled_from(PROTOCOLS))
    has_port = protocol in ("tcp", "udp") and draw(st.booleans())
    further = CHAINS[CHAINS.index(chain) + 1 :] if chain != "INPUT" else CHAINS[2:]
    return Rule(
        source=draw(st.none() | st.sampled_from(SOURCES)),
        protocol=protocol,
        port=draw(st.sampled_from(PORTS)) if has_port else None,
        interface=draw(st.none() | st.sampled_from(("wan0", "lan0"))),
        state=draw(st.none() | st.sampled_from(("new", "established", "related", "invalid"))),
        target=draw(st.sampled_from(("ACCEPT", "DROP", "REJECT", "RETURN", *further))),
    )


Rules = dict[str, list[Rule]]
RULES = st.fixed_dictionaries({chain: st.lists(rules(chain), max_size=5) for chain in CHAINS})
POLICIES = st.sampled_from(("ACCEPT", "DROP"))


def judged(held: Rules, policy: str, packet: Packet, chain: str) -> str:
    """The model: what rules make of a packet, `return` of a chain that leaves it alone."""
    for rule in held[chain]:
        if not rule.demands(packet):
            continue
        end = rule.target.lower()
        if rule.target in CHAINS:
            end = judged(held, "return", packet, rule.target)
            if end == "return":
                continue
        return policy if end == "return" and policy != "return" else end
    return policy


def asked_of(states: tuple[str, ...]) -> list[Packet]:
    found = []
    for source, interface in ((SOURCES[0], "wan0"), (SOURCES[1], "wan0"), (SOURCES[2], "lan0")):
        for destination in DESTINATIONS:
            for state in states:
                for port in (*PORTS, 9):
                    for protocol in ("tcp", "udp"):
                        ends = f"{source}:7 -> {destination}:{port}"
                        found.append(parse_packet(f"{protocol} {ends} in {interface} {state}"))
                ends = f"icmp {source} -> {destination} in {interface}"
                found.append(parse_packet(f"{ends} {state}"))
    return found


ASKED = asked_of(("new", "established", "related", "invalid"))


def _loadable(held: Rules, policy: str, kind: str) -> Ruleset:
    if kind != "nft":
        lines = [
            f":INPUT {policy} [0:0]",
            f":FORWARD {policy} [0:0]",
            ":ONE - [0:0]",
            ":TWO - [0:0]",
        ]
        lines += [rule.saved(chain) for chain in CHAINS for rule in held[chain]]
        return Ruleset(**{kind: "\n".join(["*filter", *lines, "COMMIT", ""])})
    text = ""
    for chain in reversed(CHAINS):
        head = f"type filter hook {chain.lower()} priority 0; policy {policy.lower()};\n"
        body = "".join(f"{rule.nft()}\n" for rule in held[chain])
        text += f"chain {chain} {{\n{head if chain in CHAINS[:2] else ''}{body}}}\n"
    return Ruleset(nft=f"table ip f {{\n{text}}}\n")


@settings(
    max_examples=RULESETS,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(held=RULES, policy=POLICIES, kind=st.sampled_from(("iptables", "legacy_iptables", "nft")))
def test_a_model_agrees_about_random_rulesets(
    stage: Stage, held: Rules, policy: str, kind: str
) -> None:
    replace(stage.nodes["new"], _loadable(held, policy, kind))
    with Prober(stage, "new") as prober:
        answers = prober.ask(ASKED)
    for packet, answer in zip(ASKED, answers, strict=True):
        hook = "FORWARD" if packet.destination == DESTINATIONS[2] else "INPUT"
        end = judged(held, policy.lower(), packet, hook)
        assert answer.verdict == end, f"{print_packet(packet)}: {answer.steps}"
