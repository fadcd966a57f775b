"""One value as people write it, read: times, sizes, ports, addresses, modes.

Each parser takes the text and returns the value, or raises `Wrong` with what is wrong and, where
it can be guessed, how it could be right.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from hostlab.spec.source import Wrong, quoted

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DURATION_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d)?$"
SIZE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?([KMGT](iB|B)?|kB|B)?$"
CPUS_PATTERN = r"^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$"
MAC_PATTERN = r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
MODE_PATTERN = r"^(0o)?[0-7]{3,5}$"

_DURATION = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([KMGTk]?)(iB|B)?")
_POWERS = {"": 0, "K": 1, "k": 1, "M": 2, "G": 3, "T": 4}
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?|\.[0-9]{1,9}")
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})


def text(word: str) -> str:
    """Any text that the kernel can take as an argument."""
    if "\0" in word:
        raise Wrong("a NUL character cannot be part of this")
    return word


def content(word: str) -> bytes:
    """The content of a file."""
    try:
        return word.encode()
    except UnicodeEncodeError:
        raise Wrong("this text has half a surrogate pair in it") from None


def flag(word: str) -> bool:
    """YAML's words for yes and no."""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Wrong(f"{quoted(word)} is neither true nor false", "write `true` or `false`")


def integer(word: str) -> int:
    """A whole number of at most 18 digits."""
    if not _INTEGER.fullmatch(word):
        raise Wrong(f"{quoted(word)} is not a whole number")
    return int(word)


def between(low: int, high: int, word: str) -> int:
    """A whole number in a range."""
    number = integer(word)
    if not low <= number <= high:
        raise Wrong(f"{number} is not between {low} and {high}")
    return number


def number(word: str) -> float:
    """A number above zero."""
    if not _NUMBER.fullmatch(word) or float(word) == 0:
        raise Wrong(f"{quoted(word)} is not a number above 0")
    return float(word)


def signed_duration(word: str) -> float:
    """Seconds, from `5s`, `200ms`, `1m`, `2h`, `1d`; a bare number is seconds."""
    found = _DURATION.fullmatch(word)
    if not found:
        raise Wrong(f"{quoted(word)} is not a time", "write `5s`, `200ms`, `1m` or `2h`")
    return float(found[1]) * _SECONDS[found[2]]


def duration(word: str) -> float:
    """As `signed_duration`, not below zero."""
    seconds = signed_duration(word)
    if seconds < 0:
        raise Wrong(f"{quoted(word)} is below zero")
    return seconds


def size(word: str) -> int:
    """Bytes, from `64M`, `1GiB`: powers of 1024 as the kernel and Docker have them; `MB` is 10⁶."""
    found = _SIZE.fullmatch(word)
    if not found:
        raise Wrong(f"{quoted(word)} is not a size", "write `64M`, `1GiB` or a number of bytes")
    base = 1000 if found[2] and found[3] == "B" else 1024
    size_bytes = int(float(found[1]) * base ** _POWERS[found[2]])
    if not 0 < size_bytes < 2**63:
        raise Wrong(f"{quoted(word)} is not a size that anything can have")
    return size_bytes


def port(word: str) -> int:
    """A TCP or UDP port."""
    if not _INTEGER.fullmatch(word) or not 1 <= int(word) <= 65535:
        raise Wrong(f"{quoted(word)} is not a port, 1 to 65535")
    return int(word)


class Endpoint(NamedTuple):
    """A port and its protocol."""

    port: int
    protocol: str


def protocol(word: str) -> str:
    """`tcp` or `udp`."""
    if word.lower() not in ("tcp", "udp"):
        raise Wrong(f"{quoted(word)} is neither tcp nor udp")
    return word.lower()


def endpoint(word: str) -> Endpoint:
    """`80`, `80/tcp`, `53/udp`."""
    number_text, slash, proto = word.partition("/")
    return Endpoint(port(number_text), protocol(proto) if slash else "tcp")


def cpus(word: str) -> str:
    """A list of CPUs as the kernel writes it (cpuset(7), "List format")."""
    if not re.fullmatch(CPUS_PATTERN, word):
        raise Wrong(f"{quoted(word)} is not a list of CPUs", "write `0`, `0-3` or `0-1,3`")
    for part in word.split(","):
        first, _, last = part.partition("-")
        if last and int(first) > int(last):
            raise Wrong(f"{quoted(part)} counts downwards", f"write `{last}-{first}`")
    return word


def mode(word: str) -> int:
    """Permission bits, always octal."""
    if not re.fullmatch(MODE_PATTERN, word) or int(word.removeprefix("0o"), 8) > 0o7777:
        raise Wrong(f"{quoted(word)} is not a file mode", "write octal digits, as `0644`")
    return int(word.removeprefix("0o"), 8)


def mac(word: str) -> str:
    """An Ethernet address of one interface, in lower case."""
    if not re.fullmatch(MAC_PATTERN, word):
        raise Wrong(f"{quoted(word)} is not a MAC address", "write six bytes, `02:00:00:00:00:01`")
    if int(word[:2], 16) & 1:
        raise Wrong(
            f"{quoted(word)} is a group's address, not an interface's",
            f"its first byte must be even: `{int(word[:2], 16) & 0xFE:02x}{word[2:].lower()}`",
        )
    if word.strip("0:") == "":
        raise Wrong(f"{quoted(word)} is no interface's address")
    return word.lower()


def address(word: str) -> Address:
    """An IPv4 or IPv6 address."""
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        raise Wrong(f"{quoted(word)} is not an IPv4 or IPv6 address") from None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        raise Wrong(f"{quoted(word)} names a scope", "leave out what follows `%`")
    return found


class Prefixed(NamedTuple):
    """An address with the length of its prefix, where one was said."""

    address: Address
    length: int | None

    @property
    def network(self) -> Network:
        """The network it is in; of one address when no length was said."""
        length = self.address.max_prefixlen if self.length is None else self.length
        return ipaddress.ip_network((self.address, length), strict=False)


def prefixed(word: str) -> Prefixed:
    """`10.0.0.1/24`, `fd00::1/64`, or without the length."""
    host, slash, length = word.partition("/")
    found = address(host)
    if found.is_multicast or found.is_unspecified:
        raise Wrong(f"{quoted(word)} cannot be an interface's address")
    if not slash:
        return Prefixed(found, None)
    if not length.isascii() or not length.isdigit() or len(length) > 3:
        raise Wrong(f"{quoted('/' + length)} is not a prefix length")
    if int(length) > found.max_prefixlen:
        raise Wrong(f"an IPv{found.version} prefix has at most {found.max_prefixlen} bits")
    return Prefixed(found, int(length))


def network(word: str) -> Network:
    """`10.0.0.0/24`, `fd00::/64`."""
    found = prefix(word)
    if found.num_addresses < 4:
        raise Wrong(f"{quoted(word)} has no room for two hosts")
    if found.is_multicast or found.is_loopback:
        raise Wrong(f"{quoted(word)} is not for hosts on a segment")
    return found


def prefix(word: str) -> Network:
    """Any prefix, a single address too."""
    try:
        loose = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise Wrong(
            f"{quoted(word)} is not a prefix", "write `10.0.0.0/24` or `fd00::/64`"
        ) from None
    host = word.partition("/")[0]
    if ipaddress.ip_address(host) != loose.network_address:
        raise Wrong(f"{quoted(word)} has bits behind its prefix", f"did you mean `{loose}`?")
    if "%" in word:
        raise Wrong(f"{quoted(word)} names a scope", "leave out what follows `%`")
    return loose


def absolute_path(word: str) -> str:
    """An absolute path without `.`, `..` or doubled slashes."""
    if not word.startswith("/") or "\0" in word:
        raise Wrong(f"{quoted(word)} is not an absolute path", "it must begin with `/`")
    parts = word.split("/")
    if ".." in parts or "." in parts:
        raise Wrong(f"{quoted(word)} has `.` or `..` in it", "write where it leads")
    return "/" + "/".join(part for part in parts if part)
