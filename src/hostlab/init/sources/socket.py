"""Sockets as events: `socket PROTO=inet PORT=80 ADDR=0.0.0.0 NAME=…` when somebody connects.

Each socket is made here, kept by the holder under a name, and given to the jobs that start on it,
whatever started them: so it listens while they are down, while they restart, and while there is
no supervisor. Nothing is accepted here, and no byte passes through.

Somebody who waits is told once. While a job that has the socket is there, the socket is not looked
at; when the last one has gone it is looked at again, and whoever waits then starts the job anew.

A job that ends well and has accepted nobody was only triggered: one of those who wait is let in
and sent away by a child (`disposal`), so that it runs once a connection. What starts a job too
often (`LIMIT`) is closed, which its clients are told by the kernel.

With `ACCEPT` an instance of the job is started for each connection, and accepts it itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from hostlab.errors import Failed, Problem, SpecError, UsageError
from hostlab.init.sources import Surroundings
from hostlab.init.sources.addresses import Addresses
from hostlab.init.sources.disposal import MAX_AT_ONCE, Disposal
from hostlab.init.sources.idleness import Idleness, open_door
from hostlab.init.sources.listener import PREFIX, Listener, borrowed, kept_name
from hostlab.init.spawning.given import NOTHING, Accepting, Given
from hostlab.jobs import effects, facts
from hostlab.jobs.classes import JobClass
from hostlab.jobs.effects import Effect
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import State
from hostlab.linux import listening
from hostlab.spec import sockets
from hostlab.spec.job import Job, Match
from hostlab.spec.sockets import EVENT, NUMBER, Accept

if TYPE_CHECKING:
    from hostlab.init.jobs import Jobs

MAX_SOCKETS: Final = 1024
"""Of one init; the holder keeps 4096 descriptors, and jobs' logs are among them."""
READY_AT_ONCE: Final = 64
_BEFORE_MAIN: Final = frozenset(
    {
        State.STARTING,
        State.SECURITY_SPAWNING,
        State.SECURITY,
        State.PRE_STARTING,
        State.PRE_START,
        State.SPAWNING,
    }
)
"""In these an instance has not accepted its connection yet."""
_EDGE: Final = select.EPOLLIN | select.EPOLLET


def open_source(surroundings: Surroundings) -> SocketSource:
    """The source of sockets."""
    return SocketSource(surroundings)


class SocketSource:
    """Listens, keeps, tells."""

    def __init__(self, surroundings: Surroundings) -> None:
        assert surroundings.jobs is not None, "sockets are given to jobs"
        self._around = surroundings
        self._jobs: Jobs = surroundings.jobs
        self._listeners: dict[tuple[str, ...], Listener] = {}
        self._by_fd: dict[int, Listener] = {}
        self._wrong: set[tuple[str, ...]] = set()
        """Operands that were told to be no sockets."""
        self._settling: set[tuple[str, ...]] = set()
        self._number = 0
        self._is_first = True
        self._addresses = Addresses(self._address_changed)
        self._idleness = Idleness(self._idle)
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
        self._unsubscribe = self._jobs.subscribe(self._seen)

    # What is listened to.

    def listen(self, operands: frozenset[Match]) -> None:
        """Open what is new, close what is gone; the same address goes on listening."""
        wanted = {each.arguments: each for each in operands if sockets.says_where(each)}
        self._wrong &= wanted.keys()
        gone = {words: self._listeners.pop(words) for words in self._listeners.keys() - wanted}
        new = []
        first = self._order(wanted.values())
        for words in sorted(
            wanted.keys() - self._listeners.keys() - self._wrong,
            key=lambda words: (first.get(words, MAX_SOCKETS), words),
        ):
            listener = self._parse(wanted[words])
            if listener is not None:
                new.append(listener)
        for listener in new:
            self._take_over(listener, gone)
        for old in gone.values():
            self._forget(old)
        for listener in new:
            self._listeners[listener.words] = listener
            if listener.fd is None:
                self._open(listener)
        if self._is_first:
            self._begin()
        for listener in self._listeners.values():
            self._find_takers(listener)
            self._look(listener)

    def _order(self, wanted: Iterable[Match]) -> dict[tuple[str, ...], int]:
        """Who began to listen first, as their jobs did."""
        found: dict[tuple[str, ...], int] = {}
        matches = frozenset(wanted)
        for place, name in enumerate(self._jobs.listening):
            known = self._jobs.engine.classes.get(name)
            for match in known.job.listens if known is not None else ():
                if match in matches:
                    found.setdefault(match.arguments, place)
        return found

    def _parse(self, match: Match) -> Listener | None:
        try:
            if len(self._listeners) >= MAX_SOCKETS:
                raise SpecError("socket", f"more than {MAX_SOCKETS} sockets")
            return Listener(match, sockets.parse(match.arguments))
        except SpecError as error:
            self._wrong.add(match.arguments)
            hint = f" ({error.hint})" if error.hint else ""
            self._fault(match, f"socket {' '.join(match.arguments)}: {error.message}{hint}")
            return None

    def _take_over(self, listener: Listener, gone: dict[tuple[str, ...], Listener]) -> None:
        """Whoever listened at this address goes on: nobody is refused because of an option."""
        for words, old in gone.items():
            if old.fd is not None and old.said.address == listener.said.address:
                del self._by_fd[old.fd]
                with contextlib.suppress(OSError):
                    self._epoll.unregister(old.fd)
                listener.accepts = old.accepts
                self._have(listener, old.fd)
                with borrowed(old.fd) as made:
                    listening.apply_backlog(made, listener.said)
                old.fd = None
                self._around.drop(old.key)
                del gone[words]
                return

    def _begin(self) -> None:
        """The first time, with all jobs of before: what nobody wants of what was kept goes."""
        self._is_first = False
        wanted = {each.key for each in self._listeners.values()}
        for name in tuple(self._around.kept):
            if name.startswith(PREFIX) and name not in wanted:
                self._around.drop(name)

    def close(self) -> None:
        """Nobody listens any more."""
        self._unsubscribe()
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        for listener in self._listeners.values():
            self._forget(listener)
        self._listeners.clear()
        self._addresses.close()
        self._idleness.close()
        self._epoll.close()

    # Opening and closing.

    def _open(self, listener: Listener) -> None:
        """What the holder has kept, or a new one; a refusal is told."""
        kept = self._around.kept.get(listener.key)
        if kept is not None:
            self._have(listener, os.dup(kept), is_kept=True)
            if listener.said.idle_s is not None:
                # One that was killed while it stopped a job has left the door shut.
                open_door(listener)
            return
        try:
            fd = listening.open_listening(listener.said)
        except Problem as problem:
            self._refused(listener, problem.message)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                self._absent(listener)
            else:
                self._refused(listener, _why(error))
        else:
            self._have(listener, fd)

    def _have(self, listener: Listener, fd: int, *, is_kept: bool = False) -> None:
        listener.take(fd)
        self._by_fd[fd] = listener
        if not is_kept:
            self._around.keep(listener.key, fd)
        # Some files are always ready and cannot be waited for.
        with contextlib.suppress(PermissionError):
            self._epoll.register(fd, 0)

    def _absent(self, listener: Listener) -> None:
        if not listener.is_absent:
            text = f"{listener}: this host has no such address yet; it is waited for"
            self._around.warn(text)
        listener.is_absent = True
        listener.problem = "its address is not there yet"
        self._addresses.wait()

    def _address_changed(self) -> None:
        absent = [each for each in self._listeners.values() if each.is_absent]
        for listener in absent:
            self._open(listener)
            self._look(listener)
        if not any(each.is_absent for each in absent):
            self._addresses.close()

    def _refused(self, listener: Listener, why: str) -> None:
        listener.problem, listener.is_absent = why, False
        self._fault(listener.match, f"{listener}: {why}")

    def _fault(self, match: Match, text: str) -> None:
        """Say so; a job that listens to it has failed, one that starts on it says why it cannot."""
        self._around.warn(text)
        for found in tuple(self._jobs.engine.classes.values()):
            owns = match in found.job.listens
            starts = match in sockets.of_job(found.job) and not found.instances
            if owns or starts:
                self._jobs.tell(facts.Stop(job=found.job.name, failure=text))

    def _forget(self, listener: Listener) -> None:
        self._idleness.end(listener)
        if listener.fd is not None:
            self._by_fd.pop(listener.fd, None)
            with contextlib.suppress(OSError):
                self._epoll.unregister(listener.fd)
            listener.close()
            if listener.said.remove:
                listening.remove_files(listener.said)
        self._around.drop(listener.key)

    # Who connects.

    def _find_takers(self, listener: Listener) -> list[JobClass]:
        """The jobs that start on it now."""
        event = listener.event
        found = [
            owner
            for _, leaf, owner in self._jobs.engine.index.find(EVENT, event)
            if isinstance(owner, JobClass) and leaf.accepts(EVENT, event)
        ]
        listener.takers.update(each.job.name for each in found)
        return found

    def _instances(self, listener: Listener) -> list[Instance]:
        classes = self._jobs.engine.classes
        names = [name for name in listener.takers if name in classes]
        return [each for name in names for each in classes[name].instances.values()]

    def _look(self, listener: Listener) -> None:
        """Look at the socket exactly when nobody else does."""
        if listener.fd is None or listener.disposal is not None:
            return
        present = self._instances(listener)
        if not listener.has_acceptors:
            is_free = not present
        elif any(not each.name for each in present):
            # An instance without a name is one at a time.
            is_free = False
        else:
            is_free = len(present) < listener.said.max_connections and not any(
                each.state in _BEFORE_MAIN for each in present
            )
        if listener.said.idle_s is not None:
            self._look_after(listener, is_there=bool(present))
        if is_free:
            # Set anew it is found ready at once when somebody waits (epoll_ctl(2)).
            self._arm(listener)
        elif listener.is_armed:
            self._disarm(listener)

    def _look_after(self, listener: Listener, *, is_there: bool) -> None:
        """Of a job that is to be stopped when nobody is connected."""
        if not is_there:
            self._idleness.end(listener)
            return
        try:
            self._idleness.begin(listener)
        except OSError as error:
            self._around.warn(f"{listener}: whether it is idle cannot be seen: {error}")

    def _idle(self, listener: Listener) -> None:
        for instance in self._instances(listener):
            with contextlib.suppress(UsageError):  # It is stopping by itself.
                stop = facts.Stop(job=instance.job.name, instance=instance.name)
                self._jobs.tell(stop)

    def _arm(self, listener: Listener) -> None:
        assert listener.fd is not None
        with contextlib.suppress(FileNotFoundError):
            self._epoll.modify(listener.fd, _EDGE)
        listener.is_armed = True

    def _disarm(self, listener: Listener) -> None:
        assert listener.fd is not None
        with contextlib.suppress(FileNotFoundError):
            self._epoll.modify(listener.fd, 0)
        listener.is_armed = False

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, READY_AT_ONCE):
            listener = self._by_fd.get(fd)
            if listener is not None and listener.is_armed and events & select.EPOLLIN:
                self._trigger(listener)

    def _trigger(self, listener: Listener) -> None:
        if self._around.leaves():
            self._disarm(listener)
            return
        self._find_takers(listener)
        if not listener.has_acceptors and self._instances(listener):
            self._look(listener)
            return
        if listener.is_too_often(time.monotonic()):
            self._storm(listener)
            return
        listener.was_stopped = False
        listener.note_waiting()
        event = listener.event
        if listener.has_acceptors:
            # Above that of every connection before, whichever supervisor counted it.
            self._number = max(self._number + 1, self._jobs.engine.next_spawn)
            event = (*event, (NUMBER, str(self._number)))
        self._around.tell(facts.Emit(name=EVENT, environment=event))
        # One that has started nobody is not looked at again before somebody else connects.
        if self._instances(listener):
            self._look(listener)

    def _storm(self, listener: Listener) -> None:
        """Closed, with who waits: they are told so, and need not wait for what fails at once."""
        rate = listener.said.rate
        text = f"it has started a job {rate.burst} times within {rate.interval_s:g} s and is closed"
        self._idleness.end(listener)
        if listener.fd is not None:
            del self._by_fd[listener.fd]
            self._epoll.unregister(listener.fd)
        listener.close()
        self._around.drop(listener.key)
        self._refused(listener, text)

    # What the jobs do.

    def _seen(self, effect: Effect, wall: float) -> None:
        match effect:
            case effects.InstanceRemoved():
                self._settle_soon(effect.job)
            case effects.Kill(pid=int()) if effect.spawn in self._jobs.engine.spawns:
                name = self._jobs.engine.spawns[effect.spawn][0].job.name
                for listener in self._listeners.values():
                    listener.was_stopped |= name in listener.takers
            case effects.StateChanged(state=State.SPAWNED | State.STARTING | State.RUNNING):
                self._settle_soon(effect.job)
            case _:
                pass

    def _settle_soon(self, job: str) -> None:
        for listener in self._listeners.values():
            if job in listener.takers and listener.words not in self._settling:
                self._settling.add(listener.words)
                asyncio.get_running_loop().call_soon(self._settle, listener)

    def _settle(self, listener: Listener) -> None:
        self._settling.discard(listener.words)
        if self._listeners.get(listener.words) is not listener or listener.fd is None:
            return
        if not listener.has_acceptors and not listener.is_armed and not self._instances(listener):
            self._after_run(listener)
        self._look(listener)

    def _after_run(self, listener: Listener) -> None:
        """The job is gone: who was not let in by it waits for the next, unless none would."""
        fd = listener.fd
        if fd is None or listener.disposal is not None:
            return
        count = MAX_AT_ONCE if listener.said.flush else 0
        if not count and not self._has_failed(listener) and listener.has_taken_nothing():
            count = 1
        listener.before = (0, frozenset())
        if not count:
            return
        if not listener.said.has_connections:
            listener.discard()
            return
        try:
            listener.disposal = Disposal(fd, count, lambda: self._disposed(listener))
        except OSError as error:
            self._around.warn(f"{listener}: who waits there cannot be sent away: {error}")

    def _disposed(self, listener: Listener) -> None:
        listener.disposal = None
        self._look(listener)

    def _has_failed(self, listener: Listener) -> bool:
        classes = self._jobs.engine.classes
        ends = (classes[name].last for name in listener.takers if name in classes)
        return any(last is not None and last.failed for last in ends)

    # What they are given.

    def given(self, effect: effects.Spawn) -> Given:
        """The sockets of a job's main process; Failed when one of them is not open."""
        own = tuple(self._sockets_of(effect.job))
        if NUMBER in dict(effect.environment):
            acceptor = self._acceptor(own, effect)
            if acceptor is not None:
                return acceptor
        found: list[tuple[str, int]] = []
        for listener in own:
            if listener.has_acceptors:
                continue
            if listener.fd is None:
                self._open(listener)
            if listener.fd is None:
                raise Failed(f"open {listener}", listener.problem)
            said = listener.said
            found.append((said.fd_name or said.name or sockets.UNNAMED, listener.fd))
            listener.takers.add(effect.job.name)
            self._disarm(listener)
        return Given(tuple(found)) if found else NOTHING

    def _sockets_of(self, job: Job) -> Iterator[Listener]:
        """In the order of the job's operands; those of one name in their own order."""
        seen: set[tuple[str, ...]] = set()
        for match in sockets.of_job(job):
            if sockets.says_where(match):
                listener = self._listeners.get(match.arguments)
                found = [] if listener is None else [listener]
            else:
                name = sockets.name_of(match)
                named = (x for x in self._listeners.values() if sockets.name_of(x.match) == name)
                found = sorted(named, key=lambda each: (each.said.order, each.words))
            for each in found:
                if each.words not in seen:
                    seen.add(each.words)
                    yield each

    def _acceptor(self, own: tuple[Listener, ...], effect: effects.Spawn) -> Given | None:
        told = dict(effect.environment)
        for listener in own:
            event = dict(listener.event)
            if listener.has_acceptors and event.items() <= told.items():
                if listener.fd is None:
                    raise Failed(f"open {listener}", listener.problem)
                said = listener.said
                return Given(
                    accepting=Accepting(
                        listener.fd,
                        is_inetd=said.accept is Accept.INETD,
                        refused=self._full_sources(listener),
                        no_delay=said.no_delay,
                    )
                )
        return None

    def _full_sources(self, listener: Listener) -> frozenset[str]:
        bound = listener.said.max_per_source
        if not bound:
            return frozenset()
        counts: dict[str, int] = {}
        for instance in self._instances(listener):
            address = instance.environment.get("REMOTE_ADDR")
            if address is not None:
                counts[address] = counts.get(address, 0) + 1
        return frozenset(address for address, count in counts.items() if count >= bound)

    def accepted(self, effect: effects.Spawn, peer: str) -> None:
        """An instance has its connection: `ADDRESS PORT`, or nothing of a Unix socket's."""
        address, _, port = peer.partition(" ")
        for name, value in (("REMOTE_ADDR", address), ("REMOTE_PORT", port)):
            if value:
                # In the state, so that the next supervisor knows it too.
                variable = facts.SetVariable(
                    name=name, value=value, job=effect.job.name, instance=effect.instance
                )
                self._jobs.tell(variable)


def _why(error: OSError) -> str:
    hint = {
        errno.EADDRINUSE: " (`ss -lntup` tells who listens there)",
        errno.EACCES: " (below net.ipv4.ip_unprivileged_port_start it needs NET_BIND_SERVICE)",
    }.get(error.errno or 0, "")
    return f"{error.strerror}{hint}"


__all__ = ["SocketSource", "kept_name", "open_source"]
