"""Files that a script changed in its node's overlay: the machine's are as they were.

What commands were given and redirected to is looked at, and where configuration is kept all of it.
A file has been changed where the node shows another one than the machine does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from hostlab.firewall.script import PLACE, Ran
from hostlab.firewall.trace import Call

SCRATCH: Final = re.compile(
    rf"/(tmp|run|dev|proc|sys|var/(run|lock|tmp|log))(/|$)|{re.escape(PLACE)}|/usr/sbin/(main|modprobe)$"
)
"""A node has these for itself, and nobody misses them."""
WATCHED: Final = ("/etc", "/usr/local/bin", "/usr/local/sbin", "/usr/local/etc", "/var/spool/cron")
SHOWN_BY_LAB: Final = frozenset({"/etc/hosts", "/etc/resolv.conf", "/etc/mtab", "/etc/hostname"})
MAX_WATCHED: Final = 20_000
CHANGERS: Final = frozenset(
    {
        *("cp", "mv", "rm", "ln", "mkdir", "rmdir", "touch", "tee", "install", "sed", "chmod"),
        *("chown", "truncate", "dd", "iptables-save", "ip6tables-save", "ipset", "rsync", "tar"),
    }
)
PERSISTENT: Final = re.compile(
    r"/etc/(iptables|nftables|sysconfig/ip6?tables|ipset)|/etc/network/if-"
)
Stamp = tuple[int, int, int]


def watched(pid: int) -> dict[str, Stamp]:
    """The files of the watched directories, as a node shows them: mode, size, time of change."""
    found: dict[str, Stamp] = {}
    for top in WATCHED:
        with suppress(FileNotFoundError), _opened(f"/proc/{pid}/root{top}") as opened:
            for path, stamp in _stamps(opened):
                found[top + path] = stamp
                if len(found) >= MAX_WATCHED:
                    return found
    return found


@contextmanager
def _opened(directory: str, *, at: int | None = None) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)


def _stamps(top: int) -> Iterator[tuple[str, Stamp]]:
    """The files below a directory, from its descriptor: the way through another process' root is
    longer than all the rest of a path.
    """
    waiting = ["."]
    while waiting:
        directory = waiting.pop()
        with suppress(OSError), _opened(directory, at=top) as opened, os.scandir(opened) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                if not entry.is_dir():
                    with suppress(OSError):
                        yield path[1:], _stamp_of(entry.stat(follow_symlinks=False))
                elif not entry.is_symlink():
                    waiting.append(path)


def changes(
    pid: int, ran: Ran, before: dict[str, Stamp], directory: str
) -> Iterator[tuple[str, Call | None]]:
    """(path, the command that did it as far as it is found) of every file that was changed."""
    named: dict[str, Call] = {}
    for call in ran.calls:
        for path in _given(call):
            named[os.path.normpath(os.path.join(directory, path))] = call
    after = watched(pid)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    changed |= {path for path in named if _differs(pid, path)}
    for path in sorted(changed - SHOWN_BY_LAB):
        if not SCRATCH.match(path):
            yield path, named.get(path) or _mentioning(ran, path)


def _given(call: Call) -> Iterator[str]:
    if call.written is not None:
        yield from (path for path in call.written.writes if "*" not in path)
    if call.name in CHANGERS:
        for word in call.words[1:]:
            value = word.removeprefix("of=")
            if not value.startswith("-") and ("/" in value or "." in value):
                yield value


def _differs(pid: int, path: str) -> bool:
    return not SCRATCH.match(path) and _stamp(path) != _stamp(f"/proc/{pid}/root{path}")


def _stamp(path: str) -> Stamp | None:
    try:
        return _stamp_of(os.lstat(path))
    except (OSError, ValueError):
        return None


def _stamp_of(found: os.stat_result) -> Stamp:
    # A directory's size is its file system's, and an overlay's is another one.
    is_directory = (found.st_mode & 0o170000) == 0o040000
    return (
        found.st_mode,
        0 if is_directory else found.st_size,
        0 if is_directory else found.st_mtime_ns,
    )


def _mentioning(ran: Ran, path: str) -> Call | None:
    name = os.path.basename(path)
    return next(
        (
            call
            for call in reversed(ran.calls)
            if name in call.text or (call.place is not None and name in call.place.text)
        ),
        None,
    )
