"""A node's boot and its end: the events that unchanged jobs wait for, emitted one after another.

Where it stands is known from the events' own requests, which the engine's state holds, so that a
supervisor that was killed in the middle goes on with the next one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from hostlab.init.jobs import BOOT, Jobs
from hostlab.jobs import facts
from hostlab.jobs.boot import Emission, Mount, boot_events, described_boot
from hostlab.spec.model import Node

MOUNTINFO: Final = "/proc/self/mountinfo"


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


async def emit(jobs: Jobs, emissions: Sequence[Emission]) -> None:
    """Emit what has not been emitted yet, in order."""
    if jobs.boot_position:
        last = f"{BOOT}{jobs.boot_position - 1}"
        if emissions[jobs.boot_position - 1].waits and jobs.book.knows(last):
            await jobs.book.answer(last)
            jobs.book.forget(last)
    while jobs.boot_position < len(emissions):
        emission = emissions[jobs.boot_position]
        token = f"{BOOT}{jobs.boot_position}"
        fact = facts.Emit(name=emission.event, environment=emission.environment, request=token)
        if emission.waits:
            await jobs.ask(token, fact)
        else:
            await jobs.request(token, fact, wait=False)
            jobs.book.forget(token)


def _decoded(text: str) -> str:
    """Blanks and the like stand as octal escapes in mountinfo."""
    if "\\" not in text:
        return text
    return os.fsdecode(os.fsencode(text).decode("unicode_escape").encode("latin-1"))
