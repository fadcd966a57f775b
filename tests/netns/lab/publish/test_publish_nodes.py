"""Published ports inside nodes, and nodes that change, end, or belong to another user."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack

import pytest

from hostlab.lab.publish import (
    PublisherClient,
    Target,
    machine_addresses,
    open_sockets,
)
from hostlab.lab.publish.publisher import serve
from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.libc import setns
from hostlab.spec.model import Publish
from tests.netns.lab.publish.publish_site import (
    CLONE_NEWUSER,
    DEADLINE_S,
    EVERYWHERE,
    MACHINE4,
    MACHINE6,
    Site,
    a_site,
    ask,
    ask_udp,
    connect,
    echo,
    inside,
    may_unshare,
    my_netns,
    new_netns,
    says,
    unshare,
    wait_end,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not may_unshare(), reason="may not make network namespaces"),
]


def test_hairpin_inside_every_node(site: Site) -> None:
    """The same port on the same addresses, asked from inside: two nodes, tcp and udp."""
    site.client.machine(machine_addresses())
    site.node("web", "10.0.0.1/24", "fd00::1/64")
    site.node("other", "10.0.0.2/24")
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.udp("web", "0.0.0.0", 2000, b"udp:")
    site.publish(("web", Publish(port=9000, inner=2000)))
    site.publish(("web", Publish(port=9000, inner=2000, protocol="udp")))
    assert site.settled().warnings == ()
    for name in ("web", "other"):
        with inside(site.nodes[name]):
            for address in EVERYWHERE:
                assert ask(address, 9000) == b"web:hello"
            for address in ("127.0.0.1", "::1", MACHINE4, MACHINE6):
                assert ask_udp(address, 9000) == b"udp:hello"


def test_hairpin_leaves_a_nodes_own_ports_alone(site: Site) -> None:
    """Reserved by hint, by being an inner port itself, and by a service that was there before."""
    site.node("web", "10.0.0.1/24")
    site.node("hinted", "10.0.0.2/24", reserved=(8080,))
    site.node("early", "10.0.0.3/24")
    site.tcp("early", "0.0.0.0", 8080, says("early"))
    site.publish(("web", Publish(port=8080, inner=8080)))
    answer = site.settled()
    assert len(answer.warnings) == 1
    assert answer.warnings[0].startswith("early: tcp/8080 does not answer on 127.0.0.1: a service")
    for name in ("web", "hinted"):
        site.tcp(name, "0.0.0.0", 8080, says(name))
        with inside(site.nodes[name]):
            assert ask("127.0.0.1", 8080) == f"{name}:hello".encode()
    with inside(site.nodes["early"]):
        assert ask("127.0.0.1", 8080) == b"early:hello"
        assert ask("::1", 8080) == b"web:hello"


def test_hairpin_does_not_hide_an_address_of_the_lab(site: Site) -> None:
    """A lab whose segment contains the machine's address keeps that address to itself."""
    site.client.machine((MACHINE4,))
    site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.publish(("web", Publish(port=9000, inner=2000)))
    site.settled()
    with inside(site.nodes["web"]):
        assert ask(MACHINE4, 9000) == b"web:hello"
    site.node("inner", "192.0.2.77/24")
    site.settled()
    with inside(site.nodes["web"]), pytest.raises(OSError, match="unreachable"):
        ask(MACHINE4, 9000)


def test_a_changed_node_gets_its_port_back(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.node("other", "10.0.0.2/24")
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.publish(("web", Publish(port=9000, inner=2000)))
    assert site.settled().publishes[0].inside == 4
    site.client.change([Target(name="other", addresses=("10.0.0.2/24",), reserved=(9000,))])
    assert site.settled().publishes[0].inside == 2
    site.tcp("other", "0.0.0.0", 9000, says("other"))
    with inside(site.nodes["other"]):
        assert ask("127.0.0.1", 9000) == b"other:hello"


def test_bound_on_sockets_inside_is_said() -> None:
    with a_site(max_inside=5) as site:
        for number in range(4):
            site.node(f"n{number}", f"10.0.0.{number + 1}/24")
        site.publish(("n0", Publish(port=9000, inner=2000)))
        answer = site.settled()
    assert answer.publishes[0].inside == 5
    assert answer.warnings == (
        "3 published addresses do not answer inside nodes: more than 5 sockets there are not made",
    )


def test_a_restarted_node_is_found_again(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.node("other", "10.0.0.2/24")
    site.tcp("web", "0.0.0.0", 2000, echo)
    site.tcp("other", "0.0.0.0", 2000, echo)
    site.publish(("web", Publish(port=9000, inner=2000)), ("other", Publish(port=9001, inner=2000)))
    with connect("127.0.0.1", 9000) as lost, connect("127.0.0.1", 9001) as kept:
        for sock in (kept, lost):
            sock.sendall(b"1")
            assert sock.recv(1) == b"1"
        site.node("web", "10.0.0.1/24")
        site.tcp("web", "0.0.0.0", 2000, says("second"))
        with pytest.raises(ConnectionResetError):
            lost.recv(1)
        assert ask("127.0.0.1", 9000) == b"second:hello"
        kept.sendall(b"2")
        assert kept.recv(1) == b"2"


def test_a_node_known_by_pidfd_takes_its_sockets_with_it(site: Site) -> None:
    """The end of its process is noticed; nothing of ours keeps its namespace alive."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        setns(new_netns("10.0.0.1/24"), CLONE_NEWNET)
        listener = socket.create_server(("0.0.0.0", 2000))
        theirs.send(b"listening")
        connection, _ = listener.accept()
        connection.sendall(b"up")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    pidfd = os.pidfd_open(pid)
    try:
        assert ours.recv(20) == b"listening"
        site.client.nodes({Target(name="web", addresses=("10.0.0.1/24",)): pidfd})
        site.publish(("web", Publish(port=9000, inner=2000)))
        assert site.settled().publishes[0].inside == 2
        with connect("127.0.0.1", 9000) as sock:
            assert sock.recv(2) == b"up"
            ours.close()
            assert sock.recv(1) == b""
        site.wait_stat(lambda answer: answer.publishes[0].inside == 0)
    finally:
        ours.close()
        os.waitpid(pid, 0)
        os.close(pidfd)


def test_a_killed_publisher_leaves_nothing(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, echo)
    site.publish(("web", Publish(port=9000, inner=2000)))
    site.settled()
    with connect("127.0.0.1", 9000) as sock:
        sock.sendall(b"1")
        assert sock.recv(1) == b"1"
        os.kill(site.pid, signal.SIGKILL)
        os.waitpid(site.pid, 0)
        site.pid = 0
        assert sock.recv(1) == b""
    for fd in (my_netns(), os.dup(site.nodes["web"])):
        with inside(fd), pytest.raises(ConnectionRefusedError):
            connect("127.0.0.1", 9000)
        os.close(fd)
    for one in open_sockets([("web", Publish(port=9000, inner=2000))]):
        one.close()


def test_rootless(machine: None) -> None:
    """The publisher in a user namespace of its own, which owns the nodes; sockets from outside."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            theirs.send(b"unshared")
            theirs.recv(10)
            node = new_netns()
            socket.send_fds(theirs, [b"node"], [node])
            serve(theirs)
        finally:
            os._exit(0 if theirs.fileno() == -1 else 1)
    theirs.close()
    ours.settimeout(DEADLINE_S)
    if ours.recv(10) != b"unshared":
        os.waitpid(pid, 0)
        ours.close()
        pytest.skip("this process may not make user namespaces")
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as mapping:
            mapping.write("0 100000 1")
    ours.send(b"mapped")
    _, (node,), _, _ = socket.recv_fds(ours, 10, 1)
    client = PublisherClient(ours)
    with ExitStack() as stack:
        site = Site(client, pid, stack, {"web": node})
        stack.callback(os.close, node)
        client.machine(machine_addresses())
        client.nodes({Target(name="web"): node})
        site.tcp("web", "127.0.0.1", 2000, says("web"))
        site.publish(("web", Publish(port=9000, inner=2000)))
        assert site.settled().warnings == ()
        assert ask(MACHINE4, 9000) == b"web:hello"
        with inside(node):
            for address in EVERYWHERE:
                assert ask(address, 9000) == b"web:hello"
        client.close()
        assert wait_end(pid) == 0


def test_nodes_that_share_a_namespace_share_its_sockets(site: Site) -> None:
    """As containers of a pod do: asked once, reserved for all, taken over when one ends."""
    fd = site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.client.nodes({Target(name="sidecar", addresses=("10.0.0.1/24",)): fd})
    site.publish(("web", Publish(port=9000, inner=2000)), ("web", Publish(port=9001, inner=2000)))
    answer = site.settled()
    assert answer.warnings == ()
    assert [one.inside for one in answer.publishes] == [2, 2]
    site.client.change([Target(name="sidecar", addresses=("10.0.0.1/24",), reserved=(9001,))])
    assert [one.inside for one in site.settled().publishes] == [2, 0]
    site.client.gone(["sidecar"])
    assert [one.inside for one in site.settled().publishes] == [2, 2]
    site.client.nodes({Target(name="sidecar", addresses=("10.0.0.1/24",)): fd})
    site.client.gone(["web"])
    assert [one.inside for one in site.settled().publishes] == [2, 2]


def test_a_node_that_has_ended_already_is_no_error(site: Site) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    site.client.nodes({Target(name="late"): pidfd})
    os.close(pidfd)
    site.publish(("late", Publish(port=9000, inner=2000)))
    assert site.settled().publishes[0].inside == 0


def test_ipv6_switched_off_is_no_hindrance(site: Site) -> None:
    """On the machine and in a node alike."""
    fd = site.node("web", "10.0.0.1/24")
    for place in (my_netns(), os.dup(fd)):
        with inside(place), open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as sysctl:
            sysctl.write("1")
        os.close(place)
    site.tcp("web", "0.0.0.0", 2000, says("web"))
    site.publish(("web", Publish(port=9000, inner=2000)))
    assert site.settled().warnings == ()
    assert ask("127.0.0.1", 9000) == b"web:hello"
    with inside(fd):
        assert ask("localhost", 9000) == b"web:hello"
