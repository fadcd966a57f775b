"""Which files make a job when several directories are searched (init/conf.c).

The first directory that has a job's `.conf` owns its name. Over it goes one `.override`: the first
that is found on the way to that directory, itself included. An override beyond it, or without any
`.conf`, is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hostlab.spec.upstart import job_name

SYSTEM_DIRECTORIES = ("/etc/init",)
"""Where the system's init looks (init/paths.h)."""
USER_JOBS = "/usr/share/upstart/sessions"
"""Jobs of every user's session."""


def user_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where the init of a user's session looks, first one first (init/xdg.c).

    As the XDG Base Directory Specification has it, a variable that is empty or not absolute counts
    as not set.
    """

    def absolute(name: str, default: str) -> str:
        value = environment.get(name, "")
        return value if value.startswith("/") else default

    home = environment.get("HOME", "/")
    configured = absolute("XDG_CONFIG_HOME", f"{home}/.config")
    shared = environment.get("XDG_CONFIG_DIRS", "") or "/etc/xdg"
    places = [f"{each}/upstart" for each in shared.split(":") if each.startswith("/")]
    return (f"{configured}/upstart", f"{home}/.init", *places, USER_JOBS)


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
