"""Names of units: their parts, what they may consist of, and the escaping (systemd.unit(5))."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from hostlab.spec.source import Wrong, quoted

MAX_NAME = 255
_VALID = re.compile(r"[A-Za-z0-9:_.\\@-]+")
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_PLAIN = re.compile(r"[A-Za-z0-9:_.]")


class UnitType(StrEnum):
    """What a unit is, by its suffix."""

    SERVICE = "service"
    SOCKET = "socket"
    TARGET = "target"
    DEVICE = "device"
    MOUNT = "mount"
    AUTOMOUNT = "automount"
    SWAP = "swap"
    TIMER = "timer"
    PATH = "path"
    SLICE = "slice"
    SCOPE = "scope"


_SUFFIXES = frozenset(each.value for each in UnitType)


class UnitName(msgspec.Struct, frozen=True):
    """`PREFIX@INSTANCE.TYPE`, taken apart."""

    name: str
    prefix: str
    """What is before the `@`, or the whole without the suffix."""
    instance: str | None
    """None: no template; empty: the template itself."""
    type: UnitType

    @property
    def is_template(self) -> bool:
        """It has to be instantiated before it is anything."""
        return self.instance == ""

    @property
    def template(self) -> str | None:
        """The name of the template that an instance is made from."""
        return f"{self.prefix}@.{self.type}" if self.instance else None

    @property
    def stem(self) -> str:
        """The name without its suffix (`%N`)."""
        return self.name[: -len(self.type) - 1]

    def instantiate(self, instance: str) -> str:
        """The name of one instance of this template."""
        return f"{self.prefix}@{instance}.{self.type}"


def unit_name(name: str) -> UnitName:
    """A unit's name; Wrong when it cannot be one."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or suffix not in _SUFFIXES:
        known = ", ".join(f".{each}" for each in UnitType)
        raise Wrong(f"{quoted(name)} has no unit's suffix", f"one of {known}")
    if not stem or len(name) > MAX_NAME or not _VALID.fullmatch(name) or name[0] == "@":
        raise Wrong(f"{quoted(name)} is no unit's name", "letters, digits and :_.\\-@")
    prefix, at, instance = stem.partition("@")
    return UnitName(name, prefix, instance if at else None, UnitType(suffix))


def is_unit_name(name: str) -> bool:
    """Whether it can be a unit's name."""
    try:
        unit_name(name)
    except Wrong:
        return False
    return True


def escape(text: str) -> str:
    """A text as part of a unit's name: `/` is `-`, what is not plain is `\\xNN`."""
    out = []
    for number, char in enumerate(text):
        if char == "/":
            out.append("-")
        elif _PLAIN.fullmatch(char) and not (char == "." and number == 0):
            out.append(char)
        else:
            out.append("".join(f"\\x{byte:02x}" for byte in char.encode()))
    return "".join(out)


def unescape(text: str) -> str:
    """The text that was escaped; what is no escape stays as it is."""
    raw = bytearray()
    position = 0
    while position < len(text):
        found = _ESCAPE.match(text, position)
        if found:
            raw.append(int(found[1], 16))
            position = found.end()
            continue
        raw += b"/" if text[position] == "-" else text[position].encode()
        position += 1
    return raw.decode(errors="replace")


def escape_path(path: str) -> str:
    """A path as part of a unit's name: `/` alone is `-`, others lose the outer slashes."""
    parts = [part for part in path.split("/") if part and part != "."]
    return escape("/".join(parts)) if parts else "-"


def unescape_path(text: str) -> str:
    """The absolute path that an escaped one was."""
    return "/" if text == "-" else "/" + unescape(text)
