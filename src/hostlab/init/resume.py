"""A supervisor that becomes another version of itself: `execve` in place, with the same pid.

The holder sees no death. What the new program needs comes through a memfd: which init this is, and
the numbers of the descriptors that stay open. Everything else it asks the holder for, as any new
supervisor is told it, and reads the state that was stored.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Final, NoReturn

import msgspec

from hostlab.errors import Unsupported
from hostlab.init.holder import Inheritance
from hostlab.init.node import NodeConfig, NodeSupervisor
from hostlab.init.standalone import Options, StandaloneSupervisor
from hostlab.init.standalone_place import Grounds
from hostlab.init.supervisor import Supervisor
from hostlab.spec.model import Node

MODULE: Final = "hostlab.init.resume"


class NodeParts(msgspec.Struct, frozen=True):
    """A NodeConfig, with descriptors by their numbers."""

    node: Node
    state_dir: int
    cgroup: int | None
    seccomp: bytes | None
    shared: tuple[tuple[str, str, int], ...]
    v1: dict[str, int]
    forks: int | None


class StandaloneParts(msgspec.Struct, frozen=True):
    """A stand-alone init's options and what it has of the machine."""

    options: Options
    state_dir: int
    cgroup: int | None = None
    v1: dict[str, int] = {}
    groups: tuple[str, ...] = ()
    unified: str | None = None


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """What the next program is told."""

    control: int
    channel: int
    node: NodeParts | None = None
    standalone: StandaloneParts | None = None

    def descriptors(self) -> tuple[int, ...]:
        """Those that must stay open."""
        found = [self.control, self.channel]
        if self.node is not None:
            found += [self.node.state_dir, *self.node.v1.values()]
            found += [fd for _, _, fd in self.node.shared]
            found += [self.node.cgroup] if self.node.cgroup is not None else []
        if self.standalone is not None:
            found += [self.standalone.state_dir, *self.standalone.v1.values()]
            found += [self.standalone.cgroup] if self.standalone.cgroup is not None else []
        return tuple(found)


def check() -> None:
    """Unsupported where there is no program to become."""
    if not os.access(sys.executable, os.X_OK):
        raise Unsupported(
            "no-python",
            f"this init's root has no {sys.executable} to go on with",
            hint="a node with the machine's root has; others are upgraded by `hostlab apply`",
        )


def execute(resumption: Resumption) -> NoReturn:
    """Become the program that is installed now; OSError when that cannot be."""
    told = os.memfd_create("hostlab resumption", 0)
    os.write(told, msgspec.json.encode(resumption))
    for fd in resumption.descriptors():
        _inherit(fd, passes=True)
    try:
        os.execv(sys.executable, [sys.executable, "-P", "-m", MODULE, str(told)])
    finally:
        for fd in resumption.descriptors():
            _inherit(fd, passes=False)
        os.close(told)


def _inherit(fd: int, *, passes: bool) -> None:
    os.set_inheritable(fd, passes)


def of_node(config: NodeConfig, inheritance: Inheritance) -> Resumption:
    """For a node's supervisor."""
    parts = NodeParts(
        config.node,
        config.state_dir,
        config.cgroup,
        config.seccomp,
        tuple((kind, node, fd) for (kind, node), fd in config.shared.items()),
        dict(config.v1),
        config.forks,
    )
    control, channel = inheritance.control.fileno(), inheritance.channel.fileno()
    return Resumption(control=control, channel=channel, node=parts)


def of_standalone(chosen: Options, grounds: Grounds, inheritance: Inheritance) -> Resumption:
    """For a stand-alone init's supervisor."""
    parts = StandaloneParts(
        chosen, grounds.state_dir, grounds.cgroup, dict(grounds.v1), grounds.groups, grounds.unified
    )
    control, channel = inheritance.control.fileno(), inheritance.channel.fileno()
    return Resumption(control=control, channel=channel, standalone=parts)


def main() -> None:
    """The next program."""
    told = int(sys.argv[1])
    resumption = msgspec.json.decode(os.pread(told, os.fstat(told).st_size, 0), type=Resumption)
    os.close(told)
    for fd in resumption.descriptors():
        _inherit(fd, passes=False)
    control = socket.socket(fileno=resumption.control)
    channel = socket.socket(fileno=resumption.channel)
    channel.send(b"?")
    asyncio.run(_run(resumption, Inheritance(control, channel)))


async def _run(resumption: Resumption, inheritance: Inheritance) -> None:
    supervisor: Supervisor
    if resumption.node is not None:
        supervisor = NodeSupervisor(_config(resumption.node), inheritance)
    else:
        assert resumption.standalone is not None
        parts = resumption.standalone
        grounds = Grounds(parts.state_dir, parts.cgroup, parts.v1, parts.groups, parts.unified)
        supervisor = StandaloneSupervisor(parts.options, grounds, inheritance)
    await supervisor.run()


def _config(parts: NodeParts) -> NodeConfig:
    return NodeConfig(
        node=parts.node,
        state_dir=parts.state_dir,
        cgroup=parts.cgroup,
        seccomp=parts.seccomp,
        shared={(kind, node): fd for kind, node, fd in parts.shared},
        v1=parts.v1,
        forks=parts.forks,
    )


if __name__ == "__main__":
    main()
