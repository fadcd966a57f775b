"""One epoll loop of one thread: who waits for which descriptor, what is due, what is left to do."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

MAX_EVENTS = 256
"""Events taken from the kernel at once."""


class Closeable(Protocol):
    """A socket, or whatever else owns a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Loop:
    """Calls back for events, deadlines and postponed work, fairly, until stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._doomed: list[Closeable] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._clocks: list[Callable[[float], float | None]] = []
        self._running = True
        self.now = time.monotonic()
        """Seconds, CLOCK_MONOTONIC, as of the present turn."""

    def watch(self, source: Closeable, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when any of epoll's `events` happens to `source`."""
        fd = source.fileno()
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unwatch(self, source: Closeable) -> None:
        """No more calls for `source`, not even for an event already taken from the kernel."""
        if self._callbacks.pop(source.fileno(), None) is not None:
            self._epoll.unregister(source.fileno())

    def discard(self, source: Closeable) -> None:
        """Unwatch and close, the latter at the end of the turn.

        A number closed at once could be given to a new socket within the same turn, which would
        then be called for its predecessor's events.
        """
        self.unwatch(source)
        self._doomed.append(source)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call once in the next turn, after its events."""
        self._ready.append(callback)

    def each_turn(self, clock: Callable[[float], float | None]) -> None:
        """Call `clock(now)` every turn; it does what is due and returns the next deadline."""
        self._clocks.append(clock)

    def stop(self) -> None:
        """Return from `run` at the end of this turn."""
        self._running = False

    def run(self) -> None:
        """Turn until stopped."""
        while self._running:
            self._turn()

    def close(self) -> None:
        """Close what was discarded and the epoll descriptor itself."""
        self._bury()
        self._epoll.close()

    def _turn(self) -> None:
        self.now = time.monotonic()
        deadlines = [due for clock in self._clocks if (due := clock(self.now)) is not None]
        timeout_s = max(0.0, min(deadlines) - self.now) if deadlines else None
        if self._ready:
            timeout_s = 0.0
        for fd, events in self._epoll.poll(timeout_s, MAX_EVENTS):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        for _ in range(len(self._ready)):
            self._ready.popleft()()
        self._bury()

    def _bury(self) -> None:
        for source in self._doomed:
            source.close()
        self._doomed.clear()
