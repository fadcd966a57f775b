"""Which process is the main one: followed through forks, and where it says so itself.

A dead pid is never followed: each one that is chosen becomes the holder's to watch (`*`), or, when
it is another's child, is watched by a pidfd; and whoever had ended before that is told of at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection
from typing import Final

from hostlab.init.readiness import daemons
from hostlab.init.readiness.watch import Hands, Watch
from hostlab.jobs import facts
from hostlab.spec.job import Expect

SETTLE_S: Final = 0.1
"""How long the first fork of `expect daemon` may take to leave before it counts as the daemon."""
STAYS_S: Final = 5.0
"""A first process that has forked and is still there after this is the daemon itself."""
LONGEST_LOOK_S: Final = 60.0


def is_of(watch: Watch, process: daemons.Process) -> bool:
    """Whether a process is a spawn's where there is no cgroup to tell.

    Its session tells as long as the main process lives, or has ended just now: the number of a
    session is not used again while a process is in it.
    """
    if process.pid == watch.pid or process.session == watch.pid:
        return True
    if daemons.is_marked(process.pid, watch.spawn):
        return True
    main = daemons.look(watch.pid)
    return main is not None and (
        process.session == main.session or daemons.is_descendant(process.pid, (watch.pid,))
    )


class Following:
    """The main processes of all watches."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def begin(self, watch: Watch) -> None:
        """Wait for a daemon's first process to leave; for a restored one perhaps it has."""
        if watch.pid == watch.first:
            self._look_whether_it_stays(watch)
        else:
            self._let_settle(watch)

    def _look_whether_it_stays(self, watch: Watch, waited_s: float = 0.0) -> None:
        """Look, after 5 s and then less and less often, for a first process that only forks."""
        if waited_s:
            others = frozenset(self._hands.members(watch.spawn)) - {watch.first}
            if others:
                watch.seen = others
                watch.remember(self._hands)
                self._hands.warn(
                    f"{watch}: its first process has forked and stays, so it is the main process;"
                    f" `expect {watch.kind}` is for one that leaves"
                )
                self._hands.ready(watch, None)
                return
            self._hands.warn(
                f"{watch}: not ready after {waited_s:g} s, as `expect {watch.kind}` waits for its"
                " first process to leave"
            )
        pause_s = min(max(STAYS_S, waited_s), LONGEST_LOOK_S)
        loop = asyncio.get_running_loop()
        again_s = waited_s + pause_s
        timer = loop.call_later(pause_s, self._look_whether_it_stays, watch, again_s)
        watch.set_timer("stays", timer)

    def has_successor(self, watch: Watch) -> bool:
        """A daemon's main process has left: whether another takes over, which is told then."""
        named = self._named_by_file(watch)
        if named is not None:
            self._succeed(watch, named)
            return True
        found = daemons.orphans(
            lambda: self._candidates(watch),
            self._hands.holder,
            lambda process: self._may_succeed(watch, process),
        )
        if not found:
            return False
        self._succeed(watch, found[0])
        return True

    def _named_by_file(self, watch: Watch) -> daemons.Process | None:
        """The process whose number its PID file has, if it is the holder's and of the job."""
        pid = None
        if watch.job.readiness.pid_file is not None:
            pid = daemons.read_pid(watch.job.readiness.pid_file)
        process = daemons.look(pid) if pid is not None else None
        if process is None or process.parent != self._hands.holder or pid in watch.not_ours:
            return None
        return process if self._is_ours(watch, process) else None

    def _candidates(self, watch: Watch) -> Collection[int]:
        if watch.has_cgroup:
            return self._hands.members(watch.spawn)
        return daemons.children(self._hands.holder)

    def _may_succeed(self, watch: Watch, process: daemons.Process) -> bool:
        """While it is awaited, whatever is left; later, who shares the session of the one before.

        A session that `sshd` leaves behind is no other `sshd`: it has a session of its own.
        """
        if process.pid in watch.not_ours:
            return False
        if not watch.has_cgroup and not is_of(watch, process):
            return False
        sessions = (watch.session, watch.pid, *watch.seen)
        return watch.awaited or process.pid in watch.seen or process.session in sessions

    def _succeed(self, watch: Watch, process: daemons.Process) -> None:
        is_certain = (
            watch.kind is not Expect.DAEMON
            or watch.pid != watch.first
            or daemons.is_settled(process, watch.first)
        )
        watch.pid, watch.session = process.pid, process.session
        watch.set_timer("stays", None)
        self._hands.adopt(process.pid, watch.key)
        if watch.awaited and is_certain:
            self._hands.ready(watch, process.pid)
            return
        if watch.awaited:
            watch.remember(self._hands)
        self._hands.tell(facts.MainPid(spawn=watch.spawn, pid=process.pid))
        if watch.awaited and self._hands.is_watched(watch):
            self._let_settle(watch)

    def _let_settle(self, watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        watch.set_timer("settles", loop.call_later(SETTLE_S, self._hands.ready, watch, None))

    def choose(self, watch: Watch, pid: int) -> int | None:
        """Make a process the main one because it was said to be; None when it cannot be."""
        process = daemons.look(pid)
        if process is None or not self._is_ours(watch, process):
            watch.complain(
                self._hands, f"MAINPID={pid} is refused: it is no living process of the job"
            )
            return None
        self._leave_pidfd(watch)
        watch.pid, watch.session = pid, process.session
        if process.parent == self._hands.holder:
            self._hands.adopt(pid, watch.key)
        elif not self._watch_stranger(watch):
            return None
        watch.remember(self._hands)
        return watch.pid

    def _is_ours(self, watch: Watch, process: daemons.Process) -> bool:
        if watch.has_cgroup:
            return process.pid in self._hands.members(watch.spawn)
        return is_of(watch, process)

    def _watch_stranger(self, watch: Watch) -> bool:
        """Watch a main process that is not the holder's child; False, the first again, if gone."""
        try:
            watch.pidfd = os.pidfd_open(watch.pid)
        except ProcessLookupError:
            watch.pid = watch.first
            return False
        asyncio.get_running_loop().add_reader(watch.pidfd, self._stranger_ended, watch)
        return True

    def take_up_stranger(self, watch: Watch) -> None:
        """The same after a supervisor's death; it may have ended meanwhile, or be an orphan now."""
        process = daemons.look(watch.pid)
        if process is None or not self._is_ours(watch, process):
            self._stranger_ended(watch)
        elif process.parent == self._hands.holder:
            self._hands.adopt(watch.pid, watch.key)
        else:
            self._watch_stranger(watch)

    def _stranger_ended(self, watch: Watch) -> None:
        """Its status is its parent's, who is watched again."""
        self._leave_pidfd(watch)
        watch.pid = watch.first
        watch.remember(self._hands)
        if daemons.look(watch.first) is not None:
            self._hands.tell(facts.MainPid(spawn=watch.spawn, pid=watch.first))

    def another_ended(self, watch: Watch) -> None:
        """A process of the spawn that is not its main one has ended; that may be an orphan now."""
        if watch.pidfd is None:
            return
        process = daemons.look(watch.pid)
        if process is None:
            self._leave_pidfd(watch)
            watch.pid = watch.first
        elif process.parent == self._hands.holder:
            self._leave_pidfd(watch)
            self._hands.adopt(watch.pid, watch.key)
            watch.remember(self._hands)

    def _leave_pidfd(self, watch: Watch) -> None:
        if watch.pidfd is not None:
            asyncio.get_running_loop().remove_reader(watch.pidfd)
            os.close(watch.pidfd)
            watch.pidfd = None

    def signal(self, watch: Watch, number: int) -> None:
        """Signal the main process if it still is the job's, and never whoever has its pid now."""
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(watch.pid)
            try:
                process = daemons.look(watch.pid)
                if process is not None and self._is_ours(watch, process):
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)
