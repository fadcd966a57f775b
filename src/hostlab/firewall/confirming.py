"""Who may say that a new ruleset is good: somebody who has come in by it.

An established connection goes on under rules that let nobody in any more (conntrack), so the word
of whoever sat there already proves nothing. It must come by a connection that was made after the
rules were loaded, or from a check that makes one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from hostlab.errors import Failed, Unsupported
from hostlab.firewall import history
from hostlab.firewall.applying import instant
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Phase, boottime
from hostlab.linux.capabilities import bit_of, capget
from hostlab.linux.procfs import Stat, stat

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_MOST_ANCESTORS: Final = 1000
_CONNECTION: Final = "SSH_CONNECTION"


def can_change() -> bool:
    """Whether this process may change a packet filter here."""
    effective, _, _ = capget()
    return bool(effective >> bit_of("CAP_NET_ADMIN") & 1)


def may_change() -> None:
    """Unsupported for who may not change a packet filter here: CAP_NET_ADMIN is wanted."""
    if not can_change():
        raise Unsupported(
            "capability",
            "CAP_NET_ADMIN is wanted to change a firewall, or to confirm one",
            hint="run it as root",
        )


def confirm(place: ChangeDirectory, *, is_proved: bool = False) -> FirewallChange:
    """Confirm the change under way; Failed where there is none, or where the word is worth nothing.

    `is_proved`: a check has passed, or a word was typed after the rules were loaded.
    """
    may_change()
    with place.kernel():
        change = place.read()
        if change is None or change.phase is not Phase.LOADED:
            state = "there is none" if change is None else f"it is {change.phase}"
            raise Failed("confirm", f"no change of the firewall waits for a word: {state}")
        if boottime() >= change.deadline:
            raise Failed("confirm", "its time is over: it is being taken back")
        if not is_proved:
            _must_be_new(change)
        confirmed = change.at(Phase.CONFIRMED)
        place.write(confirmed)
        instant("confirmed")
        try:
            history.note(confirmed)
        except OSError as error:
            raise Failed(
                "history", f"confirmed, but not written down: {error.filename}: {error.strerror}"
            ) from None
    return confirmed


def _must_be_new(change: FirewallChange) -> None:
    connection = ssh_connection()
    began = _session_began()
    if began <= change.loaded or (connection and connection == change.maker.connection):
        raise Failed(
            "confirm",
            "this session began before the new rules were loaded, so it proves nothing",
            hint="open a new connection and say `hostlab firewall confirm` there",
        )


def ssh_connection() -> str:
    """SSH_CONNECTION of this process, or of the nearest one above it: sudo(8) leaves it out."""
    if found := os.environ.get(_CONNECTION):
        return found
    for pid, _ in _ancestors():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError:
            continue
        for entry in entries:
            name, _, value = entry.partition(b"=")
            if name == _CONNECTION.encode():
                return value.decode(errors="replace")
    return ""


def _ancestors() -> Iterator[tuple[int, Stat]]:
    """This process and those above it, up to the first of all."""
    pid = os.getpid()
    for _ in range(_MOST_ANCESTORS):
        found = stat(pid)
        if found is None or pid <= 1:
            return
        yield pid, found
        pid = found.parent


def _session_began() -> float:
    """When the connection that this process came by began, in seconds of CLOCK_BOOTTIME.

    That is the nearest sshd above it, else its session's leader.
    """
    for pid, found in _ancestors():
        if _is_sshd(pid):
            return int(found.started) / _TICKS_A_SECOND
    leader = stat(os.getsid(0))
    # A leader that has ended was there before.
    return 0.0 if leader is None else int(leader.started) / _TICKS_A_SECOND


def _is_sshd(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip().startswith("sshd")
    except (FileNotFoundError, ProcessLookupError):
        return False
