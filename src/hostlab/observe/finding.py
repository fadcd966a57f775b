"""What a probe found, and the child in which a probe tries a thing."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from hostlab import typed
from hostlab.errors import Problem
from hostlab.linux import clone
from hostlab.linux.libc import prctl, unshare

CHILD_LIMIT_S: Final = 30
NOBODY: Final = 65534
_PR_SET_DUMPABLE: Final = 4
_OUR_FAULT: Final = -1


class State(StrEnum):
    """How far a thing is there."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


class Finding(msgspec.Struct, frozen=True):
    """One line of what this machine offers."""

    COLUMNS: ClassVar = ("group", "name", "state", "detail", "remedy")

    group: str
    name: str
    state: State
    detail: str = ""
    """What was tried and what came of it, or what is lost without it."""
    remedy: str = ""
    """How to get it: a command where there is one; empty when nothing need be done."""

    def row(self) -> tuple[str, ...]:
        """The cells under `COLUMNS`."""
        return (self.group, self.name, self.state.value, self.detail, self.remedy)


class Outcome(NamedTuple):
    """What came of a try in a child."""

    error: str | None
    """None when it worked."""
    number: int = 0
    """The errno behind the error; 0 when there is none."""
    value: Any = None
    """What the work returned, through JSON."""

    @property
    def is_ok(self) -> bool:
        """Whether it worked."""
        return self.error is None


def become_root_of_new_user_namespace(flags: int, *, uid: int, gid: int) -> None:
    """Enter new namespaces as their root; `uid` and `gid` are the caller's outside."""
    unshare(clone.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    if flags:
        unshare(flags)


def tried(
    work: Callable[[], Any],
    *,
    flags: int = 0,
    is_rooted: bool = False,
    as_nobody: bool = False,
    cgroup: int | None = None,
) -> Outcome:
    """Do `work` in a child that ends with it, so that nothing of it stays.

    `is_rooted` makes the child root of a new user namespace first, and `flags` are then new
    namespaces owned by that one. `as_nobody` takes all privilege away before. An OSError is an
    outcome, and so is a child that gives no answer within `CHILD_LIMIT_S`; any other exception
    is our own fault and comes out as a `Problem`.
    """
    reader, writer = os.pipe()
    drops = as_nobody and os.geteuid() == 0
    uid, gid = (NOBODY, NOBODY) if drops else (os.geteuid(), os.getegid())
    try:
        # Rooted and powerless children get their namespaces from inside.
        pid, pidfd = clone.clone3(0 if is_rooted or as_nobody else flags, cgroup=cgroup)
    except OSError as error:
        os.close(reader)
        os.close(writer)
        return Outcome(_text(error), error.errno or 0)
    if pid == 0:
        _child(work, writer, flags, is_rooted, as_nobody, uid, gid)
    os.close(writer)
    with open(reader, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    if not data:
        return Outcome(f"no answer (wait status {status})", errno.ETIMEDOUT)
    outcome = Outcome(*typed.decode(data, tuple[str | None, int, Any]))
    if outcome.number == _OUR_FAULT:
        raise Problem("probe", f"a probe is at fault: {outcome.error}")
    return outcome


def _child(
    work: Callable[[], Any],
    writer: int,
    flags: int,
    is_rooted: bool,  # noqa: FBT001
    as_nobody: bool,  # noqa: FBT001
    uid: int,
    gid: int,
) -> None:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_LIMIT_S)
        if as_nobody and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self belongs to root
        if is_rooted:
            become_root_of_new_user_namespace(flags, uid=uid, gid=gid)
        elif as_nobody and flags:
            unshare(flags)
        outcome = Outcome(None, 0, work())
    except OSError as error:
        outcome = Outcome(_text(error), error.errno or 0)
    except BaseException:  # a child must not return into its parent's code
        outcome = Outcome(traceback.format_exc(), _OUR_FAULT)
    try:
        os.write(writer, msgspec.json.encode(tuple(outcome)))
    finally:
        os._exit(0)


def _text(error: OSError) -> str:
    return error.strerror or str(error)
