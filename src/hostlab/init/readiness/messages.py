"""What main processes say on $NOTIFY_SOCKET is heard here, from those who may speak, and done.

A message is looked at, told to the engine, and only then taken from its socket: a supervisor that
is killed in between hears it again. So whatever is done here can be done twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Final

from hostlab.init.readiness import daemons, notify_socket
from hostlab.init.readiness.fd_store import FdStore
from hostlab.init.readiness.following import Following, is_of
from hostlab.init.readiness.notify import Message
from hostlab.init.readiness.notify_socket import Datagram
from hostlab.init.readiness.watch import Hands, Watch
from hostlab.jobs import facts
from hostlab.spec.job import Expect, NotifyAccess

AT_ONCE: Final = 64
"""Messages of one process that are dealt with before another's turn."""


class Messages:
    """The messages of all watches, and their watchdogs."""

    def __init__(self, hands: Hands, following: Following, store: FdStore) -> None:
        self._hands = hands
        self._following = following
        self._store = store

    def listen(self, watch: Watch) -> None:
        """Hear what a process says from now on."""
        if watch.socket is not None:
            asyncio.get_running_loop().add_reader(watch.socket, self.hear, watch)

    def hear(self, watch: Watch) -> None:
        """Deal with what has been sent."""
        for _ in range(AT_ONCE):
            if watch.socket is None or not self._hear_one(watch, watch.socket):
                return

    def _hear_one(self, watch: Watch, sock: socket.socket) -> bool:
        datagram = notify_socket.peek(sock)
        if datagram is None:
            return False
        try:
            if self._may_speak(watch, datagram):
                self._obey(watch, datagram)
            else:
                who = f"process {datagram.pid} of user {datagram.uid}"
                text = f"a message from {who} is refused: it is none of the job's"
                watch.complain(self._hands, text)
        finally:
            for fd in datagram.descriptors:
                os.close(fd)
            if watch.socket is sock:
                notify_socket.take(sock)
        return True

    def _may_speak(self, watch: Watch, datagram: Datagram) -> bool:
        """Every process of the job, or its main one only, and nobody else.

        One that has ended since is known by the cgroup it was in, where the kernel tells that.
        """
        if datagram.pid and datagram.pid in (watch.pid, watch.first):
            return True
        if watch.job.readiness.notify_access is NotifyAccess.MAIN:
            return False
        if watch.has_cgroup:
            was_there = watch.group is not None and datagram.group == watch.group
            return was_there or datagram.pid in self._hands.members(watch.spawn)
        process = daemons.look(datagram.pid)
        return process is not None and is_of(watch, process)

    def _obey(self, watch: Watch, datagram: Datagram) -> None:
        message = datagram.message
        for problem in message.problems:
            watch.complain(self._hands, f"a message was not understood: {problem}")
        self._obey_store(watch, datagram)
        notes = watch.notes.after(message)
        if notes != watch.notes:
            watch.notes = notes
            watch.remember(self._hands)
        moved = None
        if message.main_pid is not None and message.main_pid != watch.pid:
            moved = self._following.choose(watch, message.main_pid)
        if message.ready and watch.awaited and watch.kind is Expect.NOTIFY:
            self._hands.ready(watch, moved)
        elif moved is not None:
            self._hands.tell(facts.MainPid(spawn=watch.spawn, pid=moved))
        if message.extend_timeout_s is not None and self._hands.is_watched(watch):
            seconds = message.extend_timeout_s
            self._hands.tell(facts.ExtendDeadline(spawn=watch.spawn, seconds=seconds))
        if self._hands.is_watched(watch):
            self._obey_watchdog(watch, message)

    def _obey_store(self, watch: Watch, datagram: Datagram) -> None:
        message, whose = datagram.message, (watch.job.name, watch.instance)
        if message.store_remove:
            self._store.remove(*whose, message.name)
        elif message.store:
            for fd in datagram.descriptors:
                if not self._store.store(*whose, message.name, fd, poll=message.poll):
                    text = f"it stores too many descriptors: {message.name} is not kept"
                    watch.complain(self._hands, text)

    # The watchdog.

    def _obey_watchdog(self, watch: Watch, message: Message) -> None:
        if message.watchdog_s is not None:
            watch.watchdog_s = message.watchdog_s or None
            watch.remember(self._hands)
        if message.watchdog_failed:
            self._missed(watch, "reports a failure to its watchdog")
        elif message.watchdog or message.watchdog_s is not None or watch.notes.stopping:
            self.arm(watch)

    def arm(self, watch: Watch) -> None:
        """Give a process that is ready its watchdog's whole time from now on.

        One that stops, because it was told to or says that it does, needs say nothing any more.
        """
        if watch.has_timer("abort") or not self._hands.is_watched(watch):
            return
        timer = None
        is_due = not (watch.awaited or watch.is_stopping or watch.notes.stopping)
        if watch.watchdog_s is not None and is_due:
            loop = asyncio.get_running_loop()
            said = f"has not said for {watch.watchdog_s:g} s that it is alive"
            timer = loop.call_later(watch.watchdog_s, self._missed, watch, said)
        watch.set_timer("watchdog", timer)

    def _missed(self, watch: Watch, why: str) -> None:
        """End the main process as a failure: SIGABRT, and SIGKILL if that is not enough."""
        watch.set_timer("watchdog", None)
        if watch.has_timer("abort"):
            return
        self._hands.warn(f"{watch}: main process ({watch.pid}) {why}, sending SIGABRT")
        loop = asyncio.get_running_loop()
        pause_s = watch.job.kill.timeout_s
        kill = loop.call_later(pause_s, self._following.signal, watch, signal.SIGKILL)
        watch.set_timer("abort", kill)
        self._following.signal(watch, signal.SIGABRT)
