"""Who may reach what: a file's lines as cells, what packets say of them, and the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser

import pytest

from hostlab.errors import SpecErrors
from hostlab.firewall.answer import Answer, Step, Verdict
from hostlab.firewall.expectations import read_expectations, read_zones
from hostlab.firewall.matrix import OTHER, Matrix, State, made
from hostlab.firewall.matrix_page import SYMBOLS, page
from hostlab.firewall.packet import Packet, print_packet
from hostlab.firewall.target import Target, TargetInterface

pytestmark = pytest.mark.unit

TARGET = Target(
    interfaces=(
        TargetInterface(name="eth0", addresses=("203.0.113.10/24",)),
        TargetInterface(name="eth1", addresses=("10.0.0.1/24",)),
    )
)
FILE = """\
services:
  dns: [udp/53, tcp/53]
zones:
  wan: {interface: eth0, hosts: 198.51.100.7}
  lan: {interface: eth1, hosts: 10.0.0.9}
expect:
  - wan -> host: [ssh]
  - lan -> host: {accept: [ssh, dns], else: reject}
  - lan -> wan: {else: accept}
"""
RULE = Step(family="inet", table="t", chain="<in>", rule='comment "a & b"', number=3)


def matrix(decide: Callable[[Packet], Verdict], text: str = FILE) -> Matrix:
    """The matrix of a ruleset that is a function."""

    def ask(packets: Iterable[Packet]) -> tuple[Answer, ...]:
        return tuple(Answer(packet=each, verdict=decide(each), decided_by=RULE) for each in packets)

    zones, lines = read_zones(text, file="z.yaml", target=TARGET)
    return made(zones, lines, ask)


def states(found: Matrix, source: str, destination: str) -> dict[str, State]:
    return {
        key[2]: cell.state for key, cell in found.cells.items() if key[:2] == (source, destination)
    }


def as_meant(packet: Packet) -> Verdict:
    if packet.source == "10.0.0.9":
        if packet.destination == "198.51.100.7":
            return Verdict.ACCEPT
        return Verdict.ACCEPT if packet.destination_port in (22, 53) else Verdict.REJECT
    is_ssh = (packet.protocol, packet.destination_port) == ("tcp", 22)
    return Verdict.ACCEPT if is_ssh and packet.destination == "203.0.113.10" else Verdict.DROP


def test_cells_of_what_is_as_meant() -> None:
    found = matrix(as_meant)
    assert not found.wrong
    assert not found.differences
    assert found.zones == ("wan", "lan", "host")
    assert found.services == ("dns", "ssh", OTHER)
    shut = {"dns": State.SHUT, OTHER: State.SHUT}
    assert states(found, "wan", "host") == {"ssh": State.OPEN, **shut}
    assert states(found, "lan", "host") == {
        "dns": State.OPEN,
        "ssh": State.OPEN,
        OTHER: State.SHUT,
    }
    assert set(states(found, "lan", "wan").values()) == {State.OPEN}
    # Nothing is said of these, so all is denied.
    assert states(found, "wan", "lan") == {"ssh": State.SHUT, **shut}
    assert found.cells["wan", "lan", "ssh"].place is None
    assert str(found.cells["wan", "host", "ssh"].place) == "z.yaml:7:5"
    assert ("wan", "wan", "ssh") not in found.cells


def test_what_is_open_and_should_not_be_comes_first() -> None:
    def decide(packet: Packet) -> Verdict:
        if packet.source == "198.51.100.7" and packet.destination_port == 22:
            return Verdict.LOST
        if packet.source == "10.0.0.9" and packet.destination_port == 3306:
            return Verdict.ACCEPT
        return as_meant(packet)

    found = matrix(decide)
    told = [(each.first.state, each.first.source, each.services) for each in found.differences]
    assert told == [
        (State.LEAK, "lan", (OTHER,)),
        (State.BROKEN, "wan", ("ssh",)),
    ]
    (cause,) = found.differences[0].causes
    assert print_packet(cause.sample.answer.packet).endswith("10.0.0.1:3306 in eth1")
    assert cause.count == 1


def test_a_reject_that_should_be_a_drop_is_a_difference() -> None:
    text = FILE.replace("- wan -> host: [ssh]", "- wan -> host: {accept: ssh, else: drop}")

    def decide(packet: Packet) -> Verdict:
        found = as_meant(packet)
        return Verdict.REJECT if found is Verdict.DROP else found

    found = matrix(decide, text)
    assert {each.first.source for each in found.differences} == {"wan"}
    assert {each.first.state for each in found.differences} == {State.BROKEN}


def test_a_service_that_is_partly_meant_to_be_reached() -> None:
    text = FILE.replace("[ssh]", "[ssh, tcp/53]")

    def decide(packet: Packet) -> Verdict:
        asked = (packet.protocol, packet.destination_port)
        if packet.destination == "203.0.113.10" and asked == ("tcp", 53):
            return Verdict.ACCEPT
        return as_meant(packet)

    found = matrix(decide, text)
    assert states(found, "wan", "host")["dns"] is State.PARTLY
    assert not found.wrong


def test_prove_reads_the_same_lines() -> None:
    found = read_expectations(FILE, file="z.yaml", target=TARGET)
    told = [f"{each.end} {print_packet(each.packet)}" for each in found]
    assert "accept udp 10.0.0.9:40001 -> 10.0.0.1:53 in eth1" in told
    assert "deny tcp 198.51.100.7:40001 -> 203.0.113.10:23 in eth0" in told
    assert "accept tcp 198.51.100.7:40001 -> 203.0.113.10:22 in eth0" in told


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("[ssh]", "[sshh]"), "7:19: `sshh` is neither one of `services` nor one of"),
        (("wan -> host", "wam -> host"), "7:5: there is no zone `wam`"),
        (("udp/53", "udp/no such"), "2:9: `udp/no such` is no service"),
        (("zones:", "rooms:"), "3:1: "),
    ],
)
def test_mistakes_have_their_place(change: tuple[str, str], error: str) -> None:
    with pytest.raises(SpecErrors) as raised:
        read_zones(FILE.replace(*change), file="z.yaml", target=TARGET)
    assert any(f"z.yaml:{error}" in str(each) for each in raised.value.errors), raised.value.errors


class _Page(HTMLParser):
    """What tags a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_says_all() -> None:
    found = matrix(lambda packet: Verdict.ACCEPT)
    text = page(found, ruleset="<rules>.sh", intent="z & z.yaml")
    tags = _Page(text).tags
    assert not [tag for tag, attributes in tags if "src" in attributes or tag == "link"]
    assert "url(" not in text
    assert "@import" not in text
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert links
    assert all(link and link.startswith("#") and link[1:] in ids for link in links)
    assert len(ids) == len(found.cells) + 1
    assert "<rules>" not in text
    assert "&lt;rules&gt;.sh" in text
    assert "inet t &lt;in&gt; 3: comment &quot;a &amp; b&quot;" in text
    assert text.index("Differences") < text.index("<table")


def test_colour_never_stands_alone() -> None:
    assert len(set(SYMBOLS.values())) == len(State)
    text = page(matrix(as_meant), ruleset="r", intent="z")
    squares = re.findall(r"<td><a class=(\w+) href=\"#c\d+\" aria-label=\"([^\"]+)\">(.)</a>", text)
    assert squares
    for state, said, symbol in squares:
        assert symbol == SYMBOLS[State(state)]
        assert "as meant" in said
    assert "all is as meant" in text
    assert "<h2>Differences" not in text
