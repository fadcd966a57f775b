"""Logins where there is no logind: from utmp, which is read again whenever it is written.

A record may stay when the process whose session it is was killed, so that process is watched, too:
its end is the session's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

from hostlab.jobs.login_event import Session
from hostlab.linux import utmp
from hostlab.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    Inotify,
)
from hostlab.linux.utmp import Login

MAX_SESSIONS: Final = 1024
"""Sessions at once that are told of; each has a descriptor."""
MAX_ENVIRONMENT_BYTES: Final = 64 << 10
MAX_PASSWD_BYTES: Final = 4 << 20
_WRITTEN: Final = IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF
_APPEARS: Final = IN_CREATE | IN_MOVED_TO


class UtmpSessions:
    """The sessions that utmp tells of, by terminal and process."""

    def __init__(
        self, changed: Callable[[], None], warn: Callable[[str], None], path: str = utmp.UTMP
    ) -> None:
        """OSError when the user has no inotify instance or watch left."""
        self.sessions: dict[str, Session] = {}
        self._changed = changed
        self._warn = warn
        self._path = path
        self._pidfds: dict[str, int] = {}
        self._has_too_many = False
        self._loop = asyncio.get_running_loop()
        self._inotify = Inotify()
        self._loop.add_reader(self._inotify.fd, self._told)
        try:
            self._watch()
        except OSError:
            self.close()
            raise
        self._read()

    def close(self) -> None:
        """Look no longer."""
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()
        for key in tuple(self._pidfds):
            self._forget(key)

    def _watch(self) -> None:
        self._inotify.add(os.path.dirname(self._path), _APPEARS)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self._inotify.add(self._path, _WRITTEN)

    def _told(self) -> None:
        self._inotify.discard()
        self._watch()
        self._read()

    def _read(self) -> None:
        try:
            found = {f"{login.line}:{login.pid}": login for login in utmp.logins(self._path)}
        except OSError as error:
            self._warn(f"{self._path}: {error.strerror}")
            return
        for key in self.sessions.keys() - found.keys():
            self._forget(key)
        for key, login in found.items():
            if key not in self.sessions:
                self._add(key, login)
        self._changed()

    def _add(self, key: str, login: Login) -> None:
        if len(self.sessions) >= MAX_SESSIONS:
            if not self._has_too_many:
                self._has_too_many = True
                self._warn(f"more than {MAX_SESSIONS} logins at once: further ones are not told")
            return
        try:
            pidfd = os.pidfd_open(login.pid)
        except OSError:
            # It has ended, or is of another machine's life, or of a namespace elsewhere.
            return
        self._pidfds[key] = pidfd
        self._loop.add_reader(pidfd, self._ended, key)
        self.sessions[key] = session_of(login)

    def _ended(self, key: str) -> None:
        self._forget(key)
        self._changed()

    def _forget(self, key: str) -> None:
        self.sessions.pop(key, None)
        pidfd = self._pidfds.pop(key, -1)
        if pidfd >= 0:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def session_of(login: Login) -> Session:
    """A record, and what its process tells beside."""
    shown = next((text for text in (login.line, login.host) if text.startswith(":")), "")
    service = _content(f"/proc/{login.pid}/comm", 64).strip()
    # OpenSSH 9.8 has a program of its own for a session; the service is the same.
    service = "sshd" if service.startswith("sshd") else service
    kind = _variables(login.pid).get("XDG_SESSION_TYPE") or ("x11" if shown else "tty")
    host = "" if login.host.startswith(":") or login.host == login.line else login.host
    return Session(
        session=login.line,
        user=login.user,
        uid=_uid(login.user),
        type=kind,
        service=service,
        remote=bool(host),
        host=host,
        tty="" if login.line.startswith(":") else login.line,
        display=shown,
    )


def _variables(pid: int) -> dict[str, str]:
    text = _content(f"/proc/{pid}/environ", MAX_ENVIRONMENT_BYTES)
    return {key: value for key, _, value in (each.partition("=") for each in text.split("\0"))}


def _uid(user: str) -> str:
    """From the file and not by getpwnam(3), which may ask the network and wait."""
    for line in _content("/etc/passwd", MAX_PASSWD_BYTES).splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) > 2:
            return fields[2]
    return ""


def _content(path: str, size_bytes: int) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(size_bytes).decode(errors="replace")
    except OSError:
        return ""
