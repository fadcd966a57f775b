"""What the probes make of bytes: certificates, NTP, SSH, UDP-Lite, ports, scripts."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError, SpecError
from hostlab.probes import certificate, dns, ntp, ssh, udplite
from hostlab.probes.ports import Ports, parse_ports, ranges
from hostlab.probes.relay import CONTROL, Form, Result, Tried, forms
from hostlab.probes.smtp import Reply
from hostlab.probes.stream import parse_server
from hostlab.probes.talking import Verb, parse, unescaped

pytestmark = pytest.mark.unit

SOURCE, TARGET = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def tlv(tag: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    size = len(data)
    head = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + head + data


def name(text: str) -> bytes:
    attribute = tlv(0x30, tlv(0x06, bytes.fromhex("550403")), tlv(0x0C, text.encode()))
    return tlv(0x30, tlv(0x31, attribute))


def made(*, before: bytes = b"240101000000Z", after: bytes = b"20510101000000Z") -> bytes:
    """RFC 5280's form, with one address and one name."""
    names = tlv(0x30, tlv(0x82, b"web"), tlv(0x87, TARGET))
    extension = tlv(0x30, tlv(0x06, bytes.fromhex("551d11")), tlv(0x04, names))
    body = tlv(
        0x30,
        tlv(0xA0, tlv(0x02, b"\x02")),
        tlv(0x02, b"\x2a"),
        tlv(0x30),
        name("issuer"),
        tlv(0x30, tlv(0x17, before), tlv(0x18, after)),
        name("subject"),
        tlv(0x30),
        tlv(0xA3, tlv(0x30, extension)),
    )
    return tlv(0x30, body, tlv(0x30), tlv(0x03))


def test_a_certificate_tells_its_names_and_dates() -> None:
    found = certificate.decode(made())
    assert (found.subject, found.issuer, found.serial) == ("subject", "issuer", "2a")
    assert found.names == ("web", "10.0.0.2")
    assert found.not_before == datetime(2024, 1, 1, tzinfo=UTC)
    assert found.not_after == datetime(2051, 1, 1, tzinfo=UTC)
    assert certificate.decode(made(before=b"500101000000Z")).not_before.year == 1950
    assert found.days_left(found.not_after.timestamp() - 86400) == 1.0


@given(st.data())
def test_a_damaged_certificate_is_an_error_or_another(data: st.DataObject) -> None:
    der = bytearray(made())
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(der[: data.draw(st.integers(0, len(der)))])
    with suppress(DecodeError):
        assert certificate.decode(cut).sha256


def test_an_answer_of_ntp() -> None:
    def stamp(seconds: int) -> bytes:
        return struct.pack("!II", seconds + 2208988800, 0)

    head = struct.pack("!BBbbIII", 0x24, 2, 6, -20, 1 << 16, 1 << 15, 0x0A000001)
    packet = head + bytes(16) + stamp(110) + stamp(111)
    found = ntp.decode(packet, sent=100.0, received=103.0)
    assert (found.stratum, found.reference, found.problem) == (2, "10.0.0.1", "")
    assert found.offset_s == 9.0
    assert found.delay_s == 2.0
    assert (found.root_delay_s, found.root_dispersion_s) == (1.0, 0.5)
    kiss = bytes([0xE4, 0]) + packet[2:12] + b"RATE" + packet[16:]
    assert ntp.decode(kiss, sent=0, received=0).problem == "it sends a kiss code: RATE"
    unsynchronised = bytes([0xE4, 0]) + packet[2:12] + bytes(4) + packet[16:]
    assert ntp.decode(unsynchronised, sent=0, received=0).problem == "it is not synchronised"
    for wrong in (packet[:40], bytes([0x23]) + packet[1:]):
        with pytest.raises(DecodeError):
            ntp.decode(wrong, sent=0, received=0)
    assert ntp.decode(packet, sent=100.0, received=100.5).delay_s == 0.0


@pytest.mark.parametrize(
    ("leap", "stratum", "reference", "told", "problem"),
    [
        (0, 1, b"GPS\0", "GPS", ""),
        (1, 15, bytes([10, 0, 0, 1]), "10.0.0.1", ""),
        (0, 16, bytes([10, 0, 0, 1]), "10.0.0.1", "it is not synchronised"),
        (3, 2, bytes([10, 0, 0, 1]), "10.0.0.1", "it is not synchronised"),
        (0, 0, b"1234", "1234", "it is not synchronised"),
    ],
)
def test_whom_a_server_of_ntp_follows(
    leap: int, stratum: int, reference: bytes, told: str, problem: str
) -> None:
    packet = bytes([leap << 6 | 0x24, stratum, 6, 0]) + bytes(8) + reference + bytes(32)
    found = ntp.decode(packet, sent=0, received=0)
    assert (found.leap, found.reference, found.problem) == (leap, told, problem)


def test_what_a_server_of_ssh_offers() -> None:
    lists = [f"list{n},other{n}".encode() for n in range(10)]
    packet = bytes([4, 20]) + bytes(16)
    packet += b"".join(len(each).to_bytes(4, "big") + each for each in lists)
    wanted = {"kex": 0, "host_keys": 1, "ciphers": 2, "macs": 4, "compression": 6}
    assert ssh.decode_offers(packet + bytes(9)) == {
        name: (f"list{n}", f"other{n}") for name, n in wanted.items()
    }
    for wrong in (packet[:-1], packet[:17], bytes([4, 21]) + packet[2:]):
        with pytest.raises(DecodeError):
            ssh.decode_offers(wrong)


@pytest.mark.parametrize(
    ("code", "is_good"), [(199, False), (200, True), (354, True), (400, False), (550, False)]
)
def test_a_reply_of_a_mail_server_is_good_when_it_was_done_or_goes_on(
    code: int, is_good: bool
) -> None:
    assert Reply(code, ("x",)).is_good == is_good


@given(st.binary(max_size=200))
def test_no_packet_confuses_ntp_or_ssh(packet: bytes) -> None:
    for decode in (
        lambda: ntp.decode(packet, sent=0, received=0),
        lambda: ssh.decode_offers(packet),
    ):
        with suppress(DecodeError):
            decode()


@pytest.mark.parametrize("length", [4, 16])
@given(st.binary(min_size=1, max_size=90), st.data())
def test_udplite_delivers_what_is_whole_where_it_is_covered(
    length: int, payload: bytes, data: st.DataObject
) -> None:
    source, target = bytes(range(length)), bytes(range(100, 100 + length))
    coverage = data.draw(st.integers(8, 8 + len(payload)))
    packet = udplite.encode(payload, source, target, ports=(7, 9), coverage=coverage)

    def delivered(packet: bytes, required: int = 0) -> bytes:
        return udplite.decode(packet, source, target, port=9, required=required)

    assert delivered(packet, coverage) == payload
    at = data.draw(st.integers(0, len(packet) - 1))
    hurt = udplite.damaged(packet, at)
    if at < coverage:
        with pytest.raises(DecodeError):
            delivered(hurt)
    else:
        assert delivered(hurt) == hurt[8:]
    with pytest.raises(DecodeError, match="demanded"):
        delivered(packet, coverage + 1)


def test_udplite_of_no_coverage_covers_all() -> None:
    packet = udplite.encode(b"abcd", SOURCE, TARGET, ports=(7, 9), coverage=12)
    whole = packet[:4] + b"\0\0" + packet[6:]
    # The coverage is itself covered, so that only a sender that said 0 sums to this.
    with pytest.raises(DecodeError, match="checksum"):
        udplite.decode(whole, SOURCE, TARGET, port=9, required=0)
    for wrong in (packet[:7], packet[:4] + b"\0\7" + packet[6:], packet[:11]):
        with pytest.raises(DecodeError):
            udplite.decode(wrong, SOURCE, TARGET, port=9, required=0)


@given(st.sets(st.integers(1, 65535), min_size=1, max_size=40))
def test_ranges_of_ports_are_read_as_they_are_written(ports: set[int]) -> None:
    assert parse_ports(ranges(ports)) == tuple(sorted(ports))


def test_hosts_and_ports() -> None:
    assert Ports.parse("[fd00::1]:22,80-82") == ("fd00::1", (22, 80, 81, 82))
    assert parse_server("fd00::1", 25) == ("fd00::1", 25)
    assert parse_server("[fd00::1]:26", 25) == ("fd00::1", 26)
    for wrong in ("web", "web:", "web:0", "web:9-8", "web:65536", "[web]:80", "a b:80"):
        with pytest.raises(ValueError, match=r"."):
            Ports.parse(wrong)
    for wrong in ("web:x", "web:0", "[web]", "a b", ""):
        with pytest.raises(ValueError, match=r"."):
            parse_server(wrong, 25)


def test_resolvers_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(dns, "RESOLV_CONF", str(file))
    with pytest.raises(dns.NoAnswer, match="No such file"):
        dns.own_resolvers()
    file.write_text("# nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.2\nnameserver fd00::1\n")
    assert dns.own_resolvers() == ("192.0.2.2", "fd00::1")
    file.write_text("search x\n")
    with pytest.raises(dns.NoAnswer, match="names no server"):
        dns.own_resolvers()


def relay_of(taken: set[str]) -> Result:
    tried = [
        Tried(form, Reply(250 if form.name in taken else 550, ("x",)), form.name in taken)
        for form in forms(ours="mail.example", address="10.0.0.1", sender="a@a", recipient="b@b")
    ]
    return Result(tried=tuple(tried), transcript=())


def test_an_open_relay_is_told_from_a_server_that_takes_any_mailbox_of_its_own() -> None:
    mine = "quoted, at the server's name"
    assert relay_of(set()).taken == ()
    assert [each.form.name for each in relay_of({mine}).taken] == [mine]
    assert relay_of({mine, CONTROL}).taken == ()
    assert [each.form.name for each in relay_of({mine, CONTROL}).doubtful] == [mine]
    assert [each.form.name for each in relay_of({"plain", CONTROL}).taken] == ["plain"]


def test_there_are_more_than_fifteen_forms_and_no_two_alike() -> None:
    found = forms(ours="mail.example", address="fd00::1", sender="a@a", recipient="b@b")
    tried = [each for each in found if each.name != CONTROL]
    assert len(tried) == len({(f.sender, f.recipient, f.brackets) for f in tried}) >= 15
    assert Form("x", "a@a", "b%b@[IPv6:fd00::1]").recipient in {each.recipient for each in found}


def test_a_script() -> None:
    text = "# hello\n\nexpect ^220 \n  send EHLO me\nsendhex 00ff\nclose\n"
    acts = parse(text.splitlines(), "x", eol=b"\r\n")
    assert [(act.verb, act.data) for act in acts] == [
        (Verb.EXPECT, b"^220 "),
        (Verb.SEND, b"EHLO me\r\n"),
        (Verb.SENDHEX, b"\x00\xff"),
        (Verb.CLOSE, b""),
    ]
    assert acts[1].place.line == 4
    assert unescaped(r"a\r\n\x00\xe9é\\") == b"a\r\n\x00\xe9\xc3\xa9\\"
    for wrong, column in (("x", 1), ("  expect (", 10), ("send \\q", 6), ("sendhex 0", 9)):
        with pytest.raises(SpecError) as caught:
            parse(["", wrong], "s", eol=b"")
        assert caught.value.where is not None
        assert (caught.value.where.line, caught.value.where.column) == (2, column)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=4))
def test_any_script_is_one_or_an_error(lines: list[str]) -> None:
    for verb in ("", "send ", "expect ", "sendhex "):
        with suppress(SpecError):
            parse([verb + line for line in lines], "s", eol=b"\n")


def test_a_kernel_without_udplite_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 7.1: socket(2) knows no such protocol."""

    def refused(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", refused)
    request = msgspec.json.encode(udplite.Request(do="bind", port=1))
    reply = msgspec.json.decode(udplite.Ends().answer(request), type=udplite.Reply)
    assert (reply.lacks_kernel, reply.problem) == (True, "Protocol not supported")
