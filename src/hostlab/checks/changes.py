"""What has changed between two judgements; pure.

Cells are matched by host and check, so a check that moved to another line is the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from hostlab.checks.run import Run
from hostlab.checks.verdict import Outcome, Verdict


class Change(StrEnum):
    """What became of one cell."""

    BROKEN = "broken"
    """It held, or was not there, and does not hold now."""
    LOST = "lost"
    """It could be judged, and cannot be now."""
    MENDED = "mended"
    GONE = "gone"
    """It is not asked any more."""
    NEW = "new"
    """It was not asked before, and holds."""
    STILL = "still failing"


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One cell that is worth a line."""

    node: str
    check: str
    change: Change
    before: Outcome | None
    now: Outcome | None
    seen: str
    flaky: bool = False
    """Its outcome has changed more than once over the reports that were compared."""


def compare(runs: Sequence[Run]) -> list[Changed]:
    """The last run beside the one before it, worst first; the earlier ones tell what is flaky."""
    tables = [run.cells() for run in runs]
    before, now = tables[-2], tables[-1]
    found: list[Changed] = []
    for cell in dict.fromkeys([*now, *before]):
        old, new = before.get(cell), now.get(cell)
        change = _change(old, new)
        if change is None:
            continue
        shown = new or old
        assert shown is not None
        found.append(
            Changed(
                node=cell[0],
                check=cell[1],
                change=change,
                before=old.outcome if old else None,
                now=new.outcome if new else None,
                seen=shown.detail,
                flaky=_is_flaky([table[cell].outcome for table in tables if cell in table]),
            )
        )
    order = list(Change)
    return sorted(found, key=lambda each: order.index(each.change))


def _change(old: Verdict | None, new: Verdict | None) -> Change | None:
    if new is None:
        return Change.GONE
    was = old.outcome if old else None
    if new.outcome is Outcome.SKIPPED:
        return None
    if new.outcome is Outcome.HOLDS:
        quiet = {None: Change.NEW, Outcome.HOLDS: None, Outcome.SKIPPED: Change.NEW}
        return quiet.get(was, Change.MENDED)
    if was is new.outcome:
        return Change.STILL
    return Change.BROKEN if new.outcome is Outcome.FAILS else Change.LOST


def _is_flaky(outcomes: Sequence[Outcome]) -> bool:
    return sum(a is not b for a, b in pairwise(outcomes)) > 1
