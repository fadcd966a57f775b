"""The tables of cron that an init runs: read as they are, and again when one of them changes.

A table is taken or refused as Debian's cron does it (cron's database.c): of the system's tables
only root's, which nobody else can write; of a user's only that user's own. A table that is refused,
or has a mistake, costs its own lines only, and says why.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hostlab.errors import Problem, SpecErrors, UsageError
from hostlab.init.job_files import read_content
from hostlab.init.watches import APPEARING, LEAVING, Trail, Watches
from hostlab.jobs import cron_jobs, crontab, facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.inotify import IN_ATTRIB, IN_CLOSE_WRITE
from hostlab.spec.job import Job, same_but_places

SPOOLS: Final = ("crontabs", "cron")
"""The last part of the names of directories whose tables are users': Debian's, Red Hat's."""
MOST_TABLES: Final = 1024
"""Of one directory."""
MOST_LINES: Final = 16384
"""Of all tables together."""
_CHANGES: Final = APPEARING | LEAVING | IN_CLOSE_WRITE | IN_ATTRIB
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Crontabs:
    """The tables of one init: files, and directories of them."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        tell: Callable[[AnyFact], None],
        warn: Callable[[str], None],
        watches: Watches,
        remember: Callable[[list[str]], None],
    ) -> None:
        """`remember` is told the names of the jobs that come from tables, before they come."""
        self.paths = tuple(paths)
        self.jobs: dict[str, Job] = {}
        self._tell = tell
        self._warn = warn
        self._watches = watches
        self._remember = remember
        self._trails: list[Trail] = []
        self._warned: set[str] = set()
        self._is_due = False

    def read(self, known: Sequence[Job] = ()) -> None:
        """Tell the engine what is new, has changed or is gone; `known` are jobs it has already."""
        before = {job.name: job for job in known} or self.jobs
        jobs, errors = read_tables(self.paths)
        for text in sorted(errors - self._warned):
            self._warn(text)
        self._warned = errors
        self.jobs = {job.name: job for job in jobs}
        self._remember(sorted({*before, *self.jobs}))
        for name in before.keys() - self.jobs.keys():
            self._tell(facts.Unload(name=name))
        for name, job in self.jobs.items():
            if name not in before or not same_but_places(job, before[name]):
                self._tell(facts.Load(job=job))
        self._remember(sorted(self.jobs))

    def watch(self) -> None:
        """Read again whenever a table changes, until `close`."""
        for path in self.paths:
            self._trails.append(
                Trail(
                    self._watches,
                    path,
                    _CHANGES,
                    told=lambda mask, name: self._changed(),
                    changed=self._changed,
                )
            )

    def change(self, paths: Sequence[str]) -> None:
        """Read other tables from now on."""
        if tuple(paths) == self.paths:
            return
        self.close()
        self.paths = tuple(paths)
        self.read()
        self.watch()

    def close(self) -> None:
        """Watch no longer."""
        trails, self._trails = self._trails, []
        for trail in trails:
            trail.close()

    def _changed(self) -> None:
        """Of many changes that come together there is one look."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        if self._trails:
            self.read()


def read_tables(paths: Sequence[str]) -> tuple[tuple[Job, ...], set[str]]:
    """The jobs of tables, and what is wrong with others; a path that is not there has none."""
    jobs: list[Job] = []
    errors: set[str] = set()
    for path in paths:
        for table in _tables(path):
            try:
                jobs += _read_table(table)
            except SpecErrors as found:
                errors |= {str(error) for error in found.errors}
            except Problem as problem:
                errors.add(str(problem) if problem.where else f"{table}: {problem.message}")
            except OSError as error:
                errors.add(f"{table}: {error.strerror}")
    if len(jobs) > MOST_LINES:
        errors.add(f"more than {MOST_LINES} lines of cron: the others are left out")
    return tuple(jobs[:MOST_LINES]), errors


def _tables(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        if os.path.lexists(path):
            yield path
        return
    names = sorted(os.listdir(path))[:MOST_TABLES]
    is_spool = os.path.basename(path.rstrip("/")) in SPOOLS
    for name in names:
        inner = os.path.join(path, name)
        is_taken = not name.startswith(".") if is_spool else crontab.is_taken(name)
        if is_taken and not os.path.isdir(inner):
            yield inner


def _read_table(path: str) -> list[Job]:
    above, name = os.path.split(path)
    is_users = os.path.basename(above) in SPOOLS
    refusal = _refusal_of_users(path, name) if is_users else _refusal_of_systems(path)
    if refusal:
        raise UsageError("crontab", f"it is not run: {refusal}")
    lines = crontab.parse(read_content(path), path, has_users=not is_users)
    table = f"{os.path.basename(above)}/{name}" if above != "/etc" else name
    jobs = [cron_jobs.job_of(line, table, owner=name if is_users else "root") for line in lines]
    own = _own_name()
    for job in jobs:
        if own is not None and job.user != own:
            raise UsageError("crontab", f"a session of {own} runs no commands of {job.user}")
    return jobs


def _refusal_of_systems(path: str) -> str | None:
    """Why a table of the system is not to be trusted; None when it is."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if found.st_uid not in (0, os.geteuid()):
        return f"its owner is user {found.st_uid}, not root"
    if found.st_mode & _OTHERS_MAY_WRITE:
        return f"others can write it (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _refusal_of_users(path: str, user: str) -> str | None:
    """Why a user's table is not to be trusted; None when it is."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if found.st_nlink != 1:
        return "it has another name, too"
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return f"there is no user {user}"
    if found.st_uid not in (0, uid):
        return f"its owner is user {found.st_uid}, not {user}"
    if found.st_mode & 0o7577 != stat.S_IRUSR:
        return f"its mode is {stat.S_IMODE(found.st_mode):04o}, not 0600"
    return None


def _own_name() -> str | None:
    """Who everything has to be, where init is no root; None where it may become anybody."""
    uid = os.geteuid()
    if uid == 0:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
