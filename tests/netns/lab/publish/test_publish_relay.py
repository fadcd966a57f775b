"""Connections from the machine into nodes: whole, in order, ended as they should be."""

from __future__ import annotations

import array
import hashlib
import os
import resource
import select
import signal
import socket
import struct
import threading
from contextlib import ExitStack, suppress

import pytest

from hostlab.errors import Failed
from hostlab.lab.publish import (
    Target,
    open_sockets,
    publisher,
    tcp,
    udp,
)
from hostlab.lab.publish.flow import SPARE_PIPES
from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.messages import Published
from hostlab.lab.publish.places import Places
from hostlab.lab.publish.port import Port
from hostlab.lab.publish.tcp import Connection, TcpRelay
from hostlab.spec.model import Publish
from tests.netns.lab.publish.publish_site import (
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
    read_all,
    says,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not may_unshare(), reason="may not make network namespaces"),
]


def test_three_nodes_publish_one_inner_port(site: Site) -> None:
    for number in range(3):
        site.node(f"web{number}", f"10.0.0.{number + 1}/24", f"fd00::{number + 1}/64")
        site.tcp(f"web{number}", "0.0.0.0", 2000, says(f"web{number}"))
        site.publish((f"web{number}", Publish(port=9000 + number, inner=2000)))
    for number in range(3):
        for address in EVERYWHERE:
            assert ask(address, 9000 + number) == f"web{number}:hello".encode()
    stats = site.client.stat().publishes
    assert [one.publish.port for one in stats] == [9000, 9001, 9002]
    assert all(one.connections == 5 and one.bytes_in == 25 for one in stats)


@pytest.mark.parametrize("bound", ["0.0.0.0", "10.0.0.1", "127.0.0.1", "::", "fd00::1", "::1"])
def test_a_service_is_found_wherever_it_is_bound(site: Site, bound: str) -> None:
    site.node("web", "10.0.0.1/24", "fd00::1/64")
    site.tcp("web", bound, 2000, says("web"))
    site.udp("web", bound, 2000, b"udp:")
    site.publish(("web", Publish(port=9000, inner=2000)))
    site.publish(("web", Publish(port=9000, inner=2000, protocol="udp")))
    for address in EVERYWHERE:
        assert ask(address, 9000) == b"web:hello"
    for address in ("127.0.0.1", "::1", MACHINE4, MACHINE6):
        assert ask_udp(address, 9000) == b"udp:hello"


def test_half_close_both_ways(site: Site) -> None:
    """Each side ends its sending while the other goes on."""
    site.node("web", "10.0.0.1/24")

    def handler(sock: socket.socket) -> None:
        sock.sendall(b"first")
        sock.shutdown(socket.SHUT_WR)
        received.append(read_all(sock))

    received: list[bytes] = []
    service = site.tcp("web", "0.0.0.0", 2000, handler)
    site.publish(("web", Publish(port=9000, inner=2000)))
    with connect("127.0.0.1", 9000) as sock:
        assert read_all(sock) == b"first"
        sock.sendall(b"after the server's end")
        sock.shutdown(socket.SHUT_WR)
        site.wait_stat(lambda answer: answer.publishes[0].open == 0)
    site.stack.close()
    assert received == [b"after the server's end"]
    assert service.errors == []


def test_big_transfers_arrive_whole_both_ways(site: Site) -> None:
    """64 MB there and 64 MB back at once, of blocks that differ, compared by hash."""
    site.node("web", "10.0.0.1/24")
    blocks = [hashlib.sha256(bytes([number])).digest() * 2048 for number in range(256)]
    expected = hashlib.sha256()
    for _ in range(4):
        for block in blocks:
            expected.update(block)
    found: dict[str, str] = {}

    def send(sock: socket.socket) -> None:
        for _ in range(4):
            for block in blocks:
                sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket, side: str) -> None:
        digest = hashlib.sha256()
        while data := sock.recv(1 << 18):
            digest.update(data)
        found[side] = digest.hexdigest()

    def both(sock: socket.socket, side: str) -> None:
        sender = threading.Thread(target=send, args=(sock,))
        sender.start()
        receive(sock, side)
        sender.join()

    site.tcp("web", "0.0.0.0", 2000, lambda sock: both(sock, "server"))
    site.publish(("web", Publish(port=9000, inner=2000)))
    with connect("127.0.0.1", 9000) as sock:
        both(sock, "client")
    site.stack.close()
    assert found == {"server": expected.hexdigest(), "client": expected.hexdigest()}


def test_a_slow_reader_stops_its_writer_and_nobody_else(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    go_on = threading.Event()

    def handler(sock: socket.socket) -> None:
        if sock.recv(1) == b"s":
            go_on.wait(DEADLINE_S)
        sock.sendall(hashlib.sha256(read_all(sock)).digest())

    site.tcp("web", "0.0.0.0", 2000, handler)
    site.publish(("web", Publish(port=9000, inner=2000)))
    sent = b"s"
    with connect("127.0.0.1", 9000) as slow:
        slow.sendall(b"s")
        slow.setblocking(False)
        chunk = os.urandom(1 << 16)
        # Full when the kernel says so and the relay has stopped taking from it.
        while select.select([], [slow], [], 0.3)[1]:
            sent += chunk[: slow.send(chunk)]
            assert len(sent) < 1 << 27, "nothing ever stopped the writer"
        assert ask("127.0.0.1", 9000, b"quick") == hashlib.sha256(b"uick").digest()
        go_on.set()
        slow.settimeout(DEADLINE_S)
        slow.shutdown(socket.SHUT_WR)
        assert read_all(slow) == hashlib.sha256(sent[1:]).digest()


def test_refusal_is_a_reset_and_counted(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.publish(("web", Publish(port=9000, inner=2000)), ("ghost", Publish(port=9001, inner=1)))
    for port in (9000, 9001):
        with pytest.raises(ConnectionResetError), connect("127.0.0.1", port) as sock:
            sock.recv(1)
    assert [one.refused for one in site.client.stat().publishes] == [1, 1]


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_is_passed_on(site: Site, side: str) -> None:
    site.node("web", "10.0.0.1/24")
    reset = struct.pack("=ii", 1, 0)

    def handler(sock: socket.socket) -> None:
        sock.sendall(b"x")
        assert sock.recv(1) == b"y"
        if side == "server":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        else:
            sock.recv(1)

    service = site.tcp("web", "0.0.0.0", 2000, handler)
    site.publish(("web", Publish(port=9000, inner=2000)))
    with connect("127.0.0.1", 9000) as sock:
        assert sock.recv(1) == b"x"
        sock.sendall(b"y")
        if side == "server":
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    site.wait_stat(lambda answer: answer.publishes[0].open == 0)
    site.stack.close()
    assert [type(error) for error in service.errors] == (
        [ConnectionResetError] if side == "client" else []
    )


def test_an_early_answer_arrives_before_the_reset(site: Site) -> None:
    """A server that answers and closes without reading all, as on an upload it does not want."""
    site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, lambda sock: sock.sendall(b"too large"))
    site.publish(("web", Publish(port=9000, inner=2000)))
    for _ in range(30):  # whether reading or writing finds out first is a race
        with connect("127.0.0.1", 9000) as sock:
            with suppress(ConnectionError):
                sock.sendall(bytes(1 << 20))
            assert sock.recv(100) == b"too large"


def test_a_reset_ends_a_connection_that_is_stuck(site: Site) -> None:
    """The server reads nothing, so what the client had sent stands before its reset."""
    site.node("web", "10.0.0.1/24")
    with inside(site.nodes["web"]), ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("0.0.0.0", 2000)))
        site.stack.push(stack.pop_all())
    site.publish(("web", Publish(port=9000, inner=2000)))
    with connect("127.0.0.1", 9000) as sock, listener.accept()[0] as server:
        sock.setblocking(False)
        while select.select([], [sock], [], 0.3)[1]:
            sock.send(bytes(1 << 16))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        sock.close()
        site.wait_stat(lambda answer: answer.publishes[0].open == 0)
        server.settimeout(DEADLINE_S)
        with pytest.raises(ConnectionResetError):
            read_all(server)


def test_removing_one_port_leaves_the_other_connections(site: Site) -> None:
    site.node("web", "10.0.0.1/24")
    site.tcp("web", "0.0.0.0", 2000, echo)
    opened = open_sockets(
        [("web", Publish(port=9000, inner=2000)), ("web", Publish(port=9001, inner=2000))]
    )
    site.client.add(opened)
    for one in opened:
        one.close()
    with connect("127.0.0.1", 9000) as kept, connect("127.0.0.1", 9001) as lost:
        for sock in (kept, lost):
            sock.sendall(b"1")
            assert sock.recv(1) == b"1"
        site.client.remove([opened[-1].published])
        with pytest.raises(ConnectionResetError):
            lost.recv(1)
        kept.sendall(b"2")
        assert kept.recv(1) == b"2"
    with pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", 9001)
    with inside(site.nodes["web"]), pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", 9001)


def test_thousands_of_connections_at_once(site: Site) -> None:
    """Idle ones cost two descriptors each, so the pipes are not what runs out."""
    site.node("web", "10.0.0.1/24")
    with inside(site.nodes["web"]):
        listener = socket.create_server(("0.0.0.0", 2000), backlog=4096)
    site.publish(("web", Publish(port=9000, inner=2000)))
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, hard // 10)  # the test itself holds two of each
    before = len(os.listdir(f"/proc/{site.pid}/fd"))
    with ExitStack() as stack:
        stack.callback(listener.close)
        listener.settimeout(DEADLINE_S)
        clients = [stack.enter_context(connect("127.0.0.1", 9000)) for _ in range(count)]
        servers = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
        assert site.client.stat().publishes[0].open == count
        for number, client in enumerate(clients):
            client.sendall(struct.pack("=i", number))
        seen = {struct.unpack("=i", server.recv(4))[0] for server in servers}
        assert seen == set(range(count))
    site.wait_stat(lambda answer: answer.publishes[0].open == 0)
    site.client.stat()  # closed by the end of the turn in which they were given up
    assert len(os.listdir(f"/proc/{site.pid}/fd")) <= before + 2 * SPARE_PIPES


def test_udp_clients_are_kept_apart_and_answered_from_where_they_asked(site: Site) -> None:
    site.node("dns", "10.0.0.1/24", "fd00::1/64")
    site.udp("dns", "0.0.0.0", 53, b"a:")
    site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(50)
        ]
        for number, sock in enumerate(socks):
            sock.settimeout(DEADLINE_S)
            sock.sendto(b"%d" % number, (MACHINE4, 9053))
        for number, sock in enumerate(socks):
            assert sock.recvfrom(100) == (b"a:%d" % number, (MACHINE4, 9053))
    assert site.client.stat().publishes[0].open == 50
    big = bytes(9000)
    assert ask_udp("::1", 9053, big) == b"a:" + big


def test_udp_to_nobody_is_dropped_and_works_once_somebody_is_there(site: Site) -> None:
    site.node("dns", "10.0.0.1/24")
    site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9053))
        sock.send(b"lost")
        site.wait_stat(lambda answer: answer.publishes[0].refused == 1)
        site.udp("dns", "127.0.0.1", 53, b"a:")
        sock.settimeout(DEADLINE_S)
        sock.send(b"found")
        assert sock.recv(100) == b"a:found"


def test_nonsense_is_answered_and_survived(site: Site) -> None:
    with pytest.raises(Failed, match="there is no node ghost"):
        site.client.change([Target(name="ghost")])
    with pytest.raises(Failed, match="does not appear to be"):
        site.client.machine(("the machine",))
    control = site.client._control
    for packet in (
        b"{",
        b'{"do":"dance"}',
        b'{"do":"add","publishes":[{"node":"x","port":0,"inner":1}],"counts":[0]}',
        b'{"do":"nodes","nodes":[{"name":"x"}]}',
    ):
        control.send(packet)
        assert b'"error":"' in control.recv(1000)
    control.sendmsg(
        [b"?"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [control.fileno()]))]
    )
    assert b'"error":"' in control.recv(1000)
    assert site.client.stat().total == 0


def test_more_connections_than_allowed_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MAX_CONNECTIONS", 2)
    with a_site() as site:
        site.node("web", "10.0.0.1/24")
        site.tcp("web", "0.0.0.0", 2000, echo)
        site.publish(("web", Publish(port=9000, inner=2000)))
        with connect("127.0.0.1", 9000) as first, connect("127.0.0.1", 9000) as second:
            for sock in (first, second):
                sock.sendall(b"1")
                assert sock.recv(1) == b"1"
            with connect("::1", 9000) as third:
                third.sendall(b"3")
                assert site.client.stat().publishes[0].connections == 2
                second.close()
                assert third.recv(1) == b"3"


def test_a_silent_address_is_given_up_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog drops a SYN without a word, as a firewall does."""
    monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_S", 0.2)
    with a_site() as site, ExitStack() as stack:
        site.node("web", "10.0.0.1/24")
        with inside(site.nodes["web"]):
            full = stack.enter_context(socket.create_server(("10.0.0.1", 2000), backlog=0))
            stack.enter_context(socket.create_connection(full.getsockname(), DEADLINE_S))
        site.tcp("web", "127.0.0.1", 2000, says("web"))
        site.publish(("web", Publish(port=9000, inner=2000)))
        assert ask("127.0.0.1", 9000) == b"web:hello"


def test_an_answer_that_came_while_nobody_looked_counts(
    machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher stood still until the time for this address was over, as a machine may."""
    monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_S", 0.0)
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        places = Places(loop, lambda _place: None)
        stack.callback(places.close)
        places.put(Target(name="web"), my_netns())
        relay = TcpRelay(loop, places, max_connections=2)
        stack.callback(relay.close)
        service = stack.enter_context(socket.create_server(("127.0.0.1", 2000)))
        outside = socket.create_server(("127.0.0.1", 9000))
        outside.setblocking(False)
        port = Port(Published(node="web", port=9000, inner=2000), (outside,))
        relay.listen(port, outside)
        stack.callback(relay.unlisten, outside)
        stack.callback(port.abort)
        client = stack.enter_context(connect("127.0.0.1", 9000))
        loop._turn()
        (conversation,) = port.conversations
        assert isinstance(conversation, Connection)
        assert conversation._server is not None
        assert select.select([], [conversation._server], [], DEADLINE_S)[1]
        loop.soon(lambda: None)  # So that it does not wait, should nothing come.
        loop._turn()
        assert port.refused == 0
        service.settimeout(DEADLINE_S)
        with service.accept()[0] as server:
            client.sendall(b"here")
            assert select.select([conversation._client], [], [], DEADLINE_S)[0]
            loop._turn()
            server.settimeout(DEADLINE_S)
            assert server.recv(4) == b"here"


def test_udp_clients_are_forgotten_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "IDLE_TIMEOUT_S", 0.2)
    with a_site() as site:
        site.node("dns", "10.0.0.1/24")
        site.udp("dns", "0.0.0.0", 53, b"a:")
        site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # Its answer may come too late on a slow machine; that it was heard is counted.
            sock.sendto(b"hello", ("127.0.0.1", 9053))
            stat = site.wait_stat(lambda answer: answer.publishes[0].connections == 1)
            if stat.publishes[0].open:
                stat = site.wait_stat(lambda answer: answer.publishes[0].open == 0)
        assert stat.publishes[0].connections == 1
        assert stat.publishes[0].refused == 0


def test_udp_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MAX_CLIENTS", 3)
    with a_site() as site:
        site.node("dns", "10.0.0.1/24")
        site.udp("dns", "0.0.0.0", 53, b"a:")
        site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
        for _ in range(10):
            assert ask_udp("127.0.0.1", 9053) == b"a:hello"
        stat = site.client.stat().publishes[0]
        assert (stat.open, stat.connections) == (3, 10)


@pytest.mark.parametrize(("own", "asked"), [("127.0.0.1", MACHINE4), ("::1", MACHINE6)])
def test_udp_answers_come_from_the_address_that_was_asked(site: Site, own: str, asked: str) -> None:
    """Not from the one that the machine would choose for this client, which is the client's."""
    site.node("dns", "10.0.0.1/24")
    site.udp("dns", "0.0.0.0", 53, b"a:")
    site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.bind((own, 0))
        sock.sendto(b"hello", (asked, 9053))
        data, address = sock.recvfrom(100)
    assert (data, address[0]) == (b"a:hello", asked)


def test_udp_sent_in_a_burst_finds_the_address_that_takes_it(site: Site) -> None:
    """The second datagram meets the refusal of the first, before the loop has heard of that."""
    site.node("dns", "10.0.0.1/24")
    site.udp("dns", "127.0.0.1", 53, b"a:")
    site.publish(("dns", Publish(port=9053, inner=53, protocol="udp")))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        os.kill(site.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, site.pid, os.WSTOPPED)
        for text in (b"first", b"second"):
            sock.sendto(text, ("127.0.0.1", 9053))
        os.kill(site.pid, signal.SIGCONT)
        assert sock.recv(100) == b"a:second"
