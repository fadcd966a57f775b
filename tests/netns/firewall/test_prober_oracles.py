"""What is answered held against others who know: sockets on the wire, nft itself, a model."""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from hostlab.firewall.answer import Verdict
from hostlab.firewall.packet import Packet, print_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage
from hostlab.firewall.witnesses import SENTINEL
from tests.netns.firewall import random_filters
from tests.netns.firewall.filter_model import outcome, outcome_of, printed
from tests.netns.firewall.prober_site import TARGET, World, on_one_processor, packets, replace
from tests.netns.firewall.test_prober import NFT, SAVED
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

RULESETS = int(os.environ.get("HOSTLAB_RULESETS", "8"))
"""Random rulesets that are asked of."""
ASKED = 300
"""Random packets, of each of them."""


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


def test_a_model_agrees_about_random_rulesets(stage: Stage) -> None:
    for number in range(RULESETS):
        rng = Random(f"ruleset {number}")
        held = random_filters.drawn(rng)
        replace(stage.nodes["new"], printed(held))
        asked = tuple(random_filters.packets(rng, (held,), ASKED))
        with Prober(stage, "new") as prober:
            answers = prober.ask(asked)
        for answer in answers:
            said = f"ruleset {number}: {print_packet(answer.packet)}: {answer.steps}"
            assert outcome_of(answer) == outcome(held, answer.packet), said
