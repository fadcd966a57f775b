"""Expectations as a file says them: packets, zones, and every mistake with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.firewall.answer import Answer, Step, Verdict
from hostlab.firewall.expectations import Expected, failure, read_expectations
from hostlab.firewall.packet import parse_packet, print_packet
from hostlab.firewall.target import Target, TargetInterface

pytestmark = pytest.mark.unit

TARGET = Target(
    interfaces=(
        TargetInterface(name="eth0", addresses=("203.0.113.10/24", "2001:db8::10/64")),
        TargetInterface(name="eth1", addresses=("10.0.0.1/24",)),
    )
)
ZONES = """\
zones:
  wan: {interface: eth0, hosts: 198.51.100.7}
  lan: {interface: eth1, hosts: [10.0.0.0/24, "fd00::9"]}
"""


def read(text: str) -> tuple[Expected, ...]:
    return read_expectations(text, file="e.yaml", target=TARGET)


def told(found: tuple[Expected, ...]) -> list[str]:
    return [f"{each.end} {print_packet(each.packet)}" for each in found]


def test_a_list_of_packets() -> None:
    found = read(
        "- accept: tcp 198.51.100.7 -> 203.0.113.10:22 in eth0\n"
        "  by: SSH\n"
        "- {deny: 'tcp [2001:db8::7]:1 -> [2001:db8::10]:ssh in eth0', leaves: eth1}\n"
        "- drop: udp 10.0.0.1:1 -> 10.0.0.2:53 out\n"
        "  nat: from 10.0.0.1 to [fd00::1]:80\n"
    )
    assert told(found) == [
        "accept tcp 198.51.100.7:40000 -> 203.0.113.10:22 in eth0",
        "deny tcp [2001:db8::7]:1 -> [2001:db8::10]:22 in eth0",
        "drop udp 10.0.0.1:1 -> 10.0.0.2:53 out",
    ]
    assert (found[0].by, found[1].leaves) == ("SSH", "eth1")
    assert found[2].nat is not None
    assert (found[2].nat.source, found[2].nat.destination) == ("10.0.0.1", "fd00::1")
    assert (found[2].nat.source_port, found[2].nat.destination_port) == (0, 80)
    assert str(found[2].place) == "e.yaml:4:3"


def test_zones() -> None:
    found = read(ZONES + "expect:\n- wan -> host: {accept: [tcp/22, tcp/8000-8010], else: drop}\n")
    ends = "198.51.100.7:40001 -> 203.0.113.10"
    assert told(found) == [
        *(f"accept tcp {ends}:{port} in eth0" for port in (22, 8000, 8010)),
        "drop icmp 198.51.100.7 -> 203.0.113.10 in eth0",
        *(
            f"drop tcp {ends}:{port} in eth0"
            for port in (21, 23, 80, 443, 3306, 7999, 8011, 8080, 40000)
        ),
        *(f"drop udp {ends}:{port} in eth0" for port in (53, 123, 161, 5353, 40000)),
    ]
    found = read(
        ZONES + "host: [192.0.2.1, '2001:db8:1::1']\nexpect:\n"
        "- lan → wan: {accept: tcp/https}\n- host -> lan: {reject: icmp}\n"
    )
    assert told(found) == [
        "accept tcp 10.0.0.1:40001 -> 198.51.100.7:443 in eth1",
        "reject icmp 192.0.2.1 -> 10.0.0.1 out",
        "reject icmp 2001:db8:1::1 -> fd00::9 out",
    ]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["there is no expectation"]),
        ("word", ["expectations belong here"]),
        ("- acept: tcp 1.2.3.4 -> 1.2.3.5:2 out", ["1:3: unknown key `acept`"]),
        ("- by: x", ["1:3: no end is expected"]),
        ("- accept: a\n  drop: b", ["1:11: no protocol 'a'", "only one of `accept`"]),
        ("- accept: tcp 1.2.3.4 -> 1.2.3.5 out", ["1:26: a port is missing"]),
        ("- accept: 'tcp 1.2.3.4 -> 1.2.3.5 out'", ["1:27: a port is missing"]),
        ("- accept: tcp 1.2.3.4 -> 1.2.3.5:2 out\n  nat: at home", ["2:8: `at home` is no NAT"]),
        (
            ZONES + "expect:\n- wan -> lam: {accept: tcp/22}\n- wan -> lan: {accept: ftp/22}",
            ["5:3: there is no zone `lam`", "6:24: `ftp/22` is no service"],
        ),
        (ZONES + "expect:\n- wan -> lan: {else: drp}", ["5:22: `drp` is none of"]),
        ("zones:\n  a: {interface: e}\nexpect: []", ["`hosts` is missing"]),
        (ZONES.replace("10.0.0.0/24", "10.0.0.1/24") + "expect: []", ["`10.0.0.1/24` is no pre"]),
        (ZONES + "expect:\n- host -> host: {accept: tcp/1}", ["from the host to itself"]),
        (ZONES + "host: fd00::1\nexpect:\n- wan -> host: {else: drop}", ["no addresses of one"]),
        (ZONES + "expect:\n- wan -> host: {accept: tcp/99999}", ["no port between 1 and 65535"]),
        (ZONES + "expect:\n- wan -> host: {accept: tcp/80-70}", ["the lower one first"]),
    ],
)
def test_every_mistake_is_told_with_its_place(text: str, errors: list[str]) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(text)
    said = [str(each) for each in caught.value.errors]
    assert len(said) == len(errors), said
    for one, wanted in zip(said, errors, strict=True):
        assert wanted in one
        assert one.startswith("e.yaml:")


@given(
    st.recursive(
        st.sampled_from(
            ("accept", "wan -> host", "tcp/22", "zones", "drop", "hosts", "x", "7", "")
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(("accept", "expect", "zones", "wan -> host", "wan", "else", "nat")),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_stands_there_is_read_or_refused(tree: object) -> None:
    import json

    try:
        read(json.dumps(tree))
    except SpecErrors as errors:
        found = errors.errors
    else:
        found = ()
    assert all(each.where is not None for each in found)


def answer(verdict: Verdict, **more: object) -> Answer:
    packet = parse_packet("tcp 1.2.3.4:1 -> 1.2.3.5:2 in a")
    return Answer(packet=packet, verdict=verdict, **more)  # type: ignore[arg-type]  # by name


def test_what_is_not_as_expected_is_said() -> None:
    text = "tcp 1.2.3.4:1 -> 1.2.3.5:2 in a"
    step = Step(family="ip", table="filter", chain="SSH", rule="-A SSH -j ACCEPT")
    left = parse_packet("tcp 1.2.3.4:1 -> 9.9.9.9:80 in a")

    def judged(more: str, got: Answer) -> str:
        (expected,) = read(
            f"- {{deny: '{text}'}}" if not more else f"- {{accept: '{text}', {more}}}"
        )
        return failure(expected, got)

    assert judged("", answer(Verdict.LOST)) == judged("", answer(Verdict.REJECT)) == ""
    assert judged("", answer(Verdict.ACCEPT)) == "expected deny, got accept"
    accepted = answer(Verdict.ACCEPT, decided_by=step, left_by="b", left_as=left)
    assert judged("by: SSH, leaves: b, nat: 'to 9.9.9.9'", accepted) == ""
    assert judged("nat: 'from 1.2.3.4 to 9.9.9.9:80'", accepted) == ""
    assert "to decide" in judged("by: TELNET", accepted)
    assert judged("leaves: c", accepted) == "expected to leave by c, got b"
    assert judged("leaves: c", answer(Verdict.ACCEPT)) == (
        "expected to leave by c, got it did not leave"
    )
    assert "expected other NAT" in judged("nat: 'to 9.9.9.9:81'", accepted)
    assert "expected no NAT" in judged("nat: none", accepted)


def test_a_zone_to_itself_is_asked_between_its_hosts() -> None:
    zones = "zones:\n  lan: {interface: eth1, hosts: [10.0.0.8, 10.0.0.9]}\n"
    found = read(zones + "expect:\n- lan -> lan: {accept: ssh}\n")
    assert told(found) == [
        "accept tcp 10.0.0.8:40001 -> 10.0.0.9:22 in eth1",
        "accept tcp 10.0.0.9:40001 -> 10.0.0.8:22 in eth1",
    ]
