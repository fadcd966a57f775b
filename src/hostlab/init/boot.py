"""A node's boot and its end: the events that unchanged jobs wait for, emitted one after another.

Where it stands is known from the events' own requests, which the engine's state holds, so that a
supervisor that was killed in the middle goes on with the next one. Which events they are is stored
too: what is mounted, or which interfaces there are, may be something else by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hostlab import typed
from hostlab.init.jobs import BOOT, Jobs
from hostlab.jobs import facts
from hostlab.jobs.boot import Emission, Mount, boot_events, described_boot
from hostlab.spec.model import Node

MOUNTINFO: Final = "/proc/self/mountinfo"
EVENTS: Final = "boot-events"
"""In the engine's state: all events of a boot that is not over; none once it is."""


def events_of(node: Node) -> tuple[Emission, ...]:
    """The events of a node's boot, with what it has mounted and which interfaces it has."""
    interfaces = ("lo", *(interface.name for interface in node.interfaces))
    return boot_events(*described_boot(node.boot, mounts=mounts(), interfaces=interfaces))


def mounts(path: str = MOUNTINFO) -> tuple[Mount, ...]:
    """What is mounted here, as mountall tells of it (proc_pid_mountinfo(5))."""
    found = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields, kind = left.split(), right.split()
            found.append(
                Mount(
                    device=_decoded(kind[1]),
                    mountpoint=_decoded(fields[4]),
                    type=kind[0],
                    options=fields[5],
                )
            )
    return tuple(found)


async def emit(jobs: Jobs, emissions: Callable[[], Sequence[Emission]]) -> None:
    """Emit what has not been emitted yet, in order; `emissions` are those of a new boot."""
    if EVENTS not in jobs.engine.extra:
        jobs.remember(EVENTS, msgspec.to_builtins(tuple(emissions())))
    events = typed.convert(jobs.engine.extra[EVENTS], tuple[Emission, ...])
    if not events:
        return
    if jobs.boot_position:
        last = f"{BOOT}{jobs.boot_position - 1}"
        if events[jobs.boot_position - 1].waits and jobs.book.knows(last):
            await jobs.book.answer(last)
            jobs.book.forget(last)
    while jobs.boot_position < len(events):
        emission = events[jobs.boot_position]
        token = f"{BOOT}{jobs.boot_position}"
        fact = facts.Emit(name=emission.event, environment=emission.environment, request=token)
        if emission.waits:
            await jobs.ask(token, fact)
        else:
            await jobs.request(token, fact, wait=False)
            jobs.book.forget(token)
    jobs.remember(EVENTS, [])


def _decoded(text: str) -> str:
    """Blanks and the like stand as octal escapes in mountinfo."""
    if "\\" not in text:
        return text
    return os.fsdecode(os.fsencode(text).decode("unicode_escape").encode("latin-1"))
