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
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from hostlab.errors import UsageError
from hostlab.init import daemons, notify_socket
from hostlab.init.appearing import Files, Port, Ports
from hostlab.init.fd_store import Drop, FdStore, Keep
from hostlab.init.holder import GONE
from hostlab.init.watch import Notes, Watch, key_parts, watch_key
from hostlab.jobs import effects, facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.pidfd import cgroup_id_of
from hostlab.linux.pipe import peek
from hostlab.spec.job import Expect, Job, Step

NOTIFY_DIRECTORY: Final = "/run/hostlab/notify"
FIRST_STORED: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
SETTLE_S: Final = 0.1
"""How long the first fork of `expect daemon` may take to leave before it counts as the daemon."""
STAYS_S: Final = 5.0
"""A first process that has forked and is still there after this is the daemon itself."""
LONGEST_LOOK_S: Final = 60.0
AT_ONCE: Final = 64
"""Messages of one process that are dealt with before another's turn."""
MAX_COMPLAINTS: Final = 100
"""Different warnings about one process's messages."""
_DAEMONS: Final = frozenset({Expect.FORK, Expect.DAEMON})


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a process needs to be able to say that it is ready."""

    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: Mapping[int, int] = field(default_factory=dict)
    """Number in the process -> descriptor here."""
    ours: tuple[int, ...] = ()
    """Those of the descriptors that `close` closes."""

    def close(self) -> None:
        """Close the process's ends; to be called once it was started, or was not."""
        for fd in self.ours:
            os.close(fd)


def needs_socket(job: Job) -> bool:
    """Whether a job's main process is given $NOTIFY_SOCKET."""
    return job.readiness.kind is Expect.NOTIFY or job.readiness.watchdog_s is not None


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
        self._tell = tell
        self._keep = keep
        self._drop = drop
        self._adopt = adopt
        self._members = members
        self._network = network
        self._warn = warn
        self._directory = directory
        self._holder = os.getppid() if holder is None else holder
        self._watches: dict[int, Watch] = {}
        self._files = Files()
        self._ports = Ports(warn=warn)
        self._store = FdStore(keep=keep, drop=drop)

    # What the supervisor calls.

    def prepare(self, effect: effects.Spawn) -> Prepared:
        """Before a process is started; when it could not be, `forget` its spawn.

        OSError when a socket or pipe cannot be made.
        """
        if effect.step is not Step.MAIN:
            return Prepared()
        job, spawn = effect.job, effect.spawn
        watch = Watch(spawn, job, effect.instance)
        self._watches[spawn] = watch
        environment: dict[str, str] = {}
        descriptors: dict[int, int] = {}
        ours: tuple[int, ...] = ()
        if needs_socket(job):
            self._give_socket(watch, environment)
        self._give_stored(watch, environment, descriptors)
        match job.readiness.kind:
            case Expect.FD:
                writer = self._give_pipe(watch)
                descriptors[_number(job)] = writer
                ours = (writer,)
            case Expect.STOP:
                with open("/dev/null", "rb") as null:
                    self._keep_of(watch, "stop", null.fileno())
            case Expect.FORK | Expect.DAEMON:
                environment[daemons.MARK] = str(spawn)
            case _:
                pass
        return Prepared(environment, descriptors, ours)

    def started(self, effect: effects.Spawn, pid: int) -> None:
        """The process runs its program: begin to watch."""
        watch = self._watches.get(effect.spawn)
        if watch is None:
            return
        watch.pid = watch.first = pid
        watch.awaited = effect.job.readiness.kind is not Expect.NONE
        self._begin(watch)

    def stopped(self, spawn: int) -> None:
        """The holder has told that a signal stopped this process."""
        watch = self._watches.get(spawn)
        if watch is None or watch.job.readiness.kind is not Expect.STOP or not watch.is_marked:
            return
        watch.awaited = False
        self._tell(facts.Stopped(spawn=spawn))
        # The engine has it go on, but for one whose supervisor was killed over that.
        if watch.is_restored:
            with contextlib.suppress(ProcessLookupError):
                os.kill(watch.pid, signal.SIGCONT)
        self._unkeep(watch, "stop")
        self._arm(watch)

    def ended(self, spawn: int, pid: int, status: int) -> bool:
        """A process of this spawn has ended; True when that is not the main process's end.

        `status` is a wait status or `holder.GONE`. When it is True the engine must not be told.
        """
        watch = self._watches.get(spawn)
        if watch is None:
            return False
        self._hear_last_words(watch)
        if pid != watch.pid:
            self._take_over(watch)
            return watch.pid != pid
        if watch.job.readiness.kind not in _DAEMONS or status not in (0, GONE):
            return False
        if watch.is_stopping and not watch.awaited:
            return False
        successor = self._successor(watch)
        if successor is None:
            if watch.awaited and not self._members(spawn):
                self._warn(f"{watch}: its first process left, and no daemon of it is to be found")
            return False
        self._succeed(watch, successor)
        return True

    def stopping(self, spawn: int) -> None:
        """The main process was signalled to end: whatever it leaves is no daemon that takes over.

        Without this a session that outlives its `sshd` would be taken for the next `sshd`.
        """
        watch = self._watches.get(spawn)
        if watch is not None:
            watch.is_stopping = True

    def forget(self, spawn: int) -> None:
        """The process is over: close and drop what was for it alone, not what it has stored."""
        watch = self._watches.pop(spawn, None)
        if watch is None:
            return
        self._end_waiting(watch)
        watch.close()
        for kind in watch.kept:
            self._drop(watch_key(kind, watch))
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
        those whose end is yet to be told. `awaited` are the spawns that are not ready yet; None
        is all of them.
        """
        self._store.restore(kept)
        found: dict[int, dict[str, tuple[str, int]]] = {}
        for name, fd in kept.items():
            parts = key_parts(name)
            if parts is not None:
                kind, spawn, instance = parts
                found.setdefault(spawn, {})[kind] = (instance, fd)
        for spawn, job, step, pid in running:
            if step is Step.MAIN:
                mine = found.pop(spawn, {})
                instance = next((instance for instance, _ in mine.values()), "")
                watch = Watch(spawn, job, instance)
                self._watches[spawn] = watch
                watch.restore(pid, {kind: fd for kind, (_, fd) in mine.items()})
                watch.path = self._path(watch)
                kind_of = job.readiness.kind
                watch.awaited = kind_of is not Expect.NONE and (awaited is None or spawn in awaited)
                self._begin(watch)
        for spawn, kinds in found.items():
            for kind, (instance, _) in kinds.items():
                self._drop(f"{kind}:{spawn}:{instance}")

    def close(self) -> None:
        """Stop watching; what the holder keeps stays kept."""
        for watch in self._watches.values():
            self._end_waiting(watch)
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
        self._keep_of(watch, "notify", watch.socket.fileno())
        environment["NOTIFY_SOCKET"] = watch.path
        if watch.watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(round(watch.watchdog_s * 1_000_000))

    def _give_stored(
        self, watch: Watch, environment: dict[str, str], descriptors: dict[int, int]
    ) -> None:
        """LISTEN_PID is set by the child, which alone knows its number before `execve`."""
        stored = self._store.of(watch.job.name, watch.instance)
        if not stored:
            return
        for number, one in enumerate(stored, start=FIRST_STORED):
            descriptors[number] = one.fd
        environment["LISTEN_FDS"] = str(len(stored))
        environment["LISTEN_FDNAMES"] = ":".join(one.name for one in stored)

    def _give_pipe(self, watch: Watch) -> int:
        watch.pipe, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(watch.pipe, False)
        self._keep_of(watch, "ready", watch.pipe)
        return writer

    def _keep_of(self, watch: Watch, kind: str, fd: int) -> None:
        watch.kept.add(kind)
        self._keep(watch_key(kind, watch), fd)

    def _unkeep(self, watch: Watch, kind: str) -> None:
        if kind in watch.kept:
            watch.kept.discard(kind)
            self._drop(watch_key(kind, watch))

    # Waiting, and its end.

    def _begin(self, watch: Watch) -> None:
        process = daemons.look(watch.pid)
        watch.session = watch.pid if process is None else process.session
        loop = asyncio.get_running_loop()
        watch.has_cgroup = bool(self._members(watch.spawn))
        if watch.socket is not None:
            watch.group = cgroup_id_of(watch.pid)
            loop.add_reader(watch.socket, self._notified, watch)
        if not watch.awaited:
            self._arm(watch)
            return
        readiness = watch.job.readiness
        match readiness.kind:
            case Expect.FD:
                if watch.pipe is not None:
                    loop.add_reader(watch.pipe, self._written, watch)
            case Expect.PORT:
                port = Port(
                    readiness.port or 0,
                    lambda: self._processes(watch),
                    self._network(watch.job),
                    lambda: self._ready(watch),
                )
                self._ports.wait(watch.spawn, port)
            case Expect.FILE:
                self._files.wait(watch.spawn, readiness.path or "/", lambda: self._ready(watch))
            case Expect.FORK | Expect.DAEMON:
                self._look_whether_it_stays(watch, 0.0)
            case Expect.NONE | Expect.STOP | Expect.NOTIFY:
                pass
            case _:
                assert_never(readiness.kind)

    def _end_waiting(self, watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        self._files.forget(watch.spawn)
        self._ports.forget(watch.spawn)
        for fd in (watch.pipe, watch.pidfd):
            if fd is not None:
                loop.remove_reader(fd)
        if watch.socket is not None:
            loop.remove_reader(watch.socket)

    def _ready(self, watch: Watch, pid: int | None = None) -> None:
        watch.awaited = False
        watch.set_timer("stays", None)
        watch.set_timer("settles", None)
        self._tell(facts.Ready(spawn=watch.spawn, pid=pid))
        self._arm(watch)

    def _is_watched(self, watch: Watch) -> bool:
        """Telling the engine may have ended it."""
        return self._watches.get(watch.spawn) is watch

    # A newline on a descriptor.

    def _written(self, watch: Watch) -> None:
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
            self._unkeep(watch, "ready")

    # Daemons.

    def _processes(self, watch: Watch) -> tuple[int, ...]:
        """The living processes of a spawn, as far as they are known."""
        return tuple(self._members(watch.spawn)) or (watch.pid,)

    def _look_whether_it_stays(self, watch: Watch, waited_s: float) -> None:
        """Look, after 5 s and then less and less often, for a first process that only forks."""
        if waited_s:
            others = frozenset(self._members(watch.spawn)) - {watch.first}
            if watch.pid == watch.first and others:
                watch.seen = others
                self._warn(
                    f"{watch}: its first process has forked and stays, so it is the main process;"
                    f" `expect {watch.job.readiness.kind}` is for one that leaves"
                )
                self._ready(watch)
                return
            self._warn(f"{watch}: not ready after {waited_s:g} s: its first process does not leave")
        pause_s = min(max(STAYS_S, waited_s), LONGEST_LOOK_S)
        again = waited_s + pause_s
        loop = asyncio.get_running_loop()
        timer = loop.call_later(pause_s, self._look_whether_it_stays, watch, again)
        watch.set_timer("stays", timer)

    def _successor(self, watch: Watch) -> daemons.Process | None:
        """Who remains of a daemon whose main process has left."""
        has_cgroup = bool(self._members(watch.spawn))

        def members() -> Collection[int]:
            return self._members(watch.spawn) if has_cgroup else daemons.everyone()

        def accepts(process: daemons.Process) -> bool:
            if not has_cgroup and not self._is_of(watch, process):
                return False
            return (
                watch.awaited
                or process.session in (watch.session, watch.pid, *watch.seen)
                or process.pid in watch.seen
            )

        found = daemons.orphans(members, self._holder, accepts)
        return found[0] if found else None

    def _is_of(self, watch: Watch, process: daemons.Process) -> bool:
        """Whether a process is this spawn's, where there is no cgroup to tell."""
        if process.pid == watch.pid or process.session in (watch.first, watch.pid):
            return True
        if daemons.is_marked(process.pid, watch.spawn):
            return True
        return daemons.is_descendant(process.pid, (watch.pid, watch.first))

    def _succeed(self, watch: Watch, process: daemons.Process) -> None:
        """The main process is another one from now on."""
        is_certain = (
            watch.job.readiness.kind is not Expect.DAEMON
            or watch.pid != watch.first
            or daemons.is_settled(process, watch.first)
        )
        watch.pid, watch.session = process.pid, process.session
        watch.set_timer("stays", None)
        self._adopt(process.pid, job_key(watch.spawn))
        if watch.awaited and is_certain:
            self._ready(watch, process.pid)
            return
        self._tell(facts.MainPid(spawn=watch.spawn, pid=process.pid))
        if watch.awaited and self._is_watched(watch):
            loop = asyncio.get_running_loop()
            watch.set_timer("settles", loop.call_later(SETTLE_S, self._ready, watch))

    # What a process says of itself.

    def _notified(self, watch: Watch) -> None:
        for _ in range(AT_ONCE):
            if watch.socket is None or not self._hear(watch, watch.socket):
                return

    def _hear(self, watch: Watch, sock: socket.socket) -> bool:
        """Look at one message, do what it says, take it; False when there is none."""
        datagram = notify_socket.peek(sock)
        if datagram is None:
            return False
        try:
            if self._may_speak(watch, datagram):
                self._obey(watch, datagram)
            else:
                who = f"process {datagram.pid} of user {datagram.uid}"
                self._complain(watch, f"a message from {who} is refused: it is none of the job's")
        finally:
            for fd in datagram.descriptors:
                os.close(fd)
        if watch.socket is sock:
            notify_socket.take(sock)
        return True

    def _complain(self, watch: Watch, text: str) -> None:
        """Once each, and not for ever: whoever may send must not be able to fill a disk."""
        if text not in watch.complaints and len(watch.complaints) < MAX_COMPLAINTS:
            watch.complaints.add(text)
            self._warn(f"{watch}: {text}")

    def _may_speak(self, watch: Watch, datagram: notify_socket.Datagram) -> bool:
        if datagram.pid in (watch.pid, watch.first) and datagram.pid:
            return True
        members = self._members(watch.spawn)
        if watch.has_cgroup:
            is_there = watch.group is not None and datagram.group == watch.group
            return datagram.pid in members or is_there
        process = daemons.look(datagram.pid)
        return process is not None and self._is_of(watch, process)

    def _obey(self, watch: Watch, datagram: notify_socket.Datagram) -> None:
        message = datagram.message
        for problem in message.problems:
            self._complain(watch, f"a message was not understood: {problem}")
        self._obey_store(watch, datagram)
        watch.notes = watch.notes.after(message)
        moved = None
        if message.main_pid is not None and message.main_pid != watch.pid:
            moved = self._choose_main(watch, message.main_pid)
        if message.ready and watch.awaited and watch.job.readiness.kind is Expect.NOTIFY:
            self._ready(watch, moved)
        elif moved is not None:
            self._tell(facts.MainPid(spawn=watch.spawn, pid=moved))
        if message.extend_timeout_s is not None and self._is_watched(watch):
            self._tell(facts.ExtendDeadline(spawn=watch.spawn, seconds=message.extend_timeout_s))
        if self._is_watched(watch):
            self._obey_watchdog(watch, datagram)

    def _obey_store(self, watch: Watch, datagram: notify_socket.Datagram) -> None:
        message, name = datagram.message, (watch.job.name, watch.instance)
        if message.store_remove:
            self._store.remove(*name, message.name)
        elif message.store:
            for fd in datagram.descriptors:
                if not self._store.store(*name, message.name, fd, poll=message.poll):
                    self._complain(watch, f"it stores too many descriptors: {message.name} is not")

    def _choose_main(self, watch: Watch, pid: int) -> int | None:
        """Make a process the main one because it was said to be; None when it cannot be."""
        process = daemons.look(pid)
        members = self._members(watch.spawn)
        is_ours = pid in members if members else process is not None and self._is_of(watch, process)
        if process is None or not is_ours:
            self._complain(watch, f"MAINPID={pid} is refused: it is no process of the job")
            return None
        watch.pid, watch.session = pid, process.session
        self._leave_pidfd(watch)
        if process.parent == self._holder:
            self._adopt(pid, job_key(watch.spawn))
        elif pid != watch.first:
            self._watch_stranger(watch)
        return pid

    # A main process that is another's child: its end is told by a pidfd.

    def _watch_stranger(self, watch: Watch) -> None:
        try:
            watch.pidfd = os.pidfd_open(watch.pid)
        except ProcessLookupError:
            watch.pid = watch.first
            return
        asyncio.get_running_loop().add_reader(watch.pidfd, self._stranger_ended, watch)

    def _leave_pidfd(self, watch: Watch) -> None:
        if watch.pidfd is not None:
            asyncio.get_running_loop().remove_reader(watch.pidfd)
            os.close(watch.pidfd)
            watch.pidfd = None

    def _stranger_ended(self, watch: Watch) -> None:
        """What its parent learns of that is the parent's; that is the main process again."""
        self._leave_pidfd(watch)
        watch.pid = watch.first
        if daemons.look(watch.first) is not None:
            self._tell(facts.MainPid(spawn=watch.spawn, pid=watch.first))

    def _take_over(self, watch: Watch) -> None:
        """A process of the spawn that is not its main one has ended: that may be an orphan now."""
        process = daemons.look(watch.pid)
        if process is None:
            if watch.pidfd is not None:
                self._leave_pidfd(watch)
                watch.pid = watch.first
        elif watch.pidfd is not None and process.parent == self._holder:
            self._leave_pidfd(watch)
            self._adopt(watch.pid, job_key(watch.spawn))

    def _hear_last_words(self, watch: Watch) -> None:
        """What a process has said before it ended counts, and comes before its end."""
        if watch.socket is not None:
            self._notified(watch)
        if watch.pipe is not None and self._is_watched(watch):
            self._written(watch)

    # The watchdog.

    def _obey_watchdog(self, watch: Watch, datagram: notify_socket.Datagram) -> None:
        message = datagram.message
        if message.watchdog_s is not None:
            watch.watchdog_s = message.watchdog_s or None
        if message.watchdog_failed:
            self._missed(watch)
        elif message.watchdog or message.watchdog_s is not None:
            self._arm(watch)

    def _arm(self, watch: Watch) -> None:
        """Give a process that is ready its watchdog's whole time from now on."""
        if watch.awaited or "abort" in watch.timers or not self._is_watched(watch):
            return
        timer = None
        if watch.watchdog_s is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(watch.watchdog_s, self._missed, watch)
        watch.set_timer("watchdog", timer)

    def _missed(self, watch: Watch) -> None:
        """End the main process as a failure: SIGABRT, and SIGKILL if that is not enough."""
        watch.set_timer("watchdog", None)
        if "abort" in watch.timers:
            return
        self._warn(f"{watch}: main process ({watch.pid}) has missed its watchdog, sending SIGABRT")
        self._signal(watch, signal.SIGABRT)
        loop = asyncio.get_running_loop()
        pause_s = watch.job.kill.timeout_s
        watch.set_timer("abort", loop.call_later(pause_s, self._signal, watch, signal.SIGKILL))

    def _signal(self, watch: Watch, number: int) -> None:
        """Signal the main process if it still is the job's, and never whoever has its pid now."""
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(watch.pid)
            try:
                members = self._members(watch.spawn)
                process = daemons.look(watch.pid)
                if process is not None and (watch.pid in members or not members):
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)


def job_key(spawn: int) -> str:
    """What the holder knows a job's process by."""
    return f"job:{spawn}"


def _number(job: Job) -> int:
    if job.readiness.fd is None:
        raise UsageError("readiness", f"job {job.name}: `expect fd` says no number")
    return job.readiness.fd
