"""What is remembered of one main process while its readiness matters, and what it has said."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hostlab.init.fd_store import MAX_KEY_BYTES, quote
from hostlab.init.notify import Message
from hostlab.spec.job import Job

KINDS: Final = ("notify", "ready", "stop")
"""What the holder keeps of a spawn: its socket, the end of its pipe, a mark that it is awaited."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What a process has last said of itself (sd_notify(3)); None: nothing."""

    status: str | None = None
    reloading: bool = False
    stopping: bool = False
    errno: int | None = None
    bus_error: str | None = None
    exit_status: int | None = None
    monotonic_usec: int | None = None

    def after(self, message: Message) -> Notes:
        """These, once a message has been heard."""
        new = replace(
            self,
            reloading=message.reloading or (self.reloading and not message.ready),
            stopping=self.stopping or message.stopping,
        )
        for name in ("status", "errno", "bus_error", "exit_status", "monotonic_usec"):
            value = getattr(message, name)
            if value is not None:
                new = replace(new, **{name: value})
        return new


class Watch:
    """One main process."""

    def __init__(self, spawn: int, job: Job, instance: str) -> None:
        self.spawn = spawn
        self.job = job
        self.instance = instance
        self.first = 0
        """The process that was started."""
        self.pid = 0
        """The main process now."""
        self.session = 0
        """The session in which the main process was when it became it."""
        self.seen: frozenset[int] = frozenset()
        """Its processes at the time when it was taken for ready although its parent stayed."""
        self.awaited = False
        self.is_stopping = False
        self.is_restored = False
        self.has_cgroup = False
        self.group: int | None = None
        """Its v2 cgroup, when that is its own."""
        self.socket: socket.socket | None = None
        self.path = ""
        """$NOTIFY_SOCKET."""
        self.pipe: int | None = None
        self.pidfd: int | None = None
        """Of a main process that is not the holder's child."""
        self.kept: set[str] = set()
        self.notes = Notes()
        self.watchdog_s = job.readiness.watchdog_s
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.complaints: set[str] = set()

    def __str__(self) -> str:
        return f"{self.job.name} ({self.instance})" if self.instance else self.job.name

    @property
    def is_marked(self) -> bool:
        """Whether its stop is still to be told."""
        return "stop" in self.kept

    def restore(self, pid: int, kept: Mapping[str, int]) -> None:
        """Take up what an earlier supervisor had; the descriptors are copied."""
        self.is_restored = True
        self.pid = self.first = pid
        self.kept = set(kept)
        if "notify" in kept:
            self.socket = socket.socket(fileno=_copy(kept["notify"]))
            self.socket.settimeout(0)
        if "ready" in kept:
            self.pipe = _copy(kept["ready"])

    def set_timer(self, name: str, timer: asyncio.TimerHandle | None) -> None:
        """Put a timer in the place of the one of this name; None: there is to be none."""
        old = self.timers.pop(name, None)
        if old is not None:
            old.cancel()
        if timer is not None:
            self.timers[name] = timer

    def close(self) -> None:
        """Close descriptors and cancel timers; readers are gone already."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        for fd in (self.pipe, self.pidfd):
            if fd is not None:
                os.close(fd)
        self.pipe = self.pidfd = None


def watch_key(kind: str, watch: Watch) -> str:
    """What the holder keeps something of a watch as: `KIND:SPAWN:INSTANCE`."""
    instance = quote(watch.instance)
    return f"{kind}:{watch.spawn}:{instance if len(instance) <= MAX_KEY_BYTES else ''}"


def key_parts(name: str) -> tuple[str, int, str] | None:
    """The kind, the spawn and the quoted instance of such a name; None for another's."""
    kind, _, rest = name.partition(":")
    spawn, colon, instance = rest.partition(":")
    if kind not in KINDS or not colon or not spawn.isdigit():
        return None
    return kind, int(spawn), instance


def _copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
