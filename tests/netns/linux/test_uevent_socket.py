"""Device events on the real kernel: sent, heard, believed or not, lost and counted."""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Any

import pytest

from hostlab.linux.uevent_socket import (
    NETLINK_KOBJECT_UEVENT,
    Ignored,
    UeventSender,
    UeventSocket,
    hears_machine,
)
from hostlab.linux.uevents import KERNEL, UDEV, Uevent, encode_kernel, encode_udev
from tests.netns.linux.uevent_site import DEADLINE_S, alone, disk

pytestmark = pytest.mark.netns


def heard(listener: UeventSocket, count: int) -> list[Uevent]:
    """So many events; what is ignored is among what comes."""
    found: list[Uevent] = []
    while len(found) < count:
        assert select.select([listener], [], [], DEADLINE_S)[0], f"only {len(found)} came"
        while (got := listener.receive()) is not None:
            if got[1] is not None:
                found.append(got[1])
    return found


def test_what_is_injected_is_heard_as_the_kernels() -> None:
    def work() -> None:
        assert not hears_machine()
        listener, sender = UeventSocket(), UeventSender()
        sender.send_kernel(disk())
        sender.send_udev(disk(ID_FS_LABEL="PHOTOS"))
        kernel, udev = heard(listener, 2)
        assert (kernel.group, udev.group) == (KERNEL, UDEV)
        assert kernel.seqnum is not None
        assert (kernel.action, kernel.devname, kernel.kernel) == ("add", "/dev/sdb", "sdb")
        assert dict(udev.properties)["ID_FS_LABEL"] == "PHOTOS"
        assert not listener.ignored
        with pytest.raises(OSError, match="2048 bytes"):
            sender.send_kernel(disk(LONG="x" * 2048))

    alone(work)


def test_what_is_peeked_at_stays() -> None:
    def work() -> None:
        listener, sender = UeventSocket(), UeventSender()
        sender.send_kernel(disk())
        assert select.select([listener], [], [], DEADLINE_S)[0]
        first, second = listener.receive(peek=True), listener.receive(peek=True)
        assert first == second
        assert first is not None
        listener.drop()
        assert listener.receive() is None
        listener.drop()

    alone(work)


def test_only_root_and_the_kernel_are_believed() -> None:
    def work() -> None:
        listener = UeventSocket()
        forged = raw_socket()
        forged.sendto(encode_kernel(disk()), (0, KERNEL))
        forged.sendto(encode_udev(disk()), (listener.socket.getsockname()[0], 0))
        forged.sendto(b"libudev\0nothing", (0, UDEV))
        # Who has every capability here, and is another user.
        who = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("=iII", os.getpid(), 7, 0))
        forged.sendmsg([encode_udev(disk())], [who], 0, (0, UDEV))
        UeventSender().send_udev(disk(number=1))
        (only,) = heard(listener, 1)
        assert only.kernel == "sdb1"
        assert listener.ignored == {Ignored.FORGED: 2, Ignored.MALFORMED: 1, Ignored.SENDER: 1}

    alone(work, uids=10)


def raw_socket() -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    found.bind((0, 0))
    return found


def test_what_is_lost_is_counted() -> None:
    def work() -> None:
        listener, sender = UeventSocket(), UeventSender()
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for _ in range(1000):
            sender.send_udev(disk())
        got = 0
        while listener.receive() is not None:
            got += 1
        assert 0 < got < 1000
        assert listener.has_lost
        assert got + listener.take_lost() == 1000
        assert (listener.take_lost(), listener.has_lost) == (0, False)
        sender.send_udev(disk())
        assert len(heard(listener, 1)) == 1

    alone(work)


def test_libudev_hears_what_is_sent_and_its_filters_know_it() -> None:
    """pyudev's monitor is libudev's: magic, hashes and bloom are judged by its own filter."""
    pyudev = pytest.importorskip("pyudev")

    def work() -> None:
        os.makedirs("/run/udev")
        open("/run/udev/control", "w").close()
        context, sender = pyudev.Context(), UeventSender()

        def monitor(**wanted: str) -> Any:
            found = pyudev.Monitor.from_netlink(context, "udev")
            if "tag" in wanted:
                found.filter_by_tag(wanted["tag"])
            else:
                found.filter_by(wanted["subsystem"], wanted.get("device_type"))
            found.start()
            return found

        names = ("block", "usb", "input", "scsi", "net", "tty", "b", "bl", "blo", "scsi_host")
        monitors = {name: monitor(subsystem=name) for name in names}
        partitions = monitor(subsystem="block", device_type="partition")
        tagged = monitor(tag="systemd")
        for name in names:
            sender.send_both(disk(SUBSYSTEM=name), disk(SUBSYSTEM=name, TAGS=":seat:"))
        more = {"TAGS": ":seat:systemd:", "ID_FS_LABEL": "PHOTOS"}
        sender.send_both(disk(number=1), disk(number=1, **more))
        for name, each in monitors.items():
            device = each.poll(timeout=DEADLINE_S)
            assert (device.subsystem, device.action) == (name, "add")
            if name != "block":
                assert each.poll(timeout=0) is None
        for each in (partitions, tagged):
            device = each.poll(timeout=DEADLINE_S)
            assert device.properties["ID_FS_LABEL"] == "PHOTOS"
            assert (device.device_node, device.sys_name) == ("/dev/sdb1", "sdb1")
            assert each.poll(timeout=0) is None

    alone(work)
