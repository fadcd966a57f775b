"""Loading the library's modules without what they can do without, and no init ever does.

asyncio and hashlib load OpenSSL, for transports and for hashes that Python has of its own, shutil
three compressions for archives, uuid a library for numbers of the machine. In a hub they are a
fifth of what each node's `clone3` copies (its page tables and areas of memory), in a supervisor
2 MB.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

NEEDLESS: Final = ("ssl", "_hashlib", "bz2", "lzma", "zlib", "_uuid")
"""Who imports them says what to do without: the standard library runs where they were not built."""


@contextlib.contextmanager
def without_needless() -> Iterator[None]:
    """Import in here as where Python lacks these; whoever wants them later can have them."""
    absent = [name for name in NEEDLESS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # import's own word for that
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
