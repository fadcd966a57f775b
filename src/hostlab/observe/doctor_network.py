"""Probes of what nodes are wired and filtered with, each made in a network namespace of its own."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from hostlab.linux import clone, mroute
from hostlab.linux.frame_ring import FrameSocket
from hostlab.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, Request, attribute
from hostlab.linux.packet import Ring, capture_socket
from hostlab.linux.rtnetlink import (
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    RTM_NEWLINK,
    bridge_add,
    link_set,
)
from hostlab.observe.finding import Finding, State, tried

GROUP: Final = "network"
_RTM_NEWQDISC = 36
_TC_H_ROOT = 0xFFFFFFFF
_TCA_KIND, _TCA_OPTIONS = 1, 2
_IFLA_LINK = 5
_NETLINK_NETFILTER = 12
_NFT_GETTABLE = 10 << 8 | 1
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE (linux/netfilter/nf_tables.h)."""
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_LOWER = 7
"""The index of the bridge that stacked links are probed on."""

_MODULE = "a kernel with it, or modprobe {}; a vm node has it"


class _Kind(NamedTuple):
    """A kind of link: its data attributes, and what is lost without it."""

    kind: str
    data: bytes
    lost: str
    is_stacked: bool = False

    @property
    def module(self) -> str:
        """The kernel module that has it."""
        return _MODULES.get(self.kind, self.kind)


_MODULES: Final = {"vlan": "8021q", "bond": "bonding", "gre": "ip_gre"}

_KINDS: Final = (
    _Kind("veth", b"", "every link of a lab"),
    _Kind("bridge", b"", "every segment of a lab"),
    _Kind("vxlan", attribute(1, struct.pack("=I", 42)), "segments that are VXLANs"),
    _Kind("macvlan", b"", "nodes on a network card of the machine", is_stacked=True),
    _Kind("vlan", attribute(1, struct.pack("=H", 5)), "802.1Q interfaces", is_stacked=True),
    _Kind("dummy", b"", "interfaces without a peer"),
    _Kind("vrf", attribute(1, struct.pack("=I", 10)), "VRFs"),
    _Kind("bond", b"", "bonds"),
    _Kind("wireguard", b"", "WireGuard tunnels"),
    _Kind("gre", b"", "GRE tunnels"),
    _Kind("ipip", b"", "IPIP tunnels"),
    _Kind("sit", b"", "6in4 tunnels"),
)


def _link(kind: _Kind) -> Request:
    info = attribute(IFLA_INFO_KIND, kind.kind.encode())
    if kind.data:
        info += attribute(IFLA_INFO_DATA, kind.data)
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    body += attribute(IFLA_IFNAME, b"probe0\0")
    if kind.is_stacked:
        body += attribute(_IFLA_LINK, struct.pack("=I", _LOWER))
    body += attribute(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add {kind.kind}")


def _make_link(kind: _Kind) -> None:
    with Netlink() as netlink:
        if kind.is_stacked:
            netlink.request([bridge_add("lower0", _LOWER, mtu=1500, mac="02:00:00:00:00:07")])
        try:
            netlink.request([_link(kind)])
        except OSError as error:
            # A tunnel's module makes one of its kind at once; that it is there is the answer.
            if error.errno != errno.EEXIST:
                raise


def links() -> Iterator[Finding]:
    """Every kind of link, made in a namespace that goes away with it."""
    for kind in _KINDS:
        make = partial(_make_link, kind)
        outcome = tried(make, flags=clone.CLONE_NEWNET, is_rooted=True)
        if outcome.is_ok:
            yield Finding(GROUP, kind.kind, State.OK, "made in a network namespace")
        else:
            detail = f"{outcome.error}; lost: {kind.lost}"
            yield Finding(GROUP, kind.kind, State.MISSING, detail, _MODULE.format(kind.module))


def _make_filtering_bridge() -> None:
    data = attribute(7, b"\1")  # IFLA_BR_VLAN_FILTERING
    _make_link(_Kind("bridge", data, ""))


def _make_qdisc(kind: str, options: bytes) -> None:
    body = struct.pack("=BxxxiIII", 0, 1, 0, _TC_H_ROOT, 0)
    body += attribute(_TCA_KIND, kind.encode() + b"\0")
    if options:
        body += attribute(_TCA_OPTIONS, options)
    with Netlink() as netlink:
        netlink.request([link_set(1, up=True)])
        flags = NLM_F_CREATE | NLM_F_EXCL
        netlink.request([Request(_RTM_NEWQDISC, flags, body, f"add qdisc {kind}")])


def _list_tables() -> None:
    with Netlink(_NETLINK_NETFILTER) as netlink:
        for _ in netlink.dump(Request(_NFT_GETTABLE, 0, bytes(4), "list tables")):
            pass


def _make_tap() -> None:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"probe0", _IFF_TAP | _IFF_NO_PI))
    finally:
        os.close(fd)


def _open_socket(family: int, kind: int, protocol: int) -> Callable[[], None]:
    return lambda: socket.socket(family, kind, protocol).close()


def _use_bbr() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")


def _bind_v6() -> None:
    with Netlink() as netlink:
        netlink.request([link_set(1, up=True)])
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))


def _make_ring() -> None:
    with capture_socket("lo") as sock, Ring(sock):
        pass


def _make_wire() -> None:
    FrameSocket(1, 1500).close()


class _Facility(NamedTuple):
    """Something else of the network: how it is tried, what is lost, how it is got."""

    name: str
    work: Callable[[], None]
    lost: str
    remedy: str


_TBF_OPTIONS = attribute(1, struct.pack("=BBHhHI12xIII", 0, 1, 0, -1, 0, 125_000, 9000, 62500, 0))
_NETEM_OPTIONS = struct.pack("=6I", 1000, 1000, 0, 0, 0, 0)  # struct tc_netem_qopt
_DATAGRAM, _STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM

_FACILITIES: Final = (
    _Facility("bridge VLAN filtering", _make_filtering_bridge, "trunks on a segment",
              "a kernel with CONFIG_BRIDGE_VLAN_FILTERING; a vm node has it"),
    _Facility("netem", lambda: _make_qdisc("netem", _NETEM_OPTIONS),
              "impairments by the kernel: the user-space wire stands in, which is less exact",
              _MODULE.format("sch_netem")),
    _Facility("tbf", lambda: _make_qdisc("tbf", _TBF_OPTIONS),
              "a rate by the kernel: the user-space wire stands in", _MODULE.format("sch_tbf")),
    _Facility("user-space wire", _make_wire, "impairments where the kernel has no netem",
              "a kernel with CONFIG_PACKET"),
    _Facility("fq_codel", lambda: _make_qdisc("fq_codel", b""), "that queue",
              _MODULE.format("sch_fq_codel")),
    _Facility("htb", lambda: _make_qdisc("htb", attribute(2, struct.pack("=5I", 3, 10, 0, 0, 0))),
              "shares of a link", _MODULE.format("sch_htb")),
    _Facility("multicast routing", mroute.use, "`pim` of `routing`",
              "a kernel with CONFIG_IP_MROUTE and CONFIG_IP_PIMSM_V2; a vm node has it"),
    _Facility("nftables", _list_tables, "firewalls and published ports",
              _MODULE.format("nf_tables")),
    _Facility("tap", _make_tap, "vm nodes and user-space links",
              "mknod /dev/net/tun c 10 200, and chmod 666 of it"),
    _Facility("capture ring", _make_ring, "`hostlab capture`", "a kernel with CONFIG_PACKET"),
    _Facility("IPv6", _bind_v6, "addresses of that family", "sysctl net.ipv6.conf.all."
              "disable_ipv6=0; a kernel with CONFIG_IPV6"),
    _Facility("BBR", _use_bbr, "that congestion control", _MODULE.format("tcp_bbr")),
    _Facility("MPTCP", _open_socket(socket.AF_INET, _STREAM, 262), "multipath TCP",
              "sysctl net.mptcp.enabled=1; a kernel with CONFIG_MPTCP"),
    _Facility("UDP-Lite", _open_socket(socket.AF_INET, _DATAGRAM, 136), "that protocol",
              "a kernel before Linux 7.1"),
    _Facility("SCTP", _open_socket(socket.AF_INET, _STREAM, 132), "that protocol",
              _MODULE.format("sctp")),
)  # fmt: skip


def facilities() -> Iterator[Finding]:
    """Queues, filters, devices and protocols."""
    for one in _FACILITIES:
        outcome = tried(one.work, flags=clone.CLONE_NEWNET, is_rooted=True)
        if outcome.is_ok:
            yield Finding(GROUP, one.name, State.OK, "tried in a network namespace")
        else:
            detail = f"{outcome.error}; lost: {one.lost}"
            yield Finding(GROUP, one.name, State.MISSING, detail, one.remedy)


PROBES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (links, facilities)
