"""The wire, seen from the hub: started with the first cable that needs it, and when it has died.

It is the holder's child like every job, and the holder keeps its control socket, so the supervisor
that follows one that was killed finds it again; no frame has noticed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

from hostlab.errors import Failed
from hostlab.lab.cables import WIRE
from hostlab.lab.links.messages import Answer, Drop, Put, Stat, WireClient
from hostlab.linux.clone import CLONE_PARENT, clone3
from hostlab.linux.libc import close_all_but

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor

RESTARTS: Final = 10
RESTARTS_WITHIN_S: Final = 10.0
"""A wire that dies more often than that is not started again by itself."""


class Carrier:
    """The wire of one lab; `cables` gives what it has to carry now."""

    def __init__(self, hub: HubSupervisor, cables: Callable[[], Iterable[Put]]) -> None:
        self.hub = hub
        self.pid = 0
        self.warnings: tuple[str, ...] = ()
        self._cables = cables
        self._client: WireClient | None = None
        self._deaths: deque[float] = deque(maxlen=RESTARTS)

    def found(self, pid: int) -> None:
        """The wire of an earlier supervisor still runs."""
        self.pid = pid

    def restore(self) -> None:
        """Take up its control socket, too."""
        fd = self.hub.kept.get(WIRE)
        if fd is not None and self.pid:
            self._client = WireClient(socket.socket(fileno=os.dup(fd)))

    def ended(self, pid: int) -> None:
        """The wire has ended; what was under way is lost, and another carries on."""
        if pid != self.pid:
            return
        self._forget()
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == RESTARTS and now - self._deaths[0] < RESTARTS_WITHIN_S:
            warning = "the user-space wire dies again and again: its cables carry nothing"
            self.warnings = (warning,)
            os.write(2, f"hub: {warning}\n".encode())
            return
        if any(True for _ in self._cables()):
            self._carry_all()

    def put(self, cable: Put) -> None:
        """Carry it from now on, as it says."""
        self._call(cable)

    def drop(self, name: str) -> None:
        """Carry a cable no more."""
        if self._client is not None:
            self._call(Drop(name=name))

    def counts(self, name: str) -> Answer:
        """What has passed a cable."""
        return self._call(Stat(name=name))

    def settle(self) -> None:
        """With the last cable the wire goes: every copy of its control is closed."""
        if self._client is not None and not any(True for _ in self._cables()):
            self.hub.drop(WIRE)
            self._forget()

    def _forget(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client, self.pid, self.warnings = None, 0, ()

    def _call(self, command: Put | Drop | Stat) -> Answer:
        client = self._client or self._carry_all()
        try:
            return client.call(command)
        except OSError:
            # It has died, and the holder has not told of that yet.
            self._forget()
            return self._carry_all().call(command)

    def _carry_all(self) -> WireClient:
        """Start the wire, and give it all its cables; of one that cannot be, the log tells."""
        client = self._start()
        for cable in self._cables():
            try:
                client.call(cable)
            except Failed as failure:
                os.write(2, f"hub: {cable.name}: {failure.message}\n".encode())
        return client

    def _start(self) -> WireClient:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = clone3(CLONE_PARENT)
        if pid == 0:
            self._become_wire(theirs)
        theirs.close()
        os.close(pidfd)
        self.pid = pid
        self.hub.keep(WIRE, ours.fileno())
        self._client = WireClient(ours)
        return self._client

    def _become_wire(self, control: socket.socket) -> NoReturn:
        status = 1
        try:
            asyncio.events._set_running_loop(None)
            self.hub.channel.send(f"+ {WIRE}".encode())
            close_all_but({control.fileno(), self.hub.config.mark})
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            from hostlab.lab.links import wire

            wire.serve(control)
            status = 0
        finally:
            os._exit(status)
