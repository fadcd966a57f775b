"""The sockets that the command line makes, and what it says when it cannot."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from hostlab.errors import Unsupported, UsageError
from hostlab.lab.publish import (
    machine_addresses,
    open_sockets,
)
from hostlab.spec.model import Publish
from tests.netns.lab.publish.publish_site import (
    MACHINE4,
    MACHINE6,
    Site,
    ask,
    connect,
    may_unshare,
    says,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not may_unshare(), reason="may not make network namespaces"),
]


def test_port_in_use_names_port_address_and_owner(machine: None) -> None:
    with socket.create_server(("127.0.0.1", 9000)):
        with pytest.raises(UsageError) as caught:
            open_sockets(
                [("a", Publish(port=9001, inner=1)), ("web", Publish(port=9000, inner=2000))]
            )
        own = (f"/proc/{os.getpid()}/comm", os.getpid())
        with open(own[0], encoding="ascii") as comm:
            name = comm.read().strip()
    assert caught.value.code == "port-in-use"
    assert caught.value.message == (
        f"web cannot publish tcp port 9000 on 0.0.0.0: the port is in use by {name} (pid {own[1]})"
    )
    for one in open_sockets([("a", Publish(port=9001, inner=1))]):
        one.close()  # what had been opened before the failure was closed


def test_two_labs_cannot_share_a_udp_port(machine: None) -> None:
    publish = ("web", Publish(port=9000, inner=1, protocol="udp"))
    first = open_sockets([publish])
    with pytest.raises(UsageError, match=r"udp port 9000 on 0\.0\.0\.0: the port is in use by"):
        open_sockets([publish])
    for one in first:
        one.close()


def test_port_zero_is_one_port_of_both_families(machine: None) -> None:
    opened = open_sockets([("web", Publish(port=0, inner=2000))])
    ports = {one.sock.getsockname()[1] for one in opened}
    assert {one.published.port for one in opened} == ports
    assert [one.sock.family for one in opened] == [socket.AF_INET, socket.AF_INET6]
    assert len(ports) == 1
    assert not any(one.sock.get_inheritable() for one in opened)
    for one in opened:
        one.close()


def test_one_address_only(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.publish(("web", Publish(port=9000, inner=2000, address=MACHINE4)))
    assert ask(MACHINE4, 9000) == b"web:hello"
    with pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", 9000)
    with pytest.raises(UsageError, match="does not have that address"):
        open_sockets([("web", Publish(port=9001, inner=1, address="198.51.100.1"))])


def test_machine_addresses_are_those_that_others_can_use(machine: None) -> None:
    assert machine_addresses() == (MACHINE4, MACHINE6)


def run_unprivileged(work: Callable[[], bytes]) -> bytes:
    """Run `work` in a child with no capability and another uid; what it returns."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(write_end, work())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        result = pipe.read()
    os.waitpid(pid, 0)
    return result


def test_a_privileged_port_says_what_is_needed(machine: None) -> None:
    def work() -> bytes:
        try:
            open_sockets([("web", Publish(port=80, inner=2000))])
        except Unsupported as error:
            return f"{error.code}|{error}".encode()
        return b"bound"

    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w", encoding="ascii") as sysctl:
        sysctl.write("1024")
    assert run_unprivileged(work).decode() == (
        "port-privileged|web cannot publish tcp port 80 on 0.0.0.0:"
        " ports below 1024 need CAP_NET_BIND_SERVICE\n"
        "  hint: publish a higher port, or as root:"
        " sysctl net.ipv4.ip_unprivileged_port_start=80"
    )
