"""Events on their way: pending, then handled, then finished when nothing blocks them.

An event that is pending is shown to every job; then it waits until each blocker has let go; then
it is finished, and what waited for it goes on. The queue visits them as init/event.c's
event_poll() does: in the order in which they were emitted, over and over until a whole pass finds
nothing to do. An event that becomes free behind the place where the pass is waits for the next
pass, which is why the order of events is the same as Upstart's.
"""

from __future__ import annotations

from enum import StrEnum
from heapq import heappop, heappush
from typing import Any, NamedTuple

from hostlab.jobs.expression import Environment


class BlockerKind(StrEnum):
    """What can hold an event."""

    START_ON = "start on"
    """A class's condition that it made true in part."""
    STOP_ON = "stop on"
    """An instance's condition that it made true in part."""
    JOB = "job"
    """An instance that it started or stopped."""


class Blocker(NamedTuple):
    """Who holds an event."""

    kind: BlockerKind
    job: str
    instance: str = ""


class Event:
    """A name and an ordered environment, on its way."""

    __slots__ = (
        "blockers",
        "environment",
        "extra",
        "failed",
        "fds",
        "handled",
        "holds",
        "name",
        "request",
        "serial",
        "timeout_at",
    )

    def __init__(self, serial: int, name: str, environment: Environment) -> None:
        self.serial = serial
        self.name = name
        self.environment = environment
        self.handled = False
        """Every job has seen it."""
        self.failed = False
        self.blockers: dict[Blocker, int] = {}
        """Who blocks it and how often: a condition may hold it by several operands."""
        self.holds: tuple[str, str] | None = None
        """The instance, as (job, name), that goes on when it is finished."""
        self.request: str | None = None
        """Whom to answer when it is finished."""
        self.timeout_at: float | None = None
        """When to answer at the latest."""
        self.fds: tuple[int, ...] = ()
        self.extra: dict[str, Any] = {}


class Queue:
    """The events that are not finished, and which of them can go on."""

    def __init__(self) -> None:
        self.events: dict[int, Event] = {}
        """By serial number, in the order of emission."""
        self.next_serial = 1
        self._ready: list[int] = []
        self._behind: list[int] = []
        self._position = 0

    def add(self, name: str, environment: Environment) -> Event:
        """A new event, pending."""
        serial = self.next_serial
        self.next_serial = serial + 1
        event = self.events[serial] = Event(serial, name, environment)
        # The newest serial is the largest, so appending keeps the heap a heap.
        self._ready.append(serial)
        return event

    def wake(self, event: Event) -> None:
        """An event can go on: visit it."""
        if event.serial > self._position:
            heappush(self._ready, event.serial)
        else:
            self._behind.append(event.serial)

    def pop(self) -> Event | None:
        """The next event to visit; None when none can go on."""
        while True:
            if not self._ready:
                self._position = 0
                if not self._behind:
                    return None
                self._ready, self._behind = sorted(set(self._behind)), []
            serial = heappop(self._ready)
            event = self.events.get(serial)
            if event is not None:
                self._position = serial
                return event

    def begin_pass(self) -> None:
        """End the pass where it stands: the next visit is to the oldest event that can go on.

        In a pass that never ends, those behind it would never be visited.
        """
        self._ready = sorted({*self._ready, *self._behind})
        self._behind = []
        self._position = 0

    @property
    def idle(self) -> bool:
        """No event can go on by itself."""
        return not (self._ready or self._behind)

    def remove(self, event: Event) -> None:
        """The event is finished."""
        del self.events[event.serial]

    def block(self, event: Event, blocker: Blocker) -> None:
        """Hold an event."""
        event.blockers[blocker] = event.blockers.get(blocker, 0) + 1

    def unblock(self, serial: int, blocker: Blocker) -> None:
        """Let go of an event once."""
        event = self.events[serial]
        left = event.blockers[blocker] - 1
        if left:
            event.blockers[blocker] = left
            return
        del event.blockers[blocker]
        if not event.blockers:
            self.wake(event)
