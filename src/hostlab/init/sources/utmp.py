"""Logins where there is no logind: from utmp, which is read again whenever it is written.

A record may stay when the process whose session it is was killed, so that process is watched, too:
its end is the session's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from hostlab.init.watches import Trail, Watches
from hostlab.jobs.login_event import Session
from hostlab.linux import utmp
from hostlab.linux.inotify import IN_CLOSE_WRITE, IN_MODIFY
from hostlab.linux.utmp import Login

MAX_SESSIONS: Final = 1024
"""Sessions at once that are told of; each has a descriptor."""
MAX_ENVIRONMENT_BYTES: Final = 64 << 10
MAX_PASSWD_BYTES: Final = 4 << 20
MAX_STATUS_BYTES: Final = 8 << 10
MAX_ANCESTORS: Final = 4
SHELLS: Final = frozenset({"sh", "dash", "bash", "zsh", "ksh", "fish", "rbash"})
_WRITTEN: Final = IN_MODIFY | IN_CLOSE_WRITE


class UtmpSessions:
    """The sessions that utmp tells of, by terminal and process."""

    def __init__(
        self,
        changed: Callable[[], None],
        warn: Callable[[str], None],
        watches: Watches,
        path: str = utmp.UTMP,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self._changed = changed
        self._warn = warn
        self._path = path
        self._pidfds: dict[str, int] = {}
        self._has_too_many = False
        self._loop = asyncio.get_running_loop()
        self._trail = Trail(
            watches, path, _WRITTEN, told=lambda *_: self._read(), changed=self._read
        )
        self._read()

    def close(self) -> None:
        """Look no longer."""
        self._trail.close()
        for key in tuple(self._pidfds):
            self._forget(key)

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
    uid, shell = _account(login.user)
    kind = _variables(login.pid).get("XDG_SESSION_TYPE") or ("x11" if shown else "tty")
    host = "" if login.host.startswith(":") or login.host == login.line else login.host
    return Session(
        session=login.line,
        user=login.user,
        uid=uid,
        type=kind,
        service=_service(login.pid, shell),
        remote=bool(host),
        host=host,
        tty="" if login.line.startswith(":") else login.line,
        display=shown,
    )


def _variables(pid: int) -> dict[str, str]:
    text = _content(f"/proc/{pid}/environ", MAX_ENVIRONMENT_BYTES)
    return {key: value for key, _, value in (each.partition("=") for each in text.split("\0"))}


def _service(pid: int, shell: str) -> str:
    """Who let the user in: the process, or above it the first that is no shell.

    sshd writes down the process that becomes the user's shell.
    """
    for _ in range(MAX_ANCESTORS):
        name = _content(f"/proc/{pid}/comm", 64).strip()
        if name and name != shell and name not in SHELLS:
            # OpenSSH 9.8 has a program of its own for a session; the service is the same.
            return "sshd" if name.startswith("sshd") else name
        status = _content(f"/proc/{pid}/status", MAX_STATUS_BYTES)
        parent = status.partition("\nPPid:")[2].partition("\n")[0].strip()
        if not parent.isdecimal() or int(parent) <= 1:
            break
        pid = int(parent)
    return ""


def _account(user: str) -> tuple[str, str]:
    """A user's number and the name of the shell, empty if not known.

    From the file and not by getpwnam(3), which may ask the network and wait.
    """
    for line in _content("/etc/passwd", MAX_PASSWD_BYTES).splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) > 6:
            return fields[2], os.path.basename(fields[6])
    return "", ""


def _content(path: str, size_bytes: int) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(size_bytes).decode(errors="replace")
    except OSError:
        return ""
