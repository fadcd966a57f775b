"""The tables of cron of a supervisor with jobs; one that has none pays for none of their code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hostlab.jobs.effects import Level

if TYPE_CHECKING:
    from hostlab.init.crontabs import Crontabs
    from hostlab.init.job_supervisor import JobSupervisor

JOBS: Final = "crontab-jobs"
"""In the engine's state: the names of the jobs that are lines of cron."""


class CronTables:
    """The tables of one supervisor."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self._supervisor = supervisor
        self._tables: Crontabs | None = None

    @property
    def names(self) -> set[str]:
        """Of the jobs that are lines of cron, from an earlier supervisor too."""
        return set(self._supervisor.jobs.engine.extra.get(JOBS, ()))

    def read(self) -> None:
        """Read the tables, at first or again."""
        if self._tables is not None or self._supervisor.place.crontabs:
            self._opened(self._supervisor.place.crontabs).read()

    def take_up(self) -> None:
        """Compare the jobs that an earlier supervisor had with what there is now."""
        names, paths = self.names, self._supervisor.place.crontabs
        classes = self._supervisor.jobs.engine.classes
        if names or paths:
            self._opened(paths).read(
                [
                    found.successor or found.job
                    for name, found in classes.items()
                    if name in names and not found.deleted
                ]
            )

    def watch(self) -> None:
        """Read again whenever one changes."""
        if self._tables is not None:
            self._tables.watch()

    def change(self, paths: Sequence[str]) -> None:
        """Run other tables from now on."""
        if paths or self._tables is not None:
            self._opened(()).change(paths)

    def _opened(self, paths: Sequence[str]) -> Crontabs:
        if self._tables is None:
            from hostlab.init.crontabs import Crontabs

            supervisor = self._supervisor
            self._tables = Crontabs(
                paths,
                tell=supervisor.jobs.tell,
                warn=lambda text: supervisor.log(Level.WARNING, text),
                watches=supervisor.watches,
                remember=lambda names: supervisor.jobs.remember(JOBS, names),
            )
        return self._tables
