"""What is left of a lab, and its end: found by mark and by journal, never by a pattern of names.

Every process of a lab holds a memfd whose name only hostlab gives, so it is found even when the run
directory is gone; as root the lab's cgroup holds them all as well. `clear` kills them at once and
lets the kernel collect the namespaces with everything in them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Final, NamedTuple

from hostlab.errors import Failed
from hostlab.lab.paths import INIT, LabDirectory, boot_id, lock_name, owner, start_time
from hostlab.linux import cgroups, rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.plan.journal import What

PREFIX: Final = "hostlab:"
"""Begins every mark; `LabDirectory.mark` follows: the lab and whose it is."""
MARK: Final = f"/memfd:{PREFIX}"
DEADLINE_S: Final = 30.0
ROUNDS: Final = 20
"""A process may start another between a look and its end; each round sees fewer."""


class Mark(NamedTuple):
    """What the descriptors of a lab's process tell."""

    lab: str
    owner: str
    """`paths.owner` of the lab's base directory."""
    directory: LabDirectory | None
    """Its run directory; None when it has nothing of that open, nor its lock."""


def marks() -> dict[int, Mark]:
    """Every process that carries the mark, less those of labs that are inside a node of another."""
    found = _marked()
    return {pid: mark for pid, mark in found.items() if not _is_inside(pid, mark, found)}


def marked_processes(name: str | None = None, *, base: str | None = None) -> dict[int, str]:
    """pid -> lab of every marked process: of one lab, of one base directory, or of all."""
    whose = None if base is None else owner(base)
    return {
        pid: mark.lab
        for pid, mark in _marked().items()
        if name in (None, mark.lab) and whose in (None, mark.owner)
    }


def _marked() -> dict[int, Mark]:
    found = ((int(pid), _mark_of(pid)) for pid in os.listdir("/proc") if pid.isdigit())
    return {pid: mark for pid, mark in found if mark is not None}


def lab_of_cgroup(path: str) -> str:
    """The lab that a cgroup of `lab_cgroups` is of."""
    return os.path.basename(path).partition(":")[0]


def _mark_of(pid: str) -> Mark | None:
    directory = f"/proc/{pid}/fd"
    targets = []
    try:
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(f"{directory}/{fd}").removesuffix(" (deleted)"))
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None
    text = next((t.removeprefix(MARK) for t in targets if t.startswith(MARK)), None)
    if text is None:
        return None
    lab, _, whose = text.partition(":")
    for target in targets:
        if lab == INIT and target.endswith(f"/{INIT}"):
            return Mark(lab, whose, LabDirectory(lab, os.path.dirname(target)))
        for part in (f"/{lab}/hub.log", f"/{lab}/nodes/", f"/{lock_name(lab)}"):
            base, found, _ = target.partition(part)
            if found and base.startswith("/"):
                return Mark(lab, whose, LabDirectory(lab, base))
    return Mark(lab, whose, None)


def _is_inside(pid: int, mark: Mark, found: dict[int, Mark]) -> bool:
    """Whether an ancestor belongs to another lab: then this one is the business of that node."""
    while (pid := _parent(pid)) > 1:
        if pid in found and found[pid].owner != mark.owner:
            return True
    return False


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def lab_cgroups(mark: str | None = None) -> list[str]:
    """The cgroups that labs have, of one lab by its directory's mark, or of all."""
    hierarchies = cgroups.find()
    found = []
    for base in (hierarchies.unified, *hierarchies.v1.values()):
        tree = f"{base}/{cgroups.TREE}"
        every = (cgroups.below(tree) or ()) if base is not None else ()
        names = [name for name in every if not cgroups.is_of_tasks(name)]
        found += [f"{tree}/{lab}" for lab in names if mark in (None, lab)]
    return found


def labs_of(base: str) -> set[str]:
    """The labs of a base directory that processes or cgroups tell of; it may be gone itself.

    An init without a lab is none of them: what is done to every lab is not done to it.
    """
    end = f":{owner(base)}"
    of_cgroups = {lab_of_cgroup(path) for path in lab_cgroups() if path.endswith(end)}
    return (of_cgroups | set(marked_processes(base=base).values())) - {INIT}


def marked_links(mark: str | None = None) -> dict[int, str]:
    """index -> altname of the machine's links that a lab made."""
    prefix = PREFIX if mark is None else f"{PREFIX}{mark}:"
    with Netlink() as netlink:
        return {
            link.index: altname
            for link in rtnetlink.links(netlink)
            for altname in link.altnames
            if altname.startswith(prefix)
        }


def lab_processes(directory: LabDirectory) -> set[int]:
    """Every process of a lab: those with its mark, and all in the PID namespaces of its nodes."""
    found = set(marked_processes(directory.name, base=directory.base))
    home = os.stat("/proc/self/ns/pid").st_ino
    inside = {_pid_namespace(pid) for pid in found} - {home, None}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        if _pid_namespace(int(entry)) in inside:
            found.add(int(entry))
    return found


def _pid_namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None


def clear(directory: LabDirectory) -> bool:
    """End every process of a lab and remove everything that it left; False if there was nothing."""
    journal = directory.recorded()
    groups = {e.name for e in journal if e.what is What.CGROUP} | set(lab_cgroups(directory.mark))
    found = directory.exists() or bool(groups)
    same_boot = any(e.what is What.LAB and e.value == boot_id() for e in journal)
    recorded = [e.value for e in journal if e.what is What.PROCESS] if same_boot else []
    # Only a caller who holds the lab makes links of the machine. They go first: once the nodes are
    # killed, every look at links waits for the kernel to collect theirs (0.8 s for 400).
    for altname in marked_links(directory.mark).values():
        with contextlib.suppress(OSError), Netlink() as netlink:
            netlink.request([rtnetlink.link_delete_named(altname)])
    found = _end_processes(directory, recorded, groups) or found
    for group in groups:
        _remove_cgroup(group)
    directory.remove()
    return found


def _end_processes(directory: LabDirectory, recorded: list[str], groups: set[str]) -> bool:
    """Kill until nothing is left; the pidfds tell when each has really gone."""
    any_found = False
    deadline = time.monotonic() + DEADLINE_S
    for _ in range(ROUNDS):
        pids = _processes(directory, recorded, groups)
        recorded = []
        if not pids:
            return any_found
        any_found = True
        _kill_all(pids, groups, deadline)
    raise Failed(
        "processes",
        f"processes of lab {directory.name} do not end:"
        f" {sorted(_processes(directory, [], groups))}",
        hint="a process in uninterruptible sleep ends with what it waits for: `ps -o stat,wchan`",
    )


def _processes(directory: LabDirectory, recorded: list[str], groups: set[str]) -> set[int]:
    found = set(marked_processes(directory.name, base=directory.base))
    for group in groups:
        if os.path.isdir(group):
            found.update(cgroups.processes(group))
    for value in recorded:
        pid, _, started = value.partition(" ")
        if pid.isdigit() and start_time(int(pid)) == started:
            found.add(int(pid))
    return found - {0, os.getpid()}


def _kill_all(pids: set[int], groups: set[str], deadline: float) -> None:
    poll = select.poll()
    open_fds = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                open_fds.append(fd)
                poll.register(fd, select.POLLIN)
        for group in groups:
            with contextlib.suppress(FileNotFoundError, OSError):
                cgroups.write(f"{group}/cgroup.kill", "1")
        for fd in open_fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        waiting = len(open_fds)
        while waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                waiting -= 1
    finally:
        for fd in open_fds:
            os.close(fd)


def _remove_cgroup(group: str) -> None:
    """Remove a lab's cgroup, and hostlab's own above it when this was the last lab's."""
    with contextlib.suppress(FileNotFoundError):
        cgroups.remove(group)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(group))
