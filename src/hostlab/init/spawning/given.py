"""What a job's main process is given of the sockets that init listens on for it.

By both protocols at once: the descriptors begin at 3, which is what LISTEN_FDS counts from
(sd_listen_fds(3)), and UPSTART_FDS has their numbers (socket-event(7)).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""
CONNECTION: Final = "connection"
"""What LISTEN_FDNAMES calls one that was accepted (systemd.socket(5), FileDescriptorName=)."""


class Accepting(msgspec.Struct, frozen=True):
    """A connection that the process accepts before its program runs."""

    listener: int
    """Does not block."""
    is_inetd: bool = False
    """It becomes standard input and output, not descriptor 3."""
    refused: frozenset[str] = frozenset()
    """Addresses that have as many connections as they may."""
    no_delay: bool = False


class Given(msgspec.Struct, frozen=True):
    """The sockets of one process."""

    descriptors: tuple[tuple[str, int], ...] = ()
    """Their names and the descriptors here."""
    accepting: Accepting | None = None

    @property
    def count(self) -> int:
        """How many descriptors from 3 on they take."""
        if self.accepting is not None:
            return 0 if self.accepting.is_inetd else 1
        return len(self.descriptors)

    def numbered(self) -> dict[int, int]:
        """Number in the process -> descriptor here."""
        return {FIRST + index: fd for index, (_, fd) in enumerate(self.descriptors)}

    def environment(self, stored: Mapping[str, str]) -> dict[str, str]:
        """The variables that tell of them, and of those behind them that `stored` tells of."""
        if not self.count:
            return dict(stored)
        names = [CONNECTION] if self.accepting else [name for name, _ in self.descriptors]
        if further := stored.get("LISTEN_FDNAMES"):
            names.append(further)
        numbers = range(FIRST, FIRST + self.count)
        return {
            **stored,
            "UPSTART_FDS": " ".join(map(str, numbers)),
            "LISTEN_FDS": str(self.count + int(stored.get("LISTEN_FDS", 0))),
            "LISTEN_FDNAMES": ":".join(names),
        }


NOTHING: Final = Given()
