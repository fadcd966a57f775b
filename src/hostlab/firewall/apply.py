"""Putting a ruleset live: plan, arm the way back, load, verify, wait for the word.

    plan      what is ours now, what is wanted, the transaction between them, what is kept
    armed     the change is on the disk and an init's job stands that takes it back
    loaded    the kernel holds what was staged: read back and compared
    confirmed by a new connection, a check, or a word typed after the load; else reverted, which is
              read back and compared, too

Whatever dies at whatever instant, the job or the next command ends in `confirmed` or `reverted`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from hostlab.errors import Failed
from hostlab.firewall import applying, beside, history, kernel, way_back
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Maker, Phase, boottime
from hostlab.firewall.confirming import confirm, may_change
from hostlab.firewall.difference import PlaceChange, text_difference
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import ToolStep, transaction
from hostlab.linux.inotify import IN_MOVED_TO, Inotify
from hostlab.linux.procfs import boot_id, start_time

WITHIN_S: Final = 60.0
"""How long a word is waited for."""
_GRACE_S: Final = 120.0
"""Beyond the deadline, for the way back to do its work."""
YES: Final = "yes"

Tell = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an apply would do; nothing has been done."""

    steps: tuple[ToolStep, ...]
    differences: tuple[PlaceChange, ...]
    """Of what is ours, from before to behind."""
    kept: tuple[PlaceChange, ...]
    """Other people's part, which is not touched; each line as `removed` from ours."""
    before: Ruleset
    wanted: Ruleset
    operations: tuple[beside.Operation, ...] = ()
    """What is done beside rules: those that would change something here."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps or self.operations)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How the word is given."""

    within_s: float = WITHIN_S
    check: str | None = None
    """A shell command that proves that the new rules are good."""
    prompt: int | None = None
    """A terminal's descriptor at which a word can be typed."""


def plan(
    place: ChangeDirectory,
    wanted: Ruleset,
    run: kernel.Run,
    operations: Sequence[beside.Operation] = (),
) -> Plan:
    """What leads from what is there to `wanted`, and to what was done beside rules in the stage."""
    present = kernel.read(run)
    applied = place.read_applied()
    own = own_part(present, ours=None if applied is None else (applied,), wanted=wanted)
    return Plan(
        steps=transaction(present, own, wanted),
        differences=text_difference(own, wanted),
        kept=text_difference(present, own),
        before=own,
        wanted=wanted,
        operations=beside.as_found(run, operations, pid=os.getpid()) if operations else (),
    )


def apply(
    place: ChangeDirectory, source: str, planned: Plan, asked: Asked, run: kernel.Run, tell: Tell
) -> FirewallChange:
    """Make the change and wait for its end: CONFIRMED, or Failed with how it ended.

    Must be called by whoever holds `place.operator()`, after `recover`.
    """
    may_change()
    change = FirewallChange(
        phase=Phase.ARMED,
        source=source,
        maker=_myself(),
        began=time.time(),
        deadline=boottime() + asked.within_s,
        boot=boot_id(),
        before=planned.before,
        wanted=planned.wanted,
        operations=planned.operations,
    )
    try:
        way_back.arm(place, change)
        tell(f"the way back stands: without a word the old rules return in {asked.within_s:g} s")
        applying.instant("armed")
        change = applying.load(place, change, run)
        tell("loaded, read back and compared")
        ended = _await_word(place, change, asked, run, tell)
    except BaseException:
        # Nothing but a crash may leave a change that nobody looks after.
        applying.take_back(place, run)
        raise
    finally:
        way_back.dismiss(place)
    return _end(ended)


def recover(place: ChangeDirectory, run: kernel.Run) -> str:
    """End a change whose maker and way back are both dead; what was done, for people.

    Failed while one of them goes on with it.
    """
    change = place.read()
    if change is None or change.phase in (Phase.CONFIRMED, Phase.REVERTED):
        way_back.dismiss(place)
        return ""
    if way_back.is_kept(place):
        raise Failed(
            "under-way",
            f"a change of the firewall ({change.source}) waits for a word, or is being taken back",
            hint="`hostlab firewall status` tells more; `hostlab firewall confirm` confirms it,"
            " `hostlab firewall revert` takes it back now",
        )
    ended = applying.take_back(place, run)
    if ended is not None and ended.phase is Phase.STUCK:
        raise _stuck(ended)
    return f"{change.source} was never confirmed, and whoever looked after it died: it is reverted"


def _end(change: FirewallChange) -> FirewallChange:
    if change.phase is Phase.CONFIRMED:
        history.note(change)
        return change
    if change.phase is Phase.STUCK:
        raise _stuck(change)
    raise Failed(
        "reverted",
        "nobody confirmed it: the old rules are back, read back and compared",
        hint="`hostlab firewall confirm` from a new connection, or --check COMMAND, confirms",
    )


def _stuck(change: FirewallChange) -> Failed:
    return Failed(
        "stuck",
        f"the old rules could not be brought back: {change.problem}",
        hint="`hostlab firewall revert` tries again",
    )


def _await_word(
    place: ChangeDirectory, change: FirewallChange, asked: Asked, run: kernel.Run, tell: Tell
) -> FirewallChange:
    """Until somebody confirms the change, or it has been taken back."""
    if asked.check is not None:
        left = max(1.0, change.deadline - boottime())
        if _passes(asked.check, left):
            tell(f"passed: {asked.check}")
            return confirm(place, is_proved=True)
        tell(f"failed: {asked.check}")
        return applying.take_back(place, run) or change
    with _notified(place) as notify:
        if asked.prompt is not None:
            tell(f"type {YES!r} to keep it, or confirm from a new connection")
        while True:
            now = place.read() or change
            if now.phase is not Phase.LOADED:
                return now
            watched = [notify.fileno(), *([asked.prompt] if asked.prompt is not None else [])]
            left = change.deadline + _GRACE_S - boottime()
            ready = select.select(watched, [], [], max(0.0, left))[0]
            if not ready:
                # The way back should have done it long ago.
                return applying.take_back(place, run) or now
            if asked.prompt in ready:
                line = os.read(asked.prompt or 0, 1024)
                if line.strip() == YES.encode():
                    return confirm(place, is_proved=True)
                if not line:
                    asked = msgspec.structs.replace(asked, prompt=None)
            notify.discard()


def _passes(command: str, within_s: float) -> bool:
    try:
        done = subprocess.run(["/bin/sh", "-c", command], timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextlib.contextmanager
def _notified(place: ChangeDirectory) -> Iterator[Inotify]:
    notify = Inotify()
    try:
        notify.add(place.path, IN_MOVED_TO)
        yield notify
    finally:
        notify.close()


def _myself() -> Maker:
    pid = os.getpid()
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Maker(
        pid=pid,
        started=start_time(pid) or "",
        user=os.environ.get("SUDO_USER", user),
        connection=os.environ.get("SSH_CONNECTION", ""),
    )
