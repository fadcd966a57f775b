"""A lab that several tests share, set back after each: what a test has changed is undone.

In place: the description, faults, impaired cables, jobs that were stopped or started, processes
that were left. A node whose files or network are otherwise changed (what is plugged in leaves files
of udev's), or that is dead, is staged anew, alone. What a job has in its memory stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from hostlab import spec
from hostlab.api import Lab, Node
from hostlab.errors import Failed, Problem
from hostlab.faults.injecting import clear, injected
from hostlab.faults.site import Site
from hostlab.init.spawning.cgroups import OWN
from hostlab.jobs.job_state import JobState
from hostlab.lab.description import staged
from hostlab.linux import procfs
from hostlab.linux.pidfd import has_ended
from hostlab.testing.marks import Mark, mark

SETTLED_S: Final = 60.0
"""How long the jobs of a lab may take to start before its first test."""
ENDS_S: Final = 60.0
"""How long what was killed may take to end; it takes milliseconds but on a machine that swaps."""
ROUNDS: Final = 100
"""Of killing what is left: each may leave orphans of the next."""
_RUNNING: Final = frozenset((JobState.STARTING, JobState.RUNNING))


class _NodeMark(msgspec.Struct, frozen=True):
    """A node before a test."""

    pid: int
    own: Mark
    jobs: Mapping[str, JobState]
    processes: frozenset[int]
    """What the holder has for children, beside jobs."""
    plugged: frozenset[str]


class SharedLab:
    """One lab, from its description; a context manager that stages it and takes it down."""

    def __init__(self, description: spec.Lab, *, name: str | None = None) -> None:
        if name is not None:
            description = msgspec.structs.replace(description, name=name)
        self.lab = Lab(description)
        self._marks: dict[str, _NodeMark] = {}

    def __enter__(self) -> SharedLab:
        self.lab.__enter__()
        try:
            self.mark()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.down()

    def mark(self) -> None:
        """Take this as what a test begins with."""
        nodes = self.lab.nodes()
        self._marks = {name: self._mark_of(node) for name, node in nodes.items()}

    def reset(self) -> tuple[str, ...]:
        """Undo whatever has changed since the mark; says in a few words what that was.

        Failed when something does not end.
        """
        done = [*self._faults(), *self._description()]
        nodes = self.lab.nodes()
        anew = []
        for name, node in nodes.items():
            if name not in self._marks:
                continue
            try:
                done += self._undo(node, self._marks[name])
            except (Problem, OSError) as trouble:
                anew.append((node, str(trouble).splitlines()[0]))
        dead = sorted(set(self._marks) - set(nodes))
        if anew or dead:
            kill([node.pid for node, _ in anew])
            self.lab.up()
            nodes = self.lab.nodes()
            done += [f"{node.name}: staged anew: {why}" for node, why in anew]
            done += [f"{name}: staged anew: it was dead" for name in dead]
            for name in {node.name for node, _ in anew} | set(dead):
                self._marks[name] = self._mark_of(nodes[name])
        return tuple(done)

    def _faults(self) -> list[str]:
        site = Site.of(self.lab.name)
        if not injected(site):
            return []
        return [f"fault {standing.fault}" for standing in clear(site)]

    def _description(self) -> list[str]:
        # What `apply` and `link` have made of it.
        if staged(self.lab.name) == self.lab.description:
            return []
        self.lab.up()
        return ["the description"]

    def _mark_of(self, node: Node) -> _NodeMark:
        jobs: Mapping[str, JobState] = {}
        if self._has_jobs(node.name):
            jobs = _states(node.wait_settled(within_s=SETTLED_S))
        return _NodeMark(
            pid=node.pid,
            own=mark(node.pid, self._described(node.name)),
            jobs=jobs,
            processes=_left_by_commands(node.pid),
            plugged=frozenset(each.name for each in node.plugged()),
        )

    def _described(self, name: str) -> tuple[str, ...]:
        return tuple(file.path for file in self._node(name).files)

    def _node(self, name: str) -> spec.Node:
        return next(node for node in self.lab.description.nodes if node.name == name)

    def _has_jobs(self, name: str) -> bool:
        node = self._node(name)
        return bool(node.jobs or node.job_files or node.crontabs or node.units)

    def _undo(self, node: Node, before: _NodeMark) -> Iterable[str]:
        """Set a node back; Failed when it has to be staged anew."""
        if node.pid != before.pid:
            raise Failed("reset", "it was staged in between")
        done = [f"{node.name}: {name} unplugged" for name in self._unplug(node, before)]
        done += [f"{node.name}: processes {pids}" for pids in _end_left(node, before.processes)]
        if self._has_jobs(node.name):
            done += [f"{node.name}: job {each}" for each in self._jobs(node, before.jobs)]
        now = mark(node.pid, self._described(node.name))
        for what, own, other in zip(
            now.__struct_fields__, msgspec.structs.astuple(now),
            msgspec.structs.astuple(before.own), strict=True,
        ):  # fmt: skip
            if own != other:
                raise Failed("reset", f"its {what} changed")
        return done

    @staticmethod
    def _unplug(node: Node, before: _NodeMark) -> list[str]:
        more = sorted({each.name for each in node.plugged()} - before.plugged)
        for name in more:
            node.unplug(name)
        return more

    @staticmethod
    def _jobs(node: Node, before: Mapping[str, JobState]) -> list[str]:
        done = []
        for name, state in _states(node.wait_settled(within_s=SETTLED_S)).items():
            if (state in _RUNNING) != (before.get(name) in _RUNNING):
                action = "stop" if state in _RUNNING else "start"
                node.job(name, action)
                done.append(f"{name}: {action}")
        now = _states(node.job_table())
        if now != before:
            changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
            raise Failed("reset", f"its job {changed[0]} is {now.get(changed[0], 'not there')}")
        return done


def _states(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, JobState]:
    """What counts of each job; one that was stopped is like one that was never started."""
    found: dict[str, JobState] = {}
    for row in rows:
        state = JobState(row["state"])
        key = f"{row['name']} {row['instance']}".rstrip() if row["instance"] else row["name"]
        found[key] = JobState.WAITING if state is JobState.STOPPED else state
    return found


def _left_by_commands(holder: int) -> frozenset[int]:
    """The holder's living children in the cgroup of commands, the supervisor among them; all of
    its living children where there are no cgroups.
    """
    own = _group(holder)
    commands = {own, f"{own}/{OWN}", f"{os.path.dirname(own)}/{OWN}"}
    children = procfs.children(holder)
    return frozenset(pid for pid in children if _group(pid) in commands and _lives(pid))


def _lives(pid: int) -> bool:
    """Whether any thread of it runs; one that has ended stays listed until it is collected."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not has_ended(fd)
    finally:
        os.close(fd)


def _group(pid: int) -> str:
    lines = _read(f"/proc/{pid}/cgroup").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def _number_inside(pid: int) -> int:
    lines = _read(f"/proc/{pid}/status").splitlines()
    found = next((line for line in lines if line.startswith("NSpid:")), "0")
    return int(found.split()[-1])


def _read(path: str) -> str:
    """What a file of /proc says; nothing when its process is gone."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end_left(node: Node, before: frozenset[int]) -> Iterable[str]:
    """Kill what commands have left behind, until nothing is left."""
    for _ in range(ROUNDS):
        left = _left_by_commands(node.pid) - before
        if left:
            known = _known(node)
            left = frozenset(pid for pid in left if _number_inside(pid) not in known)
        if not left:
            return
        if _group(node.pid) in ("", "/"):
            # They cannot be told from what jobs have forked.
            raise Failed("reset", "processes were left in it, and it has no cgroup")
        yield ", ".join(map(str, sorted(left)))
        kill(left)
    raise Failed("reset", "processes are left however often they are killed")


def _known(node: Node) -> frozenset[int]:
    """Its supervisor and the processes of its jobs, as the node numbers them; 0 is a dead one."""
    with node.control() as control:
        supervisor: int = control.ask("ping")["pid"]
        rows = control.ask("jobs")
    return frozenset((0, supervisor, *(pid for row in rows for pid in row["processes"].values())))


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, and wait until the kernel has ended them; Failed when it does not."""
    with contextlib.ExitStack() as stack:
        fds = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                fds.append(fd)
        for fd in fds:
            if not has_ended(fd, within_s=ENDS_S):
                raise Failed("reset", "a process that was killed does not end")
