"""When a job's main process is ready, and which process it is.

Seven ways to tell it, of which one is a job's (`spec.job.Readiness`): it stops itself, it leaves a
daemon behind, it sends `READY=1`, it writes a newline, its socket listens, its file is there.
Whatever is heard is told to the engine before it is taken from where it came from, so a supervisor
that is killed between the two hears it again; an engine that is told twice does nothing.

The engine keeps the deadline, except for the watchdog's, and tells what is waited for (`waits`).
docs/decisions/readiness.md gives the reasons for what is done where nobody can be sure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, assert_never

import msgspec

from hostlab.errors import UsageError
from hostlab.init.holder import GONE
from hostlab.init.readiness import daemons, notify_socket
from hostlab.init.readiness.appearing import Files, Port, Ports
from hostlab.init.readiness.bus_name import BusNames
from hostlab.init.readiness.fd_store import Drop, FdStore, Keep, unquote
from hostlab.init.readiness.following import Following
from hostlab.init.readiness.messages import Messages
from hostlab.init.readiness.watch import Hands, Notes, Watch, kept_parts
from hostlab.jobs import effects, facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.pidfd import cgroup_id_of
from hostlab.linux.pipe import peek
from hostlab.spec.job import Expect, Job, Step

NOTIFY_DIRECTORY: Final = "/run/hostlab/notify"
FIRST_STORED: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
_DAEMONS: Final = frozenset({Expect.FORK, Expect.DAEMON})


class Prepared(msgspec.Struct, frozen=True):
    """What a process needs to be able to say that it is ready."""

    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    descriptors: Mapping[int, int] = msgspec.field(default_factory=dict)
    """Number in the process -> descriptor here. Whoever starts one that is given stored ones, which
    $LISTEN_FDS says, must add LISTEN_PID, which only the child knows before `execve`."""
    ours: tuple[int, ...] = ()
    """Those of the descriptors that `close` closes."""

    def close(self) -> None:
        """Close the process's ends; to be called once it was started, or was not."""
        for fd in self.ours:
            os.close(fd)


def needs_socket(job: Job) -> bool:
    """Whether a job's main process is given $NOTIFY_SOCKET."""
    readiness = job.readiness
    return (
        readiness.kind is Expect.NOTIFY
        or readiness.watchdog_s is not None
        or readiness.notify_access is not None
    )


def _to_standard_error(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Readiness:
    """The readiness of every main process of one init."""

    def __init__(
        self,
        *,
        tell: Callable[[AnyFact], None],
        keep: Keep,
        drop: Drop,
        adopt: Callable[[int, str], None],
        members: Callable[[int], Collection[int]],
        network: Callable[[Job], int | None] = lambda job: None,
        warn: Callable[[str], None] = _to_standard_error,
        directory: str = NOTIFY_DIRECTORY,
        holder: int | None = None,
    ) -> None:
        """`tell` takes a fact and has it in the journal when it returns.

        `keep`, `drop` and `adopt` are the supervisor's. `members` gives the pids that are in a
        spawn's cgroup now, none where it has no cgroup. `network` gives the network namespace that
        a job runs in when it is another than this process's. `directory` is for sockets. `holder`
        is the pid of whom orphans come to; this process's parent if nothing else is said.
        """
        self._hands = Hands(
            tell=tell,
            keep=keep,
            drop=drop,
            adopt=adopt,
            members=members,
            warn=warn,
            ready=self._ready,
            is_watched=self._is_watched,
            holder=os.getppid() if holder is None else holder,
        )
        self._network = network
        self._directory = directory
        self._watches: dict[int, Watch] = {}
        self.files = Files(warn=warn)
        self._ports = Ports(warn=warn)
        self._bus_names = BusNames(warn=warn)
        self._store = FdStore(keep=keep, drop=drop)
        self._following = Following(self._hands)
        self._messages = Messages(self._hands, self._following, self._store)

    # What the supervisor calls.

    def prepare(self, effect: effects.Spawn, *, first: int = FIRST_STORED) -> Prepared:
        """Before a process is started; when that or this fails, `forget` its spawn.

        `first` is the number of its first stored descriptor, behind its sockets. OSError when a
        socket or pipe cannot be made.
        """
        job, spawn = effect.job, effect.spawn
        if effect.step is not Step.MAIN:
            return Prepared()
        if job.readiness.kind is Expect.NONE and not needs_socket(job):
            return Prepared()
        watch = self._watches[spawn] = Watch(spawn, job, effect.instance)
        environment: dict[str, str] = {daemons.MARK: str(spawn)}
        descriptors: dict[int, int] = {}
        ours: tuple[int, ...] = ()
        if needs_socket(job):
            self._give_socket(watch, environment)
            self._give_stored(watch, environment, descriptors, first)
        if watch.kind is Expect.FD:
            writer = self._give_pipe(watch)
            descriptors[job.readiness.fd or 0] = writer
            ours = (writer,)
        elif watch.kind is Expect.STOP:
            with open("/dev/null", "rb") as null:
                watch.keep(self._hands, "stop", null.fileno())
        return Prepared(environment, descriptors, ours)

    def started(self, effect: effects.Spawn, pid: int) -> None:
        """The process runs its program: begin to watch."""
        watch = self._watches.get(effect.spawn)
        if watch is None:
            return
        watch.pid = watch.first = pid
        watch.awaited = watch.kind is not Expect.NONE
        self._begin(watch)

    def stopped(self, spawn: int) -> None:
        """The holder has told that a signal stopped this process."""
        watch = self._watches.get(spawn)
        if watch is None or "stop" not in watch.kept:
            return
        watch.awaited = False
        self._hands.tell(facts.Stopped(spawn=spawn))
        # The engine has it go on; one whose supervisor was killed over that has not.
        if watch.is_restored:
            with contextlib.suppress(ProcessLookupError):
                os.kill(watch.pid, signal.SIGCONT)
        watch.unkeep(self._hands, "stop")
        self._messages.arm(watch)

    def ended(self, spawn: int, pid: int, status: int, *, by_reload: bool = False) -> bool:
        """A process of this spawn has ended; True when that is not the main process's end.

        `status` is a wait status or `holder.GONE`. When it is True the engine must not be told.
        One that ended during a reload may have a successor however it ended.
        """
        watch = self._watches.get(spawn)
        if watch is None:
            return False
        self._hear_last_words(watch)
        if not self._is_watched(watch):
            return False
        if pid != watch.pid:
            self._following.another_ended(watch)
            return pid != watch.pid
        if watch.kind not in _DAEMONS or (status not in (0, GONE) and not by_reload):
            return False
        if status == GONE:
            watch.not_ours.add(pid)
        if watch.is_stopping and not watch.awaited:
            return False
        if self._following.has_successor(watch):
            return True
        if watch.awaited:
            self._hands.warn(f"{watch}: its first process has left and no daemon of it is there")
        return False

    def stopping(self, spawn: int) -> None:
        """The main process was signalled to end: whatever it leaves is no daemon that takes over.

        Without this a session that outlives its `sshd` might be taken for the next `sshd`.
        """
        watch = self._watches.get(spawn)
        if watch is not None:
            watch.is_stopping = True
            self._messages.arm(watch)

    def forget(self, spawn: int) -> None:
        """The process is over: close and drop what was for it alone, not what it has stored."""
        watch = self._watches.pop(spawn, None)
        if watch is None:
            return
        self.files.forget(spawn)
        self._ports.forget(spawn)
        self._bus_names.forget(spawn)
        watch.close()
        for kind in tuple(watch.kept):
            watch.unkeep(self._hands, kind)
        if watch.path and not watch.path.startswith("@"):
            with contextlib.suppress(OSError):
                os.unlink(watch.path)

    def release(self, job: str, instance: str) -> None:
        """An instance is gone: close what it had stored."""
        self._store.release(job, instance)

    def notes(self, spawn: int) -> Notes:
        """What the process has said of itself."""
        watch = self._watches.get(spawn)
        return watch.notes if watch is not None else Notes()

    def restore(
        self,
        kept: Mapping[str, int],
        running: Iterable[tuple[int, Job, Step, int]],
        *,
        awaited: Collection[int] | None = None,
    ) -> None:
        """After a supervisor's death, before anything else that the holder has told is passed on.

        `running` are the main processes that the engine counts on, by the pid that it knows, also
        those whose end is yet to be told: that end may be a daemon's beginning. `awaited` are the
        spawns that are not ready yet; None is all of them.
        """
        self._store.restore(kept)
        found: dict[int, dict[str, tuple[str, int]]] = {}
        for name, fd in kept.items():
            parts = kept_parts(name)
            if parts is not None:
                kind, spawn, instance = parts
                found.setdefault(spawn, {})[kind] = (instance, fd)
        for spawn, job, step, pid in running:
            if step is Step.MAIN and (job.readiness.kind is not Expect.NONE or needs_socket(job)):
                is_awaited = awaited is None or spawn in awaited
                self._restore(spawn, job, pid, found.pop(spawn, {}), awaited=is_awaited)
        for spawn, kinds in found.items():
            for kind, (instance, _) in kinds.items():
                self._hands.drop(f"{kind}:{spawn}:{instance}")

    def _restore(
        self, spawn: int, job: Job, pid: int, kept: dict[str, tuple[str, int]], *, awaited: bool
    ) -> None:
        instance = next((unquote(instance) for instance, _ in kept.values()), "")
        watch = self._watches[spawn] = Watch(spawn, job, instance)
        memory = watch.restore(pid, {kind: fd for kind, (_, fd) in kept.items()})
        watch.path = self._path(watch) if watch.socket is not None else ""
        watch.awaited = awaited and watch.kind is not Expect.NONE
        self._begin(watch)
        if memory.is_stranger and self._is_watched(watch):
            self._following.take_up_stranger(watch)

    def close(self) -> None:
        """Stop watching; what the holder keeps stays kept."""
        for spawn, watch in self._watches.items():
            self.files.forget(spawn)
            self._ports.forget(spawn)
            self._bus_names.forget(spawn)
            watch.close()
        self._watches.clear()
        self._store.close()

    # What a process is given.

    def _path(self, watch: Watch) -> str:
        """A job with a root of its own reaches no path of ours, but it does reach a name."""
        if watch.job.chroot is not None:
            return f"@hostlab/notify/{watch.spawn}"
        return f"{self._directory}/{watch.spawn}"

    def _give_socket(self, watch: Watch, environment: dict[str, str]) -> None:
        watch.path = self._path(watch)
        watch.socket = notify_socket.bind(watch.path)
        watch.keep(self._hands, "notify", watch.socket.fileno())
        environment["NOTIFY_SOCKET"] = watch.path
        if watch.watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(round(watch.watchdog_s * 1_000_000))

    def _give_stored(
        self, watch: Watch, environment: dict[str, str], descriptors: dict[int, int], first: int
    ) -> None:
        stored = self._store.of(watch.job.name, watch.instance)
        numbers = range(first, first + len(stored))
        if watch.kind is Expect.FD and watch.job.readiness.fd in numbers:
            watch.complain(self._hands, "`expect fd` has a number that its stored descriptors need")
            return
        for number, one in zip(numbers, stored, strict=True):
            descriptors[number] = one.fd
        if stored:
            environment["LISTEN_FDS"] = str(len(stored))
            environment["LISTEN_FDNAMES"] = ":".join(one.name for one in stored)

    def _give_pipe(self, watch: Watch) -> int:
        if watch.job.readiness.fd is None:
            raise UsageError("readiness", f"{watch}: `expect fd` says no number")
        watch.pipe, writer = os.pipe2(os.O_CLOEXEC)
        watch.keep(self._hands, "ready", watch.pipe)
        return writer

    # Waiting, and its end.

    def _begin(self, watch: Watch) -> None:
        process = daemons.look(watch.pid)
        watch.session = watch.pid if process is None else process.session
        watch.has_cgroup = bool(self._hands.members(watch.spawn))
        if watch.socket is not None:
            watch.group = cgroup_id_of(watch.pid)
            self._messages.listen(watch)
        if watch.awaited:
            self._wait(watch)
        else:
            self._messages.arm(watch)

    def _wait(self, watch: Watch) -> None:
        readiness = watch.job.readiness
        match readiness.kind:
            case Expect.FD:
                if watch.pipe is not None:
                    asyncio.get_running_loop().add_reader(watch.pipe, self._written, watch)
            case Expect.PORT:
                port = Port(
                    readiness.port or 0,
                    lambda: self._hands.members(watch.spawn),
                    self._network(watch.job),
                    lambda: self._ready(watch),
                )
                self._ports.wait(watch.spawn, port)
            case Expect.FILE:
                self.files.wait(watch.spawn, readiness.path or "/", lambda: self._ready(watch))
            case Expect.BUS:
                name = readiness.bus_name or ""
                self._bus_names.wait(watch.spawn, name, lambda: self._ready(watch))
            case Expect.FORK | Expect.DAEMON:
                self._following.begin(watch)
            case Expect.NONE | Expect.STOP | Expect.NOTIFY:
                pass
            case _:
                assert_never(readiness.kind)

    def _ready(self, watch: Watch, pid: int | None = None) -> None:
        watch.awaited = False
        watch.set_timer("stays", None)
        watch.set_timer("settles", None)
        self._hands.tell(facts.Ready(spawn=watch.spawn, pid=pid))
        self._messages.arm(watch)

    def _is_watched(self, watch: Watch) -> bool:
        return self._watches.get(watch.spawn) is watch

    def _hear_last_words(self, watch: Watch) -> None:
        """What a process has said before it ended counts, and comes before its end."""
        self._messages.hear(watch)
        if watch.pipe is not None and watch.awaited and self._is_watched(watch):
            self._written(watch)

    def _written(self, watch: Watch) -> None:
        """s6's way: what comes before a newline means nothing, nor does anything after it."""
        assert watch.pipe is not None
        data = peek(watch.pipe)
        if data is None:
            return
        if b"\n" in data:
            self._ready(watch)
        elif data:
            os.read(watch.pipe, len(data))
            return
        if watch.pipe is not None:
            asyncio.get_running_loop().remove_reader(watch.pipe)
            os.close(watch.pipe)
            watch.pipe = None
            watch.unkeep(self._hands, "ready")
