"""The floor: what the kernel itself charges for nodes on segments.

A forked child of this process becomes the *hub*: it leaves for a user, mount, UTS, IPC and network
namespace of its own, as a lab's hub does, and stays there until told to stop. A node is one
`clone3` with every namespace and one rtnetlink message that makes its veth, one end on a bridge,
the other in the node. The bridges go up last. A node's process does nothing but wait for SIGKILL.
There are no addresses, mounts, cgroups or descriptors, and the node's own end of the veth is still
down: that is what makes it a floor.

Stopping is SIGKILL to every node; the rest the kernel does by itself. Two moments are taken: when
the last process has been reaped, and when the last veth has left the hub's network namespace,
which the kernel announces.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from bench import kernel
from bench.reach import Member
from bench.rtnl import LinkEvents, Rtnl, bridge, veth

HUB_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET
)
SETTLE_DEADLINE_S = 60.0
LOOPBACK = 1
"""Every network namespace has `lo`, and `lo` is always the first link."""
NODE_INTERFACE = 2
FIRST_BRIDGE = 2
MAX_NEIGHBOURS = 32
"""Of an addressed floor's node: more of them would only prove the same again."""
MAX_ANSWER_BYTES = 1 << 20
"""4,000 pids of 7 digits are 36 kB."""


@dataclass(frozen=True, slots=True)
class Started:
    """A floor's nodes, and how long it took to make them."""

    up_s: float
    clone_s: float
    """The part of `up_s` spent in clone3."""
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """How long the kernel took to take a floor's nodes away."""

    reaped_s: float
    """Until every process had been reaped."""
    settled_s: float
    """Until the hub's network namespace had no port left."""


class FloorLab:
    """`nodes` bare nodes spread evenly over `segments` bridges; a context manager.

    With `addressed`, every node gets an IPv4 address after the clock has stopped, so that
    `reach.py` can be tried on it. RuntimeError when the kernel refuses.
    """

    def __init__(self, nodes: int, segments: int = 1, *, addressed: bool = False) -> None:
        self.nodes = nodes
        self.segments = segments
        self.started = Started(0.0, 0.0, ())
        self._socket, hub = socket.socketpair()
        self._hub_pid = os.fork()
        if self._hub_pid == 0:
            self._socket.close()
            _Hub(hub, nodes, segments, addressed=addressed).run_and_exit()
        hub.close()

    def __enter__(self) -> FloorLab:
        try:
            self._receive()
            kernel.map_everyone(self._hub_pid)
            self._socket.sendall(b"mapped\n")
            answer = self._receive()
            self.started = Started(answer["up_s"], answer["clone_s"], tuple(answer["pids"]))
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> Stopped:
        """Kill every node and wait for the kernel; the hub itself ends too."""
        self._socket.sendall(b"stop\n")
        answer = self._receive()
        self._end()
        return Stopped(answer["reaped_s"], answer["settled_s"])

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def hub_pid(self) -> int:
        """The process that made the nodes."""
        return self._hub_pid

    @property
    def members(self) -> tuple[Member, ...]:
        """The nodes as `reach.verify` wants them; only of a lab that is `addressed`."""
        return tuple(
            Member(str(at), pid, f"s{at % self.segments}", _address(at, self.segments))
            for at, pid in enumerate(self.started.pids)
        )

    def _receive(self) -> dict[str, Any]:
        answer = b""
        while not answer.endswith(b"\n"):
            part = self._socket.recv(MAX_ANSWER_BYTES)
            if not part:
                raise RuntimeError("the floor's hub ended before it answered")
            answer += part
        outcome: dict[str, Any] = json.loads(answer)
        if "error" in outcome:
            raise RuntimeError(outcome["error"])
        return outcome

    def _end(self) -> None:
        """End the hub, whatever it is doing; its nodes go with it (PR_SET_PDEATHSIG)."""
        self._socket.close()
        if self._hub_pid:
            os.kill(self._hub_pid, signal.SIGKILL)
            os.waitpid(self._hub_pid, 0)
            self._hub_pid = 0


def _address(node: int, segments: int) -> str:
    """10.0.0.0/10 cut into segments of a /20 each: room for 1,023 segments of 4,094 nodes."""
    value = (10 << 24) + ((node % segments) << 12) + node // segments + 1
    return socket.inet_ntoa(value.to_bytes(4, "big"))


def _mac(node: int) -> bytes:
    """Locally administered, one a node."""
    return b"\x02\x00" + node.to_bytes(4, "big")


class _Hub:
    """The forked child: makes the nodes, ends them when told to, or when its socket ends."""

    def __init__(
        self, channel: socket.socket, nodes: int, segments: int, *, addressed: bool
    ) -> None:
        self._channel = channel
        self._nodes = nodes
        self._segments = segments
        self._addressed = addressed
        self._pids: list[int] = []
        self._clone_s = 0.0

    def run_and_exit(self) -> None:
        """Never returns: this is a fork, and the stack above it belongs to the parent."""
        try:
            self._run()
        except Exception as error:
            # Whoever listens raises it again; nobody may, when the parent is gone.
            with contextlib.suppress(OSError):
                self._send({"error": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(0)

    def _run(self) -> None:
        kernel.die_with_parent()
        kernel.unshare(kernel.CLONE_NEWUSER)
        self._send({})
        self._channel.recv(16)
        kernel.unshare(HUB_NAMESPACES)
        kernel.make_mounts_private()
        with contextlib.closing(Rtnl()) as rtnl:
            begin = time.perf_counter()
            self._start(rtnl)
            up_s = time.perf_counter() - begin
            if self._addressed:
                self._give_addresses()
            self._send({"up_s": up_s, "clone_s": self._clone_s, "pids": self._pids})
            if self._channel.recv(16):
                self._send(self._stop(rtnl))

    def _start(self, rtnl: Rtnl) -> None:
        for segment in range(self._segments):
            rtnl.create(bridge(f"s{segment}"))
        for at in range(self._nodes):
            begin = time.perf_counter()
            pid = kernel.clone3(kernel.NODE_NAMESPACES)
            if pid == 0:
                kernel.die_with_parent()
                kernel.pause_for_ever()
            self._clone_s += time.perf_counter() - begin
            self._pids.append(pid)
            master = FIRST_BRIDGE + at % self._segments
            rtnl.create(veth(f"p{at}", master, "eth0", pid, _mac(at)))
        for segment in range(self._segments):
            rtnl.set_up(FIRST_BRIDGE + segment)

    def _give_addresses(self) -> None:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        for at, pid in enumerate(self._pids):
            fd = os.pidfd_open(pid)
            kernel.setns(fd, kernel.CLONE_NEWNET)
            os.close(fd)
            with contextlib.closing(Rtnl()) as rtnl:
                rtnl.set_up(LOOPBACK)
                rtnl.set_up(NODE_INTERFACE)
                rtnl.add_address(NODE_INTERFACE, _address(at, self._segments), 20)
                for other in self._neighbours(at):
                    rtnl.add_neighbour(NODE_INTERFACE, _address(other, self._segments), _mac(other))
        kernel.setns(home, kernel.CLONE_NEWNET)
        os.close(home)

    def _neighbours(self, node: int) -> tuple[int, ...]:
        """The next ones round the ring of the segment, either way, MAX_NEIGHBOURS at most."""
        ring = range(node % self._segments, self._nodes, self._segments)
        reach = min(MAX_NEIGHBOURS // 2, (len(ring) - 1) // 2 + 1)
        place = node // self._segments
        near = {ring[(place + step) % len(ring)] for step in range(-reach, reach + 1)}
        return tuple(sorted(near - {node}))

    def _stop(self, rtnl: Rtnl) -> dict[str, float]:
        with contextlib.closing(LinkEvents()) as events:
            begin = time.perf_counter()
            for pid in self._pids:
                os.kill(pid, signal.SIGKILL)
            for pid in self._pids:
                os.waitpid(pid, 0)
            reaped_s = time.perf_counter() - begin
            events.wait_links(self._segments + LOOPBACK, rtnl, SETTLE_DEADLINE_S)
            return {"reaped_s": reaped_s, "settled_s": time.perf_counter() - begin}

    def _send(self, answer: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(answer).encode() + b"\n")
