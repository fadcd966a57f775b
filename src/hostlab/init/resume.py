"""A supervisor that becomes another version of itself: `execve` in place, with the same pid.

The holder sees no death. The new program is asked first whether it can read the state (`--check`),
so that a version that cannot costs no job: the old one goes on. Clients stay connected: what is
served of theirs is served on by the new program, which knows each request by its token or by its
process.

What the new program needs comes through a memfd: which init this is, its clients, and the numbers
of the descriptors that stay open. Everything else it asks the holder for, as any new supervisor is
told it, and reads the state that was stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError, Failed, Unsupported
from hostlab.init.holder import Inheritance
from hostlab.init.job_supervisor import JobSupervisor
from hostlab.init.node import NodeConfig, NodeSupervisor
from hostlab.init.spawning.process import ProcessSetup, spawn
from hostlab.init.standalone.place import bear
from hostlab.init.standalone.start import StandaloneParts
from hostlab.init.standalone.supervisor import StandaloneSupervisor
from hostlab.init.store import load
from hostlab.init.supervisor import CarriedConnection
from hostlab.spec.model import Node
from hostlab.version import __version__

MODULE: Final = "hostlab.init.resume"
CHECK: Final = "--check"
KEY: Final = "check"
"""How the holder names the process that is asked."""
FIRST_FD: Final = 3
CHECKED_WITHIN_S: Final = 30.0
SAID_BYTES: Final = 4096


class NodeParts(msgspec.Struct, frozen=True):
    """A NodeConfig, with descriptors by their numbers."""

    node: Node
    state_dir: int
    cgroup: int | None
    seccomp: bytes | None
    shared: tuple[tuple[str, str, int], ...]
    v1: dict[str, int]
    forks: int | None


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """What the next program is told."""

    control: int
    channel: int
    clients: tuple[CarriedConnection, ...] = ()
    node: NodeParts | None = None
    standalone: StandaloneParts | None = None

    def descriptors(self) -> tuple[int, ...]:
        """Those that must stay open."""
        found = [self.control, self.channel, *(client.fd for client in self.clients)]
        if self.node is not None:
            found += [self.node.state_dir, *self.node.v1.values()]
            found += [fd for _, _, fd in self.node.shared]
            found += [self.node.cgroup] if self.node.cgroup is not None else []
        if self.standalone is not None:
            found += self.standalone.descriptors()
        return tuple(found)


async def check(supervisor: JobSupervisor, state: int) -> None:
    """Ask the program that is installed whether it can go on with this state, before it must.

    Unsupported where there is none; Failed, with what it says, when it cannot. `state` is the
    descriptor of the stored state, -1 for none.
    """
    if not os.access(sys.executable, os.X_OK):
        raise Unsupported(
            "no-python",
            f"this init's root has no {sys.executable} to go on with",
            hint="a node with the machine's root has; others are upgraded by `hostlab apply`",
        )
    told = _written(msgspec.json.encode(supervisor.resumption()))
    said = os.memfd_create("hostlab check", os.MFD_CLOEXEC)
    descriptors = {FIRST_FD: told} | ({FIRST_FD + 1: state} if state >= 0 else {})
    setup = ProcessSetup(
        argv=(sys.executable, "-P", "-m", MODULE, CHECK, *map(str, descriptors)),
        environment=os.environ,
        descriptors=(said, said, said),
        further=descriptors,
    )
    try:
        pid, pidfd = spawn(setup, key=KEY, channel=supervisor.channel)
        ended = supervisor.ended(pid)
        try:
            async with asyncio.timeout(CHECKED_WITHIN_S):
                status = await ended
        except TimeoutError:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            raise _cannot(f"it did not say so in {CHECKED_WITHIN_S} s") from None
        finally:
            os.close(pidfd)
        text = os.pread(said, SAID_BYTES, 0).decode(errors="replace").strip()
        if status:
            raise _cannot(text.rpartition("\n")[2] or f"it ended with status {status}")
    finally:
        os.close(told)
        os.close(said)


def _cannot(why: str) -> Failed:
    hint = "everything goes on as it was; install a version that can, and repeat the command"
    return Failed("reexec", f"the program that is installed cannot go on here: {why}", hint=hint)


def execute(resumption: Resumption, clients: tuple[CarriedConnection, ...]) -> NoReturn:
    """Become the program that is installed now; OSError when that cannot be."""
    whole = msgspec.structs.replace(resumption, clients=clients)
    told = _written(msgspec.json.encode(whole))
    passed = (told, *whole.descriptors())
    for fd in passed:
        _inherit(fd, passes=True)
    try:
        os.execv(sys.executable, [sys.executable, "-P", "-m", MODULE, str(told)])
    finally:
        for fd in passed:
            _inherit(fd, passes=False)
        os.close(told)


def _inherit(fd: int, *, passes: bool) -> None:
    os.set_inheritable(fd, passes)


def _written(data: bytes) -> int:
    """A memfd with this content."""
    fd = os.memfd_create("hostlab resumption", os.MFD_CLOEXEC)
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
    return fd


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


def of_standalone(parts: StandaloneParts, inheritance: Inheritance) -> Resumption:
    """For a stand-alone init's supervisor."""
    control, channel = inheritance.control.fileno(), inheritance.channel.fileno()
    return Resumption(control=control, channel=channel, standalone=parts)


def main() -> None:
    """The next program, or the question whether it can be it."""
    if sys.argv[1] == CHECK:
        told, *state = map(int, sys.argv[2:])
        try:
            _read(told)
            for fd in state:
                load(fd, lambda _: None, lambda *_: None)
        except (DecodeError, msgspec.MsgspecError) as error:
            sys.exit(f"{__version__}: {error}")
        return
    told = int(sys.argv[1])
    resumption = _read(told)
    os.close(told)
    for fd in resumption.descriptors():
        _inherit(fd, passes=False)
    control = socket.socket(fileno=resumption.control)
    channel = socket.socket(fileno=resumption.channel)
    channel.send(b"?")
    asyncio.run(_run(resumption, Inheritance(control, channel)))


def _read(told: int) -> Resumption:
    data = os.pread(told, os.fstat(told).st_size, 0)
    return typed.decode(data, Resumption)


async def _run(resumption: Resumption, inheritance: Inheritance) -> None:
    supervisor: JobSupervisor
    if resumption.node is not None:
        supervisor = NodeSupervisor(_config(resumption.node), inheritance)
    else:
        assert resumption.standalone is not None
        parts = resumption.standalone
        if parts.options.mark:
            bear(parts.options.mark)
        supervisor = StandaloneSupervisor(parts.options, parts.grounds, inheritance)
    supervisor.is_resumed = True
    supervisor.expect(resumption.clients)
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
