"""Files that are there to be locked (flock(2)), and go away with their last holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str, *, alone: bool = True, create: bool = True) -> Iterator[None]:
    """Hold a file's lock; one that was `create`d for that is gone afterwards.

    Whoever has it is waited for. As the file may have gone away with him, a waiter looks whether
    the one that he has locked is still the one of that name. OSError when it cannot be opened.
    """
    flags = (os.O_RDWR | os.O_CREAT) if create else os.O_RDONLY
    while True:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if _is_same(fd, path):
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield
    finally:
        if create:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        # A child may have a copy of the descriptor, and the lock is the open file's.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
