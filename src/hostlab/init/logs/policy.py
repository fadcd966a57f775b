"""What a job's log may take: names, sizes, ages and rates, as arithmetic. No I/O, no clock.

A log is never slowed down and never grows without a bound. Its file is turned into `.1` at a size
or an age, and the oldest goes. What a job writes faster than `rate_bytes` for longer than
`burst_bytes` allow is dropped for `pause_s`, and the log says how much.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection
from typing import Final

import msgspec

DAY_S: Final = 86_400.0
NAME_BYTES: Final = 240
"""Of the 255 that a file's name may have; the rest is for `.log` and a number."""

OVERDRAFT_BYTES: Final = 1 << 16


class LogPolicy(msgspec.Struct, frozen=True):
    """The bounds of one log."""

    max_bytes: int = 10 << 20
    """Size at which a file is rotated; a line that has begun is finished first."""
    max_age_s: float = 7 * DAY_S
    """Age at which a file is rotated, from its birth on, judged at the next write."""
    old_files: int = 3
    """How many rotated files are kept: `.1` is the newest."""
    rate_bytes: int = 50_000_000
    """Bytes a second that a job may write for ever."""
    burst_bytes: int = 200_000_000
    """Bytes that it may write at once after a quiet time."""
    pause_s: float = 1.0
    """For so long lines are dropped once the burst is used up."""
    retry_s: float = 1.0
    """For so long lines are dropped after the file could not be written (disk full)."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.rate_bytes, self.burst_bytes) < 1 or self.old_files < 0:
            raise ValueError(f"a log needs room: {self}")

    def must_rotate(self, size: int, age_s: float) -> bool:
        """Whether a file of this size and age takes no further line."""
        return size >= self.max_bytes or (size > 0 and age_s >= self.max_age_s)


class Bucket:
    """The rate bound of one log: a bucket of tokens, a token a byte.

    It is overdrawn by its last move: in single bytes, as they come in, a flood would be slowed
    down to the rate instead of being cut.
    """

    __slots__ = ("_at", "_policy", "_tokens", "is_dropping")

    def __init__(self, policy: LogPolicy, now: float) -> None:
        self._policy = policy
        self._tokens = float(policy.burst_bytes)
        self._at = now
        self.is_dropping = False

    def spend(self, count: int) -> None:
        """So many bytes have passed."""
        self._tokens -= count

    def room(self, now: float) -> int:
        """How many bytes may pass now; once none, none before the pause is over."""
        policy = self._policy
        earned = max(0.0, now - self._at) * policy.rate_bytes
        self._tokens = min(policy.burst_bytes, self._tokens + earned)
        self._at = max(self._at, now)
        self.is_dropping = self._tokens < (self._enough if self.is_dropping else 1)
        if self.is_dropping:
            return 0
        return max(int(self._tokens), min(policy.burst_bytes, OVERDRAFT_BYTES))

    @property
    def wait_s(self) -> float:
        """Seconds from the last look on until bytes may pass again."""
        return max(0.0, (self._enough - self._tokens) / self._policy.rate_bytes)

    @property
    def _enough(self) -> float:
        return min(self._policy.burst_bytes, self._policy.rate_bytes * self._policy.pause_s)


class Dropped(msgspec.Struct, frozen=True):
    """What a log has not got."""

    log: str
    """The log's name, without `.log`."""
    lines: int
    size_bytes: int


def log_name(job: str, instance: str = "") -> str:
    """A log's name without `.log`, as Upstart makes it: `<job>[-<instance>]`, `/` as `_`.

    What cannot be a file's name is made one: a name that is too long ends in a checksum.
    """
    text = f"{job}-{instance}" if instance else job
    name = text.replace("/", "_").replace("\0", "_").encode(errors="replace")
    if len(name) <= NAME_BYTES:
        return name.decode()
    head = name[: NAME_BYTES - 9].decode(errors="ignore")
    return f"{head}~{binascii.crc32(name):08x}"


def shifts(name: str, present: Collection[int], old_files: int) -> tuple[tuple[str, str], ...]:
    """The renames of one rotation, in the order in which a kill between them loses nothing.

    `present` are the numbers of rotated files that are there. From the oldest on, so no file is
    hidden by another; and only up to the first gap, which an interrupted rotation has left.
    """
    free = next((n for n in range(1, old_files + 1) if n not in present), old_files)
    moves = [(f"{name}.{n - 1}" if n > 1 else name, f"{name}.{n}") for n in range(free, 0, -1)]
    return tuple(moves)


def dropping_notice(policy: LogPolicy) -> bytes:
    """The line that stands where lines begin to be dropped for being too many."""
    return f"hostlab: more than {policy.rate_bytes} bytes/s: lines are dropped\n".encode()


def dropped_notice(lines: int, size_bytes: int, reason: str) -> bytes:
    """The line that stands where lines are missing."""
    return f"hostlab: {lines} lines ({size_bytes} bytes) dropped: {reason}\n".encode()
