"""Memory that the hypervisor has taken back, fetched before a measurement instead of within it.

A guest with free page reporting (virtio-balloon, mm/page_reporting.c) gives pages that were free
for two seconds back to its host, and each costs a fault outside the guest when it is used again.
Measured where this was written: `clone3` of a bare node 0.8 ms on pages in hand and 2 to 3 ms on
such pages, which made the thousandth node look three times as dear as the first. That is a
property of the virtual machine, not of anything compared here, so memory is touched and let go
right before every contender's turn.
"""

from __future__ import annotations

import mmap

CHUNK_BYTES = 64 << 20
PAGE_BYTES = mmap.PAGESIZE
AVAILABLE_SHARE = 0.5
"""Never touch more than this share of what is available."""


def warm_memory(size_bytes: int) -> None:
    """Write to so much memory, page by page, and give it back; less when there is not as much."""
    left = min(size_bytes, int(_available_bytes() * AVAILABLE_SHARE))
    chunks = []
    while left > 0:
        chunk = mmap.mmap(-1, min(CHUNK_BYTES, left), flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE)
        chunks.append(chunk)
        left -= CHUNK_BYTES
    for chunk in chunks:
        chunk.close()


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
