"""The sockets that a prober sends by and hears by: one for each end, made where it belongs.

A frame that arrives is sent on the hub's end of the interface; a packet of the host itself by a raw
socket inside the node, made with the user id that it is to have. All frames of one processor reach
the node in the order in which they are sent: each is put into that processor's one queue.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import ip_interface

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.firewall.frames import ETH_P_IP, packed
from hostlab.firewall.witnesses import SENTINEL
from hostlab.linux import nflog, nftrace
from hostlab.linux.entering import from_inside
from hostlab.linux.libc import setfsuid
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import addresses, links, mac_bytes

IP_HDRINCL = 3
"""Of ip(7): the packet is given with its header."""
NETLINK_NETFILTER = 12
NAMESPACES = ("user", "net")
_BATCH = 6
"""Sockets that one child brings back."""
_SENTINEL_FRAME = bytes.fromhex("450000140000000040fd7beb7f0000017f000001")
"""An IPv4 header from and to 127.0.0.1, of protocol 253 (RFC 3692): nobody's."""


class _Seen(msgspec.Struct, frozen=True):
    """What a node's network is, as a child brings it back."""

    links: dict[str, tuple[int, str, int]]
    """Name -> index, MAC, index of the other end."""
    addresses: list[tuple[int, str]]


class Wires:
    """Every socket of a prober; `close` closes them."""

    def __init__(self, node: int, hub: int) -> None:
        """Of a node and a stage's hub, both by their process."""
        self._node, self._hub = node, hub
        self._stack = ExitStack()
        self._ports: dict[str, socket.socket] = {}
        self._raw: dict[tuple[bool, int], socket.socket] = {}
        self.nflog: Netlink | None = None
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise

    def _open(self) -> None:
        node = self._node

        def look() -> tuple[bytes, Sequence[int]]:
            with Netlink() as netlink:
                seen = _Seen(
                    {each.name: (each.index, each.mac, each.peer) for each in links(netlink)},
                    list(addresses(netlink)),
                )
            lo = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            lo.bind(("lo", 0))
            conntrack = Netlink(NETLINK_NETFILTER)
            trace = nftrace.trace_socket()
            fds = [trace.detach(), conntrack.socket.detach(), lo.detach()]
            return msgspec.json.encode(seen), fds

        data, fds = from_inside(node, NAMESPACES, look)
        self.trace, control, self.lo = (self._own(fd) for fd in fds)
        nftrace.widen(self.trace)
        self.conntrack = Netlink(adopted=control)
        seen = typed.decode(data, _Seen)
        self.names = {index: name for name, (index, _, _) in seen.links.items()}
        self.macs = {name: mac_bytes(mac) for name, (_, mac, _) in seen.links.items() if mac}
        self._peers = {name: peer for name, (_, _, peer) in seen.links.items()}
        self.local = {str(ip_interface(each).ip) for _, each in seen.addresses}
        self.broadcasts = {
            str(ip_interface(each).network.broadcast_address)
            for _, each in seen.addresses
            if ip_interface(each).version == 4 and ip_interface(each).network.prefixlen < 31
        }

    def _own(self, fd: int) -> socket.socket:
        return self._stack.enter_context(socket.socket(fileno=fd))

    def close(self) -> None:
        """Close every socket."""
        self.ignore_legacy()
        self._stack.close()

    def hear_legacy(self) -> Netlink:
        """The socket on which rules of legacy iptables are told, with the logger that does it."""

        def listen() -> tuple[bytes, Sequence[int]]:
            for family in (socket.AF_INET, socket.AF_INET6):
                # Resolved in this child's network namespace, whoever mounted /proc.
                with open(f"/proc/sys/net/netfilter/nf_log/{int(family)}", "w") as file:
                    file.write(nflog.LOGGER)
            return b"", [nflog.listen().socket.detach()]

        if self.nflog is None:
            _, (fd,) = from_inside(self._node, NAMESPACES, listen)
            found = socket.socket(fileno=fd)
            nftrace.widen(found)
            self.nflog = Netlink(adopted=found)
        return self.nflog

    def ignore_legacy(self) -> None:
        """Stop hearing what `hear_legacy` hears."""
        if self.nflog is not None:
            self.nflog.close()
            self.nflog = None

    def port(self, interface: str) -> socket.socket:
        """The world's side of an interface; UsageError for one that the target has not."""
        found = self._ports.get(interface)
        if found is None:
            self.open_ports((interface,))
            found = self._ports[interface]
        return found

    def open_ports(self, interfaces: Iterable[str]) -> None:
        """Make the sockets of these ports, where they are not there yet."""
        wanted = [
            each for each in dict.fromkeys(interfaces) if each != "lo" and each not in self._ports
        ]
        for each in wanted:
            if not self._peers.get(each):
                names = ", ".join(name for name, peer in self._peers.items() if peer)
                hint = f"the target has {names}" if names else "the target has none but lo"
                raise UsageError("interface", f"there is no interface {each!r}", hint=hint)
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]

            def bind(names: Sequence[str] = batch) -> tuple[bytes, Sequence[int]]:
                fds = []
                for name in names:
                    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                    made.bind((socket.if_indextoname(self._peers[name]), 0))
                    fds.append(made.detach())
                return b"", fds

            _, fds = from_inside(self._hub, NAMESPACES, bind)
            self._ports |= {name: self._own(fd) for name, fd in zip(batch, fds, strict=True)}

    def raw(self, *, is_v6: bool, uid: int) -> socket.socket:
        """What the host itself sends by, as that user of the node."""
        found = self._raw.get((is_v6, uid))
        if found is not None:
            return found

        def make() -> tuple[bytes, Sequence[int]]:
            # The owner of a packet is the fsuid with which its socket was made (xt_owner.c).
            setfsuid(uid)
            if setfsuid(uid) != uid:
                raise OSError(22, f"uid {uid} is none of the node's users")
            family = socket.AF_INET6 if is_v6 else socket.AF_INET
            made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
            if not is_v6:
                made.setsockopt(socket.IPPROTO_IP, IP_HDRINCL, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return b"", [made.detach()]

        try:
            _, (fd,) = from_inside(self._node, NAMESPACES, make)
        except OSError as error:
            raise UsageError("uid", f"no socket of user {uid}: {error.strerror}") from error
        found = self._raw[is_v6, uid] = self._own(fd)
        return found

    def send_sentinel(self, number: int) -> None:
        """Put the frame behind all that were sent: it is seen when they have been."""
        source = SENTINEL + number.to_bytes(3)
        self.lo.send(bytes(6) + source + ETH_P_IP.to_bytes(2) + _SENTINEL_FRAME)

    def destination_mac(self, interface: str, address: str) -> bytes:
        """What a frame to this address has as its destination."""
        if address == "255.255.255.255" or address in self.broadcasts:
            return b"\xff" * 6
        on_wire = packed(address)
        if len(on_wire) == 4 and on_wire[0] >> 4 == 0xE:
            return bytes.fromhex("01005e") + bytes([on_wire[1] & 0x7F]) + on_wire[2:]
        if len(on_wire) == 16 and on_wire[0] == 0xFF:
            return b"\x33\x33" + on_wire[12:]
        return self.macs[interface]
