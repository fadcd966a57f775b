"""Logins as events: who came and went, by which door.

    start on login-session-opened SERVICE=sshd USER=alice
    start on login-user-added UID!=0
    stop on login-user-removed USER=$USER

| event | when |
|---|---|
| `login-user-added` | a user who has no session opens one: before that one's event |
| `login-session-opened` | a session has been opened |
| `login-session-closed` | a session has ended |
| `login-user-removed` | it was the user's last |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from hostlab.jobs.expression import Environment

OPENED: Final = "login-session-opened"
CLOSED: Final = "login-session-closed"
USER_ADDED: Final = "login-user-added"
USER_REMOVED: Final = "login-user-removed"


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A login; what is not known is empty."""

    session: str
    """Its name: logind's, or where there is none the terminal."""
    user: str
    uid: str = ""
    type: str = ""
    """`tty`, `x11`, `wayland`, or another of logind's."""
    service: str = ""
    """Who let the user in: `sshd`, `login`, `lightdm`."""
    remote: bool = False
    host: str = ""
    """From where, if remote."""
    tty: str = ""
    display: str = ""

    def environment(self) -> Environment:
        """The variables of its events, always all of them."""
        return (
            ("SESSION", self.session),
            *self.of_user(),
            ("TYPE", self.type),
            ("SERVICE", self.service),
            ("REMOTE", "1" if self.remote else "0"),
            ("RHOST", self.host),
            ("TTY", self.tty),
            ("DISPLAY", self.display),
        )

    def of_user(self) -> Environment:
        """The variables of its user's events."""
        return (("USER", self.user), ("UID", self.uid))


Sessions = Mapping[str, Session]
"""By what tells one from another for whoever tells of them."""


def changes(before: Sessions, after: Sessions) -> Iterator[tuple[str, Environment]]:
    """The events between two instants, those of the ends first.

    A user who has a session at both is neither added nor removed.
    """
    users = Counter(session.user for session in before.values())
    then = {session.user for session in after.values()}
    for key, session in before.items():
        if key not in after:
            yield CLOSED, session.environment()
            users[session.user] -= 1
            if not users[session.user] and session.user not in then:
                yield USER_REMOVED, session.of_user()
    there = {session.user for session in before.values()}
    for key, session in after.items():
        if key not in before:
            if session.user not in there:
                yield USER_ADDED, session.of_user()
            there.add(session.user)
            yield OPENED, session.environment()


def renamed(before: Sessions, after: Sessions) -> dict[str, Session]:
    """`before` by the names that the one who tells `after` has for the same sessions.

    A session is the same if it is at the same terminal or display. One of which that is not known,
    as of logind's over ssh, is the same if its user came through the same door from the same place.
    """
    names: dict[str, str] = {}
    left = dict(after)
    for key, session in before.items():
        for other, candidate in left.items():
            if _place(session) is not None and _place(session) == _place(candidate):
                names[key] = other
                del left[other]
                break
    for key, session in before.items():
        for other, candidate in left.items():
            is_told = None not in (_place(session), _place(candidate))
            if key not in names and not is_told and _door(session) == _door(candidate):
                names[key] = other
                del left[other]
                break
    return {names.get(key, key): session for key, session in before.items()}


def _place(session: Session) -> tuple[str, ...] | None:
    if not session.tty and not session.display:
        return None
    return (session.user, session.tty, session.display)


def _door(session: Session) -> tuple[str, ...]:
    return (session.user, session.service, session.host)
