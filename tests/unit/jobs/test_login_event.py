"""Logins as events: which come between two instants, and which sessions are the same."""

from __future__ import annotations

import pytest

from hostlab.jobs.login_event import (
    CLOSED,
    OPENED,
    USER_ADDED,
    USER_REMOVED,
    Session,
    changes,
    renamed,
)

pytestmark = pytest.mark.unit


def at(tty: str, user: str = "alice", **more: str) -> Session:
    return Session(session=tty, user=user, tty=tty, **more)  # type: ignore[arg-type]  # all further fields are texts


def names(before: dict[str, Session], after: dict[str, Session]) -> list[str]:
    return [f"{name} {dict(env)['USER']}" for name, env in changes(before, after)]


def test_first_and_last() -> None:
    one, two = at("tty1"), at("tty2")
    assert names({}, {"1": one}) == [f"{USER_ADDED} alice", f"{OPENED} alice"]
    assert names({"1": one}, {"1": one, "2": two}) == [f"{OPENED} alice"]
    assert names({"1": one, "2": two}, {"2": two}) == [f"{CLOSED} alice"]
    assert names({"2": two}, {}) == [f"{CLOSED} alice", f"{USER_REMOVED} alice"]
    assert names({"1": one}, {"2": two}) == [f"{CLOSED} alice", f"{OPENED} alice"]
    assert names({"1": one, "2": two}, {}) == [
        f"{CLOSED} alice",
        f"{CLOSED} alice",
        f"{USER_REMOVED} alice",
    ]


def test_one_session_under_two_names() -> None:
    known = {
        "tty1:5": at("tty1"),
        "pts/0:6": at("pts/0", service="sshd", host="h"),
        "x": at("tty9"),
    }
    ssh = Session(session="7", user="alice", service="sshd", host="h")
    now = {"3": at("tty1"), "7": ssh, "8": at("tty8")}
    # At another terminal it is another session, however alike they are.
    assert set(renamed(known, now)) == {"3", "7", "x"}
    assert renamed({"a": at("tty1", "bob")}, now).keys() == {"a"}
    assert renamed({}, now) == {}
