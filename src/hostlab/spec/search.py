"""Which files make a job when several directories are searched (init/conf.c).

The first directory that has a job's `.conf` owns its name. Over it goes one `.override`: the first
that is found on the way to that directory, itself included. An override beyond it, or without any
`.conf`, is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hostlab.spec.upstart import job_name


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one job, as (directory, path below it)."""

    conf: tuple[str, str]
    override: tuple[str, str] | None = None


def select_files(directories: Sequence[tuple[str, Iterable[str]]]) -> dict[str, Selected]:
    """The files of every job by its name, from directories in search order with their files."""
    overrides: dict[str, tuple[str, str]] = {}
    found: dict[str, Selected] = {}
    for directory, paths in directories:
        listed = sorted(paths)
        for path in listed:
            if path.endswith(".override"):
                overrides.setdefault(job_name(path), (directory, path))
        for path in listed:
            name = job_name(path)
            if path.endswith(".conf") and name not in found:
                conf = (directory, path)
                found[name] = Selected(conf=conf, override=overrides.get(name))
    return found
