"""What a unit takes away from its processes: capabilities, paths, resources (systemd.exec(5),
systemd.resource-control(5)).

A node is a sandbox already: its kernel tunables, modules, clock, log, devices and control groups
are out of reach of whatever runs in it. So the keys that protect those are without effect, by the
table of directives; here are those that a job can say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hostlab.spec.capabilities import ALL
from hostlab.spec.job import Directory, Resources
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.execution import SECTION
from hostlab.spec.systemd.syntax import Entry
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.values import boolean, integer, is_boolean, percent, size

_SYSTEM = ("-/usr", "-/boot", "-/efi")
_HOMES = ("-/home", "-/root", "-/run/user")
_NODE = frozenset({None, "root", "0"})


def sandbox_of(
    reader: Reader, user: str | None, directories: Iterable[Directory] = ()
) -> dict[str, Any]:
    """The fields of a job that bound what it can do; its own directories stay writable."""
    section = SECTION[reader.unit.name.type]
    found: dict[str, Any] = {}
    if _is_private_tmp(reader, section):
        found["private_tmp"] = True
    if reader.flag(section, "NoNewPrivileges"):
        found["no_new_privs"] = True
    capabilities = capabilities_of(reader, section, user)
    if capabilities is not None:
        found["capabilities"] = capabilities
    _add_paths(reader, section, found, directories)
    resources = _resources(reader, section)
    if resources != Resources():
        found["resources"] = resources
    return found


def _is_private_tmp(reader: Reader, section: str) -> bool:
    """A boolean of which later versions have more words; any other word is a yes of some kind."""
    word = reader.raw(section, "PrivateTmp")
    return boolean(word) if is_boolean(word) else bool(word)


def capabilities_of(reader: Reader, section: str, user: str | None) -> tuple[str, ...] | None:
    """Root has what the bounding set leaves it, None for all; others the ambient ones of it."""
    bounding = _capability_set(reader, section, "CapabilityBoundingSet", ALL)
    ambient = _capability_set(reader, section, "AmbientCapabilities", frozenset())
    if user in _NODE:
        return None if bounding is None else tuple(sorted(bounding))
    if ambient is None:
        return None
    return tuple(sorted(ambient & (ALL if bounding is None else bounding)))


def _capability_set(
    reader: Reader, section: str, key: str, full: frozenset[str]
) -> frozenset[str] | None:
    """A set that assignments add to, or with `~` take from; None when nothing was said.

    An assignment of nothing is the empty set (for the bounding set), so the entries that count
    are read here and not by the reader.
    """
    found: frozenset[str] | None = None
    for entry in reader.unit.entries:
        if (entry.section, entry.key) != (section, key):
            continue
        inverted = entry.value.startswith("~")
        names = frozenset(_known(reader, entry, entry.value.removeprefix("~").split()))
        if not entry.value:
            found = frozenset()
        elif inverted:
            found = (ALL if found is None else found) - names
        else:
            found = (found or frozenset()) | names
    return found


def _known(reader: Reader, entry: Entry, words: Iterable[str]) -> Iterable[str]:
    for word in words:
        name = word.upper().removeprefix("CAP_")
        if name in ALL:
            yield name
        else:
            reader.wrong(entry, Wrong(f"{quoted(word)} is not a capability"))


def _add_paths(
    reader: Reader, section: str, found: dict[str, Any], directories: Iterable[Directory]
) -> None:
    """The paths that it cannot write to, those within that it can, and those that it cannot see."""
    readonly: dict[str, None] = {}
    hidden: dict[str, None] = {}
    writable = _listed(reader, section, "ReadWritePaths", "ReadWriteDirectories")
    system = reader.last(section, "ProtectSystem")
    if system is not None:
        protected = _of_system(reader, system)
        readonly |= dict.fromkeys(protected)
        if "/" in protected:
            writable |= dict.fromkeys(f"-{each.path}" for each in directories)
    homes = reader.last(section, "ProtectHome")
    if homes is not None:
        kind = homes.value.lower()
        if kind == "read-only":
            readonly |= dict.fromkeys(_HOMES)
        elif not (is_boolean(kind) and not boolean(kind)):
            hidden |= dict.fromkeys(_HOMES)
    readonly |= _listed(reader, section, "ReadOnlyPaths", "ReadOnlyDirectories")
    hidden |= _listed(reader, section, "InaccessiblePaths", "InaccessibleDirectories")
    for field, paths in (
        ("readonly_paths", readonly), ("writable_paths", writable), ("hidden_paths", hidden),
    ):  # fmt: skip
        if paths:
            found[field] = tuple(paths)


def _listed(reader: Reader, section: str, *keys: str) -> dict[str, None]:
    return {
        f"-{path}" if may_be_missing else path: None
        for entry in reader.entries(section, *keys)
        for path, may_be_missing in _paths(reader, entry)
    }


def _of_system(reader: Reader, entry: Entry) -> tuple[str, ...]:
    word = entry.value.lower()
    if is_boolean(word):
        return _SYSTEM if boolean(word) else ()
    if word not in ("full", "strict"):
        hint = "yes, no, full or strict"
        reader.wrong(entry, Wrong(f"{quoted(word)} is no kind of protection", hint))
        return ()
    return ("/",) if word == "strict" else (*_SYSTEM, "-/etc")


def _paths(reader: Reader, entry: Entry) -> list[tuple[str, bool]]:
    """Absolute paths, and of each whether it may be missing (`-`); a `+` means nothing here."""
    found = []
    for word in entry.value.split():
        try:
            path = reader.specify(word.lstrip("-+"))
            if not path.startswith("/"):
                raise Wrong(f"{quoted(path)} is no absolute path")
        except Wrong as wrong:
            reader.wrong(entry, wrong)
            continue
        clean = "/" + "/".join(part for part in path.split("/") if part)
        found.append((clean, "-" in word[:2]))
    return found


def _resources(reader: Reader, section: str) -> Resources:
    memory = None
    for key in ("MemoryMax", "MemoryLimit"):
        entry = reader.last(section, key)
        if entry is not None and memory is None:
            memory = _memory(reader, entry)
    quota = reader.value(section, "CPUQuota", _quota, None)
    tasks = None
    entry = reader.last(section, "TasksMax")
    if entry is not None and entry.value != "infinity":
        if percent(entry.value) is not None:
            reader.note(entry, "a share of the machine's processes is no bound here")
        else:
            tasks = reader.value(section, "TasksMax", _tasks, None)
    return Resources(memory_bytes=memory, cpu=quota, pids=tasks)


def _tasks(word: str) -> int:
    return integer(word, 1, 2**22)


def _quota(word: str) -> float:
    share = percent(word)
    if not share:
        raise Wrong(f"{quoted(word)} is no share of a CPU", "as `50%`, or `200%` of two")
    return share


def _memory(reader: Reader, entry: Entry) -> int | None:
    share = percent(entry.value)
    if share is not None:
        total = reader.machine.memory_bytes
        if total is None:
            reader.note(entry, "a share of a memory whose size is not known is no bound")
        return None if total is None else int(total * share)
    try:
        return size(entry.value)
    except Wrong as wrong:
        reader.wrong(entry, wrong)
        return None
