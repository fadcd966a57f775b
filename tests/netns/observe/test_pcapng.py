"""Captures on a loopback interface of a network namespace of our own."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostlab.errors import DecodeError, Unsupported, UsageError
from hostlab.linux import clone
from hostlab.linux.netlink import Netlink
from hostlab.linux.packet import Packet, capture_socket
from hostlab.linux.rtnetlink import bridge_add, link_delete, link_set
from hostlab.observe.packet_filter import compile_filter, decode_program
from hostlab.observe.pcapng import (
    Captured,
    enhanced_packet,
    interface_description,
    interface_statistics,
    section_header,
    write_capture,
)
from tests.netns.init.init_site import children
from tests.netns.observe.reader import Block, packets, read_blocks

pytestmark = pytest.mark.netns

LOOPBACK = 1


def in_namespace(work: Callable[[], None]) -> None:
    """Run `work` in a new network namespace with its loopback up; its failure is the test's."""
    reader, writer = os.pipe()
    try:
        pid, pidfd = clone.clone3(clone.CLONE_NEWUSER | clone.CLONE_NEWNET)
    except PermissionError as error:
        pytest.skip(f"no user namespaces here: {error}")
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            with Netlink() as netlink:
                netlink.request([link_set(LOOPBACK, up=True)])
            work()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as report:
        text = report.read()
    _, result = os.waitpid(pid, 0)
    os.close(pidfd)
    assert result == 0, text or f"wait status {result}"


def send(count: int, size: int = 32, port: int = 9) -> None:
    """Datagrams to a socket that exists, so that no ICMP answers mingle with them."""
    kind = (socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(*kind) as sock, socket.socket(*kind) as sink:
        sink.bind(("127.0.0.1", port))
        for number in range(count):
            sock.sendto(struct.pack("!I", number).ljust(size, b"."), ("127.0.0.1", port))


def recorded(
    sock: socket.socket, act: Callable[[], object], *, interface: str = "lo", **options: Any
) -> tuple[Captured, list[Block]]:
    """What a capture wrote to a pipe while `act` ran, which begins when the capture has."""
    reader, writer = os.pipe()
    answer, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        done = write_capture(sock, writer, interface=interface, **options)
        os.write(answering, msgspec.json.encode(done))
        os._exit(0)
    os.close(writer)
    os.close(answering)
    data = os.read(reader, 1 << 16)
    act()
    with open(reader, "rb") as rest, open(answer, "rb") as report:
        data += rest.read()
        done = msgspec.json.decode(report.read(), type=Captured)
    os.waitpid(pid, 0)
    return done, read_blocks(data)


def test_every_packet_is_there_with_its_direction_and_time() -> None:
    def work() -> None:
        before = time.time_ns()
        with capture_socket("lo") as sock:
            done, blocks = recorded(sock, lambda: send(50), count=100)
        assert done == Captured(100, 0, "count")
        assert [block.kind for block in blocks] == [0x0A0D0D0A, 1, *[6] * 100, 5]
        assert blocks[1].options[2] == b"lo"
        assert blocks[1].options[9] == b"\x09"
        seen = packets(blocks)
        assert all(before < one.time_ns < time.time_ns() for one in seen)
        # The loopback shows each packet twice: leaving, and arriving.
        for outbound in (True, False):
            numbers = [one.data[42:46] for one in seen if one.outbound is outbound]
            assert numbers == [struct.pack("!I", number) for number in range(50)]
        assert {one.length for one in seen} == {14 + 20 + 8 + 32}

    in_namespace(work)


def test_stop_writes_what_has_arrived_and_the_statistics() -> None:
    def work() -> None:
        stop = os.eventfd(0)

        def act() -> None:
            send(20)
            os.eventfd_write(stop, 1)

        with capture_socket("lo") as sock:
            done, blocks = recorded(sock, act, stop=stop)
        assert done == Captured(40, 0, "stop")
        assert len(packets(blocks)) == 40
        assert blocks[-1].kind == 5
        assert struct.unpack("=Q", blocks[-1].options[4]) == (40,)
        assert struct.unpack("=Q", blocks[-1].options[7]) == (0,)

    in_namespace(work)


def test_stop_waits_for_the_block_that_is_being_filled_beside_one_that_is_full() -> None:
    """Where whoever writes was not scheduled meanwhile, one had been handed over already."""

    def work() -> None:
        stop = os.eventfd(0)

        def act() -> None:
            (child,) = children(os.getpid())
            os.kill(child, signal.SIGSTOP)
            os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            send(10)
            assert select.select([sock], [], [], 60)[0]
            send(10)
            os.eventfd_write(stop, 1)
            os.kill(child, signal.SIGCONT)

        with capture_socket("lo") as sock:
            send(3)  # No ring has these, so nobody waits for them.
            done, blocks = recorded(sock, act, stop=stop)
        assert done == Captured(40, 0, "stop")
        assert struct.unpack("=Q", blocks[-1].options[4]) == (40,)

    in_namespace(work)


def test_count_is_exact_whatever_the_ring_holds() -> None:
    def work() -> None:
        with capture_socket("lo") as sock:
            done, blocks = recorded(sock, lambda: send(50), count=7)
        assert done == Captured(7, 0, "count")
        assert len(packets(blocks)) == 7

    in_namespace(work)


def test_snaplen_cuts_the_data_and_keeps_the_length() -> None:
    def work() -> None:
        with capture_socket("lo") as sock:
            _, blocks = recorded(sock, lambda: send(1, size=1000), count=2, snaplen=61)
        assert struct.unpack("=HHI", blocks[1].body) == (1, 0, 61)
        assert [(len(one.data), one.length) for one in packets(blocks)] == [(61, 1042)] * 2

    in_namespace(work)


def test_a_vlan_tag_is_put_back() -> None:
    frame = bytes(12) + struct.pack("!HHH", 0x8100, 0x2007, 0x88B5) + b"tagged".ljust(46, b".")

    def act() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.sendto(frame, ("lo", 0x88B5))

    def work() -> None:
        with capture_socket("lo") as sock:
            _, blocks = recorded(sock, act, count=2)
        assert {(one.outbound, one.data, one.length) for one in packets(blocks)} == {
            (True, frame, len(frame)),
            (False, frame, len(frame)),
        }

    in_namespace(work)


def test_a_reader_that_has_gone_ends_it_quietly_without_a_packet() -> None:
    def work() -> None:
        reader, writer = os.pipe()
        with capture_socket("lo") as sock:
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                assert os.read(reader, 1 << 16).startswith(section_header())
                os._exit(0)
            os.close(reader)
            assert write_capture(sock, writer, interface="lo") == Captured(0, 0, "closed")
            os.waitpid(pid, 0)

    in_namespace(work)


def test_an_interface_that_goes_away_ends_it() -> None:
    def work() -> None:
        with Netlink() as netlink:
            bridge = bridge_add("gone0", 7, mtu=1500, mac="02:00:00:00:00:07")
            netlink.request([bridge, link_set(7, up=True)])
            with capture_socket("gone0") as sock:
                done, blocks = recorded(
                    sock, lambda: netlink.request([link_delete(7)]), interface="gone0"
                )
        assert done.reason == "gone"
        assert blocks[-1].kind == 5

    in_namespace(work)


def test_an_interface_that_goes_down_does_not_end_it() -> None:
    def work() -> None:
        def act() -> None:
            with Netlink() as netlink:
                netlink.request([link_set(LOOPBACK, up=False)])
                netlink.request([link_set(LOOPBACK, up=True)])
            send(5)

        with capture_socket("lo") as sock:
            done, _ = recorded(sock, act, count=10)
        assert done == Captured(10, 0, "count")

    in_namespace(work)


def test_a_burst_waits_in_the_ring_while_nobody_reads() -> None:
    count = 10_000

    def work() -> None:
        with capture_socket("lo") as sock:
            done, _ = recorded(sock, lambda: send(count), count=2 * count)
        assert done == Captured(2 * count, 0, "count")

    in_namespace(work)


def test_what_the_ring_has_no_room_for_is_counted() -> None:
    count = 600

    def work() -> None:
        stop = os.eventfd(0)

        def act() -> None:
            send(count, size=60_000)
            os.eventfd_write(stop, 1)

        with capture_socket("lo") as sock:
            done, blocks = recorded(sock, act, stop=stop)
        assert done.dropped > 0
        assert struct.unpack("=Q", blocks[-1].options[7]) == (done.dropped,)
        assert struct.unpack("=Q", blocks[-1].options[4]) == (2 * count,)

    in_namespace(work)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
def test_a_filter_expression() -> None:
    def act() -> None:
        send(5, port=9)
        send(3, port=5353)

    def work() -> None:
        program = compile_filter("udp dst port 5353")
        with capture_socket("lo", program=program) as sock:
            done, blocks = recorded(sock, act, count=6, expression="udp dst port 5353")
        assert done.packets == 6
        assert {one.data[36:38] for one in packets(blocks)} == {struct.pack("!H", 5353)}
        assert blocks[1].options[11] == b"\0udp dst port 5353"

    in_namespace(work)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
def test_tcpdump_reads_the_blocks(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    datagram = bytes.fromhex(
        "45000020000000004011000001020304050607080035003500 0c0000".replace(" ", "")
    )
    frame = bytes(12) + b"\x08\x00" + datagram + b"abcd"
    time_ns = 1_700_000_000_123_456_789
    packet = Packet(time_ns, frame, len(frame), 4)
    path.write_bytes(
        section_header()
        + interface_description("eth0", expression="udp")
        + enhanced_packet(packet)
        + interface_statistics(time_ns, time_ns, 1, 0)
    )
    argv = ["tcpdump", "-nttr", str(path), "--time-stamp-precision=nano"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1700000000.123456789 IP 1.2.3.4.53 > 5.6.7.8.53:")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
def test_an_expression_that_means_nothing() -> None:
    with pytest.raises(UsageError, match="syntax error"):
        compile_filter("tcp prt 80")


def test_a_link_type_without_a_program() -> None:
    with pytest.raises(Unsupported):
        compile_filter("tcp", arphrd=803)


@pytest.mark.parametrize("text", ["", "x", "2\n6 0 0 1\n", "1\n6 0 0\n", "1\n6 0 999 1\n", "0\n"])
def test_a_foreign_answer_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_program(text)


def test_no_such_interface() -> None:
    def work() -> None:
        with pytest.raises(OSError, match="No such device"):
            capture_socket("nothere")

    in_namespace(work)
