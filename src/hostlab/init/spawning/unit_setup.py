"""What a unit's job wants of the node before its processes start: directories, files of variables.

Both are looked after by the supervisor, which sees the node as root does: a job's own user, root
directory and sandbox are not in its way (systemd.exec(5)).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import grp
import os
import pwd
import shutil
from collections.abc import Iterable
from typing import Final

from hostlab.errors import SpecError
from hostlab.init.job_files import read_content
from hostlab.init.spawning.process import SpawnFailed
from hostlab.spec.job import Directory, EnvironmentFile, Job
from hostlab.spec.systemd.environment import parse_environment_file

PARENT_MODE: Final = 0o755


def file_variables(files: Iterable[EnvironmentFile], warnings: list[str]) -> dict[str, str]:
    """The variables of a job's files, a later one above an earlier one.

    Raises SpawnFailed for a file that is missing although it may not be.
    """
    found: dict[str, str] = {}
    for each in files:
        paths = sorted(glob.glob(each.path))
        if not paths and not each.optional:
            raise SpawnFailed("read environment file", errno.ENOENT, each.path)
        for path in paths:
            try:
                text = read_content(path)
            except SpecError as error:
                if not each.optional:
                    raise SpawnFailed("read environment file", 0, error.message) from None
                warnings.append(error.message)
                continue
            parsed = parse_environment_file(text, file=path)
            warnings += (str(warning) for warning in parsed.warnings)
            found |= parsed.variables
    return found


def login_variables(job: Job) -> dict[str, str]:
    """What the user of a unit's job finds of itself: HOME and SHELL (systemd.exec(5))."""
    if job.user is None:
        return {}
    entry = _user(job.user)
    return {} if entry is None else {"HOME": entry.pw_dir, "SHELL": entry.pw_shell}


def make_directories(job: Job) -> None:
    """Make a job's directories and give them to its user; raises SpawnFailed.

    One that is there keeps its content and gets the mode and the owner that it should have; what is
    in it keeps its own.
    """
    if not job.directories:
        return
    uid, gid = _owner(job)
    for each in job.directories:
        try:
            parent = os.path.dirname(each.path)
            os.makedirs(parent, mode=PARENT_MODE, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(each.path)
            # A link that the job's user may have put there is not followed.
            fd = os.open(each.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchown(fd, uid, gid)
                os.fchmod(fd, each.mode)
            finally:
                os.close(fd)
        except OSError as error:
            raise SpawnFailed("make directory", error.errno or 0, each.path) from None


def remove_directories(directories: Iterable[Directory]) -> None:
    """Take away those of a job that has stopped which are not to stay."""
    for each in directories:
        if not each.kept:
            with contextlib.suppress(OSError):
                shutil.rmtree(each.path)


def _owner(job: Job) -> tuple[int, int]:
    """The job's user and group by number; SpawnFailed for a name that nobody has."""
    uid, gid = os.geteuid(), os.getegid()
    if job.user is not None:
        entry = _user(job.user)
        if entry is not None:
            uid, gid = entry.pw_uid, entry.pw_gid
        elif job.user.isdigit():
            uid = gid = int(job.user)
        else:
            raise SpawnFailed("find user", 0, job.user)
    if job.group is not None:
        try:
            gid = int(job.group) if job.group.isdigit() else grp.getgrnam(job.group).gr_gid
        except KeyError:
            raise SpawnFailed("find group", 0, job.group) from None
    return uid, gid


def _user(name: str) -> pwd.struct_passwd | None:
    """Whom the node knows by a name or a number."""
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        return None
