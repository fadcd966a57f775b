"""What is remembered of one main process while its readiness matters, and what it has said."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

import msgspec

from hostlab import typed
from hostlab.init.readiness.fd_store import MAX_KEY_BYTES, Drop, Keep, quote
from hostlab.init.readiness.notify import Message
from hostlab.jobs.journal import AnyFact
from hostlab.spec.job import Expect, Job

KINDS: Final = ("notify", "ready", "stop", "memory")
"""What the holder keeps of a spawn: its socket, the end of its pipe, the mark that its stop is
awaited, and what no kernel object can tell the next supervisor."""
MAX_COMPLAINTS: Final = 100
"""Different warnings about one process."""
PAGE_BYTES: Final = 4096
_STATUS_CHARACTERS: Final = 256
_T = TypeVar("_T")


class Notes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
        return Notes(
            status=_newer(message.status, self.status),
            reloading=message.reloading or (self.reloading and not message.ready),
            stopping=message.stopping or self.stopping,
            errno=_newer(message.errno, self.errno),
            bus_error=_newer(message.bus_error, self.bus_error),
            exit_status=_newer(message.exit_status, self.exit_status),
            monotonic_usec=_newer(message.monotonic_usec, self.monotonic_usec),
        )


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the next supervisor is to know of a watch and could not find out."""

    first: int = 0
    is_stranger: bool = False
    seen: tuple[int, ...] = ()
    watchdog_s: float | None = None
    notes: Notes = Notes()


class Hands(msgspec.Struct, frozen=True):
    """What those who watch need from the supervisor round them."""

    tell: Callable[[AnyFact], None]
    keep: Keep
    drop: Drop
    adopt: Callable[[int, str], None]
    members: Callable[[int], Collection[int]]
    warn: Callable[[str], None]
    ready: Callable[[Watch, int | None], None]
    """Tell that a process is ready, perhaps as another one."""
    is_watched: Callable[[Watch], bool]
    """Telling the engine may have ended a watch."""
    holder: int


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
        self.not_ours: set[int] = set()
        """Processes that the holder would not adopt."""
        self.awaited = False
        self.is_stopping = False
        self.is_restored = False
        self.has_cgroup = False
        self.group: int | None = None
        """The number of its v2 cgroup."""
        self.socket: socket.socket | None = None
        self.path = ""
        """$NOTIFY_SOCKET."""
        self.pipe: int | None = None
        self.pidfd: int | None = None
        """Of a main process that is not the holder's child."""
        self.kept: set[str] = set()
        self.notes = Notes()
        self.watchdog_s = job.readiness.watchdog_s
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._complaints: set[str] = set()
        self._memory = -1

    def __str__(self) -> str:
        return f"{self.job.name} ({self.instance})" if self.instance else self.job.name

    @property
    def kind(self) -> Expect:
        """How it is to become ready."""
        return self.job.readiness.kind

    @property
    def key(self) -> str:
        """What the holder knows its processes by."""
        return job_key(self.spawn)

    def keep(self, hands: Hands, kind: str, fd: int) -> None:
        """Have the holder keep something of it."""
        self.kept.add(kind)
        hands.keep(self._kept_as(kind), fd)

    def unkeep(self, hands: Hands, kind: str) -> None:
        """Have the holder drop it again."""
        if kind in self.kept:
            self.kept.discard(kind)
            hands.drop(self._kept_as(kind))

    def _kept_as(self, kind: str) -> str:
        instance = quote(self.instance)
        return f"{kind}:{self.spawn}:{instance if len(instance) <= MAX_KEY_BYTES else ''}"

    def remember(self, hands: Hands) -> None:
        """Write down what the next supervisor has to know.

        In one page, whole: a write that does not cross pages is not cut by a kill.
        """
        memory = Memory(
            first=self.first,
            is_stranger=self.pidfd is not None,
            seen=tuple(sorted(self.seen))[: PAGE_BYTES // 32],
            watchdog_s=self.watchdog_s,
            notes=self.notes,
        )
        data = msgspec.json.encode(memory)
        if len(data) > PAGE_BYTES:
            short = Notes(status=(self.notes.status or "")[:_STATUS_CHARACTERS])
            data = msgspec.json.encode(msgspec.structs.replace(memory, notes=short))
        if self._memory < 0:
            self._memory = os.memfd_create("hostlab-ready", os.MFD_CLOEXEC)
            os.pwrite(self._memory, data.ljust(PAGE_BYTES), 0)
            self.keep(hands, "memory", self._memory)
        else:
            os.pwrite(self._memory, data.ljust(PAGE_BYTES), 0)

    def restore(self, pid: int, kept: Mapping[str, int]) -> Memory:
        """Take up what an earlier supervisor had; the descriptors are copied."""
        self.is_restored = True
        self.pid = self.first = pid
        self.kept = set(kept)
        if "notify" in kept:
            self.socket = socket.socket(fileno=copy_of(kept["notify"]))
            self.socket.settimeout(0)
        if "ready" in kept:
            self.pipe = copy_of(kept["ready"])
        memory = Memory(first=pid, watchdog_s=self.watchdog_s)
        if "memory" in kept:
            self._memory = copy_of(kept["memory"])
            with contextlib.suppress(msgspec.MsgspecError):
                memory = typed.decode(os.pread(self._memory, PAGE_BYTES, 0), Memory)
        self.first = memory.first
        self.seen = frozenset(memory.seen)
        self.watchdog_s = memory.watchdog_s
        self.notes = memory.notes
        return memory

    def complain(self, hands: Hands, text: str) -> None:
        """Warn, once of each, and not for ever: nobody who may send shall fill a disk."""
        if text not in self._complaints and len(self._complaints) < MAX_COMPLAINTS:
            self._complaints.add(text)
            hands.warn(f"{self}: {text}")

    def set_timer(self, name: str, timer: asyncio.TimerHandle | None) -> None:
        """Put a timer in the place of the one of this name; None: there is to be none."""
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        if timer is not None:
            self._timers[name] = timer

    def has_timer(self, name: str) -> bool:
        """Whether a timer of this name was set, run out or not, and not taken away."""
        return name in self._timers

    def close(self) -> None:
        """Close descriptors, remove readers, cancel timers."""
        loop = asyncio.get_running_loop()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self.socket is not None:
            loop.remove_reader(self.socket)
            self.socket.close()
            self.socket = None
        for fd in (self.pipe, self.pidfd):
            if fd is not None:
                loop.remove_reader(fd)
                os.close(fd)
        self.pipe = self.pidfd = None
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


def job_key(spawn: int) -> str:
    """What the holder knows a job's process by."""
    return f"job:{spawn}"


def kept_parts(name: str) -> tuple[str, int, str] | None:
    """The kind, the spawn and the quoted instance of what a watch keeps; None for another's."""
    kind, _, rest = name.partition(":")
    spawn, colon, instance = rest.partition(":")
    if kind not in KINDS or not colon or not spawn.isdigit():
        return None
    return kind, int(spawn), instance


def copy_of(fd: int) -> int:
    """The same open file, close-on-exec, as a descriptor of one's own."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _newer(new: _T | None, old: _T | None) -> _T | None:
    return old if new is None else new
