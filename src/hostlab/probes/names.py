"""A node's names: its /etc/hosts first, then whatever its resolver knows.

/etc/hosts is read here rather than by getaddrinfo(3), which reads nsswitch.conf first and may load
a module that it names from the node's own file system. The lab writes every node's name into that
file, so the resolver is asked for foreign names only.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 (getaddrinfo needs it; inside a node nothing is imported)
import socket
import stringprep  # noqa: F401 (encodings.idna imports it at its first use)
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

HOSTS: Final = "/etc/hosts"
HOSTS_BYTES: Final = 1 << 24
"""More than this of a hosts file is not read: 100,000 nodes need half of it."""


class UnknownName(Exception):
    """Neither /etc/hosts nor the resolver knows the name; the message says what it said."""


def is_address(text: str) -> bool:
    """Whether it is an address, with or without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def addresses(name: str, *, hosts: str = HOSTS) -> tuple[str, ...]:
    """The addresses of a name or of an address, in the order to try them; `UnknownName`."""
    if is_address(name):
        return (name,)
    try:
        with open(hosts, encoding="utf-8", errors="replace") as file:
            found = hosts_entries(file.read(HOSTS_BYTES).splitlines(), name)
    except FileNotFoundError:
        found = ()
    return found or _resolved(name)


def hosts_entries(lines: Iterable[str], name: str) -> tuple[str, ...]:
    """Every address that a hosts file gives the name; hosts(5). Case does not count."""
    wanted = name.rstrip(".").lower()
    found: dict[str, None] = {}
    for line in lines:
        words = line.partition("#")[0].lower().split()
        if wanted in words[1:] and is_address(words[0]):
            found[words[0]] = None
    return tuple(found)


def _resolved(name: str) -> tuple[str, ...]:
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise UnknownName(f"the name {name} does not resolve in the node: {reason}") from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
