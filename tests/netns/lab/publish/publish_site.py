"""A stage for published ports: real sockets in real network namespaces.

One private network namespace stands for the machine, one for each node; the services are threads
of this process with sockets made in there, and the publisher is a forked child, as in a lab.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from hostlab.lab.publish import (
    Answer,
    PublisherClient,
    Target,
    open_sockets,
)
from hostlab.lab.publish.hairpin import MAX_LISTENERS
from hostlab.lab.publish.publisher import serve
from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.libc import setns
from hostlab.spec.model import Publish

CLONE_NEWUSER = 0x10000000
DEADLINE_S = 60.0
MACHINE4, MACHINE6 = "192.0.2.1", "2001:db8::1"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if libc.unshare(flags) == -1:
        raise OSError(ctypes.get_errno(), "unshare")


def may_unshare() -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.unshare(CLONE_NEWNET) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


def my_netns() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(fd: int) -> Iterator[None]:
    home = my_netns()
    setns(fd, CLONE_NEWNET)
    try:
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def new_netns(*addresses: str) -> int:
    """A network namespace with its loopback up and these addresses on it."""
    home = my_netns()
    try:
        unshare(CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        for address in addresses:
            # Without `nodad` one of IPv6 cannot be bound until the kernel has got round to it.
            ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        return my_netns()
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


@dataclass
class Service:
    """A listening socket of a node and the thread that serves it."""

    sock: socket.socket
    thread: threading.Thread
    errors: list[BaseException] = field(default_factory=list)


@dataclass
class Site:
    """The machine, its nodes and its publisher."""

    client: PublisherClient
    pid: int
    stack: ExitStack
    nodes: dict[str, int] = field(default_factory=dict)

    def node(self, name: str, *addresses: str, reserved: tuple[int, ...] = ()) -> int:
        fd = new_netns(*addresses)
        self.stack.callback(os.close, fd)
        self.nodes[name] = fd
        self.client.nodes({Target(name=name, addresses=addresses, reserved=reserved): fd})
        return fd

    def publish(self, *publishes: tuple[str, Publish]) -> list[int]:
        """Publish and let go of our copies; the ports, in order."""
        opened = open_sockets(publishes)
        try:
            self.client.add(opened)
            return list(dict.fromkeys(one.published.port for one in opened))
        finally:
            for one in opened:
                one.close()

    def settled(self) -> Answer:
        deadline = time.monotonic() + DEADLINE_S
        while not (answer := self.client.stat()).settled:
            assert time.monotonic() < deadline, "sockets inside nodes were not made in time"
        return answer

    def wait_stat(self, condition: Callable[[Answer], bool]) -> Answer:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(answer := self.client.stat()):
            assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {answer}"
        return answer

    def tcp(
        self,
        node: str,
        address: str,
        port: int,
        handler: Callable[[socket.socket], None],
    ) -> Service:
        """Serve every connection on a node's port in a thread of its own."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self.nodes[node]):
            sock = socket.create_server((address, port), family=family, backlog=256)

        def run() -> None:
            while True:
                try:
                    connection, _ = sock.accept()
                except OSError:
                    return
                thread = threading.Thread(target=handle, args=(connection,))
                thread.start()
                self.stack.callback(thread.join, DEADLINE_S)

        def handle(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(DEADLINE_S)
                try:
                    handler(connection)
                except OSError as error:
                    service.errors.append(error)

        return (service := self._start(sock, run))

    def udp(self, node: str, address: str, port: int, name: bytes) -> Service:
        """Answer every datagram with `name` and what it said."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self.nodes[node]):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.bind((address, port))

        def run() -> None:
            while data_from := sock.recvfrom(65535):
                if not data_from[0]:
                    return
                sock.sendto(name + data_from[0], data_from[1])

        service = self._start(sock, run)
        return service

    def _start(self, sock: socket.socket, run: Callable[[], None]) -> Service:
        thread = threading.Thread(target=run)
        thread.start()

        def stop() -> None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)
            sock.close()

        self.stack.callback(stop)
        return Service(sock, thread)


def start_publisher(max_inside: int = MAX_LISTENERS) -> tuple[PublisherClient, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            serve(theirs, max_inside=max_inside)
        finally:
            os._exit(0 if theirs.fileno() == -1 else 1)
    theirs.close()
    return PublisherClient(ours), pid


def wait_end(pid: int) -> int:
    """The exit status of a child, killed if it does not end in time."""
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], DEADLINE_S)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the publisher did not end with its control socket")
        return os.waitpid(pid, 0)[1]
    finally:
        os.close(pidfd)


def make_machine() -> None:
    """Turn this thread's network namespace into a machine with an address of each family."""
    machine = new_netns()
    setns(machine, CLONE_NEWNET)
    os.close(machine)
    ip("link", "add", "m0", "type", "veth", "peer", "name", "m1")
    ip("address", "add", f"{MACHINE4}/24", "dev", "m0")
    ip("address", "add", f"{MACHINE6}/64", "dev", "m0", "nodad")
    ip("link", "set", "m1", "up")
    ip("link", "set", "m0", "up")


@contextmanager
def a_machine() -> Iterator[None]:
    """This thread in a network namespace that stands for the machine; no descriptor leaks."""
    before = set(os.listdir("/proc/self/fd"))
    home = my_netns()
    try:
        make_machine()
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)
    assert set(os.listdir("/proc/self/fd")) <= before, "the test left descriptors open"


@contextmanager
def a_site(max_inside: int = MAX_LISTENERS) -> Iterator[Site]:
    """A machine with a publisher, which ends in order; no thread and no child is left."""
    with a_machine():
        client, pid = start_publisher(max_inside)
        with ExitStack() as stack:
            site = Site(client, pid, stack)
            yield site
            client.close()
            if site.pid:
                assert wait_end(site.pid) == 0
    assert threading.active_count() == 1


def connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=DEADLINE_S)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def says(name: str) -> Callable[[socket.socket], None]:
    """A handler that sends its name and what it was told, after the client's end."""
    return lambda sock: sock.sendall(name.encode() + b":" + read_all(sock))


def ask(address: str, port: int, text: bytes = b"hello") -> bytes:
    with connect(address, port) as sock:
        sock.sendall(text)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def ask_udp(address: str, port: int, text: bytes = b"hello") -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect((address, port))  # takes answers from this very address only
        sock.send(text)
        return sock.recv(65535)


EVERYWHERE = ("127.0.0.1", "localhost", "::1", MACHINE4, MACHINE6)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)
