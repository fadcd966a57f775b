"""Logins as events (`jobs.login_event`): from logind, and where there is none from utmp.

As soon as a logind has been seen on the system bus its word counts, also while the bus restarts.
Who was logged in when the source was opened is no event; what happened while no supervisor was
there is, for the sessions are remembered in a memfd that the holder keeps.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab import typed
from hostlab.errors import Unsupported
from hostlab.init.dbus.places import address_of
from hostlab.init.sources import Surroundings
from hostlab.init.sources.utmp import UtmpSessions
from hostlab.init.watches import Watches
from hostlab.jobs.dbus_event import SYSTEM
from hostlab.jobs.facts import Emit
from hostlab.jobs.login_event import Session, changes, renamed
from hostlab.linux import utmp
from hostlab.spec.job import Match

if TYPE_CHECKING:
    from hostlab.init.sources.logind import LogindSessions

KEPT: Final = "logins"
"""What the holder calls the memfd."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What the next supervisor is told."""

    version: int = 1
    opened: float
    """When the source was opened, on the monotonic clock."""
    of_logind: bool = False
    sessions: dict[str, Session] = {}


def open_source(surroundings: Surroundings) -> LoginSource:
    """The source of logins."""
    return LoginSource(surroundings)


class LoginSource:
    """Who is logged in, and what of it has been told."""

    def __init__(self, surroundings: Surroundings, path: str = utmp.UTMP) -> None:
        self._surroundings = surroundings
        self._names: frozenset[str] = frozenset()
        before = self._read_kept()
        self._opened = time.monotonic() if before is None else before.opened
        self._of_logind = before is not None and before.of_logind
        self._known: dict[str, Session] = {} if before is None else dict(before.sessions)
        self._logind: LogindSessions | None = self._open_logind()
        self._watches = surroundings.watches or Watches(surroundings.warn)
        self._utmp = UtmpSessions(self._look, surroundings.warn, self._watches, path)
        if before is None:
            self._known = dict(self._utmp.sessions)
        self._keep()

    def listen(self, operands: frozenset[Match]) -> None:
        """Tell the events of these names."""
        self._names = frozenset(match.name for match in operands)
        if self._logind is not None:
            self._logind.look()
        self._look()

    def close(self) -> None:
        """Nobody waits for a login any more."""
        if self._logind is not None:
            self._logind.close()
        self._utmp.close()
        self._surroundings.drop(KEPT)

    def _open_logind(self) -> LogindSessions | None:
        try:
            from hostlab.init.sources.logind import LogindSessions
        except Unsupported as lacking:
            self._surroundings.warn(f"logins from utmp only: {lacking.message} ({lacking.hint})")
            return None
        around = self._surroundings
        return LogindSessions(self._address, self._look, around.warn, around.watches)

    def _address(self) -> str | None:
        return address_of(SYSTEM, self._surroundings.variables())

    # What is known, and what is so.

    def _look(self) -> None:
        """Something may have changed."""
        if not self._names:
            # Not asked for anything yet.
            return
        logind = self._logind
        if logind is not None and logind.is_there:
            self._take(dict(logind.sessions), of_logind=True)
        elif self._of_logind and (logind is None or logind.is_there is None):
            # The bus comes back, or a supervisor has just begun: logind will tell.
            return
        else:
            self._take(dict(self._utmp.sessions), of_logind=False)

    def _take(self, now: dict[str, Session], *, of_logind: bool) -> None:
        before = self._known
        if of_logind is not self._of_logind:
            before = renamed(before, now)
            if of_logind and self._logind is not None:
                since = self._logind.since
                old = {key: each for key, each in now.items() if since.get(key, 0) < self._opened}
                before = old | before
        if before == now and of_logind is self._of_logind:
            return
        for name, environment in changes(before, now):
            if name in self._names:
                self._surroundings.tell(Emit(name=name, environment=environment))
        self._known, self._of_logind = now, of_logind
        self._keep()

    # Memory.

    def _keep(self) -> None:
        """Behind what was told: what a supervisor told that died here is told twice."""
        now = Remembered(opened=self._opened, of_logind=self._of_logind, sessions=self._known)
        fd = os.memfd_create("hostlab logins", os.MFD_CLOEXEC)
        try:
            os.write(fd, msgspec.json.encode(now))
            self._surroundings.keep(KEPT, fd)
        finally:
            os.close(fd)

    def _read_kept(self) -> Remembered | None:
        fd = self._surroundings.kept.get(KEPT)
        if fd is None:
            return None
        try:
            return typed.decode(os.pread(fd, os.fstat(fd).st_size, 0), Remembered)
        except msgspec.DecodeError:
            return None
