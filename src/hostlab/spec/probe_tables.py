"""Every key of the checks that are probes, and how each becomes its arguments.

A table's keys are the names of the arguments, and what is not said is left to the expectation's
defaults: a new key is one line here and one member there (`hostlab.checks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hostlab.spec import names, units
from hostlab.spec.scalars import DURATION, FLAG, PATH, SUBNET, TEXT
from hostlab.spec.shapes import Fields, Forms, Key, ListOf, Said, Shape, Table, Text, choice
from hostlab.spec.source import Source, Wrong, quoted

_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_RECORD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
_DOMAIN = re.compile(r"[!-~]{1,255}")


def host(word: str) -> str:
    """A name or an address."""
    if re.fullmatch(r"[0-9.]+", word) or ":" in word:
        return str(units.address(word))
    names.hostname(word)
    return word


def _with_port(word: str, read: Callable[[str], Any]) -> str:
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):(.*)", word)
    if found is None:
        raise Wrong(f"{quoted(word)} has no port", "as `web1:80`, or `[fd00::1]:80`")
    host(found[1] or found[2])
    read(found[3])
    return word


def server(word: str) -> str:
    """`HOST` or `HOST:PORT`."""
    if word.startswith("[") or word.count(":") == 1:
        return _with_port(word, units.port)
    host(word)
    return word


def endpoint(word: str) -> str:
    """`HOST:PORT`."""
    return _with_port(word, units.port)


def ports_of(word: str) -> str:
    """`HOST:PORTS`: numbers and ranges with commas."""

    def read(text: str) -> None:
        if not _PORTS.fullmatch(text):
            raise Wrong(f"{quoted(text)} is no list of ports", "as `22,80,8000-8010`")
        for part in text.split(","):
            first, _, last = part.partition("-")
            if units.port(first) > units.port(last or first):
                raise Wrong(f"{quoted(part)} runs backwards")

    return _with_port(word, read)


def _number(word: str) -> float:
    found = units.number(word)
    if not 0 <= found < 1e9:
        raise Wrong(f"{quoted(word)} is no number that can be meant")
    return found


def _share(word: str) -> float:
    text = word.removesuffix("%")
    found = units.number(text) / (100 if text != word else 1)
    if not 0 <= found <= 1:
        raise Wrong(f"{quoted(word)} is no share", "as `20%` or `0.2`")
    return found


def record(word: str) -> str:
    """A type of record of the DNS."""
    if not _RECORD.fullmatch(word):
        raise Wrong(f"{quoted(word)} is no type of record", "as `A`, `MX`, `TYPE65`")
    return word.upper()


def domain(word: str) -> str:
    """A name of the DNS."""
    if not _DOMAIN.fullmatch(word) or ".." in word or any(len(x) > 63 for x in word.split(".")):
        raise Wrong(f"{quoted(word)} is no name of the DNS")
    return word


def mailbox(word: str) -> str:
    """A mail address, as it stands in an envelope."""
    if not word.isprintable() or any(each in word for each in "<> ") or len(word) > 320:
        raise Wrong(f"{quoted(word)} is no mail address")
    return word


_COUNT = Text("a number", lambda word: units.between(1, 1000, word), {"type": "integer"})
AMOUNT = Text("a number", _number, {"type": "number", "minimum": 0})
_SHARE = Text("a share, as 20%", _share, {"type": ["string", "number"]})
_HOST = Text("a host", host, {"type": "string"})
_SERVER = Text("`HOST` or `HOST:PORT`", server, {"type": "string"})
_ENDPOINT = Text("`HOST:PORT`", endpoint, {"type": "string"})
_PORTS_OF = Text("`HOST:PORTS`, as web1:22,80,8000-8010", ports_of, {"type": "string"})
_DNS_NAME = Text("a name of the DNS", domain, {"type": "string"})
_MAILBOX = Text("a mail address", mailbox, {"type": "string"})


def _one_or_more(shape: Shape) -> Forms:
    return Forms(scalar=(shape, lambda _source, said: [said]), sequence=(ListOf(shape), None))


def _alone(key: str, *, listed: bool = False) -> Callable[[Source, Said], Fields]:
    """A value alone stands for the mapping that has it under this key."""

    def convert(_source: Source, said: Said) -> Fields:
        return Fields({key: said._replace(value=[said]) if listed else said})

    return convert


def _form(table: Table, *, listed: bool = False) -> Forms:
    """A table whose required key may stand alone; where it is a list, as one of its entries."""
    (key,) = table.required
    shape = table.by_word[key].shape
    if not listed:
        return Forms(scalar=(shape, _alone(key)), mapping=(table, None))
    parts = list(shape.parts())
    return Forms(
        scalar=(parts[0], _alone(key, listed=True)),
        sequence=(parts[1], _alone(key)),
        mapping=(table, None),
    )


_PING = Table(
    "ping",
    "Hosts answer echoes. A host alone is enough, or a list of them.",
    (
        Key("hosts", _one_or_more(_HOST), "Whom to ask.", "[web1, web2]"),
        Key("count", _COUNT, "How many echoes each.", "5", "1"),
        Key("loss", _SHARE, "The share that may be lost.", "20%", "0"),
        Key("rtt", DURATION, "The longest that the median may take.", "20ms", "any"),
    ),
    required=("hosts",),
)
_TCP = Table(
    "tcp",
    "Ports of hosts complete TCP's handshake, or do not. `HOST:PORTS` alone is enough.",
    (
        Key("targets", _one_or_more(_PORTS_OF), "Which.", "[web1:80, web2:8000-8010]"),
        Key("want", choice("what is wanted", ("open", "closed", "silent")),
            "closed is refused or unreachable.", "closed", "open"),
    ),
    required=("targets",),
)  # fmt: skip
_UDP = Table(
    "udp",
    "A UDP port answers a datagram, or is as said. `HOST:PORT` alone is enough.",
    (
        Key("target", _ENDPOINT, "Which.", "ns1:53"),
        Key("send", TEXT, "What to send.", "hello", "a question of its protocol, or a line"),
        Key("answer", TEXT, "A text that the answer contains.", "hello"),
        Key("want", choice("what is wanted", ("answered", "refused", "silent")),
            "What is to come of it.", "silent", "answered"),
    ),
    required=("target",),
)  # fmt: skip
_DNS = Table(
    "dns",
    "Name servers answer, all of them the same. A name alone is enough.",
    (
        Key("name", _DNS_NAME, "What is asked for.", "www.example.com"),
        Key("type", Text("a type of record", record, {"type": "string"}), "Of which type.",
            "MX", "A"),
        Key("servers", _one_or_more(_SERVER), "Whom to ask.", "[ns1, ns2]",
            "the node's first resolver"),
        Key("answer", _one_or_more(TEXT), "Exactly these records, as dig prints them.",
            "[10.0.0.1]", "any"),
        Key("rcode", choice("a code", ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED")),
            "The code of the answer.", "NXDOMAIN", "NOERROR"),
        Key("subnets", _one_or_more(SUBNET), "Clients' networks that are asked for, each.",
            "[138.231.136.0/24]"),
        Key("scope", Text("a number of bits", lambda word: units.between(0, 128, word),
                          {"type": "integer"}),
            "For how many bits of its subnet an answer holds.", "24", "any"),
        Key("distinct", FLAG, "Each subnet has another answer.", "true", "false"),
        Key("tcp", FLAG, "By TCP.", "true", "false"),
        Key("recursion", FLAG, "Whether the server may ask others.", "false", "true"),
        Key("authoritative", FLAG, "The server must have authority.", "true", "false"),
        Key("dnssec", FLAG, "With signatures.", "true", "false"),
        Key("trace", FLAG, "From the root, or `servers`, down.", "true", "false"),
    ),
    required=("name",),
)  # fmt: skip
_TLS = Table(
    "tls",
    "A server speaks TLS with a certificate that is good. `HOST:PORT` alone is enough.",
    (
        Key("server", _SERVER, "Which; port 443 unless said.", "web1:8443"),
        Key("name", _HOST, "The name to ask for.", "www.example.com", "the server's"),
        Key("verify", FLAG, "Whether the certificate must be good.", "false", "true"),
        Key("authorities", PATH, "A file of the node with certificates that are trusted.",
            "/etc/ssl/lab.pem", "the node's own"),
        Key("days", AMOUNT, "For how many days it has to be good yet.", "14", "0"),
        Key("names", _one_or_more(TEXT), "What the certificate is for, beside.",
            "[example.com]"),
        Key("least", choice("a version", ("TLSv1.2", "TLSv1.3")), "The oldest that will do.",
            "TLSv1.3"),
    ),
    required=("server",),
)  # fmt: skip
_SMTP = Table(
    "smtp",
    "A mail server takes part in a dialogue, up to the envelope. Its name alone is enough.",
    (
        Key("server", _SERVER, "Which; port 25 unless said, 465 with `tls: implicit`.", "mail1"),
        Key("tls", choice("a way to TLS", ("none", "starttls", "implicit")), "How.", "starttls",
            "none"),
        Key("verify", FLAG, "Whether the certificate must be good.", "false", "true"),
        Key("helo", FLAG, "HELO instead of EHLO.", "true", "false"),
        Key("name", _HOST, "What the client calls itself.", "client1", "hostlab.invalid"),
        Key("user", TEXT, "Who logs in.", "alice"),
        Key("password", TEXT, "With which word.", "secret"),
        Key("auth", choice("a mechanism", ("PLAIN", "LOGIN")), "How.", "LOGIN",
            "the first that is offered"),
        Key("sender", _MAILBOX, "MAIL FROM.", "alice@example.com", "a stranger"),
        Key("recipients", _one_or_more(_MAILBOX), "RCPT TO.", "[bob@example.com]"),
        Key("size_bytes", Text("a size", lambda word: units.between(0, 2**40, word),
                               {"type": "integer"}), "The size that is announced.", "1000000"),
        Key("eight_bit", FLAG, "8BITMIME is announced.", "true", "false"),
        Key("refused", FLAG, "Some step must be refused.", "true", "false"),
        Key("offers", _one_or_more(TEXT), "Extensions that EHLO names.", "[STARTTLS, SIZE]"),
        Key("relay", FLAG, "Try to have strangers' mail carried to strangers; nothing may be"
            " taken.", "true", "false"),
    ),
    required=("server",),
)  # fmt: skip
_SSH = Table(
    "ssh",
    "A server of SSH introduces itself. Its name alone is enough.",
    (
        Key("server", _SERVER, "Which; port 22 unless said.", "web1:2222"),
        Key("banner", TEXT, "A text that its banner contains.", "OpenSSH"),
        Key("without", _one_or_more(TEXT), "Algorithms that it does not offer.", "[ssh-rsa]"),
    ),
    required=("server",),
)
_NTP = Table(
    "ntp",
    "A server of NTP has the time. Its name alone is enough.",
    (
        Key("server", _SERVER, "Which; port 123 unless said.", "clock1"),
        Key("stratum", Text("a number", lambda word: units.between(1, 15, word),
                            {"type": "integer"}), "The highest that will do.", "3", "15"),
        Key("offset", DURATION, "How far from this host's clock its own may be.", "100ms", "any"),
    ),
    required=("server",),
)  # fmt: skip
_UNIX = Table(
    "unix",
    "A Unix socket of the node takes a connection. Its path alone is enough.",
    (
        Key("path", PATH, "Where.", "/run/app.sock"),
        Key("type", choice("a type", ("stream", "datagram", "seqpacket")), "Which it is.",
            "stream", "any"),
        Key("send", TEXT, "What to send.", "ping"),
        Key("answer", TEXT, "A regular expression that the answer has somewhere.", "pong"),
    ),
    required=("path",),
)  # fmt: skip
_OSPF = Table(
    "ospf",
    "Neighbours of OSPF that the node's daemon has. A router id is enough, or `true` for all.",
    (Key("neighbour", _HOST, "Its router id.", "10.0.0.2", "all, at least one"),),
)


def _all_or_one(key: str, table: Table) -> Forms:
    def read(word: str) -> str:
        return "" if word == "true" else host(word)

    def convert(_source: Source, said: Said) -> Fields:
        return Fields({key: said}) if said.value else Fields()

    shape = Text("an address, or true", read, {"type": ["string", "boolean"]})
    return Forms(scalar=(shape, convert), mapping=(table, None))


PING = _form(_PING, listed=True)
TCP = _form(_TCP, listed=True)
UDP = _form(_UDP)
DNS = _form(_DNS)
TLS = _form(_TLS)
SMTP = _form(_SMTP)
SSH = _form(_SSH)
NTP = _form(_NTP)
UNIX = _form(_UNIX)
OSPF = _all_or_one("neighbour", _OSPF)

PROBES = ("ping", "tcp", "udp", "dns", "tls", "smtp", "ssh", "ntp", "unix", "ospf")
_RENAMED: Mapping[str, str] = {"rtt": "rtt_s", "offset": "offset_s"}
_HOSTS = ("hosts", "targets", "target", "servers", "server")
"""Keys whose values name hosts."""


def arguments(fields: Fields) -> dict[str, Any]:
    """A probe's fields as plain JSON values; what was not said is left to its default."""
    found: dict[str, Any] = {}
    for key, said in fields.items():
        value = said.value
        if isinstance(value, list):
            value = [str(each.value) for each in value]
        elif key == "target":
            name, _, port = value.rpartition(":")
            found |= {"host": name.strip("[]"), "port": int(port)}
            continue
        found[_RENAMED.get(key, key)] = value
    return found


def hosts_of(fields: Fields) -> list[tuple[str, Said]]:
    """The hosts that a probe names, and where."""
    found: list[tuple[str, Said]] = []
    for key in _HOSTS:
        said = fields.get(key)
        if said is not None:
            for each in said.value if isinstance(said.value, list) else [said]:
                text = each.value
                is_bare = text.count(":") != 1 and not text.startswith("[")
                name = text if is_bare else text.rpartition(":")[0].strip("[]")
                found.append((name, each))
    return found
