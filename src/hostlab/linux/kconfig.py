"""What the running kernel was configured with: /proc/config.gz, or the file beside its image."""

from __future__ import annotations

import gzip
import os
from functools import cache
from typing import Final

MAX_BYTES: Final = 4 << 20


@cache
def options() -> frozenset[str] | None:
    """Options that are `y` or `m`, without `CONFIG_`; None where the kernel does not tell."""
    for path, opener in (
        ("/proc/config.gz", gzip.open),
        (f"/boot/config-{os.uname().release}", open),
    ):
        try:
            with opener(path, "rb") as file:
                text = file.read(MAX_BYTES).decode("ascii", "replace")
        except (OSError, EOFError):
            continue
        lines = (line.partition("=") for line in text.split("\n"))
        return frozenset(n.removeprefix("CONFIG_") for n, _, value in lines if value in ("y", "m"))
    return None


def has(option: str) -> bool | None:
    """Whether the kernel was built with an option; None where it does not tell."""
    known = options()
    return None if known is None else option in known
