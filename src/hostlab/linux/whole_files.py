"""Files that are the old or the new one at every instant: rename(2), and fsync(2) where asked."""

from __future__ import annotations

import contextlib
import os


def write_whole(path: str, data: bytes, *, mode: int = 0o666, is_synced: bool = False) -> None:
    """Replace a file's content whole or not at all; what cannot be written leaves nothing behind.

    The old or the new one is there after a crash of the program, with `is_synced` also after one of
    the machine. OSError names the file itself, not the one beside it that was to take its place.
    """
    try:
        _replace(path, data, mode, is_synced=is_synced)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    if is_synced:
        _sync_directory(os.path.dirname(path) or ".")


def _replace(path: str, data: bytes, mode: int, *, is_synced: bool) -> None:
    beside = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(beside, flags, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if is_synced:
                file.flush()
                os.fsync(fd)
        os.rename(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
