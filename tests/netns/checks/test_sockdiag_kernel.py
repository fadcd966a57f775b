"""The kernel's own answers to a sock_diag dump."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.sockdiag import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, listeners

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_is_listed_as_the_socket_says(family: socket.AddressFamily) -> None:
    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family) as waits, socket.socket(family, socket.SOCK_DGRAM) as takes:
        waits.bind((loopback, 0))
        takes.bind((loopback, 0))
        found = {(entry.address, entry.port) for entry in listeners("tcp")}
        assert waits.getsockname()[:2] not in found
        waits.listen()
        found = {(entry.address, entry.port) for entry in listeners("tcp")}
        assert waits.getsockname()[:2] in found
        found = {(entry.address, entry.port) for entry in listeners("udp")}
        assert takes.getsockname()[:2] in found


def test_more_sockets_than_fit_one_datagram() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(600)]
    try:
        ports = {entry.port for entry in listeners("tcp")}
        assert {sock.getsockname()[1] for sock in sockets} <= ports
    finally:
        for sock in sockets:
            sock.close()


def test_a_dump_without_a_handler_is_an_error() -> None:
    """Its errno comes with NLMSG_DONE, not with NLMSG_ERROR."""
    body = struct.pack("=BBBBI48s", socket.AF_INET, 254, 0, 0, 0, bytes(48))
    request = Request(SOCK_DIAG_BY_FAMILY, 0, body, "list nothing")
    with Netlink(NETLINK_SOCK_DIAG) as netlink, pytest.raises(OSError, match="list nothing") as it:
        list(netlink.dump(request))
    assert it.value.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)
