"""`hostlab check --watch`: judged again on events, and only what has changed is told."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.checks.changes import Change, Changed, compare
from hostlab.checks.run import Run, merged, run_of
from hostlab.checks.watching import Watch, untold
from hostlab.cli.output import coloured
from hostlab.errors import Problem, SpecErrors
from hostlab.lab.paths import LabDirectory
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.api import Lab
    from hostlab.checks.access import HostAccess
    from hostlab.spec import Check

_GOOD: Final = (Change.MENDED, Change.NEW, Change.GONE)


class Watching:
    """One `--watch`. `again` gives the lab and what is asked of it, as they are now."""

    def __init__(
        self,
        again: Callable[[], tuple[Lab, Sequence[Check]]],
        access: Mapping[str, HostAccess] | None,
        *,
        every_s: float,
        count: int | None,
        as_json: bool,
    ) -> None:
        self.again = again
        self.access = access
        self.every_s = max(0.1, every_s)
        self.left = count
        self.as_json = as_json

    def follow(self, run: Run, said: str | None) -> Run:
        """Until ^C or enough changes; the last judgement."""
        with contextlib.suppress(KeyboardInterrupt):
            while self.left is None or self.left > 0:
                try:
                    lab, checks = self.again()
                except SpecErrors as wrong:  # it is being written
                    print(wrong, file=sys.stderr, flush=True)
                    lab, checks = self._when_it_can_be_read(said)
                try:
                    run = self._until_told(lab, checks, run, said)
                except Problem as problem:
                    if self.access is not None or lab.is_up():
                        raise
                    print(problem, file=sys.stderr, flush=True)
                    break
        return run

    def _until_told(self, lab: Lab, checks: Sequence[Check], run: Run, said: str | None) -> Run:
        """Judge all of it, and go on until something is told."""
        nodes = {} if self.access is not None else lab.nodes()
        with Watch(nodes, checks, _files(lab, said)) as watch:
            # What happened since the last judgement was told to nobody.
            run = self._judged(lab, checks, run, is_part=False)
            return self._watched(watch, lab, checks, run)

    def _when_it_can_be_read(self, said: str | None) -> tuple[Lab, Sequence[Check]]:
        with Watch({}, (), [said] if said else []) as watch:
            while True:
                with contextlib.suppress(SpecErrors):
                    return self.again()
                watch.wait(self.every_s)

    def _watched(self, watch: Watch, lab: Lab, checks: Sequence[Check], run: Run) -> Run:
        """Wait, and judge what nobody tells of, until something is told."""
        silent = checks if self.access is not None else untold(checks)
        while self.left is None or self.left > 0:
            if watch.wait(self.every_s if silent else None):
                return run
            run = self._judged(lab, silent, run, is_part=True)
        return run

    def _judged(self, lab: Lab, checks: Sequence[Check], before: Run, *, is_part: bool) -> Run:
        """The last judgement with these checks anew; what is not among them is gone, unless they
        are but a part."""
        if self.left == 0:
            return before
        began = time.time()
        report = lab.check(checks, access=self.access)
        run = run_of(lab.description, report, began=began)
        whole = merged([before, run]) if is_part else run
        for each in compare([before, whole]):
            if each.change is not Change.STILL and (self.left is None or self.left > 0):
                self._tell(each)
                self.left = None if self.left is None else self.left - 1
        return whole

    def _tell(self, changed: Changed) -> None:
        if self.as_json:
            print(msgspec.json.encode(changed).decode(), flush=True)
            return
        word = coloured(f"{changed.change.value:<8}", good=changed.change in _GOOD)
        now = time.strftime("%H:%M:%S")
        text = plain(f"{changed.node}: {changed.check}: {changed.seen}")
        print(f"{now} {word} {text}", flush=True)


def _files(lab: Lab, said: str | None) -> list[str]:
    """What says what is judged: the description, and what the lab was last staged with."""
    own = [said] if said and os.path.exists(said) else []
    return [*own, LabDirectory.of(lab.name).description]
