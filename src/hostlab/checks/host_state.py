"""What the files of a host say of it, looked at from inside: users, packages, mounts, processes.

Read by hand for the reasons that `file_state` gives. A program such as dpkg-query(1) or ps(1) would
be the host's own, and a process a question.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.checks.file_state import read_regular

DPKG_STATUS: Final = "/var/lib/dpkg/status"
DPKG_BYTES: Final = 1 << 27
"""More of dpkg's list is not read; 60,000 packages, all of Debian, need half of it."""
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class User(NamedTuple):
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


class Group(NamedTuple):
    """A line of group(5)."""

    name: str
    gid: int
    members: tuple[str, ...]


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo; proc(5)."""

    path: str
    source: str
    type: str
    options: frozenset[str]
    """The mount's own and the file system's."""


class Process(NamedTuple):
    """A process that runs."""

    pid: int
    name: str
    """At most 15 bytes, as the kernel keeps it."""
    words: tuple[str, ...]
    """Its command line; empty for a kernel's thread."""
    uid: int


def _records(path: str, fields: int) -> Iterator[list[str]]:
    for line in (read_regular(path) or b"").decode(errors="replace").splitlines():
        words = line.split(":")
        if len(words) >= fields:
            yield words


def users(path: str = "/etc/passwd") -> list[User]:
    """Every user of the host's own table, whole lines only."""
    return [
        User(words[0], int(words[2]), int(words[3]), words[5], words[6])
        for words in _records(path, 7)
        if words[2].isdecimal() and words[3].isdecimal()
    ]


def groups(path: str = "/etc/group") -> list[Group]:
    """Every group of the host's own table, whole lines only."""
    return [
        Group(words[0], int(words[2]), tuple(each for each in words[3].split(",") if each))
        for words in _records(path, 4)
        if words[2].isdecimal()
    ]


def groups_of(user: User, every: list[Group]) -> list[str]:
    """The names of a user's groups, the first one its own."""
    own = [group.name for group in every if group.gid == user.gid]
    return own + [g.name for g in every if user.name in g.members and g.name not in own]


def package_version(name: str, status: str = DPKG_STATUS) -> str | None:
    """The version of an installed package, as dpkg has it; None when it is not installed.

    `name` may have an architecture: `libc6:amd64`. FileNotFoundError where there is no dpkg.
    """
    plain, _, architecture = name.partition(":")
    wanted = b"\nPackage: " + plain.encode(errors="replace") + b"\n"
    with open(status, "rb") as file:
        data = b"\n" + file.read(DPKG_BYTES)
    at = data.find(wanted)
    while at >= 0:
        end = data.find(b"\n\n", at + 1)
        record = data[at + 1 : end if end >= 0 else len(data)].decode(errors="replace")
        fields = dict(line.partition(": ")[::2] for line in record.splitlines() if line[:1] != " ")
        is_meant = architecture in ("", fields.get("Architecture"))
        if is_meant and fields.get("Status", "").split()[-1:] == ["installed"]:
            return fields.get("Version", "")
        at = data.find(wanted, at + 1)
    return None


def mounts(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Every mount, those that lie over others last."""
    if not os.path.exists(path):
        # Who has entered a node is no process of its own there; its first one sees the same.
        path = "/proc/1/mountinfo"
    with open(path, encoding="utf-8", errors="replace") as file:
        return [_mount(line.split()) for line in file if " - " in line]


def _mount(words: list[str]) -> Mount:
    dash = words.index("-", 6)
    kind, source, *rest = [*words[dash + 1 :], "", ""]
    options = frozenset(words[5].split(",")) | frozenset(rest[0].split(","))
    return Mount(_plain(words[4]), _plain(source), kind, options - {""})


def _plain(word: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), word)


def processes() -> Iterator[Process]:
    """Every process that runs now, those that have ended and wait for their parent left out."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                stat = file.read()
            with open(f"/proc/{entry}/cmdline", "rb") as cmdline:
                words = cmdline.read(1 << 16).rstrip(b"\0")
            uid = os.stat(f"/proc/{entry}").st_uid
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is nobody's business
        name, _, rest = stat.partition("(")[2].rpartition(")")
        if rest.split()[0] in "ZX":
            continue
        line = words.decode(errors="replace").split("\0") if words else []
        yield Process(int(entry), name, tuple(line), uid)
