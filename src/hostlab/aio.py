"""The library for asyncio: the same as `api`, each call in a thread of its own.

`AsyncLab` is exported as `hostlab.Lab`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hostlab import spec
from hostlab.api import Lab, Node
from hostlab.awaiting.node import WAIT_S
from hostlab.checks.access import JobStatus
from hostlab.checks.verdict import Report
from hostlab.lab.access import Completed, known_node

if TYPE_CHECKING:
    from hostlab.routing.convergence import Converged
    from hostlab.spec.device import Device


class AsyncNode:
    """A running node, for asyncio."""

    def __init__(self, node: Node) -> None:
        self.sync = node
        self.name = node.name

    async def run(self, command: str, *, timeout_s: float | None = None) -> Completed:
        """Run a shell command and collect its output."""
        return await asyncio.to_thread(self.sync.shell, command, timeout_s=timeout_s)

    async def succeed(self, command: str, *, timeout_s: float | None = 60.0) -> str:
        """See `Node.succeed`."""
        return await asyncio.to_thread(self.sync.succeed, command, timeout_s=timeout_s)

    async def fail(self, command: str, *, timeout_s: float | None = 60.0) -> str:
        """See `Node.fail`."""
        return await asyncio.to_thread(self.sync.fail, command, timeout_s=timeout_s)

    async def wait_until_succeeds(self, command: str, *, timeout_s: float = WAIT_S) -> str:
        """See `AwaitedNode.wait_until_succeeds`."""
        return await asyncio.to_thread(self.sync.wait_until_succeeds, command, timeout_s=timeout_s)

    async def wait_until_fails(self, command: str, *, timeout_s: float = WAIT_S) -> str:
        """See `AwaitedNode.wait_until_fails`."""
        return await asyncio.to_thread(self.sync.wait_until_fails, command, timeout_s=timeout_s)

    async def wait_for_open_port(
        self,
        port: int,
        *,
        address: str | None = None,
        protocol: str = "tcp",
        timeout_s: float = WAIT_S,
    ) -> None:
        """See `AwaitedNode.wait_for_open_port`."""
        wait = self.sync.wait_for_open_port
        await asyncio.to_thread(wait, port, address=address, protocol=protocol, timeout_s=timeout_s)

    async def wait_for_closed_port(
        self,
        port: int,
        *,
        address: str | None = None,
        protocol: str = "tcp",
        timeout_s: float = WAIT_S,
    ) -> None:
        """See `AwaitedNode.wait_for_closed_port`."""
        wait = self.sync.wait_for_closed_port
        await asyncio.to_thread(wait, port, address=address, protocol=protocol, timeout_s=timeout_s)

    async def wait_for_job(
        self, name: str, state: str = "running", *, timeout_s: float = WAIT_S
    ) -> JobStatus:
        """See `AwaitedNode.wait_for_job`."""
        return await asyncio.to_thread(self.sync.wait_for_job, name, state, timeout_s=timeout_s)

    async def wait_for_unit(self, name: str, *, timeout_s: float = WAIT_S) -> JobStatus:
        """See `AwaitedNode.wait_for_unit`."""
        return await asyncio.to_thread(self.sync.wait_for_unit, name, timeout_s=timeout_s)

    async def wait_for_file(self, path: str, *, timeout_s: float = WAIT_S) -> None:
        """See `AwaitedNode.wait_for_file`."""
        await asyncio.to_thread(self.sync.wait_for_file, path, timeout_s=timeout_s)

    async def wait_for_log(
        self, job: str, pattern: str, *, instance: str = "", timeout_s: float = WAIT_S
    ) -> re.Match[str]:
        """See `AwaitedNode.wait_for_log`."""
        return await asyncio.to_thread(
            self.sync.wait_for_log, job, pattern, instance=instance, timeout_s=timeout_s
        )

    async def plug(self, device: str | os.PathLike[str] | Device) -> Sequence[str]:
        """See `Node.plug`."""
        return await asyncio.to_thread(self.sync.plug, device)

    async def unplug(self, name: str) -> None:
        """See `Node.unplug`."""
        await asyncio.to_thread(self.sync.unplug, name)

    async def jobs(self) -> Mapping[str, JobStatus]:
        """See `Node.jobs`."""
        return await asyncio.to_thread(self.sync.jobs)


class AsyncLab:
    """A lab for asyncio: `async with Lab("lab.yaml") as lab: await lab["web"].succeed("true")`."""

    def __init__(self, description: str | os.PathLike[str] | spec.Lab) -> None:
        self.sync = Lab(description)
        self.name = self.sync.name
        self._nodes: dict[str, Node] = {}

    async def up(self) -> list[dict[str, Any]]:
        """See `Lab.up`."""
        operations = await asyncio.to_thread(self.sync.up)
        self._nodes = await asyncio.to_thread(self.sync.nodes)
        return operations

    async def wait_converged(
        self, *, timeout_s: float | None = None, quiet_s: float | None = None
    ) -> Converged:
        """See `Lab.wait_converged`."""
        return await asyncio.to_thread(
            self.sync.wait_converged, timeout_s=timeout_s, quiet_s=quiet_s
        )

    async def down(self) -> bool:
        """See `Lab.down`."""
        return await asyncio.to_thread(self.sync.down)

    async def check(self) -> Report:
        """See `Lab.check`."""
        return await asyncio.to_thread(self.sync.check)

    def __getitem__(self, name: str) -> AsyncNode:
        return AsyncNode(self._nodes[known_node(tuple(self._nodes), name, self.name)])

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.down()
