"""What a file of a node is, looked at from inside it.

The node's file system is the node's: a fifo would make a reader wait, a device has no end, and the
C library's look-up of users would load what the node says. So files are opened without waiting,
read only where they are regular, up to a mebibyte, and users are looked up in /etc/passwd by hand.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from typing import Final

READ_BYTES: Final = 1 << 20
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def look(path: str, *, follow: bool) -> os.stat_result | None:
    """The file's stat; None when there is none. OSError for any other reason."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None


def kind_of(found: os.stat_result) -> str:
    """What a file is, in a word."""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def _open_regular(path: str) -> BufferedReader | None:
    """A regular file to be read; None when it is none (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket's: open(2)
            return None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return os.fdopen(fd, "rb")


def read_regular(path: str) -> bytes | None:
    """The first MiB of a regular file; None when it is none (any more)."""
    file = _open_regular(path)
    if file is None:
        return None
    with file:
        return file.read(READ_BYTES)


def sha256_of(path: str) -> str | None:
    """The SHA-256 of a regular file, of all of it; None when it is none."""
    file = _open_regular(path)
    if file is None:
        return None
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def owner_of(found: os.stat_result) -> tuple[str, str]:
    """The names of its user and group, as the node has them; numbers where it has none."""
    user = _named("/etc/passwd", found.st_uid) or str(found.st_uid)
    return user, _named("/etc/group", found.st_gid) or str(found.st_gid)


def _named(table: str, number: int) -> str | None:
    try:
        data = read_regular(table) or b""
    except OSError:
        return None
    for line in data.decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(number):
            return fields[0]
    return None
