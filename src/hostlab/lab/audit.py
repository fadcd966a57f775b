"""The proof that nothing of any lab is left: everything with a mark, less what belongs to a lab
that runs.

A lab runs when its hub answers, an init without a lab, which stands among them as `.init`, when its
control socket is listened to. One whose lock is held is being staged or taken down: what there is
of it is not left yet, and not to be taken away from under somebody's hands. Its marks are the memfd
that each of its processes holds, the name of its cgroups, the altname of the machine's links, the
comment of nft tables, and its run directory with the journal in it. Nothing is judged by how it is
called alone: a bridge of somebody else is never listed, whatever its name. What only the journal
still knows (a process that is a zombie has no descriptors) is taken from there, if the machine has
not been booted since.

A run directory that `HOSTLAB_RUN` chose is found again by the descriptors of the lab's processes;
when they have ended it is found with the same `HOSTLAB_RUN` only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.init.client import LocalInit
from hostlab.lab import remains
from hostlab.lab.driver import hub_control
from hostlab.lab.paths import (
    INIT,
    LabDirectory,
    base_directory,
    boot_id,
    lock_name,
    start_time,
)
from hostlab.linux import cgroups
from hostlab.plan.journal import Entry, What

NFT_MARK: Final = "hostlab:"
"""Begins the comment of every nft table that hostlab makes; the lab's name follows."""
_NFT_LIMIT_S: Final = 10
_LOCK: Final = ".lock"


class Running(msgspec.Struct, frozen=True, order=True):
    """A lab whose hub answers, or that somebody changes."""

    name: str
    directory: str


class Remnant(msgspec.Struct, frozen=True, order=True):
    """One thing that a lab has left."""

    lab: str
    """Empty when it is hostlab's own, of no lab in particular."""
    kind: str
    """process, cgroup, link, nft table, mount, run directory, lock."""
    what: str
    remedy: str

    @property
    def key(self) -> tuple[str, str]:
        """The same of the same thing, whatever has become of it."""
        return self.kind, self.what.partition(" (")[0]


class Audit(msgspec.Struct, frozen=True):
    """What there is of labs on this machine, as far as the caller may see it."""

    running: tuple[Running, ...]
    changing: tuple[Running, ...]
    left: tuple[Remnant, ...]


def audit() -> Audit:
    """Look at the machine: a plain user's own labs, as root those of every user.

    What is left is there at a second look, too: labs come and go meanwhile.
    """
    first = _look()
    if not first.left:
        return first
    again = _look()
    left = tuple(row for row in again.left if row.key in {each.key for each in first.left})
    return Audit(again.running, again.changing, left)


def _look() -> Audit:
    marks = remains.marks()
    directories = {pid: mark.directory for pid, mark in marks.items()}
    found = {d for base in _bases(directories) for d in _labs_in(base)}
    found |= {d for d in directories.values() if d is not None}
    running = {directory for directory in found if _answers(directory)}
    changing = {directory for directory in found - running if _is_changed(directory)}
    owned = running | changing
    names = {directory.name for directory in owned}
    left: set[Remnant] = set()
    for pid, (lab, _, _) in marks.items():
        if directories[pid] not in owned and not (directories[pid] is None and lab in names):
            left.add(_remnant("process", _named(pid), lab, directories[pid]))
    for directory in found - owned:
        left |= set(_of_directory(directory))
    alive = {f"{m.lab}:{m.owner}" for pid, m in marks.items() if directories[pid] in owned}
    for path in remains.lab_cgroups():
        lab = remains.lab_of_cgroup(path)
        # Every init without a lab has the same name, and another mark.
        if lab not in names or (lab == INIT and os.path.basename(path) not in alive):
            left.add(_remnant("cgroup", path, lab))
    for altname in remains.marked_links().values():
        lab = altname.split(":")[1]
        if lab not in names:
            left.add(_remnant("link", altname, lab))
    left |= {_remnant("nft table", table, lab) for table, lab in _tables() if lab not in names}
    for base in _bases(directories):
        left |= set(_of_base(base, names))
    left |= set(_empty_trees())
    return Audit(_rows(running), _rows(changing), tuple(sorted(left)))


def _rows(directories: set[LabDirectory]) -> tuple[Running, ...]:
    return tuple(sorted(Running(directory.name, directory.path) for directory in directories))


def _remnant(kind: str, what: str, lab: str, directory: LabDirectory | None = None) -> Remnant:
    remedy = "hostlab init --clear" if lab == INIT else f"hostlab down {lab}"
    if directory is not None and directory.base != base_directory():
        remedy = f"HOSTLAB_RUN={directory.base} {remedy}"
    return Remnant(lab, kind, what, remedy)


def _bases(directories: dict[int, LabDirectory | None]) -> set[str]:
    """Where run directories may be: ours, those that processes show, as root every user's."""
    bases = {base_directory(), *(d.base for d in directories.values() if d is not None)}
    if os.geteuid() == 0:
        bases.add("/run/hostlab")
        for top, prefix, suffix in (("/run/user", "", "/hostlab"), ("/tmp", "hostlab-", "")):
            with contextlib.suppress(OSError):
                for entry in os.scandir(top):
                    uid = entry.name.removeprefix(prefix)
                    is_users = entry.name.startswith(prefix) and uid.isdecimal()
                    if is_users and entry.stat(follow_symlinks=False).st_uid == int(uid):
                        bases.add(entry.path + suffix)
    return bases


def _labs_in(base: str) -> Iterator[LabDirectory]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            is_lab = not entry.name.startswith(".") or entry.name == INIT
            if is_lab and entry.is_dir(follow_symlinks=False):
                yield LabDirectory(entry.name, base)


def _answers(directory: LabDirectory) -> bool:
    if directory.name == INIT:
        return LocalInit(directory.path).is_there()
    try:
        control = hub_control(directory)
    except OSError:
        return False
    if control is None:
        return False
    control.close()
    return True


def _is_changed(directory: LabDirectory) -> bool:
    """Whether somebody holds its lock."""
    return os.path.lexists(directory.lock) and _is_held(directory.lock)


def _of_directory(directory: LabDirectory) -> Iterator[Remnant]:
    """What a lab that does not run has left, by its run directory and its journal."""
    lab = directory.name
    if directory.exists():
        yield _remnant("run directory", directory.path, lab, directory)
    recorded: tuple[Entry, ...] = ()
    with contextlib.suppress(OSError):
        recorded = directory.recorded()
    same_boot = any(e.what is What.LAB and e.value == boot_id() for e in recorded)
    for entry in recorded:
        if entry.what is What.CGROUP and os.path.isdir(entry.name):
            yield _remnant("cgroup", entry.name, lab, directory)
        elif entry.what is What.PROCESS and same_boot:
            pid, _, started = entry.value.partition(" ")
            if pid.isdecimal() and start_time(int(pid)) == started:
                yield _remnant("process", _named(int(pid)), lab, directory)
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        points = [line.split(" ")[4] for line in lines]
    for point in points:
        if point == directory.path or point.startswith(f"{directory.path}/"):
            yield _remnant("mount", point, lab, directory)


def _named(pid: int) -> str:
    """`PID (command)`, with the state when that is what makes it special."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        before, _, after = file.read().rpartition(")")
        zombie = ", a zombie" if after.split()[0] == "Z" else ""
        return f"{pid} ({before.partition('(')[2]}{zombie})"
    return str(pid)


def _of_base(base: str, running: set[str]) -> Iterator[Remnant]:
    """Locks that nobody holds, and a base directory without a lab."""
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        lab = name.removeprefix(".").removesuffix(_LOCK)
        if name == lock_name(lab) and lab not in running and not _is_held(f"{base}/{name}"):
            yield _remnant("lock", f"{base}/{name}", lab, LabDirectory(lab, base))
    if not names and base != os.environ.get("HOSTLAB_RUN"):
        yield Remnant("", "run directory", base, f"rmdir {base}")


def _is_held(path: str) -> bool:
    """Whether somebody is staging that lab now."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _empty_trees() -> Iterator[Remnant]:
    """hostlab's own cgroup without a lab in it."""
    hierarchies = cgroups.find()
    for base in (hierarchies.unified, *hierarchies.v1.values()):
        tree = f"{base}/{cgroups.TREE}"
        if base is not None and cgroups.below(tree) == ():
            yield Remnant("", "cgroup", tree, f"rmdir {tree}")


def _tables() -> Iterator[tuple[str, str]]:
    """(family and name, lab) of each nft table with our mark; none where nft is not installed."""
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if nft is None or os.geteuid() != 0:
        return
    done = subprocess.run(
        [nft, "-j", "list", "tables"], capture_output=True, timeout=_NFT_LIMIT_S, check=False
    )
    if done.returncode:
        return
    for row in typed.decode(done.stdout, dict[str, list[dict[str, Any]]])["nftables"]:
        table = row.get("table", {})
        comment = table.get("comment", "")
        if comment.startswith(NFT_MARK):
            yield f"{table['family']} {table['name']}", comment.removeprefix(NFT_MARK)
