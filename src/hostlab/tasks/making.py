"""Making a task namespace, giving it to a user, and taking it away again.

A user can enter a cgroup of v1 that he may write, from anywhere. In v2 he must also be allowed to
write the cgroup above both that one and his own, which is root's as soon as his session is not
inside what was delegated to him. So for another user root makes it in v1 where there is v1, and in
v2 only when that user gets in from where root calls now.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import shutil
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.linux import cgroups
from hostlab.linux.procfs import boot_id
from hostlab.tasks import groups, places
from hostlab.tasks.ended import cleared_away, finish
from hostlab.tasks.figures import known_tasks
from hostlab.tasks.places import FILE, Namespace, Tracking
from hostlab.tasks.stopping import must_be_owner

CONTROLLERS: Final = ("pids", "memory", "cpu", "cpuacct", "cpuset", "freezer")
"""Hierarchies of v1 that tasks are put into; the first that there is tells what runs."""
_MOST_TRIES: Final = 100
"""At a directory that keepers still look into; each does so once."""
_DELEGATED: Final = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks")


class Owner(NamedTuple):
    """Whose a namespace is to be."""

    uid: int
    gid: int


def owner(user: str | None, group: str | None) -> Owner:
    """The user by name or number, this one if none is named; his own group if none is."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if user is not None:
            uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
            with contextlib.suppress(KeyError):
                gid = pwd.getpwuid(uid).pw_gid
    except (KeyError, OverflowError):
        raise UsageError("user", f"unable to find user {user}") from None
    try:
        if group is not None:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError("group", f"unable to find group {group}") from None
    if max(uid, gid) >= 2**32 - 1:
        raise UsageError("user", f"unable to find user {user}, group {group}")
    if os.geteuid() != 0 and (uid != os.geteuid() or gid not in (os.getegid(), *os.getgroups())):
        raise Unsupported(
            "permission",
            "a namespace for another user or group takes root",
            hint="sudo hostlab task NAMESPACE init -u USER -g GROUP",
        )
    return Owner(uid, gid)


def make(name: str, whose: Owner, *, logs: str | None = None) -> Namespace:
    """Make a namespace; one that is there already and is that user's stays as it is."""
    there = places.found(name)
    if there is None:
        directory = f"{places.bases()[0]}/{name}"
        with places.changed(directory):
            # Somebody else may just have made it.
            there = places.found(name) or _make(name, directory, whose, logs)
    if (there.uid, there.gid) != whose:
        raise UsageError(
            "namespace-exists",
            f"namespace {name} exists and is of user {there.uid}, group {there.gid}",
            hint=f"hostlab task {name} release ends it",
        )
    return there


def _make(name: str, directory: str, whose: Owner, logs: str | None) -> Namespace:
    places.make_directory(directory)
    namespace = _with_cgroups(
        Namespace(
            name=name,
            directory=directory,
            uid=whose.uid,
            gid=whose.gid,
            tracking=Tracking.KEEPER,
            tracker=None,
            unified=None,
            v1={},
            logs=os.path.abspath(logs or places.default_logs(name)),
            boot=boot_id(),
        )
    )
    shutil.rmtree(namespace.tasks, ignore_errors=True)  # of before the machine was booted
    for path in (namespace.tasks, namespace.logs):
        _make_for(path, whose)
    places.write_json(f"{directory}/{FILE}", namespace, mode=0o644)
    return namespace


def _make_for(path: str, whose: Owner) -> None:
    """A directory of that user; one that is there already must be his."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path)
        os.chown(path, *whose)
    except FileExistsError:
        there = os.stat(path, follow_symlinks=False)
        if there.st_uid != whose.uid:
            raise UsageError(
                "directory", f"{path} is there already and not of user {whose.uid}"
            ) from None
    except OSError as error:
        raise places.unusable(path, error) from error


def _with_cgroups(namespace: Namespace) -> Namespace:
    """Make the cgroups that this user may make, and choose what tells which tasks run."""
    hierarchies = cgroups.find()
    below = places.mark(namespace.name, namespace.directory)
    v1 = {n: f"{hierarchies.v1[n]}/{below}" for n in CONTROLLERS if n in hierarchies.v1}
    unified = None if hierarchies.unified is None else f"{hierarchies.unified}/{below}"
    for path in dict.fromkeys((unified, *v1.values())):
        if path is not None:
            cgroups.make(path)
            _mark(path, namespace.directory)
            _delegate(path, namespace)
    if unified is not None and not v1:
        for parent in (hierarchies.unified, os.path.dirname(unified), unified):
            cgroups.enable(str(parent), cgroups.CONTROLLERS)
    tracking, tracker = Tracking.KEEPER, None
    if unified is not None and (
        namespace.uid == os.geteuid() or (not v1 and _can_enter(unified, namespace))
    ):
        tracking, tracker = Tracking.V2, unified
    elif v1:
        tracking, tracker = Tracking.V1, next(iter(v1.values()))
    if tracking is not Tracking.V2:
        _remove(unified)
        unified = None
    return msgspec.structs.replace(
        namespace, tracking=tracking, tracker=tracker, unified=unified, v1=v1
    )


def _mark(cgroup: str, directory: str) -> None:
    """Say whose a cgroup is, where the kernel takes it; xattr(7)."""
    for name in places.ATTRIBUTES:
        with contextlib.suppress(OSError):
            os.setxattr(cgroup, name, directory.encode())
            return


def _delegate(directory: str, namespace: Namespace) -> None:
    """What cgroups(7), "Delegation", hands to a user; never the limits of the directory itself."""
    if namespace.uid == os.geteuid():
        return
    os.chown(directory, namespace.uid, namespace.gid)
    for name in _DELEGATED:
        with contextlib.suppress(FileNotFoundError):
            os.chown(f"{directory}/{name}", namespace.uid, namespace.gid)


def _can_enter(unified: str, namespace: Namespace) -> bool:
    """Whether the user gets into a cgroup below this one from where the caller is: tried."""
    probe = f"{unified}/probe"

    def enter() -> None:
        os.setgroups([])
        os.setresgid(namespace.gid, namespace.gid, namespace.gid)
        os.setresuid(namespace.uid, namespace.uid, namespace.uid)
        os.mkdir(probe)
        cgroups.write(f"{probe}/cgroup.procs", "0")

    succeeded = _succeeds(enter)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(probe)
    return succeeded


def _succeeds(work: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def release(name: str) -> None:
    """Take a whole namespace away; Failed while a task runs. Logs stay."""
    with places.held(name, alone=True) as namespace:
        if os.geteuid() not in (0, os.stat(namespace.directory).st_uid):
            raise Unsupported(
                "permission",
                f"unable to delete namespace {name}: root has made it",
                hint=f"sudo hostlab task {name} release",
            )
        for task in known_tasks(namespace):
            if groups.is_running(namespace, task):
                raise Failed(
                    "tasks-run",
                    f"unable to delete namespace {name}: task {task} is running",
                    hint=f"hostlab task {name} stop {task}",
                )
            cleared_away(namespace, task)
        with places.changed(namespace.directory):
            for path in namespace.cgroups:
                _remove(path)
            os.unlink(f"{namespace.directory}/{FILE}")
            remove_directory(namespace.directory)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(namespace.directory))


def remove_directory(path: str) -> None:
    """Remove it with what is in it.

    The keeper of a task that has just ended may lock that task meanwhile, to clear it away: a file
    that comes and goes.
    """
    for tries in range(1, _MOST_TRIES + 1):
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or tries == _MOST_TRIES:
                raise
        if not os.path.isdir(path):
            return


def release_task(name: str, task: str, *, hook: bool = True) -> None:
    """Clear away a task that has ended; Failed when it runs, or when nothing of it is there."""
    with places.held(name) as namespace:
        must_be_owner(namespace, f"release task {task}")
        if groups.is_running(namespace, task):
            raise Failed("running", f"unable to release task {task}: it is running")
        if not finish(namespace, task, hook=hook):
            raise Failed("not-there", f"unable to release task {task}: nothing of it is left")


def _remove(directory: str | None) -> None:
    """Remove a namespace's cgroup, and hostlab's own above it when nothing else is in it."""
    if directory is not None:
        cgroups.remove(directory)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(directory))
