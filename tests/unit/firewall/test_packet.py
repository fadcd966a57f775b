"""A packet's text: what is printed is what is read, and what is wrong is shown at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.firewall.packet import (
    FLAGS,
    Packet,
    Protocol,
    State,
    is_never_invalid,
    parse_packet,
    print_packet,
)

pytestmark = pytest.mark.unit

PORT = st.integers(0, 0xFFFF)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    protocol = draw(st.sampled_from(Protocol))
    address = st.ip_addresses(v=draw(st.sampled_from((4, 6)))).map(str)
    is_tcp, is_icmp = protocol is Protocol.TCP, protocol is Protocol.ICMP
    interface = draw(st.sampled_from((None, "eth0", "wan0.7", "in", "out", "é1")))
    flags = draw(st.sets(st.sampled_from(FLAGS))) if is_tcp else {"S"}
    return Packet(
        protocol=protocol,
        source=draw(address),
        destination=draw(address),
        source_port=0 if is_icmp else draw(PORT),
        destination_port=0 if is_icmp else draw(PORT),
        interface=interface,
        state=draw(st.sampled_from(State)),
        icmp_type=draw(st.integers(0, 255)) if is_icmp else 8,
        icmp_code=draw(st.integers(0, 255)) if is_icmp else 0,
        tcp_flags="".join(letter for letter in FLAGS if letter in flags),
        payload_bytes=draw(st.integers(0, 1400)),
        uid=draw(st.none() | st.integers(0, 70000)) if interface is None else None,
    )


@given(packets().filter(lambda packet: not is_never_invalid(packet)))
def test_what_is_printed_is_what_is_read(packet: Packet) -> None:
    assert parse_packet(print_packet(packet)) == packet


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["tcp", "icmp", "1.2.3.4", "1.2.3.4:5", "[::1]:x", "::1", "->", "in", "out", "type", "flags",
     "established", "uid", "7", "length", "²", "\ud800"]), max_size=9).map(" ".join))  # fmt: skip
def test_any_text_is_a_packet_or_an_error_with_its_place(text: str) -> None:
    wrong = None
    try:
        read = parse_packet(text)
    except SpecError as error:
        wrong = error
    if wrong is None:
        assert parse_packet(print_packet(read)) == read
        return
    assert wrong.where is not None
    assert 1 <= wrong.where.column <= len(text) + 1
    assert wrong.hint


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (
            "tcp 198.51.100.7 → 203.0.113.10:ssh in eth0",
            "tcp 198.51.100.7:40000 -> 203.0.113.10:22 in eth0",
        ),
        (
            "udp [2001:DB8:0::7]:5353 → [2001:db8::1]:domain in wan0 established",
            "udp [2001:db8::7]:5353 -> [2001:db8::1]:53 in wan0 established",
        ),
        (
            "icmp 198.51.100.7 -> 203.0.113.10 in eth0 type echo-request",
            "icmp 198.51.100.7 -> 203.0.113.10 in eth0",
        ),
        (
            "icmpv6 fe80::1 -> ff02::1 in a type 134",
            "icmp fe80::1 -> ff02::1 in a type nd-router-advert",
        ),
        (
            "tcp 10.0.0.1:1 -> 192.0.2.1:443 flags as out uid 33 length 9",
            "tcp 10.0.0.1:1 -> 192.0.2.1:443 out flags SA uid 33 length 9",
        ),
        ("tcp 1.2.3.4:1 -> 1.2.3.5:2 in a related", "tcp 1.2.3.4:1 -> 1.2.3.5:2 in a related"),
    ],
)  # fmt: skip
def test_short_and_long_forms(text: str, printed: str) -> None:
    assert print_packet(parse_packet(text)) == printed


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("tpc 1.2.3.4 -> 1.2.3.5:2 out", 1, "no protocol 'tpc'", "tcp, udp or icmp"),
        ("tcp 1.2.3 -> 1.2.3.5:2 out", 5, "'1.2.3' is no address", "198.51.100.7:40000"),
        ("tcp 1.2.3.4 => 1.2.3.5:2 out", 13, "-> should stand here", "as in: tcp"),
        ("tcp 1.2.3.4 -> 1.2.3.5 out", 16, "a port is missing", "1.2.3.5:443"),
        ("tcp 1.2.3.4 -> ::1 out", 16, "a port is missing", r"\[::1\]:443"),
        ("tcp 1.2.3.4 -> [::1]:2 out", 16, "one address is IPv4", "both of one family"),
        ("tcp 1.2.3.4 -> 1.2.3.5:nope out", 24, "no port 'nope'", "/etc/services"),
        ("tcp 1.2.3.4 -> 1.2.3.5:70000 out", 24, "no port '70000'", "a number"),
        ("icmp 1.2.3.4:5 -> 1.2.3.5 out", 6, "ICMP has no ports", "write 1.2.3.4"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2", 25, "where does it come from", "in IFACE"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 in", 28, "an interface is missing", "as in"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 out type 3", 30, "tcp has no type", "only ICMP has"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 in a uid 3", 36, "what arrives has no uid", "only what goes"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 out estabished", 30, "not understood", "mean established"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 out flags Q", 36, "'Q' are no flags", "letters of"),
        ("tcp 1.2.3.4 -> 1.2.3.5:2 out in a", 30, "is said twice", "leave one out"),
        ("icmp 1.2.3.4 -> 1.2.3.5 out type x", 34, "no ICMP type 'x'", "echo-reply, "),
        ("icmp fe80::1%e -> ::1 out", 6, "has no zone", "in IFACE"),
        ("", 1, "a protocol is missing", "as in"),
        ("icmp 1.2.3.4 -> 1.2.3.5 out invalid", 36, "finds no request", "another state, or `in"),
        ("icmp fe80::1 -> ::1 out invalid type 135", 41, "finds no request", "another state"),
    ],
)
def test_what_is_wrong_is_shown_at_its_place(
    text: str, column: int, message: str, hint: str
) -> None:
    with pytest.raises(SpecError, match=hint) as caught:
        parse_packet(text, file="x.yaml", line=7, column=3, whole=f"  {text}")
    assert message in caught.value.message
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (7, column + 2)
