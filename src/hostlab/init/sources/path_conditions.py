"""What path units look for (systemd.path(5)): `path NAME=x.path NOT_EMPTY=/spool JOB=x.service`.

Three of the five conditions hold or do not (`EXISTS`, `EXISTS_GLOB`, `NOT_EMPTY`): such a one
triggers when it comes to hold, and again when its job has ended and it holds still. The other two
are changes. What held, and what the others were like, is noted for the next supervisor. Whoever
triggers more often than `LIMIT` says is heard no more, and `path-limit` tells.
"""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import SpecError
from hostlab.init.sources import Surroundings
from hostlab.init.sources.file_places import Print, fingerprint
from hostlab.init.sources.notes import Notes
from hostlab.init.watches import APPEARING, LEAVING, Trail, Watches
from hostlab.jobs import named_event
from hostlab.jobs.facts import Emit
from hostlab.jobs.file_operand import PathOperand, parse_path
from hostlab.linux.inotify import IN_ATTRIB, IN_CLOSE_WRITE, IN_MODIFY
from hostlab.spec.job import Match

_CHANGES: Final = APPEARING | LEAVING | IN_CLOSE_WRITE | IN_ATTRIB
_MASKS: Final = {
    "EXISTS": IN_ATTRIB,
    "EXISTS_GLOB": APPEARING | IN_ATTRIB,
    "NOT_EMPTY": APPEARING,
    "CHANGED": _CHANGES,
    "MODIFIED": _CHANGES | IN_MODIFY,
}
KEPT: Final = "paths"
"""What the holder calls the notes."""
PATH_UNIT: Final = ".path"
_HOLDS: Final[Print] = (1, 0, 0)
_SPECIAL: Final = frozenset("*?[")
_UNSEEN: Final = ("~", ".dpkg-new", ".dpkg-tmp", ".dpkg-old", ".dpkg-dist", ".rpmsave", ".rpmnew")
"""Ends of names that do not fill a directory: backups (systemd's hidden_or_backup_file())."""


class Condition:
    """One condition that is looked for."""

    def __init__(
        self,
        operand: PathOperand,
        watches: Watches,
        *,
        triggered: Callable[[Condition], None],
        looked: Callable[[Condition], None],
    ) -> None:
        """`looked` is told when `seen` may be another."""
        self.operand = operand
        self._looked = looked
        self._is_change = operand.kind in ("CHANGED", "MODIFIED")
        self.is_dead = False
        """It has triggered too often."""
        self.window_s = 0.0
        self.count = 0
        self.seen = self._now()
        """What it was like: of a change a fingerprint, else whether it held."""
        self._is_due = False
        self._is_closed = False
        self._triggered = triggered
        path = operand.path if operand.kind != "EXISTS_GLOB" else _fixed(operand.path)
        self._trail = Trail(
            watches, path, _MASKS[operand.kind], told=self._told, changed=self._changed,
            is_directory=operand.kind in ("NOT_EMPTY", "EXISTS_GLOB"),
        )  # fmt: skip

    def begin(self, earlier: Print | None, *, is_new: bool) -> None:
        """Trigger if it is to at once; `earlier` is what it was like to an earlier supervisor.

        Where nobody says which job it is for, what has held all the time has triggered already.
        """
        if self._is_change:
            if not is_new and earlier != self.seen:
                self._triggered(self)
        elif is_new or earlier is None or self.operand.job:
            self.look()

    def look(self) -> None:
        """Trigger when what holds or does not, holds now."""
        self._is_due = False
        if self._is_change or self._is_closed:
            return
        self.seen = self._now()
        if self.seen is not None:
            self._triggered(self)
        self._looked(self)

    def _now(self) -> Print | None:
        if self._is_change:
            return fingerprint(self.operand.path)
        return _HOLDS if self._holds() else None

    def close(self) -> None:
        """Look for it no more."""
        self._is_closed = True
        self._trail.close()

    def _told(self, mask: int, name: str) -> None:
        if self._is_change:
            self._triggered(self)
            self.seen = self._now()
            self._looked(self)
        elif not self._is_due:
            # Of many changes that come together there is one look.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.look)

    def _changed(self) -> None:
        self._told(0, "")

    def _holds(self) -> bool:
        path = self.operand.path
        match self.operand.kind:
            case "EXISTS":
                return os.path.exists(path)
            case "EXISTS_GLOB":
                return next(glob.iglob(path, include_hidden=True), None) is not None
            case _:
                return next(_visible(path), None) is not None


class PathConditions:
    """All that path units of an init look for."""

    def __init__(self, surroundings: Surroundings, watches: Watches) -> None:
        self._surroundings = surroundings
        self._watches = watches
        self._conditions: dict[tuple[str, ...], Condition] = {}
        self._wrong: set[tuple[str, ...]] = set()
        self._notes = Notes(surroundings, KEPT, self._everything)
        self._earlier = _read(self._notes.earlier())
        self._unwatch: Callable[[], None] | None = None

    def listen(self, operands: frozenset[Match]) -> None:
        """Look for what is new, forget what is gone; an operand that cannot be meant is told."""
        wanted = {named_event.arguments(match) for match in operands if named_event.says(match)}
        for words in self._conditions.keys() - wanted:
            self._conditions.pop(words).close()
        self._wrong &= wanted
        new = [
            condition
            for words in sorted(wanted - self._conditions.keys() - self._wrong)
            if (condition := self._add(words)) is not None
        ]
        has_jobs = any(each.operand.job for each in self._conditions.values())
        if has_jobs and self._unwatch is None:
            self._unwatch = self._surroundings.watch_jobs(self._job_changed)
        elif not has_jobs:
            self._end_watch()
        if self._conditions:
            self._notes.begin()
        for condition in new:
            key = _key(condition)
            is_new = key not in self._earlier
            condition.begin(self._earlier.pop(key, None), is_new=is_new)
            self._looked(condition)

    def close(self) -> None:
        """Look for nothing any more."""
        for condition in self._conditions.values():
            condition.close()
        self._conditions.clear()
        self._end_watch()
        self._notes.close()

    def _end_watch(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _add(self, words: tuple[str, ...]) -> Condition | None:
        warn = self._surroundings.warn
        try:
            operand = parse_path(words)
        except SpecError as error:
            hint = f" ({error.hint})" if error.hint else ""
            warn(f"path {' '.join(words)}: {error.message}{hint}")
            self._wrong.add(words)
            return None
        if operand.make_mode is not None:
            try:
                os.makedirs(operand.path, mode=operand.make_mode, exist_ok=True)
            except OSError as error:
                warn(f"{operand.name}: {operand.path} cannot be made: {error.strerror}")
        condition = Condition(
            operand, self._watches, triggered=self._triggered, looked=self._looked
        )
        self._conditions[words] = condition
        return condition

    def _job_changed(self, job: str) -> None:
        """What holds still when a job has ended triggers it again."""
        if self._surroundings.runs(job):
            return
        for condition in tuple(self._conditions.values()):
            if condition.operand.job == job:
                condition.look()

    def _triggered(self, condition: Condition) -> None:
        operand = condition.operand
        if condition.is_dead or (operand.job and self._surroundings.runs(operand.job)):
            return
        name = (named_event.NAME, operand.name)
        if self._is_too_often(condition):
            condition.is_dead = True
            self._surroundings.warn(
                f"{operand.name}: {operand.path} has triggered more than {operand.burst} times"
                f" in {operand.interval_s:g} s; it is not looked at any more"
            )
            self._surroundings.tell(Emit(name=named_event.PATH_LIMIT, environment=(name,)))
            return
        environment = [name]
        if not operand.name.endswith(PATH_UNIT):
            # A unit's processes find no more in their environment than systemd puts there.
            environment.append((operand.kind, operand.path))
            environment += [] if operand.job is None else [(named_event.JOB, operand.job)]
        environment += [("TRIGGER_UNIT", operand.name), ("TRIGGER_PATH", operand.path)]
        self._surroundings.tell(Emit(name=named_event.PATH, environment=tuple(environment)))

    # What the next supervisor is to know.

    def _looked(self, condition: Condition) -> None:
        self._notes.note((_key(condition), condition.seen))

    def _everything(self) -> tuple[dict[str, Print | None], int]:
        seen = {_key(each): each.seen for each in self._conditions.values()}
        # What was known of paths whose jobs have not come yet is not forgotten.
        return self._earlier | seen, len(seen)

    def _is_too_often(self, condition: Condition) -> bool:
        operand = condition.operand
        if not operand.burst:
            return False
        now = asyncio.get_running_loop().time()
        if now - condition.window_s >= operand.interval_s:
            condition.window_s, condition.count = now, 0
        condition.count += 1
        return condition.count > operand.burst


def _key(condition: Condition) -> str:
    operand = condition.operand
    return f"{operand.name} {operand.kind}={operand.path}"


def _read(lines: list[Any]) -> dict[str, Print | None]:
    """What an earlier supervisor noted."""
    if not lines:
        return {}
    try:
        found = typed.convert(lines[0], dict[str, Print | None])
        found |= dict(typed.convert(lines[1:], list[tuple[str, Print | None]]))
    except msgspec.ValidationError:
        # A later version's: what is there now is what is known.
        return {}
    return found


def _fixed(pattern: str) -> str:
    """The directory of a pattern above its first special character, which is what is watched."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if _SPECIAL & set(part):
            break
        parts.append(part)
    return "/".join(parts) or "/"


def _visible(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(".") and name != "lost+found" and not name.endswith(_UNSEEN):
                    yield name
    except OSError:
        return
