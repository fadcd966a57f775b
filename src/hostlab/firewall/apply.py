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
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Final

import msgspec

from hostlab.errors import Failed
from hostlab.firewall import applying, beside, history, kernel, way_back
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Maker, Phase, boottime
from hostlab.firewall.confirming import confirm, may_change, ssh_connection
from hostlab.firewall.difference import PlaceChange, text_difference
from hostlab.firewall.learnt import without_learnt
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import ToolStep, transaction
from hostlab.linux.inotify import IN_MOVED_TO, Inotify
from hostlab.linux.procfs import boot_id, start_time

WITHIN_S: Final = 60.0
"""How long a word is waited for."""
_GRACE_S: Final = 2.0
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
    present: Ruleset
    """All that the kernel holds."""
    before: Ruleset
    """What of it is ours."""
    wanted: Ruleset
    operations: tuple[beside.Operation, ...] = ()
    """What is done beside rules: those that would change something here."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.differences or self.operations)


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
        differences=text_difference(*without_learnt(own, wanted)),
        kept=text_difference(present, own),
        present=present,
        before=own,
        wanted=wanted,
        operations=beside.as_found(run, operations, pid=os.getpid()) if operations else (),
    )


def apply(
    place: ChangeDirectory, source: str, planned: Plan, asked: Asked, tell: Tell
) -> FirewallChange:
    """Make the change and wait for its end: CONFIRMED, or Failed with how it ended.

    Must be called by whoever holds `place.operator()`, after `must_be_free`. ^C and SIGTERM take
    it back; a terminal that hangs up does not end it.
    """
    may_change()
    now = boottime()
    change = FirewallChange(
        phase=Phase.ARMED,
        source=source,
        maker=_myself(),
        began=time.time(),
        # Only a maker that hangs comes to this: the time for a word begins with the load.
        deadline=now + way_back.ARMED_WITHIN_S + asked.within_s,
        within_s=asked.within_s,
        boot=boot_id(),
        before=planned.before,
        applied=place.read_applied(),
        wanted=planned.wanted,
        operations=planned.operations,
    )
    with _signals() as asked_to_end:
        try:
            way_back.arm(place, change)
            applying.instant("armed")
            tell(
                f"the way back stands: without a word the old rules return in {asked.within_s:g} s"
            )
            if _is_readable(asked_to_end):
                raise _interrupted()
            change = applying.load(place, change)
            tell("loaded, read back and compared")
            ended = _await_word(place, change, asked, asked_to_end, tell)
            if ended.phase is Phase.REVERTED and _is_readable(asked_to_end):
                raise _interrupted()
        except BaseException:
            # Nothing but a crash may leave a change that nobody looks after.
            applying.take_back(place)
            raise
        finally:
            _dismiss(place)
    return _end(ended)


def _dismiss(place: ChangeDirectory) -> None:
    """End the way back's init, unless the old rules are not back: it tries on."""
    found = place.read()
    if found is None or found.has_ended:
        way_back.dismiss(place)


def recover(place: ChangeDirectory) -> str:
    """End a change that nobody looks after any more; what was done, for people, or nothing.

    Whoever is killed together with the way back leaves one.
    """
    change = place.read()
    if change is None:
        return ""
    if change.has_ended:
        if change.phase is Phase.CONFIRMED:
            with place.kernel():
                history.note(change)
        if not change.maker.is_there():
            way_back.dismiss(place)
        return ""
    if way_back.is_kept(place) or change.maker.is_there():
        return ""
    ended = applying.take_back(place)
    if ended is not None and ended.phase is Phase.STUCK:
        raise _stuck(ended)
    return (
        f"{change.source} was never confirmed, and whoever looked after it died:"
        " the old rules are back, read back and compared"
    )


def must_be_free(place: ChangeDirectory) -> None:
    """Failed while a change is under way: its way back stands, or has not done its work."""
    change = place.read()
    if change is not None and not change.has_ended:
        raise Failed(
            "under-way",
            f"a change of the firewall ({change.source}) waits for a word, or is being taken back",
            hint="`hostlab firewall status` tells more; `hostlab firewall confirm` confirms it,"
            " `hostlab firewall revert` takes it back now",
        )


def _end(change: FirewallChange) -> FirewallChange:
    if change.phase is Phase.CONFIRMED:
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


def _interrupted() -> Failed:
    return Failed("interrupted", "it was interrupted: the old rules are back, if they were gone")


def _await_word(
    place: ChangeDirectory, change: FirewallChange, asked: Asked, asked_to_end: int, tell: Tell
) -> FirewallChange:
    """Until somebody confirms the change, or it has been taken back."""
    if asked.check is not None:
        left = max(1.0, change.deadline - boottime())
        if _passes(asked.check, left, asked_to_end):
            tell(f"passed: {asked.check}")
            return confirm(place, is_proved=True)
        tell(f"failed: {asked.check}")
        return applying.take_back(place) or change
    with _notified(place) as notify:
        if asked.prompt is not None:
            tell(f"type {YES!r} to keep it, or confirm from a new connection")
        while True:
            now = place.read() or change
            if now.phase is not Phase.LOADED:
                return now
            watched = [notify.fileno(), asked_to_end]
            watched += [] if asked.prompt is None else [asked.prompt]
            left = change.deadline + _GRACE_S - boottime()
            ready = select.select(watched, [], [], max(0.0, left))[0]
            if not ready or asked_to_end in ready:
                # The way back should have done it; or nobody wants to wait for it.
                return applying.take_back(place) or now
            if asked.prompt in ready:
                line = _typed(asked.prompt or 0)
                if line.strip() == YES.encode():
                    return confirm(place, is_proved=True)
                if not line:
                    asked = msgspec.structs.replace(asked, prompt=None)
            notify.discard()


def _typed(terminal: int) -> bytes:
    """What was typed; nothing at its end, or when it has hung up."""
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""


def _passes(command: str, within_s: float, asked_to_end: int) -> bool:
    """Whether a check exits with 0 in time, and nobody ends it before."""
    process = subprocess.Popen(["/bin/sh", "-c", command])
    pidfd = os.pidfd_open(process.pid)
    try:
        ready = select.select([pidfd, asked_to_end], [], [], within_s)[0]
        if pidfd not in ready:
            process.kill()
        return process.wait() == 0
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Signals meanwhile: a descriptor that is readable when somebody wants this to end.

    Handlers, not SIG_IGN, so that the tools that are started have the usual ones. A hang-up or ^Z
    ends and stops nothing: who holds the lock must go on.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def end(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b"\0")

    def go_on(_number: int, _frame: FrameType | None) -> None:
        pass

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    before |= {each: signal.signal(each, go_on) for each in (signal.SIGHUP, signal.SIGTSTP)}
    try:
        yield reader
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(reader)
        os.close(writer)


def _is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


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
        connection=ssh_connection(),
    )
