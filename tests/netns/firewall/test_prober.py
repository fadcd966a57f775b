"""Asking: verdicts, rules, NAT and states, in nf_tables and in legacy iptables."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hostlab.errors import Failed, UsageError
from hostlab.firewall.answer import Answer, Verdict
from hostlab.firewall.listing import without_counters
from hostlab.firewall.packet import print_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage
from hostlab.linux import conntrack
from tests.netns.firewall.prober_site import TARGET, packets, replace
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

SAVED = """\
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:SSH - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j REJECT
-A INPUT -p tcp --dport 22 -j SSH
-A INPUT -i lo -j ACCEPT
-A SSH -s 198.51.100.7 -j ACCEPT
-A SSH -j REJECT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -d 10.0.0.9 -j ACCEPT
-A FORWARD -j DROP
-A OUTPUT -m owner --uid-owner 33 -j REJECT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp --dport 81 -j DNAT --to 10.0.0.9:80
-A POSTROUTING -o lan0 -j MASQUERADE
COMMIT
"""
CASES = {
    "tcp 198.51.100.7:1 -> 203.0.113.10:22 in wan0": "accept SSH 1",
    "tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0": "reject SSH 2",
    "tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0 established": "accept INPUT 1",
    "tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0 related": "accept INPUT 1",
    "udp 203.0.113.10:22 -> 198.51.100.8:1 in wan0 established": "lost",
    "udp 198.51.100.8:1 -> 203.0.113.10:22 in wan0 established": "accept INPUT 1",
    "udp 198.51.100.8:1 -> 203.0.113.10:22 in wan0 invalid": "reject INPUT 2",
    "tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0 invalid": "reject INPUT 2",
    "icmp 198.51.100.8 -> 203.0.113.10 in wan0": "drop INPUT 0",
    "icmp 198.51.100.8 -> 203.0.113.10 in wan0 type echo-reply established": "accept INPUT 1",
    "icmp 198.51.100.8 -> 203.0.113.10 in wan0 type destination-unreachable related": (
        "accept INPUT 1"
    ),
    "tcp 198.51.100.8:1 -> 203.0.113.10:81 in wan0": (
        "accept FORWARD 2 lan0 tcp 10.0.0.1:1 -> 10.0.0.9:80 in wan0"
    ),
    "udp 198.51.100.8:1 -> 8.8.8.8:81 in wan0": "drop FORWARD 3",
    "udp 127.0.0.1:1 -> 8.8.8.8:81 in wan0": "lost",
    "tcp 10.0.0.1:1 -> 10.0.0.9:81 out": "accept OUTPUT 0 lan0",
    "tcp 10.0.0.1:1 -> 10.0.0.9:81 out uid 33": "reject OUTPUT 1",
    "tcp 10.0.0.1:1 -> 10.0.0.1:81 out": "accept INPUT 4",
    "tcp 127.0.0.1:1 -> 127.0.0.1:81 in lo": "accept INPUT 4",
    "tcp [2001:db8::9]:1 -> [2001:db8::10]:22 in wan0": "accept",
    "icmp 2001:db8::9 -> 2001:db8::10 in wan0": "accept",
    "tcp [2001:db8::9]:1 -> [fd00::9]:22 in wan0": "accept lan0",
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
        with Stage(TARGET, ("new",)) as found:
            # A node's supervisor starts with the first command: of the stage, not of a test.
            found.nodes["new"].shell("true")
            yield found


def short(answer: Answer) -> str:
    words = [answer.verdict.value]
    step = answer.decided_by
    if step is not None:
        words += [step.chain, str(step.number)]
    if answer.left_by:
        words.append(answer.left_by)
    if answer.left_as:
        words.append(print_packet(answer.left_as))
    return " ".join(words)


@pytest.mark.parametrize("part", ["iptables", "legacy_iptables"])
def test_each_packet_ends_where_its_rule_says(stage: Stage, part: str) -> None:
    replace(stage.nodes["new"], Ruleset(**{part: SAVED}))
    before = without_counters(stage.nodes["new"].read())
    with Prober(stage, "new") as prober:
        answers = prober.ask(packets(*CASES))
        alone = [prober.ask((each.packet,))[0] for each in answers]
        assert without_counters(stage.nodes["new"].read()) == before
    found = {print_packet(each.packet): short(each) for each in answers}
    assert found == {print_packet(packets(text)[0]): end for text, end in CASES.items()}
    assert [short(each) for each in alone] == [short(each) for each in answers]
    seen = {each.seen_by for each in answers if each.steps}
    assert seen == {"nft trace" if part == "iptables" else "TRACE"}
    assert without_counters(stage.nodes["new"].read()) == before
    assert b"hostlab" not in stage.nodes["new"].shell("nft list ruleset").stdout


def test_the_way_is_told_rule_by_rule(stage: Stage) -> None:
    replace(stage.nodes["new"], Ruleset(iptables=SAVED))
    with Prober(stage, "new") as prober:
        (answer,) = prober.ask(packets("tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0"))
    assert [(step.table, step.chain, step.number, step.verdict) for step in answer.steps] == [
        ("nat", "PREROUTING", 0, "accept"),
        ("filter", "INPUT", 3, "jump SSH"),
        ("filter", "SSH", 2, "reject"),
    ]
    assert answer.decided_by == answer.steps[-1]
    assert answer.steps[1].rule == "-A INPUT -p tcp -m tcp --dport 22 -j SSH"


NFT = """\
table inet f {
	set good {
		type ipv4_addr
		elements = { 198.51.100.7 }
	}
	chain early {
		type filter hook prerouting priority raw; policy accept;
		ip saddr 198.51.100.66 drop
	}
	chain in {
		type filter hook input priority filter; policy drop;
		meta nfproto ipv6 tcp dport { 22, 80 } accept
		tcp dport vmap { 22 : jump ssh, 23 : drop, 24 : accept }
		udp dport 53 counter accept comment "a reject that is none"
		udp dport 54 reject with icmpx admin-prohibited
	}
	chain ssh {
		ip saddr @good counter accept
		return
	}
	chain out {
		type filter hook output priority filter; policy accept;
		meta mark != 0 drop
		meta skuid 33 drop
	}
	chain nat {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 26 redirect to :24
	}
}
table netdev n {
	chain lowest {
		type filter hook ingress device "wan0" priority 0; policy accept;
		ip saddr 198.51.100.67 drop
	}
	chain last {
		type filter hook egress device "lan0" priority 0; policy accept;
		udp dport { 9, 10 } drop
	}
}
"""


def test_tables_of_nft(stage: Stage) -> None:
    replace(stage.nodes["new"], Ruleset(nft=NFT))
    cases = {
        "tcp 198.51.100.7:1 -> 203.0.113.10:22 in wan0": "accept ssh 1",
        "tcp 198.51.100.8:1 -> 203.0.113.10:22 in wan0": "drop in 0",
        "tcp 198.51.100.8:1 -> 203.0.113.10:23 in wan0": "drop in 2",
        "tcp 198.51.100.8:1 -> 203.0.113.10:24 in wan0": "accept in 2",
        "tcp 198.51.100.66:1 -> 203.0.113.10:24 in wan0": "drop early 1",
        "tcp 198.51.100.67:1 -> 203.0.113.10:24 in wan0": "drop lowest 1",
        "udp 198.51.100.8:1 -> 203.0.113.10:53 in wan0": "accept in 3",
        "udp 198.51.100.8:1 -> 203.0.113.10:54 in wan0": "reject in 4",
        "udp 198.51.100.8:1 -> 203.0.113.10:55 in wan0": "drop in 0",
        "tcp [2001:db8::9]:1 -> [2001:db8::10]:80 in wan0": "accept in 1",
        "tcp 198.51.100.8:1 -> 203.0.113.10:26 in wan0": (
            "accept in 2 tcp 198.51.100.8:1 -> 203.0.113.10:24 in wan0"
        ),
        "udp 198.51.100.8:1 -> 10.0.0.9:8 in wan0": "accept last 0 lan0",
        "udp 198.51.100.8:1 -> 10.0.0.9:9 in wan0": "drop last 1",
        "udp 10.0.0.1:1 -> 10.0.0.9:10 out": "drop last 1",
        "udp 10.0.0.1:1 -> 10.0.0.9:11 out": "accept out 0 lan0",
        "udp 10.0.0.1:1 -> 10.0.0.9:11 out uid 33": "drop out 2",
    }
    with Prober(stage, "new") as prober:
        answers = prober.ask(packets(*cases))
        assert list(conntrack.entries(prober._wires.conntrack)) == []
    assert {print_packet(each.packet): short(each) for each in answers} == cases
    assert answers[0].steps[-1].rule == "ip saddr @good counter accept"
    assert answers[-4].steps[-1].rule == "udp dport { 9, 10 } drop"
    listed = stage.nodes["new"].shell("nft list tables").stdout.decode()
    assert listed == "table inet f\ntable netdev n\n"


def test_both_kinds_of_rules_at_once_are_told_in_order(stage: Stage) -> None:
    legacy = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 23 -j DROP\nCOMMIT\n"
    replace(
        stage.nodes["new"], Ruleset(nft=NFT.partition("table netdev")[0], legacy_iptables=legacy)
    )
    with Prober(stage, "new") as prober:
        cases = packets(
            "tcp 198.51.100.8:1 -> 203.0.113.10:24 in wan0",
            "tcp 198.51.100.8:1 -> 203.0.113.10:23 in wan0",
            "tcp 198.51.100.66:1 -> 203.0.113.10:23 in wan0",
        )
        accepted, dropped, early = prober.ask(cases)
    assert (accepted.verdict, accepted.seen_by) == (Verdict.ACCEPT, "nft trace and TRACE")
    assert dropped.verdict is Verdict.DROP
    assert (early.verdict, early.seen_by) == (Verdict.DROP, "nft trace")


def test_no_question_changes_the_answer_to_the_next(stage: Stage) -> None:
    """Connections end with their question: in a batch, between batches, in either direction."""
    rules = SAVED.replace("-A INPUT -m conntrack --ctstate INVALID", "-A INPUT -s 1.2.3.4")
    replace(stage.nodes["new"], Ruleset(iptables=rules))
    there = "198.51.100.8:1 -> 203.0.113.10:99"
    back = "203.0.113.10:99 -> 198.51.100.8:1"
    texts = [
        f"udp {there} in wan0",
        f"udp {there} in wan0 established",
        f"udp {there} in wan0",
        f"udp {there} in wan0 related",
        f"udp {back} out",
        f"udp {there} in wan0",
        f"udp {back} out established",
        f"udp {there} in wan0 established",
    ]
    with Prober(stage, "new") as prober:
        for _ in range(2):
            for order in (texts, texts[::-1]):
                found = {print_packet(a.packet): a.verdict for a in prober.ask(packets(*order))}
                assert found == {
                    texts[0]: "drop",
                    texts[1]: "accept",
                    texts[3]: "accept",
                    texts[4]: "accept",
                    texts[6]: "accept",
                }
        assert list(conntrack.entries(prober._wires.conntrack)) == []


def test_two_hundred_at_once_are_told_apart(stage: Stage) -> None:
    replace(stage.nodes["new"], Ruleset(iptables=SAVED))
    asked = packets(
        *(
            f"tcp 198.51.100.{number % 9}:{number} -> 203.0.113.10:{22 + number % 2} in wan0"
            for number in range(1, 201)
        )
    )
    with Prober(stage, "new") as prober:
        answers = prober.ask(asked)
    assert [each.packet for each in answers] == list(asked)
    for packet, answer in zip(asked, answers, strict=True):
        wanted = "drop" if packet.destination_port == 23 else "reject"
        if packet.destination_port == 22 and packet.source == "198.51.100.7":
            wanted = "accept"
        assert answer.verdict == wanted


def test_the_copy_of_what_goes_to_all_is_not_taken_for_a_packet_before(stage: Stage) -> None:
    """A copy may have the identity that the packet before it had; found by a random pair."""
    chain = "chain c {\ntype filter hook output priority 0;\nct state new reject\n}\n"
    replace(stage.nodes["new"], Ruleset(nft=f"table ip f {{\n{chain}}}\n"))
    to_all = "tcp 198.51.100.1:7 -> 10.0.0.255:9 out"
    frame = "udp 198.51.100.1:7 -> 10.0.0.9:9 in wan0"
    asked = packets(*(to_all, frame, f"{to_all} invalid flags A", frame) * 50)
    with Prober(stage, "new") as prober:
        verdicts = [each.verdict.value for each in prober.ask(asked)]
    assert verdicts == ["reject", "accept", "accept", "accept"] * 50


def test_what_cannot_be_asked_is_said(stage: Stage) -> None:
    replace(stage.nodes["new"], Ruleset())
    with Prober(stage, "new") as prober:
        with pytest.raises(UsageError, match="no interface 'eth7'") as caught:
            prober.ask(packets("tcp 1.2.3.4:1 -> 1.2.3.5:2 in eth7"))
        assert caught.value.hint == "the target has wan0, lan0"
        with pytest.raises(UsageError, match="Message too long"):
            prober.ask(packets("udp 10.0.0.1:1 -> 10.0.0.5:2 out length 9000"))
        (answer,) = prober.ask(packets("udp 10.0.0.1:1 -> 10.0.0.5:2 out length 900"))
        assert answer.verdict is Verdict.ACCEPT


def test_more_rules_than_can_be_told_are_an_error_and_no_verdict(stage: Stage) -> None:
    rules = "ip saddr 198.51.100.7 counter\n" * 100
    hook = "type filter hook input priority 0;\n"
    replace(stage.nodes["new"], Ruleset(nft=f"table ip f {{\nchain i {{\n{hook}{rules}}}\n}}\n"))
    many = packets("udp 198.51.100.7:1 -> 203.0.113.10:2 in wan0")
    few = packets("udp 198.51.100.8:1 -> 203.0.113.10:2 in wan0")
    with Prober(stage, "new") as prober:
        (answer,) = prober.ask(many)
        assert len(answer.steps) == 101
        prober._wires.trace.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        with pytest.raises(Failed, match="passes more rules than there is room to tell"):
            prober.ask(many)
        (answer,) = prober.ask(few)
        assert (answer.verdict, len(answer.steps)) == (Verdict.ACCEPT, 1)
