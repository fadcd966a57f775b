"""What to tell of a lab whose description's file says otherwise than what is up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hostlab.errors import SpecErrors, UsageError
from hostlab.lab.description import STANDARD_INPUT, read_lab, staged
from hostlab.lab.origin import recalled

if TYPE_CHECKING:
    from hostlab.api import Lab
    from hostlab.spec import Check
    from hostlab.spec import Lab as Description


def stale(lab: Lab) -> str:
    """One line when the file and what is staged differ; empty when not, or when nobody can say.

    A lab by its name is held against the file that it was staged from, which is read only when it
    is no longer the file that was read then; a lab by its file against what is staged.
    """
    origin = recalled(lab.name)
    if lab.file is not None:
        up = staged(lab.name)
        if up is None or (origin is not None and lab.origin == origin):
            return ""
        is_same = origin is not None and lab.origin is not None and lab.origin.path == origin.path
        return _told(lab.file, up, lab.description, is_same=is_same)
    if origin is None or not origin.path or origin.is_as_it_was():
        return ""
    file = _shown(origin.path)
    try:
        now = read_lab(file)
    except UsageError:
        return ""  # It has been moved, or was never meant to stay.
    except SpecErrors as wrong:
        first = f"{wrong.errors[0].where}: {wrong.errors[0].message}"
        return f"{file} has changed since it was staged, and is wrong now: {first}"
    if now.name != lab.name:
        return f"{file} has changed since it was staged, and describes {now.name} now"
    return _told(file, lab.description, now, is_same=True) or _moved(file, lab.description, now)


def _told(file: str, up: Description, now: Description, *, is_same: bool) -> str:
    from hostlab.plan.divergence import divergence

    found = divergence(up, now)
    if not found:
        return ""
    if file == STANDARD_INPUT:
        return f"what was read differs from what is staged ({found})"
    how = "has changed since it was staged" if is_same else "differs from what is staged"
    return f"{file} {how} ({found}): hostlab up {file}"


def _moved(file: str, up: Description, now: Description) -> str:
    """The places of checks are told in verdicts."""
    if [_line(check) for check in up.checks] == [_line(check) for check in now.checks]:
        return ""
    return f"{file} has changed since it was staged (only where its lines are): hostlab up {file}"


def _line(check: Check) -> tuple[int, int] | None:
    return None if check.place is None else (check.place.line, check.place.column)


def _shown(path: str) -> str:
    """A path for people: from here, where it is here or below."""
    here = os.path.relpath(path)
    return path if here.startswith("..") else here
