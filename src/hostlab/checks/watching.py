"""When to judge again: on what the kernel and the nodes' inits tell, and not before.

Told are the events of jobs, links, addresses and routes, files that checks are about, a node's end,
and a description that has changed. What nobody tells of, as whether another host answers, is looked
at again after a while, and only that (`untold`).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final, Protocol, Self

from hostlab.errors import Problem
from hostlab.init.client import Control
from hostlab.linux.entering import from_inside
from hostlab.linux.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Inotify,
)
from hostlab.linux.rtmonitor import (
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_LINK,
    Monitor,
)
from hostlab.spec.model import Check

GROUPS: Final = (
    RTNLGRP_LINK,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
)
TOLD: Final = frozenset(
    {"job", "interface", "address", "route", "file", "user", "group", "package"}
)
"""Kinds whose change somebody tells of."""
_FILES: Final = {
    "user": ("/etc/passwd", "/etc/group"),
    "group": ("/etc/group",),
    "package": ("/var/lib/dpkg/status",),
}
_CHANGES: Final = (
    IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MODIFY
)


class Watched(Protocol):
    """A running node."""

    name: str

    @property
    def pid(self) -> int:
        """Its holder, as the machine has it."""
        ...

    def monitor(self) -> Control:
        """A connection on which its init tells what happens."""
        ...


def untold(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks whose change nobody tells of; also those that ask for it by a condition."""
    return tuple(
        check
        for check in checks
        if check.kind not in TOLD or (check.condition and check.condition.kind not in TOLD)
    )


class Watch:
    """What is told from its making on; a context manager. `wait` may miss nothing in between."""

    def __init__(
        self, nodes: Mapping[str, Watched], checks: Sequence[Check], files: Iterable[str]
    ) -> None:
        """`files` are those of the machine that say what is judged; what is not there is not
        watched, and a node that cannot be asked is as good as one that has ended."""
        with ExitStack() as stack:
            self._poll = select.poll()
            self._drains: dict[int, Control | Monitor | Inotify] = {}
            self._inotify = Inotify()
            stack.callback(self._inotify.close)
            self._add(self._inotify.fileno(), self._inotify)
            for path in files:
                self._watch_file(path)
            for node in nodes.values():
                with contextlib.suppress(Problem, OSError):
                    self._watch_node(node, stack)
            for check in checks:
                for name in check.nodes:
                    if name in nodes:
                        self._watch_files_of(nodes[name], check)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait(self, timeout_s: float | None) -> bool:
        """Until something is told; False when nothing was in time (None: for ever)."""
        if not any(isinstance(d, Control) and d.has_answer for d in self._drains.values()):
            ready = self._poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
            if not ready:
                return False
        self._drain()
        return True

    def _drain(self) -> None:
        """Take what is there: whoever judges now sees all that it was about."""
        for fd, _ in self._poll.poll(0):
            drain = self._drains.get(fd)
            if isinstance(drain, Control):
                try:
                    drain.receive()
                except Problem:
                    self._drop(fd)
            elif drain is None:
                self._drop(fd)  # a node has ended, and does so once
            else:
                drain.discard()
        for drain in self._drains.values():
            while isinstance(drain, Control) and drain.has_answer:
                drain.receive()

    def _add(self, fd: int, drain: Control | Monitor | Inotify | None = None) -> None:
        self._poll.register(fd, select.POLLIN)
        if drain is not None:
            self._drains[fd] = drain

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._drains.pop(fd, None)

    def _watch_node(self, node: Watched, stack: ExitStack) -> None:
        pidfd = os.pidfd_open(node.pid)
        stack.callback(os.close, pidfd)
        self._add(pidfd)
        control = stack.enter_context(node.monitor())
        self._add(control.socket.fileno(), control)

        def work() -> tuple[bytes, list[int]]:
            return b"", [Monitor(GROUPS).socket.detach()]

        _, (fd,) = from_inside(node.pid, ("user", "net"), work)
        monitor = Monitor(adopted=socket.socket(fileno=fd))
        stack.callback(monitor.close)
        self._add(fd, monitor)

    def _watch_files_of(self, node: Watched, check: Check) -> None:
        paths = (check.arguments["path"],) if check.kind == "file" else _FILES.get(check.kind, ())
        for path in paths:
            self._watch_file(f"/proc/{node.pid}/root{path}")

    def _watch_file(self, path: str) -> None:
        """The file, and its directory, where it may be made anew under its name."""
        for each in (path, os.path.dirname(path) or "."):
            with contextlib.suppress(OSError):
                self._inotify.add(each, _CHANGES)
