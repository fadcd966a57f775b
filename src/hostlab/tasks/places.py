"""Where a task namespace has what is not the kernel's, and what is written down of it.

BASE/NAMESPACE/namespace.json   how the namespace is made; of whoever made it, locked while used
BASE/.NAMESPACE.lock            held while it is made or taken away
BASE/NAMESPACE/tasks/           the user's: TASK.json and TASK.lock (see `records`)

BASE is /run/hostlab-tasks for root and for the users whom root has made a namespace, and
$XDG_RUNTIME_DIR/hostlab-tasks or /tmp/hostlab-tasks-UID for those that users make for themselves.
With `HOSTLAB_RUN` it is that with `-tasks` after it, for everybody.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import Problem, Unsupported, UsageError
from hostlab.linux import cgroups, directories
from hostlab.linux.lock_files import locked
from hostlab.linux.procfs import boot_id
from hostlab.linux.whole_files import write_whole

RUN_VARIABLE: Final = "HOSTLAB_RUN"
ROOT_BASE: Final = "/run/hostlab-tasks"
ROOT_LOGS: Final = "/var/log/hostlab"
FILE: Final = "namespace.json"
LOCK: Final = ".lock"
MAX_NAME: Final = 64
OWNER_DIGITS: Final = 8
ATTRIBUTES: Final = ("user.hostlab.tasks", "trusted.hostlab.tasks")
"""One of them has a cgroup's run directory; the second, which is root's, where v1 is older."""
_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")


class Tracking(StrEnum):
    """How the processes of a task are known; see the package."""

    V2 = "v2"
    V1 = "v1"
    KEEPER = "keeper"


class Namespace(msgspec.Struct, frozen=True):
    """A task namespace as it was made."""

    name: str
    directory: str
    uid: int
    gid: int
    tracking: Tracking
    tracker: str | None
    """The cgroup below which each task has the one that tells what runs; None with a keeper."""
    unified: str | None
    """Its cgroup in v2, where limits of v2 can be set."""
    v1: dict[str, str]
    """Controller -> its cgroup in that v1 hierarchy."""
    logs: str
    boot: str

    @property
    def tasks(self) -> str:
        """The user's directory."""
        return f"{self.directory}/tasks"

    @property
    def cgroups(self) -> tuple[str, ...]:
        """Every cgroup of the namespace, once, the tracker first."""
        every = (self.tracker, self.unified, *self.v1.values())
        return tuple(dict.fromkeys(path for path in every if path is not None))

    def cgroups_of(self, task: str) -> tuple[str, ...]:
        """The cgroups that a task has in them."""
        return tuple(f"{path}/task-{task}" for path in self.cgroups)

    def log(self, task: str) -> str:
        """Where a task's output goes if nothing else is said."""
        return f"{self.logs}/task-{task}.log"


def checked_name(what: str, name: str) -> str:
    """A name that is safe as a part of a path; UsageError in lanĉo's words otherwise."""
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
        raise UsageError(
            "name",
            f"{what} should be an alphanumeric ASCII string, not {shown!r}",
            hint=f"letters, digits, '.', '-' and '_', at most {MAX_NAME}, not '.' or '-' first",
        )
    return name


def bases() -> tuple[str, ...]:
    """Where namespaces may be that this user can use; the first is where he makes his own."""
    if chosen := os.environ.get(RUN_VARIABLE):
        return (f"{os.path.realpath(chosen)}-tasks",)
    if os.geteuid() == 0:
        return (ROOT_BASE,)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = f"{runtime}/hostlab-tasks" if runtime else f"/tmp/hostlab-tasks-{os.geteuid()}"
    return (os.path.realpath(own), ROOT_BASE)


def default_logs(name: str) -> str:
    """The directory for the logs of a namespace that this user makes."""
    if os.geteuid() == 0:
        return f"{ROOT_LOGS}/{name}"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{state}/hostlab/{name}"


def mark(name: str, directory: str) -> str:
    """The name of a namespace's cgroups: the same for every user, another in another place."""
    spaces = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "pid")]
    digest = hashlib.sha256(f"{spaces} {directory}".encode()).hexdigest()
    return f"{cgroups.TREE}/{cgroups.TASKS}{name}:{digest[:OWNER_DIGITS]}"


def found(name: str) -> Namespace | None:
    """A namespace that was made since the machine was booted, by root or by this user."""
    for base in bases():
        namespace = found_in(f"{base}/{name}")
        if namespace is not None:
            return namespace
    return None


def namespaces() -> tuple[Namespace, ...]:
    """Every namespace that this user can use."""
    names: set[str] = set()
    for base in bases():
        with contextlib.suppress(OSError):
            names.update(name for name in os.listdir(base) if _NAME.fullmatch(name))
    return tuple(one for name in sorted(names) if (one := found(name)) is not None)


def found_in(directory: str) -> Namespace | None:
    """The namespace of a directory; None when there is none that is whole.

    What is not root's or one's own is not read: it says which cgroups are killed.
    """
    trusted = {0, os.geteuid()}
    try:
        if os.stat(os.path.dirname(directory), follow_symlinks=False).st_uid not in trusted:
            return None
        if os.stat(directory, follow_symlinks=False).st_uid not in trusted:
            return None
        with open(f"{directory}/{FILE}", "rb") as file:
            if os.fstat(file.fileno()).st_uid not in trusted:
                return None
            namespace = typed.decode(file.read(), Namespace)
    except (FileNotFoundError, NotADirectoryError, PermissionError, msgspec.DecodeError):
        return None
    is_whole = namespace.boot == boot_id() and all(map(os.path.isdir, namespace.cgroups))
    return namespace if is_whole else None


def needed(name: str) -> Namespace:
    """A namespace; UsageError in lanĉo's words when there is none."""
    namespace = found(name)
    if namespace is None:
        raise UsageError(
            "no-namespace",
            f"namespace {name} should be created with init command",
            hint=f"hostlab task {name} init; as root with -u USER for another user",
        )
    return namespace


@contextlib.contextmanager
def held(name: str, *, alone: bool = False) -> Iterator[Namespace]:
    """A namespace that is not taken away during the block; `alone`, with nobody else in it."""
    with contextlib.ExitStack() as stack:
        while True:
            namespace = needed(name)
            path = f"{namespace.directory}/{FILE}"
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(locked(path, alone=alone, create=False))
                break
        yield namespace


@contextlib.contextmanager
def changed(directory: str) -> Iterator[None]:
    """Nobody else makes or takes away the namespace of this run directory meanwhile.

    The lock lies beside it, as who has it takes the directory away with all that is in it.
    """
    base, name = os.path.split(directory)
    with contextlib.ExitStack() as stack:
        while True:
            make_directory(base)
            try:
                stack.enter_context(locked(f"{base}/.{name}{LOCK}"))
                break
            except FileNotFoundError:  # Whoever has had the last one in there took it away.
                continue
            except OSError as error:
                raise unusable(base, error) from error
        yield


def make_directory(path: str, *, mode: int = 0o755) -> None:
    """Make a directory and those above it; it must then be root's or this user's own."""
    try:
        there = directories.make_directory(path, mode=mode)
    except OSError as error:
        raise unusable(path, error) from error
    if not stat.S_ISDIR(there.st_mode) or there.st_uid not in (0, os.geteuid()):
        raise UsageError(
            "run-directory",
            f"{path} is not a directory of yours",
            hint=f"set {RUN_VARIABLE} to a directory that only you can write",
        )


def write_json(path: str, value: msgspec.Struct, *, mode: int) -> None:
    """Replace a file by a value as JSON; what `unusable` makes of it when it cannot be written."""
    try:
        write_whole(path, msgspec.json.encode(value), mode=mode)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: str, error: OSError) -> Problem:
    """What to tell a person when a file of a namespace cannot be made."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unsupported("disk-full", f"{path}: {error.strerror}", hint="make room there")
    hint = "whoever made the namespace can: `init -u USER -g GROUP` gives it to a user"
    return Unsupported("permission", f"{path}: {error.strerror}", hint=hint)
