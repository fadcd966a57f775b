"""Questions to name servers: any type, by UDP or TCP, with a client's subnet (RFC 7871).

Messages are dnspython's, which is an extra (`hostlab[dns]`); sockets are ours, so that every
question has a deadline and a refused port is told from a silent one. dnspython loads the code of
each type when it first meets it: `load` does so before anybody enters a node.
"""

from __future__ import annotations

import functools
import site
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab.errors import DecodeError, Unsupported, extra
from hostlab.probes.names import UnknownName, addresses
from hostlab.probes.reach import Reach, exchange
from hostlab.probes.stream import Stream, connect

if TYPE_CHECKING:
    import dns.message
    import dns.rrset

PORT: Final = 53
RESOLV_CONF: Final = "/etc/resolv.conf"
_RESOLV_BYTES: Final = 1 << 16
PAYLOAD_BYTES: Final = 1232
"""What fits every path: DNS flag day 2020."""
_FLAGS: Final = (("qr", 0x8000), ("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ra", 0x0080),
                 ("ad", 0x0020), ("cd", 0x0010))  # fmt: skip
_RD: Final = 0x0100


class NoAnswer(Exception):
    """The server was asked and did not answer; the message says how."""


class Row(msgspec.Struct, frozen=True):
    """A record."""

    name: str
    ttl: int
    type: str
    data: str

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} IN {self.type} {self.data}"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    name: str
    type: str = "A"
    tcp: bool = False
    subnet: str | None = None
    """The client's, as `138.231.136.0/24`."""
    recursion: bool = True
    """Whether a recursor may ask others; otherwise it tells what it has."""
    dnssec: bool = False


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered."""

    server: str
    question: Question
    rcode: str
    flags: tuple[str, ...]
    answers: tuple[Row, ...] = ()
    authority: tuple[Row, ...] = ()
    additional: tuple[Row, ...] = ()
    scope: int | None = None
    """For how many bits of the client's subnet the answer holds; None: the server says nothing."""
    took_s: float = 0.0
    size_bytes: int = 0
    by_tcp: bool = False

    @property
    def data(self) -> tuple[str, ...]:
        """What the records of the type asked for say, in order of their text."""
        return tuple(sorted(row.data for row in self.answers if row.type == self.question.type))

    def lines(self) -> list[str]:
        """As dig prints it, in short."""
        asked = f"{self.question.name} {self.question.type} @{self.server}"
        head = f"{asked}: {self.rcode}, flags {' '.join(self.flags)}"
        if self.question.subnet is not None:
            head += f", client subnet {self.question.subnet}"
            head += ", no scope" if self.scope is None else f", scope /{self.scope}"
        return [head, *(f"  {row}" for row in self.answers or self.authority)]


def load() -> None:
    """Import dnspython with all it may need; Unsupported when it is not installed."""
    _find_packages()
    try:
        import dns.edns
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rdata
    except ImportError:
        message = "questions to name servers need dnspython"
        hint = "Debian's python3-dnspython, there" if sys.flags.no_site else extra("dns")
        raise Unsupported("dns", message, hint=hint) from None
    # A class of the node's own files must not be loaded while somebody is inside.
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]  # it is not annotated there


@functools.cache
def _find_packages() -> None:
    """On a host outside of a lab Python begins with its own library alone (`checks.remote`)."""
    if sys.flags.no_site:
        site.main()


def resolvers(text: str) -> tuple[str, ...]:
    """The servers of a resolv.conf(5)."""
    lines = (line.split() for line in text.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def own_resolvers() -> tuple[str, ...]:
    """The host's own; NoAnswer when it has none."""
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            found = resolvers(file.read(_RESOLV_BYTES))
    except OSError as error:
        raise NoAnswer(f"{RESOLV_CONF}: {error.strerror}") from None
    if not found:
        raise NoAnswer(f"{RESOLV_CONF} names no server")
    return found


def ask(question: Question, server: str, port: int, *, timeout_s: float) -> Response:
    """Ask one server, by its name or address; by TCP also where its answer was cut off.

    NoAnswer when it does not answer, DecodeError when what it says is no message.
    """
    import dns.exception

    try:
        query = _query(question)
        wire = query.to_wire()
    except (dns.exception.DNSException, ValueError) as error:
        raise NoAnswer(f"this cannot be asked: {error}") from None
    until = time.monotonic() + timeout_s
    try:
        address = addresses(server)[0]
    except UnknownName as error:
        raise NoAnswer(str(error)) from None
    started = time.monotonic()
    reply = b"" if question.tcp else _by_udp(wire, address, port, until)
    by_tcp = not reply or bool(reply[2] & 2)
    if by_tcp:
        reply = _by_tcp(wire, address, port, until)
    took_s = time.monotonic() - started
    return _response(question, reply, server=server, took_s=took_s, by_tcp=by_tcp)


def _query(question: Question) -> dns.message.Message:
    import dns.edns
    import dns.message

    options: list[dns.edns.Option] = []
    if question.subnet is not None:
        network = ip_interface(question.subnet).network
        options.append(dns.edns.ECSOption(str(network.network_address), network.prefixlen))
    return dns.message.make_query(
        question.name,
        question.type,
        use_edns=0,
        want_dnssec=question.dnssec,
        payload=PAYLOAD_BYTES,
        options=options,
        flags=_RD if question.recursion else 0,
    )


def _by_udp(wire: bytes, address: str, port: int, until: float) -> bytes:
    # The id and the question of the answer must be ours (RFC 5452 §9.1); names keep their case.
    question_bytes = wire[12 : wire.index(b"\0", 12) + 5]

    def accept(reply: bytes) -> bool:
        same = reply[12 : 12 + len(question_bytes)].lower() == question_bytes.lower()
        return reply[:2] == wire[:2] and len(reply) >= 12 and (same or reply[4:6] == b"\0\0")

    timeout_s = max(0.0, until - time.monotonic())
    answer, reply = exchange(address, port, wire, timeout_s=timeout_s, accept=accept)
    if answer.reach is not Reach.ANSWERED:
        raise NoAnswer(f"{address}: {answer.reach} on udp port {port}: {answer.text}")
    return reply


def _by_tcp(wire: bytes, address: str, port: int, until: float) -> bytes:
    """RFC 7766: two bytes of length before each message."""
    try:
        sock, _ = connect(address, port, until)
        with sock:
            stream = Stream(sock, until)
            stream.send(len(wire).to_bytes(2, "big") + wire)
            reply = stream.exactly(int.from_bytes(stream.exactly(2), "big"))
    except OSError as error:
        raise NoAnswer(f"{address}: tcp port {port}: {error.strerror or error}") from None
    if len(reply) < 12 or reply[:2] != wire[:2]:
        raise DecodeError("dns", f"{address} answers something else by TCP")
    return reply


def _response(
    question: Question, reply: bytes, *, server: str, took_s: float, by_tcp: bool
) -> Response:
    import dns.edns
    import dns.exception
    import dns.message
    import dns.rcode

    try:
        message = dns.message.from_wire(reply, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError) as error:
        raise DecodeError("dns", f"{server} answers no message of the DNS: {error}") from error
    scope = None
    for option in message.options:
        if isinstance(option, dns.edns.ECSOption):
            scope = option.scopelen
    return Response(
        server=server,
        question=question,
        rcode=dns.rcode.to_text(message.rcode()),
        flags=tuple(name for name, bit in _FLAGS if message.flags & bit),
        answers=_rows(message.answer),
        authority=_rows(message.authority),
        additional=_rows(message.additional),
        scope=scope,
        took_s=took_s,
        size_bytes=len(reply),
        by_tcp=by_tcp,
    )


def _rows(section: Sequence[dns.rrset.RRset]) -> tuple[Row, ...]:
    import dns.rdatatype

    return tuple(
        Row(str(each.name), int(each.ttl), dns.rdatatype.to_text(each.rdtype), _text(data))
        for each in section
        for data in each
    )


def _text(data: Any) -> str:
    text: str = data.to_text()
    return text


def mail_findings(response: Response) -> list[str]:
    """What is wrong with the MX records of an answer: an address where a name belongs.

    RFC 1035 §3.3.9: a host's name stands there; RFC 974 and mailers look its address up, so that
    what looks like one finds nothing. `.` alone says that there is no mail (RFC 7505).
    """
    found = []
    for row in response.answers:
        host = row.data.rpartition(" ")[2].rstrip(".")
        if row.type == "MX" and host and _looks_like_address(host):
            found.append(
                f"MX {row.data} names an address: a name belongs there (RFC 1035 §3.3.9),"
                f" with an A record of its own"
            )
    return found


def _looks_like_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
