"""Waiting for an expectation to become true, or to stay so.

Nothing tells that a remote host has begun to listen, nor that a command would now end otherwise.
So an attempt is repeated: at once, then after pauses that double from 1 ms to 100 ms, until its
deadline. The clock and the pause are passed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

FIRST_PAUSE_S: Final = 0.001
LONGEST_PAUSE_S: Final = 0.1
ATTEMPT_S: Final = 1.0
"""The longest attempt: a lost first packet is sent anew by a new attempt, not by TCP's timers."""
SHORTEST_ATTEMPT_S: Final = 0.1
"""What an attempt gets even when its deadline is nearer, so that `within: 0` can be judged."""
LASTING_S: Final = 1.0
"""How long what must not be reached has to stay so, unless `within` is shorter."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt saw."""

    ok: bool
    text: str
    hopeless: bool = False
    """Waiting cannot mend it."""
    unknown: bool = False
    """It could not be judged."""
    heard: int = 1
    """How many answers it rests on; 0 is silence. An attempt that heard less than an earlier one
    does not replace what that one saw: hosts limit the rate of their ICMP errors, and a last
    attempt may be cut short."""
    log: tuple[str, ...] = ()


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt that decided, and what it took to get there."""

    seen: Seen
    tries: int
    took_s: float


def pause(seconds: float) -> None:
    """Let time pass where no event can be waited for."""
    threading.Event().wait(seconds)


@dataclass(frozen=True)
class Patience:
    """How long to go on trying."""

    within_s: float
    attempt_s: float = ATTEMPT_S
    pause: Callable[[float], object] = pause
    now: Callable[[], float] = time.monotonic

    def until_true(self, attempt: Callable[[float], Seen]) -> Waited:
        """Try until it is ok, hopeless or late; `attempt` is told how many seconds it has."""
        return self._repeat(attempt, self.within_s, lambda seen: seen.ok or seen.hopeless)

    def as_long_as_true(self, attempt: Callable[[float], Seen]) -> Waited:
        """Try until it is not ok, for min(within, 1 s)."""
        return self._repeat(attempt, min(self.within_s, LASTING_S), lambda seen: not seen.ok)

    def _repeat(
        self, attempt: Callable[[float], Seen], period_s: float, decides: Callable[[Seen], bool]
    ) -> Waited:
        started = self.now()
        until = started + period_s
        tries, wait_s, said = 0, FIRST_PAUSE_S, None
        while True:
            tries += 1
            left_s = until - self.now()
            seen = attempt(min(self.attempt_s, max(SHORTEST_ATTEMPT_S, left_s)))
            if decides(seen) or said is None or seen.heard >= said.heard:
                said = seen
            left_s = until - self.now()
            if decides(seen) or left_s <= 0:
                return Waited(seen=said, tries=tries, took_s=self.now() - started)
            self.pause(min(wait_s, left_s))
            wait_s = min(2 * wait_s, LONGEST_PAUSE_S)
