"""Waiting for an expectation to become true, or to stay so.

Nothing tells that a remote host has begun to listen, nor that a command would now end otherwise.
So an attempt is repeated: at once, then after pauses that double from 1 ms to 100 ms, until its
deadline. The clock and the pause are passed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

FIRST_PAUSE_S: Final = 0.001
LONGEST_PAUSE_S: Final = 0.1
ATTEMPT_S: Final = 1.0
"""The longest attempt: a lost first packet is sent anew by a new attempt, not by TCP's timers."""
SHORTEST_ATTEMPT_S: Final = 0.1
"""What an attempt gets even when its deadline is nearer, so that `within: 0` can be judged."""
MOST_STEPS: Final = 16
OUTPUT_LINES: Final = 20
"""How many lines of a log, or of what a command wrote, go along."""
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
    facts: Mapping[str, Any] = {}
    """What was found out, for programs."""


class Step(msgspec.Struct, frozen=True):
    """What was seen from a moment on."""

    at_s: float
    """From the first attempt's start."""
    text: str


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt that decided, and what it took to get there."""

    seen: Seen
    tries: int
    took_s: float
    trace: tuple[Step, ...] = ()
    """What the first attempt saw, and those that saw something else; not more than 16."""


def pause(seconds: float) -> None:
    """Let time pass where no event can be waited for."""
    threading.Event().wait(seconds)


@dataclass(frozen=True)
class Patience:
    """How long to go on trying."""

    within_s: float
    attempt_s: float = ATTEMPT_S
    lasting: bool = False
    """It has to be true from the first try on, for min(within, 1 s)."""
    always_s: float | None = None
    """How long it has to go on being true."""
    never_s: float | None = None
    """How long it must not be true."""
    once: bool = False
    """The first attempt decides, and has all the time there is."""
    pause: Callable[[float], object] = pause
    now: Callable[[], float] = time.monotonic

    @property
    def longest_s(self) -> float:
        """How long it can take to decide, but for the last attempt."""
        if self.never_s is not None:
            return self.never_s
        return self.within_s + (self.always_s or 0.0)

    def judged(self, attempt: Callable[[float], Seen]) -> Waited:
        """Try until it is decided; `attempt` is told how many seconds it has."""
        if self.once:
            return self._repeat(attempt, self.within_s, lambda _: True)
        if self.never_s is not None:
            return self._as_long_as_true(lambda left_s: _opposite(attempt(left_s)), self.never_s)
        if self.lasting:
            lasting_s = min(self.within_s, LASTING_S) if self.always_s is None else self.always_s
            return self._as_long_as_true(attempt, lasting_s)
        first = self._repeat(attempt, self.within_s, lambda seen: seen.ok or seen.hopeless)
        if self.always_s is None or not first.seen.ok:
            return first
        then = self._as_long_as_true(attempt, self.always_s)
        later = tuple(Step(first.took_s + step.at_s, step.text) for step in then.trace)
        return Waited(
            seen=then.seen,
            tries=first.tries + then.tries,
            took_s=first.took_s + then.took_s,
            trace=(first.trace + later)[:MOST_STEPS],
        )

    def _as_long_as_true(self, attempt: Callable[[float], Seen], period_s: float) -> Waited:
        return self._repeat(attempt, period_s, lambda seen: not seen.ok)

    def _repeat(
        self, attempt: Callable[[float], Seen], period_s: float, decides: Callable[[Seen], bool]
    ) -> Waited:
        started = self.now()
        until = started + period_s
        tries, wait_s, said = 0, FIRST_PAUSE_S, None
        trace: list[Step] = []
        while True:
            tries += 1
            left_s = until - self.now()
            at_s = self.now() - started
            seen = attempt(min(self.attempt_s, max(SHORTEST_ATTEMPT_S, left_s)))
            if len(trace) < MOST_STEPS and (not trace or trace[-1].text != seen.text):
                trace.append(Step(round(at_s, 3), seen.text))
            if decides(seen) or said is None or seen.heard >= said.heard:
                said = seen
            left_s = until - self.now()
            if decides(seen) or left_s <= 0:
                took_s = self.now() - started
                return Waited(seen=said, tries=tries, took_s=took_s, trace=tuple(trace))
            self.pause(min(wait_s, left_s))
            wait_s = min(2 * wait_s, LONGEST_PAUSE_S)


def _opposite(seen: Seen) -> Seen:
    """What was seen, where it must not be; what cannot be judged stays so."""
    return seen if seen.unknown else msgspec.structs.replace(seen, ok=not seen.ok)
