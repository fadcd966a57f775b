"""A stage that the tests of asking share, and a second way to see what becomes of a packet.

The second way is the wire itself: the packet's frame on the world's end, real sockets in the node,
and what then leaves the node on either end. A frame of a type that nobody takes, sent behind it,
tells when it has been dealt with.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from hostlab.firewall import frames
from hostlab.firewall.answer import Verdict
from hostlab.firewall.packet import Packet, Protocol, parse_packet
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from hostlab.firewall.wires import NAMESPACES, Wires
from hostlab.linux import conntrack
from hostlab.linux.entering import Work, from_inside

TARGET = Target(
    interfaces=(
        TargetInterface(name="wan0", addresses=("203.0.113.10/24", "2001:db8::10/64")),
        TargetInterface(name="lan0", addresses=("10.0.0.1/24", "fd00::1/64")),
    ),
    routes=(
        TargetRoute(to="0.0.0.0/0", via="203.0.113.1"),
        TargetRoute(to="::/0", via="2001:db8::1"),
    ),
    sysctls=(("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")),
)
_BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
}
DEADLINE_MS = 20_000
SENTINEL_TYPE = 0x88B5
"""Of IEEE 802, for experiments."""
LISTENING = (22, 24, 53, 80, 81)


def replace(node: StageNode, ruleset: Ruleset) -> None:
    """The node holds this ruleset and nothing else."""
    node.shell("nft flush ruleset")
    empty = ""
    for table, chains in _BUILT_IN.items():
        empty += f"*{table}\n" + "".join(f":{each} ACCEPT [0:0]\n" for each in chains) + "COMMIT\n"
    for field in ("legacy_iptables", "legacy_ip6tables"):
        tool = "iptables" if field == "legacy_iptables" else "ip6tables"
        if node.shell(f"{tool}-legacy-save").stdout:
            node.execute((f"{tool}-legacy-restore",), stdin=empty.encode())
    # A set stays while a rule names it.
    node.shell("ipset destroy")
    node.load(ruleset)


def packets(*texts: str) -> tuple[Packet, ...]:
    """Packets as people write them."""
    return tuple(parse_packet(text) for text in texts)


class World:
    """Both ends of the node's wires, and servers in the node."""

    def __init__(self, stage: Stage, name: str, stack: ExitStack) -> None:
        self.node = stage.nodes[name]
        self.wires = Wires(self.node.pid, stage.hub)
        stack.callback(self.wires.close)
        self.wires.open_ports(("wan0", "lan0"))
        self._poll = select.poll()

        def serve(port: int) -> tuple[bytes, Sequence[int]]:
            fds = []
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                made = socket.socket(socket.AF_INET6, kind | socket.SOCK_CLOEXEC)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                made.bind(("::", port))
                if kind == socket.SOCK_STREAM:
                    made.listen(64)
                fds.append(made.detach())
            return b"", fds

        def tap() -> tuple[bytes, Sequence[int]]:
            fds = []
            for name in ("wan0", "lan0"):
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                made.bind((name, SENTINEL_TYPE))
                fds.append(made.detach())
            return b"", fds

        peers = [self.wires._peers[name] for name in ("wan0", "lan0")]

        def look() -> tuple[bytes, Sequence[int]]:
            fds = []
            for index in peers:
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                made.bind((socket.if_indextoname(index), 3))
                fds.append(made.detach())
            return b"", fds

        def opened(pid: int, work: Work) -> list[socket.socket]:
            _, fds = from_inside(pid, NAMESPACES, work)
            return [stack.enter_context(socket.socket(fileno=fd)) for fd in fds]

        self.servers = [
            each for port in LISTENING for each in opened(self.node.pid, partial(serve, port))
        ]
        self.taps = dict(zip(("wan0", "lan0"), opened(self.node.pid, tap), strict=True))
        self.seen = dict(zip(("wan0", "lan0"), opened(stage.hub, look), strict=True))

    def verdict(self, packet: Packet) -> Verdict:
        """What becomes of the packet; DROP stands for LOST too."""
        assert packet.interface is not None
        self.wires.conntrack.request([conntrack.flush()])
        for each in self.seen.values():
            _drained(each)
        frame = frames.frame(
            packet,
            source_mac=bytes.fromhex("020000000099"),
            destination_mac=self.wires.destination_mac(packet.interface, packet.destination),
        )
        port = self.wires.port(packet.interface)
        port.send(frame)
        port.send(bytes(6) + bytes.fromhex("020000000099") + SENTINEL_TYPE.to_bytes(2) + bytes(50))
        tap = self.taps[packet.interface]
        ready = select.poll()
        ready.register(tap, select.POLLIN)
        assert ready.poll(DEADLINE_MS), "the frame behind the packet did not arrive"
        tap.recv(100)
        came = [data for each in self.seen.values() for data in _drained(each)]
        got = [_drained(each) for each in self.servers if each.type == socket.SOCK_DGRAM]
        found = {_means(packet, data) for data in came} - {None}
        if any(got):
            found.add(Verdict.ACCEPT)
        assert len(found) <= 1, found
        return found.pop() or Verdict.DROP if found else Verdict.DROP


def _drained(sock: socket.socket) -> list[bytes]:
    found = []
    while select.select([sock], [], [], 0)[0]:
        data, address = sock.recvfrom(4096)
        if len(address) < 5 or address[2] != socket.PACKET_OUTGOING:
            found.append(data)
    return found


def _means(packet: Packet, frame: bytes) -> Verdict | None:
    """What a frame that left the node says of the packet; None: nothing."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind not in (frames.ETH_P_IP, frames.ETH_P_IPV6):
        return None
    body = frame[14:]
    is_v6 = kind == frames.ETH_P_IPV6
    number = body[6] if is_v6 else body[9]
    above = body[40:] if is_v6 else body[20:]
    if number == frames.IPPROTO_TCP:
        if above[13] & 0x04:
            return Verdict.REJECT
        return Verdict.ACCEPT
    if number == frames.IPPROTO_UDP:
        return Verdict.ACCEPT
    if number in (frames.IPPROTO_ICMP, frames.IPPROTO_ICMPV6):
        if above[0] in ((1,) if is_v6 else (3,)):
            return Verdict.REJECT
        if packet.protocol is Protocol.ICMP and above[0] in (0, 8, 128, 129):
            return Verdict.ACCEPT
    return None


@contextmanager
def on_one_processor() -> Iterator[None]:
    """What is sent stays in order."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
