"""The keys of checks about a host's own state: services, processes, packages, users, network."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from hostlab.spec import forms, names, units
from hostlab.spec.scalars import FLAG, ID, MAC, MTU, PATH, TEXT
from hostlab.spec.shapes import Fields, Forms, Key, ListOf, Said, Shape, Table, Text, choice, under
from hostlab.spec.source import Source, Wrong, quoted


def regex(word: str) -> str:
    """A regular expression of Python's kind."""
    try:
        re.compile(word)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"{quoted(word)} is not a regular expression: {error}") from None
    return units.text(word)


def word(text: str) -> str:
    """Something without spaces."""
    if not text or not text.isprintable() or " " in text:
        raise Wrong(f"{quoted(text)} is not a name")
    return text


def decimal(text: str) -> float:
    """A number, also one below 0."""
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", text):
        raise Wrong(f"{quoted(text)} is not a number")
    return float(text)


def any_interface(text: str) -> str:
    """An interface's name, the kernel's own too."""
    return text if text == "lo" else names.interface(text)


def address_or_prefixed(text: str) -> str:
    """An address, with or without the length of its prefix."""
    if "/" not in text:
        return str(units.address(text))
    found = units.prefixed(text)
    return f"{found.address}/{found.length}"


def sha256(text: str) -> str:
    """A digest in hexadecimal."""
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise Wrong(f"{quoted(text)} is not a SHA-256: 64 hexadecimal digits")
    return text.lower()


def address_text(source: Source, said: Said) -> Fields:
    """`ADDRESS[/PREFIX] [dev INTERFACE]`."""
    text, dev, interface = said.value.partition(" dev ")
    found = Fields()
    try:
        found["address"] = said._replace(value=address_or_prefixed(text.strip()))
        if dev:
            found["interface"] = said._replace(value=any_interface(interface.strip()))
    except Wrong as wrong:
        source.report("value", wrong.message, said.at, wrong.hint)
        found.flawed = True
    return found


WORD = Text("a name", word, {"type": "string"})
REGEX = Text("a regular expression", regex, {"type": "string", "format": "regex"})
NUMBER = Text("a number", decimal, {"type": "number"})
SHA256 = Text("a SHA-256", sha256, {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"})
TEXTS = ListOf(TEXT)
REGEXES = ListOf(REGEX)
COUNT = Text("a number", partial(units.between, 0, 2**22), {"type": "integer", "minimum": 0})
INTERFACE = Text("an interface's name", any_interface, {"type": "string"})
HOST_ADDRESS = Text("an address", address_or_prefixed, {"type": "string"})

SERVICE = Table(
    "checked service",
    "A service: a job of the node of that name, or a unit of systemd. A name alone must run.",
    (
        Key("name", WORD, "Its name.", "nginx"),
        Key("running", FLAG, "Whether it runs.", "false", "either; true with a name alone"),
        Key("enabled", FLAG, "Whether it starts at boot.", "true", "either"),
    ),
    required=("name",),
)
PROCESS = Table(
    "checked process",
    "A program that runs. A name alone: at least one of that name.",
    (
        Key("name", WORD, "Of the program.", "memcached"),
        Key("user", WORD, "Whose it is, by name or number.", "www-data"),
        Key("args", TEXT, "A text that its command line contains.", "-m 64"),
        Key("count", COUNT, "Exactly so many; 0 is none.", "0", "one or more"),
    ),
    required=("name",),
)
PACKAGE = Table(
    "checked package",
    "A package of Debian's. A name alone must be installed.",
    (
        Key("name", WORD, "Its name, with an architecture if that matters.", "libc6:amd64"),
        Key("version", TEXT, "Its version, or a pattern.", "1.22.*", "any"),
        Key("installed", FLAG, "Whether it is installed.", "false", "true"),
    ),
    required=("name",),
)
USER = Table(
    "checked user",
    "A user of /etc/passwd. A name alone must be there.",
    (
        Key("name", WORD, "Its name.", "www-data"),
        Key("uid", ID, "Its number.", "33"),
        Key("gid", ID, "The number of its own group.", "33"),
        Key("home", PATH, "Its directory.", "/var/www"),
        Key("shell", PATH, "Its shell.", "/usr/sbin/nologin"),
        Key("groups", ListOf(WORD), "Groups that it is in, beside others.", "[adm, ssl-cert]"),
    ),
    required=("name",),
)
GROUP = Table(
    "checked group",
    "A group of /etc/group. A name alone must be there.",
    (
        Key("name", WORD, "Its name.", "adm"),
        Key("gid", ID, "Its number.", "4"),
        Key("members", ListOf(WORD), "Users that are listed in it, beside others.", "[syslog]"),
    ),
    required=("name",),
)
MOUNT = Table(
    "checked mount",
    "A mounted file system. A path alone must be mounted.",
    (
        Key("path", PATH, "Where.", "/srv"),
        Key("source", TEXT, "What, as the kernel has it.", "/dev/sda1"),
        Key("type", WORD, "Its type.", "ext4"),
        Key("options", ListOf(WORD), "Options it has, beside others.", "[ro, nosuid]"),
    ),
    required=("path",),
)
CHECKED_INTERFACE = Table(
    "checked interface",
    "A network interface. A name alone must be up and have a carrier.",
    (
        Key("name", INTERFACE, "Its name.", "eth0"),
        Key("state", choice("a state", ("up", "down", "absent")), "How it is.", "down", "up"),
        Key("mtu", MTU, "Its MTU.", "9000"),
        Key("mac", MAC, "Its MAC address.", "'02:00:00:00:00:01'"),
        Key("addresses", ListOf(HOST_ADDRESS), "Addresses it has, beside others.", "[10.0.0.1/24]"),
    ),
    required=("name",),
)
CHECKED_ADDRESS = Table(
    "checked address",
    "An address that the node has. As one text: `ADDRESS [dev INTERFACE]`.",
    (
        Key("address", HOST_ADDRESS, "The address, with or without prefix.", "10.0.0.1/24"),
        Key("interface", INTERFACE, "The interface that has it.", "eth0", "any"),
    ),
    required=("address",),
)
_ROUTE_TO = Text(
    "a prefix or `default`",
    lambda word: word if word == "default" else units.prefix(word),
    {"type": "string"},
)
CHECKED_ROUTE = Table(
    "checked route",
    "A route of the kernel's main table to exactly this prefix, as `ip route` has it in one text.",
    (
        Key("to", _ROUTE_TO, "Its prefix.", "10.1.0.0/16"),
        Key("via", Text("an address or a node", forms.hop, {"type": "string"}), "Its next hop.",
            "r1", "any"),
        Key("interface", INTERFACE, "The interface it leaves by.", "eth0", "any"),
        Key("metric", ID, "Its metric.", "20", "any"),
    ),
    required=("to",),
)  # fmt: skip


def _one(shape: Shape, key: str, table: Table) -> Forms:
    return Forms(scalar=(shape, under(key)), mapping=(table, None))


def _running(_source: Source, said: Said) -> Fields:
    """A name alone is a service that runs."""
    return Fields(name=said, running=said._replace(value=True))


HOST_KEYS = (
    Key("service", Forms(scalar=(WORD, _running), mapping=(SERVICE, None)),
        "A service runs, starts at boot, or does not.", "nginx"),
    Key("process", _one(WORD, "name", PROCESS), "A program runs.", "{name: cron, count: 1}"),
    Key("package", _one(WORD, "name", PACKAGE), "A package is installed.", "nginx-light"),
    Key("user", _one(WORD, "name", USER), "A user is there.", "www-data"),
    Key("group", _one(WORD, "name", GROUP), "A group is there.", "adm"),
    Key("mount", _one(PATH, "path", MOUNT), "A file system is mounted.", "/srv"),
    Key("interface", _one(INTERFACE, "name", CHECKED_INTERFACE), "An interface is up.", "eth0"),
    Key("address", Forms(scalar=(TEXT, address_text), mapping=(CHECKED_ADDRESS, None)),
        "The node has an address.", "10.0.0.1 dev eth0"),
    Key("route", Forms(scalar=(TEXT, forms.route_text), mapping=(CHECKED_ROUTE, None)),
        "There is a route.", "default via 10.0.0.1"),
)  # fmt: skip
HOST_KINDS = tuple(key.name for key in HOST_KEYS)


def plain(value: Any) -> Any:
    """What was said, as JSON has it."""
    if isinstance(value, Fields):
        return {key: plain(said.value) for key, said in value.items()}
    if isinstance(value, list):
        return [plain(said.value) for said in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
