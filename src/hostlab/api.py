"""The library: a lab as an object, for tests, scripts and the REPL.

`Lab` takes a description's path, its text as a `spec.Lab`, or the name of a lab that is up. It is
the synchronous face; the other one is `aio`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from hostlab import spec
from hostlab.awaiting.node import AwaitedNode
from hostlab.checks.access import OUTPUT_BYTES, CommandResult, HostAccess, JobStatus, TooMuch
from hostlab.checks.verdict import Report, Verdict
from hostlab.errors import Problem
from hostlab.jobs.job_state import JobState
from hostlab.lab import driver, limits
from hostlab.lab.access import CutOff, known_node
from hostlab.lab.description import (
    ENDINGS,
    STANDARD_INPUT,
    no_file,
    read_with_origin,
    staged,
)
from hostlab.lab.hub_start import HubProgram
from hostlab.lab.origin import Origin
from hostlab.lab.paths import LabDirectory
from hostlab.linux import cgroups, seccomp
from hostlab.plan.difference import difference
from hostlab.plan.operations import Plan

if TYPE_CHECKING:
    from hostlab.init.devices.plugged import Plugged
    from hostlab.lab.devices import Sockets
    from hostlab.observe.path import Path
    from hostlab.observe.routing import TableRoute
    from hostlab.routing.convergence import Converged
    from hostlab.spec.device import Device

JOBS_S: Final = 0.5
"""So long `failed_jobs` waits for inits: one that has just started answers after some 20 ms."""


class Node(AwaitedNode):
    """A running node."""

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a shell command; TimeoutError when it has not ended in time (checks.NodeAccess)."""
        try:
            done = self.shell(command, timeout_s=timeout_s, output_limit_bytes=OUTPUT_BYTES)
        except CutOff as error:
            if len(error.stdout) + len(error.stderr) > OUTPUT_BYTES:
                raise TooMuch(str(error), error.stdout) from error
            raise
        status = done.status if done.signal is None else -done.signal
        return CommandResult(status=status, stdout=done.stdout, stderr=done.stderr)

    def succeed(self, command: str, *, timeout_s: float | None = 60.0) -> str:
        """Run a shell command that must exit with 0; returns what it wrote to standard output."""
        done = self.shell(command, timeout_s=timeout_s)
        if done.status:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise self._failed("command", command, f"ended with status {done.status}: {said}")
        return done.stdout.decode(errors="replace")

    def fail(self, command: str, *, timeout_s: float | None = 60.0) -> str:
        """Run a shell command that must not exit with 0; returns its standard output."""
        done = self.shell(command, timeout_s=timeout_s)
        if not done.status:
            raise self._failed("command", command, "succeeded, and was not to")
        return done.stdout.decode(errors="replace")

    def impair(
        self,
        interface: str,
        *,
        sending: Mapping[str, Any] | None = None,
        receiving: Mapping[str, Any] | None = None,
        clear: Sequence[str] = (),
    ) -> None:
        """Change what happens to packets on an interface's cable; what is not named stays.

        Values by the keys of `impair:` (`{"delay": 0.02, "loss": 0.01}`): seconds, shares of 1,
        bits a second. Directions in `clear`, `out` and `in`, begin with nothing. UsageError for
        what cannot be.
        """
        change = {
            "node": self.name,
            "interface": interface,
            "clear": list(clear),
            "sending": dict(sending or {}),
            "receiving": dict(receiving or {}),
        }
        control = driver.running(self.lab)
        try:
            control.call("link", change=change)
        finally:
            control.close()

    def plug(self, device: str | os.PathLike[str] | Device) -> Sequence[str]:
        """Plug in what a recording, or its file, describes; what could not be shown, for people."""
        from hostlab.lab.devices import read_device

        if isinstance(device, str | os.PathLike):
            device = read_device(os.fspath(device))
        return self._sockets().plug(device)

    def unplug(self, name: str) -> None:
        """Pull out what was plugged in under a name."""
        self._sockets().unplug(name)

    def plugged(self) -> Sequence[Plugged]:
        """What is plugged in."""
        return self._sockets().plugged()

    def _sockets(self) -> Sockets:
        # Seldom needed, and not little to load.
        from hostlab.lab.devices import sockets_of

        return sockets_of(self)

    def jobs(self, *, timeout_s: float | None = None) -> Mapping[str, JobStatus]:
        """The node's jobs by name; those of a failed one come with their log's last lines."""
        return self.job_statuses(self.job_table(timeout_s=timeout_s))


class Lab:
    """A lab, from its description; `with` stages it and takes it down at the end."""

    def __init__(self, description: str | os.PathLike[str] | spec.Lab) -> None:
        self.file: str | None = None
        """The description's file; None for a lab that is up, or one from elsewhere."""
        self.origin: Origin | None = None
        if isinstance(description, spec.Lab):
            self.description = description
        elif is_file(text := os.fspath(description)):
            self.description, self.origin = read_with_origin(text)
            self.file = text
        else:
            self.description = _staged(text)
        self.name = self.description.name

    def plan(self) -> Plan:
        """What `up` would do now."""
        present = staged(self.name) if self.is_up() else None
        return difference(present, self.description)

    def remarks(self) -> list[str]:
        """What the staging does not carry out here, a sentence each."""
        return [
            f"node {node.name}: {text}"
            for node in self.description.nodes
            for text in (*node.unsupported, *seccomp.remarks(node.seccomp))
        ] + list(limits.remarks(cgroups.find()))

    @property
    def has_routing(self) -> bool:
        """Whether any node has a routing daemon."""
        return any(node.routing is not None for node in self.description.nodes)

    def up(
        self,
        *,
        progress: driver.Progress | None = None,
        wait_s: float | None = None,
        hub: HubProgram | None = None,
    ) -> list[dict[str, Any]]:
        """Stage the lab, or change the running one into this description.

        Routing daemons' configurations are checked before, and afterwards it is awaited that the
        routing has converged, for `wait_s` seconds (None: as long as `wait_converged`; 0: not).
        A `hub` that is to come from it may have begun to load.
        """
        with hub or HubProgram() as program:
            if self.has_routing:
                if not self.is_up():
                    program.begin()
                # Most labs have none, and need not load what checks it.
                from hostlab.routing.checking import check

                check(self.description)
            operations = driver.stage(
                self.description, progress=progress, origin=self.origin, hub=program
            )
        if self.has_routing and wait_s != 0:
            self.wait_converged(timeout_s=wait_s)
        return operations

    def wait_converged(
        self, *, timeout_s: float | None = None, quiet_s: float | None = None
    ) -> Converged:
        """Wait until every described session of the routing daemons is up, every prefix that OSPF
        tells is in the kernels, and no route has changed for `quiet_s` (1 s).

        Failed, naming what is missing, after `timeout_s` (120 s), or when a daemon has failed.
        """
        from hostlab.routing import convergence

        return convergence.wait_converged(
            self.description,
            self.nodes(),
            timeout_s=convergence.TIMEOUT_S if timeout_s is None else timeout_s,
            quiet_s=convergence.QUIET_S if quiet_s is None else quiet_s,
        )

    def down(self) -> bool:
        """Take the lab down; False when there was nothing of it."""
        return driver.unstage(self.name)

    def is_up(self) -> bool:
        """Whether the lab's hub answers."""
        control = driver.hub_control(LabDirectory.of(self.name))
        if control is None:
            return False
        control.close()
        return True

    def status(self) -> dict[str, Any]:
        """The hub's own account of the lab."""
        with driver.running(self.name, self.file) as control:
            found: dict[str, Any] = control.call("status")
            return found

    def nodes(self) -> dict[str, Node]:
        """The nodes that are there, by name."""
        return {
            row["name"]: Node(self.name, row["name"], row["pid"])
            for row in self.status()["nodes"]
            if row["pid"]
        }

    def failed_jobs(self, *, within_s: float = JOBS_S) -> list[dict[str, Any]]:
        """The jobs that have failed by now: node, name, instance and reason of each.

        Inits that do not answer within `within_s` seconds, all of them together, are left out.
        """
        rows: list[dict[str, Any]] = []
        if not any(node.has_jobs for node in self.description.nodes):
            return rows
        until = time.monotonic() + within_s
        nodes = self.nodes()
        for described in self.description.nodes:
            left_s = until - time.monotonic()
            node = nodes.get(described.name)
            # The init of a node without jobs would start for this question alone.
            if node is None or not described.has_jobs or left_s <= 0:
                continue
            with contextlib.suppress(Problem, OSError):
                rows += [
                    {
                        "node": node.name,
                        "name": row["name"],
                        "instance": row["instance"],
                        "reason": row["reason"],
                    }
                    for row in node.job_table(timeout_s=left_s)
                    if row["state"] == JobState.FAILED
                ]
        return rows

    def routes(self, *, to: str | None = None) -> dict[str, tuple[TableRoute, ...]]:
        """By node: the routes in its kernel; those that lead to an address, or to a prefix."""
        from hostlab.observe.routing import tables

        return tables(self.description, self._pids(), to=to)

    def paths(self, start: str, end: str, *, family: int | None = None) -> tuple[Path, ...]:
        """The way of a packet, as the kernels decide, in each family; see `observe.path.paths`."""
        from hostlab.observe.path import paths

        return paths(self.description, self._pids(), start, end, family=family)

    def _pids(self) -> dict[str, int]:
        return {name: node.pid for name, node in self.nodes().items()}

    def __getitem__(self, name: str) -> Node:
        nodes = self.nodes()
        return nodes[known_node(tuple(nodes), name, self.name)]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes().values())

    def check(
        self,
        checks: Sequence[spec.Check] | None = None,
        *,
        progress: Callable[[Verdict], None] | None = None,
        access: Mapping[str, HostAccess] | None = None,
    ) -> Report:
        """Judge every check of the description, or these; on hosts outside of it by `access`.

        The report is true when all of them hold; `must_hold()` of it raises what does not.
        """
        # Most commands judge nothing, and need not load what does.
        from hostlab.checks.judge import judge

        asked = self.description.checks if checks is None else checks
        found = self.nodes() if access is None else access
        secrets = self.description.secrets
        return judge(
            asked,
            found,
            lab=self.name,
            secrets=secrets,
            progress=progress,
            described=self.description if access is None else None,
        )

    def __enter__(self) -> Self:
        was_up = self.is_up()
        try:
            self.up()
        except BaseException:
            # Nobody else takes down what has come up and does not route.
            if not was_up:
                self.down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()


def is_file(text: str) -> bool:
    """Whether a description's path is meant, and not the name of a lab that is up."""
    return os.path.exists(text) or "/" in text or text == STANDARD_INPUT


def _staged(name: str) -> spec.Lab:
    """The description of a lab that is up; UsageError when there is neither lab nor file."""
    found = staged(name)
    if found is not None:
        return found
    problem = driver.missing(name)
    if problem.code == "no-lab" and name.endswith(ENDINGS):
        raise no_file(name)
    raise problem
