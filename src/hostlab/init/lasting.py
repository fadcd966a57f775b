"""What an init remembers beyond its own end: small files in a directory of its own.

The directory is made when there is something to remember, so an init that remembers nothing leaves
nothing. A node's is its run directory, which goes when the lab goes down.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

MAX_BYTES: Final = 16 << 20
"""Of one file; what is longer is none of ours."""
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Lasting:
    """A directory, by its path or, where init has no path to it, by a descriptor."""

    def __init__(self, directory: str | int) -> None:
        self._directory = directory

    def read(self, name: str) -> bytes:
        """What was written last under this name; empty when nothing was, or it is not readable."""
        with contextlib.suppress(OSError), self._opened(make=False) as directory:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            with open(fd, "rb") as file:
                return file.read(MAX_BYTES)
        return b""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; OSError when that cannot be."""
        with self._opened(make=True) as directory:
            new = f"{name}.new"
            with open(os.open(new, _WRITE, 0o600, dir_fd=directory), "wb") as file:
                file.write(data)
            os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)

    @contextlib.contextmanager
    def _opened(self, *, make: bool) -> Iterator[int]:
        if isinstance(self._directory, int):
            yield self._directory
            return
        if make:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def stamped(directory: str, name: str) -> float | None:
    """When systemd says that its timer of this name came last (systemd.timer(5), Persistent=)."""
    try:
        return os.stat(os.path.join(directory, f"stamp-{name}")).st_mtime
    except (OSError, ValueError):
        return None
