"""When an init answers on a message bus: as soon as it has the bus among its jobs, or is told to.

Upstart's init connected whenever it was sent SIGUSR1, which was what the job `dbus` did behind its
start. Here the job itself is the sign; its process may come, go and come again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.errors import Unsupported
from hostlab.jobs import effects, facts
from hostlab.jobs.effects import Effect, Level, Reply
from hostlab.jobs.states import State

if TYPE_CHECKING:
    from hostlab.init.dbus.calls import Calls
    from hostlab.init.dbus.private import PrivateServer
    from hostlab.init.dbus.service import UpstartService
    from hostlab.init.job_supervisor import JobSupervisor

BUS_JOBS: Final = frozenset(
    {"dbus", "dbus.service", "dbus-broker", "dbus-broker.service", "dbus-daemon", "messagebus"}
)
"""Names under which people run a bus."""
NOTIFIED: Final = "dbus-address"
"""In the engine's state: the address that a session was told (NotifyDBusAddress)."""


class BusPresence:
    """The init's own place on its bus: the system's, or in a user's session the session's."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self._supervisor = supervisor
        self._service: UpstartService | None = None
        self._is_impossible = False
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def notified(self) -> str | None:
        """The address that a session was told."""
        found = self._supervisor.jobs.engine.extra.get(NOTIFIED)
        return str(found) if found is not None else None

    def described(self) -> None:
        """A job has come, gone or changed."""
        if self._service is not None:
            self._service.described()
        elif self._is_wanted:
            self._open()

    def look(self) -> None:
        """The address of a bus may be another now."""
        if self._service is not None:
            self._service.look()
        elif self._is_wanted:
            self._open()

    def notify_address(self, address: str) -> None:
        """A session is told where its bus is."""
        self._supervisor.jobs.remember(NOTIFIED, address)
        self._supervisor.buses_changed()

    def close(self) -> None:
        """Leave the bus."""
        if self._service is not None:
            self._unsubscribe()
            self._service.close()
            self._service = None

    @property
    def _is_wanted(self) -> bool:
        jobs = self._supervisor.jobs.engine.classes
        is_named = self._supervisor.place.is_on_bus or self.notified is not None
        return not self._is_impossible and (is_named or not BUS_JOBS.isdisjoint(jobs))

    def _open(self) -> None:
        supervisor = self._supervisor
        try:
            from hostlab.init.dbus.calls import Calls
            from hostlab.init.dbus.places import address_of
            from hostlab.init.dbus.service import UpstartService
            from hostlab.init.dbus.upstart import Upstart
        except Unsupported as lacking:
            self._is_impossible = True
            text = f"not on a bus: {lacking.message} ({lacking.hint})"
            supervisor.log(Level.WARNING, text)
            return
        upstart = Upstart(
            supervisor.initctl_init,
            self._ask,
            notify_address=supervisor.notify_bus_address,
            end_session=supervisor.end_session,
        )
        calls = Calls(upstart, supervisor.spawn_task)
        bus = "session" if supervisor.place.is_user else "system"
        self._service = UpstartService(
            f"the {bus} bus",
            lambda: address_of(bus, supervisor.variables()) if self._may_connect() else None,
            calls,
            supervisor.jobs,
            warn=lambda text: supervisor.log(Level.WARNING, text),
            watches=supervisor.watches,
            private=self._open_private(calls),
            owns_root=supervisor.place.also is not None,
            has_restarted=supervisor.has_taken_up,
        )
        self._unsubscribe = supervisor.jobs.subscribe(self._happened)

    def _may_connect(self) -> bool:
        """Whether the bus is not one of init's jobs, or runs.

        Where it has its socket from init, to connect is to start it, so that it could never be
        stopped.
        """
        classes = self._supervisor.jobs.engine.classes
        buses = [classes[name] for name in BUS_JOBS & classes.keys()]
        states = [each.state for found in buses for each in found.instances.values()]
        return not buses or State.RUNNING in states

    def _happened(self, effect: Effect, _wall: float) -> None:
        if (
            isinstance(effect, effects.StateChanged)
            and effect.state is State.RUNNING
            and effect.job in BUS_JOBS
            and self._service is not None
        ):
            self._service.look()

    def _open_private(self, calls: Calls) -> PrivateServer | None:
        """Upstart's own socket, in a root of init's own: elsewhere it may be another's."""
        from hostlab.init.dbus import private

        supervisor = self._supervisor
        if supervisor.place.also is None:
            return None
        try:
            kept = supervisor.kept.get(private.KEPT)
            listening = private.listen() if kept is None else socket.socket(fileno=os.dup(kept))
        except OSError as error:
            supervisor.log(Level.WARNING, f"no private socket {private.NAME}: {error.strerror}")
            return None
        supervisor.keep(private.KEPT, listening.fileno())
        warn = partial(supervisor.log, Level.WARNING)
        return private.PrivateServer(calls, listening, warn)

    async def _ask(self, fact: facts.Start | facts.Stop | facts.Restart | facts.Emit) -> Reply:
        jobs = self._supervisor.jobs
        token = jobs.token()
        return await jobs.ask(token, msgspec.structs.replace(fact, request=token))
