"""The task namespaces of this machine, made on purpose, and what is left of others.

A namespace's cgroups say in which directory it is, by an extended attribute, so that one below
another `HOSTLAB_RUN` is not taken for a remnant. A plain user sees his own and root's.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from hostlab.linux import cgroups
from hostlab.tasks import places
from hostlab.tasks.figures import running_tasks
from hostlab.tasks.places import Namespace


class Found(msgspec.Struct, frozen=True, order=True):
    """A namespace that is there."""

    name: str
    directory: str
    uid: int
    running: int
    """How many tasks run in it."""


class Remains(msgspec.Struct, frozen=True, order=True):
    """What is left of a namespace that is not whole."""

    namespace: str
    kind: str
    what: str
    remedy: str


def survey() -> tuple[tuple[Found, ...], tuple[Remains, ...]]:
    """Look at the run directories and the cgroups.

    What is left is there at a second look, too: namespaces are made and taken away meanwhile.
    """
    found, left = _look()
    if left:
        found, again = _look()
        left &= again
    return found, tuple(sorted(left))


def _look() -> tuple[tuple[Found, ...], set[Remains]]:
    whole = {one.directory: one for one in places.namespaces()}
    left: set[Remains] = set()
    for path in task_cgroups():
        directory = _directory_of(path)
        namespace = whole.get(directory) or places.found_in(directory)
        if namespace is None:
            name = os.path.basename(path).split(":")[1]
            left.add(Remains(name, "cgroup", path, _remedy(name, directory)))
        else:
            whole[directory] = namespace
    for base in places.bases():
        with contextlib.suppress(OSError):
            for entry in os.scandir(base):
                if entry.path not in whole and not places.found_in(entry.path):
                    left.add(_remains(entry.path))
    return tuple(sorted(_found(one) for one in whole.values())), left


def task_cgroups() -> list[str]:
    """The cgroups that task namespaces have, whole or not."""
    hierarchies = cgroups.find()
    found = []
    for base in dict.fromkeys((hierarchies.unified, *hierarchies.v1.values())):
        tree = f"{base}/{cgroups.TREE}"
        every = (cgroups.below(tree) or ()) if base is not None else ()
        found += [f"{tree}/{name}" for name in every if cgroups.is_of_tasks(name)]
    return found


def _remains(path: str) -> Remains:
    """Of a run directory, or of the lock that was held beside one."""
    base, name = os.path.split(path)
    if name.startswith("."):
        name = name.removeprefix(".").removesuffix(places.LOCK)
        return Remains(name, "lock", path, _remedy(name, f"{base}/{name}"))
    return Remains(name, "run directory", path, _remedy(name, path))


def _found(namespace: Namespace) -> Found:
    running = len(running_tasks(namespace))
    return Found(namespace.name, namespace.directory, namespace.uid, running)


def _directory_of(path: str) -> str:
    for name in places.ATTRIBUTES:
        with contextlib.suppress(OSError):
            return os.getxattr(path, name).decode(errors="replace")
    return ""


def _remedy(name: str, directory: str) -> str:
    """Made once more it is whole, and can be taken away."""
    base = os.path.dirname(directory).removesuffix("-tasks")
    where = "" if not base or f"{base}-tasks" in places.bases() else f"HOSTLAB_RUN={base} "
    return f"{where}hostlab task {name} init; {where}hostlab task {name} release"
