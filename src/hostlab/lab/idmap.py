"""Which user ids a lab has: all of the machine's for root, a range or one for a plain user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from typing import Final

from hostlab.errors import Unsupported

_MINIMUM: Final = 1000
"""A smaller subordinate range is not worth a map: Debian hands out 65,536."""


def maps_itself() -> bool:
    """Whether the hub can only write its own map, of one id (user_namespaces(7))."""
    return os.geteuid() != 0 and _ranges() is None


def write_maps(pid: int) -> None:
    """Write the user and group map of a hub that has just entered its user namespace."""
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/self/{name}") as here, open(f"/proc/{pid}/{name}", "w") as file:
                file.write(identity(here.read()))
        return
    found = _ranges()
    assert found is not None, "maps_itself() decides who calls"
    for program, own, (first, count) in zip(
        ("newuidmap", "newgidmap"), (os.geteuid(), os.getegid()), found, strict=True
    ):
        command = [program, str(pid), "0", str(own), "1", "1", str(first), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            raise Unsupported(
                "id-map",
                f"{program}: {done.stderr.strip()}",
                hint="check this user's ranges in /etc/subuid and /etc/subgid",
            )


def identity(own: str) -> str:
    """A map in which every id that there is here stays what it is; `own` is this process' map.

    On the machine these are all ids; in a node, whose root stages a lab of its own, fewer may be.
    """
    extents = (line.split() for line in own.splitlines())
    return "".join(f"{inner} {inner} {count}\n" for inner, _, count in extents)


def _ranges() -> tuple[tuple[int, int], tuple[int, int]] | None:
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    uids, gids = _range("/etc/subuid"), _range("/etc/subgid")
    return (uids, gids) if uids and gids else None


def _range(path: str) -> tuple[int, int] | None:
    uid = os.geteuid()
    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    try:
        with open(path) as lines:
            for line in lines:
                fields = line.strip().split(":")
                if len(fields) == 3 and fields[0] in names and int(fields[2]) >= _MINIMUM:
                    return int(fields[1]), int(fields[2])
    except (FileNotFoundError, ValueError):
        return None
    return None
