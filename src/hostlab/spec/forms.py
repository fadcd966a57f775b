"""The short forms: one line of text read into the mapping it stands for.

Parsers of one word raise `Wrong`. Converters of a form (`Forms` of `shapes.py`) take what was said
and return the fields of the long form; what is wrong they report themselves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hostlab.spec import names, units
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, Wrong, quoted

ANONYMOUS = "\0"
"""What the key of an entry without a name begins with; where it stands follows, so that lists of
a role and of a node append."""

_SYSCTL = re.compile(r"[a-z][A-Za-z0-9_-]*([./][A-Za-z0-9_:.*-]+)+")
# Those that belong to a namespace: the list of runc's validator and of sysctl(5) agree with
# namespaces(7). All others are the machine's.
_NAMESPACED = ("net.", "fs.mqueue.", "kernel.msg", "kernel.shm")
_NAMESPACED_EXACTLY = ("kernel.sem", "kernel.domainname")


class Target(NamedTuple):
    """What `reaches` names: a host, and a port unless an echo will do."""

    host: str
    port: int | None
    protocol: str


def _said(value: Any, like: Said) -> Said:
    return Said(value, like.at, like.at)


def _flawed() -> Fields:
    fields = Fields()
    fields.flawed = True
    return fields


def _parse(source: Source, said: Said, parse: Callable[[], dict[str, Any]]) -> Fields:
    try:
        parsed = parse()
    except Wrong as wrong:
        source.report("value", wrong.message, said.at, wrong.hint)
        return _flawed()
    return Fields({key: _said(value, said) for key, value in parsed.items() if value is not None})


def interface_alone(source: Source, said: Said) -> Fields:
    """One segment: an interface without a name on it."""
    return interface_list(source, _said([_said(Fields(segment=said), said)], said))


def interface_list(source: Source, said: Said) -> Fields:
    """A list of interfaces, those with a name under it, the others anonymous."""
    result = Fields()
    for entry in said.value:
        named = entry.value.pop("name", None)
        key = named.value if named else f"{ANONYMOUS}{entry.at.line}:{entry.at.column}"
        if named and key in result:
            first = source.place(result[key].key)
            source.report("clash", f"{quoted(key)} is here twice, first at {first}", named.at)
        else:
            result[key] = entry
    return result


def node_list(source: Source, said: Said) -> Fields:
    """A list of nodes: names, mappings from a name to a node, and `~` for one without a name."""
    result = Fields()
    for entry in said.value:
        if isinstance(entry.value, Fields):
            found = dict(entry.value)
            result.flawed |= entry.value.flawed
        elif entry.value is None:
            found = {
                f"{ANONYMOUS}{entry.at.line}:{entry.at.column}": entry._replace(value=Fields())
            }
        else:
            found = {entry.value: entry._replace(value=Fields())}
        for name, node in found.items():
            if name in result:
                first = source.place(result[name].key)
                message = f"{quoted(name)} is here twice, first at {first}"
                source.report("clash", message, node.key)
            else:
                result[name] = node
    return result


def user_number(_source: Source, said: Said) -> Fields:
    """A number alone is the user's."""
    return Fields(uid=said)


def time_flag(_source: Source, said: Said) -> Any:
    """`true` is a time namespace without an offset; `false` none."""
    return Fields(offset=_said(0.0, said)) if said.value else None


def file_text(_source: Source, said: Said) -> Fields:
    """A text alone is the content."""
    return Fields(content=said)


def route_text(source: Source, said: Said) -> Fields:
    """`PREFIX [via HOP] [dev INTERFACE] [metric NUMBER]`, as ip-route(8) writes it."""

    def parse() -> dict[str, Any]:
        to, *rest = said.value.split() or [""]
        found: dict[str, Any] = {"to": to if to == "default" else units.prefix(to)}
        readers = {
            "via": ("via", hop),
            "dev": ("interface", names.interface),
            "metric": ("metric", lambda word: units.between(0, 2**32 - 2, word)),
        }
        while rest:
            word = rest.pop(0)
            if word not in readers or not rest:
                raise Wrong(
                    f"{quoted(word)} is not understood in a route",
                    "write `PREFIX via ADDRESS [dev INTERFACE] [metric NUMBER]`",
                )
            key, read = readers[word]
            found[key] = read(rest.pop(0))
        return found

    return _parse(source, said, parse)


def hop(word: str) -> units.Address | str:
    """The next hop: an address, or the name of a node."""
    try:
        return units.address(word)
    except Wrong:
        if re.fullmatch(names.LABEL_PATTERN, word):
            return word
        raise Wrong(f"{quoted(word)} is neither an address nor a node") from None


def publish_text(source: Source, said: Said) -> Fields:
    """`[ADDRESS:]PORT[:INNER][/PROTOCOL]`, an IPv6 address in brackets."""

    def parse() -> dict[str, Any]:
        rest, slash, protocol = said.value.partition("/")
        address = None
        if found := re.fullmatch(r"\[([^\]]*)\]:(.*)", rest):
            address, rest = units.address(found[1]), found[2]
        elif rest.count(":") == 2:
            host, _, rest = rest.partition(":")
            address = units.address(host)
        elif rest.count(":") > 2:
            raise Wrong(
                f"{quoted(said.value)} is not a port to publish",
                "write `[ADDRESS:]PORT:INNER[/udp]`, an IPv6 address in brackets",
            )
        outer, colon, inner = rest.partition(":")
        return {
            "address": address,
            "port": units.port(outer),
            "inner": units.port(inner if colon else outer),
            "protocol": units.protocol(protocol) if slash else None,
        }

    return _parse(source, said, parse)


def volume_text(source: Source, said: Said) -> Fields:
    """`SOURCE:TARGET[:ro|rw]`."""

    def parse() -> dict[str, Any]:
        parts = said.value.split(":")
        if len(parts) not in (2, 3) or not parts[0]:
            raise Wrong(f"{quoted(said.value)} is not a volume", "write `NAME:/TARGET[:ro]`")
        if len(parts) == 3 and parts[2] not in ("ro", "rw"):
            raise Wrong(f"{quoted(parts[2])} is neither ro nor rw")
        return {
            "source": parts[0],
            "target": units.absolute_path(parts[1]),
            "read_only": parts[2:] == ["ro"],
        }

    return _parse(source, said, parse)


def link(word: str) -> tuple[str, str]:
    """`NODE[:ALIAS]`."""
    node, colon, alias = word.partition(":")
    return names.label(node), names.hostname(alias) if colon else node


def any_sysctl(word: str) -> str:
    """A kernel parameter, with dots."""
    if not _SYSCTL.fullmatch(word) or ".." in word or "*" in word:
        raise Wrong(f"{quoted(word)} is not a sysctl", "as `net.ipv4.ip_forward`")
    # As sysctl(8): the first separator decides, so that a dot may be in a device's name.
    if "/" in word and word.find("/") < word.find(".") % (len(word) + 1):
        word = word.replace(".", "\0").replace("/", ".").replace("\0", "/")
    return word


def sysctl(word: str) -> str:
    """A kernel parameter that a namespace has for itself, with dots."""
    word = any_sysctl(word)
    if word == "kernel.hostname":
        raise Wrong("the host name has a key of its own", "write `hostname: …`")
    if not word.startswith(_NAMESPACED) and word not in _NAMESPACED_EXACTLY:
        raise Wrong(f"{quoted(word)} is the machine's, not a node's: it would change all of it")
    return word


def job_name(word: str) -> str:
    """The name of a job: it becomes part of a path."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}", word):
        raise Wrong(f"{quoted(word)} is not a job's name: letters, digits, `_`, `.`, `@`, `-`")
    return word


def listens(_source: Source, said: Said) -> Fields:
    """A port with its protocol."""
    return Fields(port=_said(said.value.port, said), protocol=_said(said.value.protocol, said))


def url(word: str) -> str:
    """A URL of HTTP."""
    try:
        parts = urlsplit(word)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Wrong(f"{quoted(word)} is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise Wrong(f"{quoted(word)} is not a URL of HTTP", "as `http://web1:8080/`")
    if not word.isascii() or not word.isprintable() or " " in word:
        raise Wrong(f"{quoted(word)} has characters that a URL must escape")
    return word


def target(word: str) -> Target:
    """`HOST[:PORT[/PROTOCOL]]`; an IPv6 address with a port stands in brackets."""
    rest, slash, protocol = word.partition("/")
    try:
        host, port = str(ipaddress.ip_address(rest)), ""
    except ValueError:
        if found := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest):
            host, port = str(units.address(found[1])), found[2] or ""
        else:
            host, _, port = rest.partition(":")
            if not re.fullmatch(r"[0-9.]+", host):
                names.hostname(host)
            else:
                host = str(units.address(host))
    if port:
        return Target(host, units.port(port), units.protocol(protocol) if slash else "tcp")
    if slash and protocol != "icmp":
        raise Wrong(f"{quoted(word)} has a protocol without a port", "write `HOST:PORT/udp`")
    return Target(host, None, "icmp")
