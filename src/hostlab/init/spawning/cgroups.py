"""The cgroups of one init's jobs: made, limited, signalled, watched until they are empty.

Below the node's own cgroup an instance of a job has a directory, where its limits stand, and in
that a leaf for each spawn number. One leaf a process because a cgroup that was ever killed kills
whatever clone3 puts into it: Linux (6.14 on) compares its count of kills with that of the parent's
cgroup (cgroup_css_set_fork). The kernel is the only memory: a new supervisor reads the leaves.

Where v1 has a controller, the process enters the instance's v1 group before anything else; those
are for limits only. Where there is no v2, a process group is all that can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from hostlab.init.spawning.group_names import PREFIX, group_name
from hostlab.init.spawning.process import signal_group
from hostlab.linux import cgroups
from hostlab.spec.job import KillMode

OWN: Final = ".init"
"""Where a node's other processes are once controllers are handed down (cgroups(7): no process
may be in a cgroup that does)."""
ROUNDS: Final = 100
"""How often members are signalled anew while they fork; SIGKILL needs no more than one."""
EVENTS_AT_ONCE: Final = 64
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Place(msgspec.Struct, frozen=True):
    """Where a new process starts; the descriptors are closed by `close`."""

    directory: int | None = None
    """The leaf, for clone3."""
    enter: tuple[int, ...] = ()
    """`cgroup.procs` of v1 groups."""
    warnings: tuple[str, ...] = ()

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in (*self.enter, *(() if self.directory is None else (self.directory,))):
            os.close(fd)


class _Watch(msgspec.Struct):
    spawn: int
    callbacks: list[Callable[[], None]] = msgspec.field(default_factory=list)


class JobCgroups:
    """Below one node's cgroup, given by a descriptor; None when there is none.

    `v1` has descriptors of the node's groups in the hierarchies of v1 controllers.
    """

    def __init__(self, directory: int | None, v1: Mapping[str, int] | None = None) -> None:
        self.directory = directory
        self.v1 = dict(v1 or {})
        self._leaves: dict[int, str] = {}
        self._watches: dict[int, _Watch] = {}
        self._epoll: select.epoll | None = None
        self._own: int | None = None
        if directory is not None:
            with contextlib.suppress(OSError):
                self._own = os.open(OWN, _DIRECTORY, dir_fd=directory)
        for name in self._instances():
            for leaf in _directories(self.directory, name):
                if leaf.isdigit():
                    self._leaves[int(leaf)] = f"{name}/{leaf}"

    @property
    def spawns(self) -> tuple[int, ...]:
        """Every process that has a cgroup, also those of an earlier supervisor."""
        return tuple(sorted(self._leaves))

    @property
    def commands(self) -> int | None:
        """Descriptor of the cgroup for processes that are no job's."""
        return self.directory if self._own is None else self._own

    def make(
        self,
        spawn: int,
        job: str,
        instance: str,
        limits: Sequence[cgroups.Limit] = (),
        *,
        beside: int | None = None,
    ) -> Place:
        """A cgroup for a process that is about to start, with the limits of its instance.

        One `beside` another is in that one's and has none of its own. What cannot be had is a
        warning: without v2 the process runs in the node's cgroup.
        """
        name = group_name(job, instance)
        warnings: list[str] = []
        enter = self._enter(name, limits, warnings)
        limits = [each for each in limits if each.controller not in self.v1]
        if self.directory is None:
            warnings += [_no_limit(each, "no cgroup here") for each in limits]
            return Place(None, enter, tuple(warnings))
        if beside in self._leaves:
            with contextlib.suppress(OSError):
                leaf = os.open(self._leaves[beside], _DIRECTORY, dir_fd=self.directory)
                return Place(leaf, enter, tuple(warnings))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.directory)
            self._limit(name, limits, warnings)
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{name}/{spawn}", dir_fd=self.directory)
            leaf = os.open(f"{name}/{spawn}", _DIRECTORY, dir_fd=self.directory)
        except OSError as error:
            warnings.append(f"no cgroup of its own: {error.strerror}")
            return Place(None, enter, tuple(warnings))
        self._leaves[spawn] = f"{name}/{spawn}"
        return Place(leaf, enter, tuple(warnings))

    def members(self, spawn: int) -> tuple[int, ...]:
        """Every process of a spawn that is left, as numbered here."""
        if self.is_empty(spawn):
            return ()
        found: list[int] = []
        for path in self._tree(spawn):
            with contextlib.suppress(OSError):
                words = _read(self.directory, f"{path}/cgroup.procs").split()
                # 0 is a process of another pid namespace, which has no number here.
                found += [int(word) for word in words if word != b"0"]
        return tuple(found)

    def signal(self, spawn: int, number: int, scope: KillMode, *, pid: int | None) -> None:
        """Send a signal to a main process, to its group, or to everything that it has started.

        Without a cgroup the process group stands for everything.
        """
        match scope:
            case KillMode.NONE:
                return
            case KillMode.PROCESS:
                _signal(pid, number)
            case KillMode.CONTROL_GROUP | KillMode.MIXED if spawn in self._leaves:
                self._signal_all(spawn, number)
            case _ if pid is not None:
                signal_group(pid, number)

    def _signal_all(self, spawn: int, number: int) -> None:
        if number == signal.SIGKILL and self._kill(spawn):
            return
        done: set[int] = set()
        for _ in range(ROUNDS):
            members = set(self.members(spawn)) - done
            if not members:
                return
            for pid in members:
                _signal(pid, number)
            done |= members

    def _kill(self, spawn: int) -> bool:
        try:
            _write(self.directory, f"{self._leaves[spawn]}/cgroup.kill", "1")
        except OSError as error:
            # Before Linux 5.14 there is no such file.
            return error.errno == errno.ENODEV or not self._exists(spawn)
        return True

    def is_empty(self, spawn: int) -> bool:
        """Whether nothing of a spawn is left, as far as can be known."""
        if spawn not in self._leaves:
            return True
        try:
            return b"populated 0" in _read(self.directory, f"{self._leaves[spawn]}/cgroup.events")
        except OSError:
            return True

    def watch_empty(self, spawn: int, callback: Callable[[], None]) -> None:
        """Call back from the event loop once nothing of a spawn is left; soon, if that is so now.

        The kernel tells of a change of cgroup.events by POLLPRI, which asyncio does not know, but
        an epoll descriptor that has something to tell is readable (epoll(7)).
        """
        loop = asyncio.get_running_loop()
        watched = next((each for each in self._watches.values() if each.spawn == spawn), None)
        if watched is not None:
            watched.callbacks.append(callback)
            return
        if self.is_empty(spawn):
            loop.call_soon(callback)
            return
        try:
            fd = self._open_events(spawn)
        except (OSError, KeyError):
            loop.call_soon(callback)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._ready)
        self._epoll.register(fd, select.EPOLLPRI | select.EPOLLERR)
        # A file that was never read counts as changed (kernfs_generic_poll), so that a cgroup that
        # has become empty since is told of too.
        self._watches[fd] = _Watch(spawn, [callback])

    def _open_events(self, spawn: int) -> int:
        path = f"{self._leaves[spawn]}/cgroup.events"
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)

    def _ready(self) -> None:
        # One that is told may remove others, and with the last of them the epoll.
        for fd, _ in self._epoll.poll(0, EVENTS_AT_ONCE) if self._epoll else ():
            if fd in self._watches and _is_unpopulated(fd):
                self._emptied(fd)

    def _emptied(self, fd: int) -> None:
        watch = self._watches.pop(fd, None)
        if watch is None:
            return
        self._unwatch(fd)
        for callback in watch.callbacks:
            callback()

    def _unwatch(self, fd: int) -> None:
        """Let go of a watch, and with the last one of what waits for all."""
        assert self._epoll is not None
        self._epoll.unregister(fd)
        os.close(fd)
        if not self._watches:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def remove(self, spawn: int) -> None:
        """Remove a spawn's cgroup, now or when the last of its processes has gone."""
        path = self._leaves.get(spawn)
        if path is None:
            return
        try:
            self._remove_leaf(spawn, path)
        except OSError:
            if not self.is_empty(spawn):
                self.watch_empty(spawn, lambda: self.remove(spawn))
                return
            # Something else holds it, a cgroup that was just made below it: it goes with the node.
        del self._leaves[spawn]
        with contextlib.suppress(OSError):
            # The last leaf of an instance takes the instance's directories with it.
            self._remove_group(path.partition("/")[0])

    def _remove_leaf(self, spawn: int, path: str) -> None:
        try:
            # Few processes make cgroups below theirs: to look for them costs more than to try.
            os.rmdir(path, dir_fd=self.directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass
        for below in reversed(list(self._tree(spawn))):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(below, dir_fd=self.directory)

    def remove_instance(self, job: str, instance: str) -> None:
        """Remove what is left of an instance; what still has processes goes when they have."""
        name = group_name(job, instance)
        for spawn, path in list(self._leaves.items()):
            if path.startswith(f"{name}/"):
                self.remove(spawn)
        with contextlib.suppress(OSError):
            self._remove_group(name)

    def _remove_group(self, name: str) -> None:
        if self.directory is not None:
            os.rmdir(name, dir_fd=self.directory)
        for fd in self.v1.values():
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=fd)

    def close(self) -> None:
        """Let go of every descriptor that was opened here."""
        for fd in list(self._watches):
            del self._watches[fd]
            self._unwatch(fd)
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _instances(self) -> list[str]:
        names = [] if self.directory is None else _directories(self.directory, ".")
        return [name for name in names if name.startswith(PREFIX)]

    def _exists(self, spawn: int) -> bool:
        try:
            os.stat(self._leaves[spawn], dir_fd=self.directory)
        except OSError:
            return False
        return True

    def _tree(self, spawn: int) -> Iterator[str]:
        """A spawn's cgroup and those that its processes have made below it."""
        path = self._leaves.get(spawn)
        waiting = [] if path is None else [path]
        while waiting:
            path = waiting.pop()
            yield path
            waiting += [f"{path}/{name}" for name in _directories(self.directory, path)]

    def _enter(
        self, name: str, limits: Sequence[cgroups.Limit], warnings: list[str]
    ) -> tuple[int, ...]:
        """Make and limit an instance's v1 groups; what the process writes to in order to enter."""
        found = []
        for limit in limits:
            base = self.v1.get(limit.controller)
            if base is None:
                continue
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=base)
                for file, value in limit.v1:
                    with contextlib.suppress(FileNotFoundError):
                        _write(base, f"{name}/{file}", value)
                procs = os.open(f"{name}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=base)
            except OSError as error:
                warnings.append(_no_limit(limit, error.strerror or str(error)))
            else:
                found.append(procs)
        return tuple(found)

    def _limit(self, name: str, limits: Sequence[cgroups.Limit], warnings: list[str]) -> None:
        for limit in limits:
            try:
                self._hand_down(limit.controller)
                for number, (file, value) in enumerate(limit.v2):
                    try:
                        _write(self.directory, f"{name}/{file}", value)
                    except FileNotFoundError:
                        if number == 0:
                            raise
            except OSError as error:
                reason = "no such controller here"
                if error.errno != errno.ENOENT:
                    reason = error.strerror or str(error)
                warnings.append(_no_limit(limit, reason))

    def _hand_down(self, controller: str) -> None:
        """Have a v2 controller in the jobs' cgroups; OSError ENOENT when there is none.

        A cgroup that hands controllers down has no processes (cgroups(7)), so the node's own move.
        """
        if controller.encode() in _read(self.directory, "cgroup.subtree_control").split():
            return
        if controller.encode() not in _read(self.directory, "cgroup.controllers").split():
            raise FileNotFoundError(errno.ENOENT, "no such controller", controller)
        if self._own is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(OWN, dir_fd=self.directory)
            self._own = os.open(OWN, _DIRECTORY, dir_fd=self.directory)
        for _ in range(ROUNDS):
            pids = _read(self.directory, "cgroup.procs").split()
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    _write(self.directory, f"{OWN}/cgroup.procs", pid.decode())
        _write(self.directory, "cgroup.subtree_control", f"+{controller}")


def _no_limit(limit: cgroups.Limit, reason: str) -> str:
    return f"nothing limits its {limit.controller}: {reason}"


def _signal(pid: int | None, number: int) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_unpopulated(fd: int) -> bool:
    try:
        return b"populated 1" not in os.pread(fd, 4096, 0)
    except OSError:  # ENODEV: it has been removed.
        return True


def _directories(base: int | None, path: str) -> list[str]:
    try:
        fd = os.open(path, _DIRECTORY, dir_fd=base)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)


def _read(base: int | None, path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=base)
    with open(fd, "rb", buffering=0) as file:
        return file.readall()


def _write(base: int | None, path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=base)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
