"""The three ways to hear of a device, side by side: the kernel, udev, UDisks2 on D-Bus.

Looks once, or goes on to tell what comes. Runs where it is to look: in the namespaces of a node, or
on the machine. What one of the ways cannot tell is a note of that way, not an error.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Problem
from hostlab.init.devices.plugged import read_records
from hostlab.init.devices.storage import Variables, changes
from hostlab.linux import sysfs
from hostlab.linux.uevent_socket import UeventSocket, hears_machine
from hostlab.linux.uevents import UDEV, Uevent

SUBSYSTEMS: Final = ("usb", "block")
READ_AT_ONCE: Final = 512
SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"
THERE: Final = "there"
"""The action of what is there when somebody begins to look."""
LISTENING: Final = "listening"
"""Of no device: from now on this way tells what comes."""


class Way(StrEnum):
    """Who tells."""

    KERNEL = "kernel"
    UDEV = "udev"
    UDISKS2 = "udisks2"


class Sight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device as one of the ways tells of it."""

    way: Way
    action: str = THERE
    note: str = ""
    """Instead of a device: what this way cannot tell."""
    time: float = 0.0
    """Since 1970."""
    subsystem: str = ""
    path: str = ""
    """Below /sys; of UDisks2 the object of the drive."""
    name: str = ""
    """The kernel's."""
    devname: str = ""
    devtype: str = ""
    vendor: str = ""
    model: str = ""
    serial: str = ""
    label: str = ""
    mountpoint: str = ""


Tell = Callable[[Sight], None]


def of_event(event: Uevent, way: Way, *, action: str = "") -> Sight:
    """What an event of the kernel or of udev says."""
    return Sight(
        way=way,
        action=action or event.action,
        time=time.time(),
        subsystem=event.subsystem,
        path=event.devpath,
        name=event.kernel,
        devname=event.devname,
        devtype=event.get("DEVTYPE"),
        vendor=event.get("ID_VENDOR"),
        model=event.get("ID_MODEL"),
        serial=event.get("ID_SERIAL_SHORT"),
        label=event.get("ID_FS_LABEL"),
    )


def of_storage(name: str, variables: Variables) -> Sight:
    """What an event of storage says."""
    said = dict(variables)
    devname = said.get("DEVNAME", "")
    action = name.removeprefix("storage-").replace("-", " ")
    return Sight(
        way=Way.UDISKS2,
        action=action,
        time=time.time(),
        subsystem="block",
        path=said.get("DRIVE", ""),
        name=devname.rpartition("/")[2],
        devname=devname,
        devtype="disk" if action.startswith("drive") else "",
        vendor=said.get("VENDOR", ""),
        model=said.get("MODEL", ""),
        serial=said.get("SERIAL", ""),
        label=said.get("LABEL", ""),
        mountpoint=said.get("MOUNTPOINT", ""),
    )


def present() -> Iterable[Sight]:
    """What the kernel shows, and what udev knows of it: block devices and whole USB devices."""
    if hears_machine():
        events = [event for each in SUBSYSTEMS for event in sysfs.devices(each)]
    else:
        # Whatever else a node's /sys shows is the machine's.
        records, _ = read_records()
        paths = [each["DEVPATH"] for record in records for each in record.devices]
        found = (sysfs.device_at(path) for path in paths)
        shown = {event.devpath: event for event in found if event is not None}
        told = (event for record in records for event in record.arrival())
        events = [shown.get(event.devpath, event) for event in told]
    for event in events:
        if is_listed(event):
            yield of_event(event, Way.KERNEL, action=THERE)
            if sysfs.is_in_database(event):
                yield of_event(event, Way.UDEV, action=THERE)


def is_listed(event: Uevent) -> bool:
    """Whether it is a block device or a USB device, and not a part of one."""
    return event.subsystem == "block" or (
        event.subsystem == "usb" and event.get("DEVTYPE") == "usb_device"
    )


async def look(tell: Tell, *, watch: bool) -> None:
    """Tell what there is; with `watch` go on for ever with what comes and goes."""
    listener = UeventSocket() if watch else None
    try:
        if listener is not None:
            tell(Sight(way=Way.KERNEL, action=LISTENING))
        for sight in present():
            tell(sight)
        await _look(tell, listener)
    finally:
        if listener is not None:
            listener.close()


async def _look(tell: Tell, listener: UeventSocket | None) -> None:
    loop = asyncio.get_running_loop()
    if listener is not None:
        loop.add_reader(listener, _heard, listener, tell)
    try:
        await _udisks2(tell, watch=listener is not None)
    finally:
        if listener is not None:
            loop.remove_reader(listener)


def _heard(listener: UeventSocket, tell: Tell) -> None:
    before = listener.ignored.total()
    for _ in range(READ_AT_ONCE):
        got = listener.receive()
        if got is None:
            break
        if got[1] is not None:
            tell(of_event(got[1], Way.UDEV if got[1].group == UDEV else Way.KERNEL))
    if lost := listener.take_lost():
        tell(Sight(way=Way.KERNEL, note=f"{lost} events were lost: no room"))
    if ignored := listener.ignored.total() - before:
        text = f"{ignored} events were ignored; {listener.last_problem}"
        tell(Sight(way=Way.KERNEL, note=text))


async def _udisks2(tell: Tell, *, watch: bool) -> None:
    try:
        await _storage(tell, watch=watch)
    except Problem as problem:
        hint = f" ({problem.hint})" if problem.hint else ""
        tell(Sight(way=Way.UDISKS2, note=f"{problem.message}{hint}"))
    except ImportError as error:
        # In the root of a node that has not the files for it.
        tell(Sight(way=Way.UDISKS2, note=f"it cannot be asked from here: {error}"))
    else:
        return
    if watch:
        await asyncio.get_running_loop().create_future()


async def _storage(tell: Tell, *, watch: bool) -> None:
    """Unsupported without the library, of which nothing else here needs anything."""
    from hostlab.init.dbus.link import Link
    from hostlab.init.devices.udisks2_client import Udisks2Client, ask_once

    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS

    def warn(text: str) -> None:
        tell(Sight(way=Way.UDISKS2, note=text))

    if not watch:
        for name, variables in changes({}, (await ask_once(address)).picture()):
            tell(msgspec.structs.replace(of_storage(name, variables), action=THERE))
        return
    there: dict[str, Variables] | None = None

    def changed() -> None:
        nonlocal there
        is_first = there is None
        now = client.storage.picture()
        for name, variables in changes(there or {}, now):
            sight = of_storage(name, variables)
            tell(msgspec.structs.replace(sight, action=THERE) if is_first else sight)
        there = now
        if is_first:
            tell(Sight(way=Way.UDISKS2, action=LISTENING))

    client = Udisks2Client(changed, warn)
    link = Link("the system bus", lambda: address, client, warn=warn)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        client.close()
        link.close()
