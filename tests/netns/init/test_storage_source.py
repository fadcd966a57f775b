"""Storage on D-Bus: the stand-in answers as UDisks2 does, and its signals become events."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from hostlab.init.devices.udisks2 import NAME, ROOT
from hostlab.init.sources.storage import KEPT, StorageSource
from hostlab.spec.job import Match
from tests.netns.init.source_site import DEADLINE_S, Init, finish
from tests.netns.init.storage_site import Bus, on_a_bus, plug, recorded, unplug

pytestmark = pytest.mark.netns

EVENTS = (
    *(
        f"storage-{kind}-{verb}"
        for kind in ("drive", "filesystem")
        for verb in ("added", "removed")
    ),
    "storage-mounted",
    "storage-unmounted",
)
ARRIVAL = ["storage-drive-added", "storage-filesystem-added"]
DEPARTURE = ["storage-filesystem-removed", "storage-drive-removed"]
PARTITION = "/block_devices/sda1"


@asynccontextmanager
async def listening(init: Init) -> AsyncIterator[StorageSource]:
    """A source whose supervisor's death is the end."""
    source = StorageSource(init.surroundings())
    try:
        source.listen(frozenset(map(Match, EVENTS)))
        yield source
    finally:
        kept = {name: os.dup(fd) for name, fd in init.kept.items()}
        source.close()
        init.kept.update(kept)
        await asyncio.sleep(0)


def names(init: Init) -> list[str]:
    return [emit.name for emit in init.told]


def read(path: str) -> str:
    return Path(path).read_text()


def is_there(path: str) -> bool:
    return os.path.lexists(path)


class Counter:
    """Counts the signals that come from UDisks2, on a connection of its own."""

    def __init__(self, connection: MessageBus) -> None:
        self.connection = connection
        self.members: list[str] = []
        self.changed = asyncio.Event()
        connection.add_message_handler(self.received)

    def received(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path == ROOT:
            self.members.append(message.member or "")
            self.changed.set()

    async def wait_counted(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.members) < count:
                self.changed.clear()
                await self.changed.wait()


async def leave(connection: MessageBus) -> None:
    connection.disconnect()
    ended: Callable[[], Awaitable[None]] = connection.wait_for_disconnect
    await ended()


@asynccontextmanager
async def counting() -> AsyncIterator[Counter]:
    connection = await MessageBus(bus_type=BusType.SYSTEM).connect()
    counter = Counter(connection)
    rule = f"type='signal',sender='{NAME}'"
    await connection.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=[rule],
        )
    )
    yield counter
    await leave(connection)


def test_one_event_a_stick_and_none_a_mouse() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        bus.start_stand_in()
        init = Init()
        async with counting() as counter, listening(init):
            plug(recorded("mouse"))
            plug(recorded("stick"))
            await init.wait_told(2)
            assert names(init) == ARRIVAL
            await counter.wait_counted(3)
            assert counter.members == ["InterfacesAdded"] * 3
            drive, filesystem = (dict(emit.environment) for emit in init.told)
            assert drive == {
                "DRIVE": f"{ROOT}/drives/QEMU_QEMU_HARDDISK_4C530001",
                "DEVNAME": "/dev/sda",
                "VENDOR": "QEMU",
                "MODEL": "QEMU HARDDISK",
                "SERIAL": "4C530001",
                "BUS": "usb",
                "REMOVABLE": "1",
                "SIZE": drive["SIZE"],
            }
            assert (filesystem["DEVNAME"], filesystem["LABEL"]) == ("/dev/sda1", "PHOTOS")
            said = await asyncio.to_thread(bus.run, "udisksctl", "mount", "-b", "/dev/sda1")
            assert said.startswith("Mounted /dev/sda1 at /media/root/PHOTOS"), said
            await init.wait_told(3)
            assert dict(init.told[2].environment)["MOUNTPOINT"] == "/media/root/PHOTOS"
            assert read("/media/root/PHOTOS/cat.txt") == "a cat\n"
            again = await asyncio.to_thread(bus.run, "udisksctl", "mount", "-b", "/dev/sda1")
            assert "AlreadyMounted" in again
            said = await asyncio.to_thread(bus.run, "udisksctl", "unmount", "-b", "/dev/sda1")
            assert said == "Unmounted /dev/sda1.\n"
            assert not is_there("/media/root/PHOTOS")
            await asyncio.to_thread(bus.run, "udisksctl", "mount", "-b", "/dev/sda1")
            await init.wait_told(5)
            # It is pulled out while it is mounted.
            unplug(recorded("stick"))
            unplug(recorded("mouse"))
            await init.wait_told(8)
        mounted = ["storage-mounted", "storage-unmounted"]
        assert names(init) == [*ARRIVAL, *mounted, *mounted, *DEPARTURE]
        assert not is_there("/media/root/PHOTOS")
        assert not init.warnings
        finish(init)

    on_a_bus(work)


def test_it_sleeps() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        bus.start_stand_in()
        init, stick = Init(), recorded("stick")
        async with listening(init):
            plug(stick)
            await init.wait_told(2)
            init.changed.clear()
            stand_in = bus.processes["stand-in"].pid
            found = []
            for _ in range(20):
                before = switches(os.getpid()), switches(stand_in)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(init.changed.wait(), 0.5)
                after = switches(os.getpid()), switches(stand_in)
                found.append((after[0] - before[0], after[1] - before[1]))
                # One is this test's own timer, one the end of what they were at.
                if found[-1][0] <= 2 and found[-1][1] <= 1:
                    break
            else:
                pytest.fail(f"they never sleep: {found}")
        finish(init)

    on_a_bus(work)


def switches(pid: int) -> int:
    """How often a process has gone to sleep."""
    (line,) = (
        line
        for line in read(f"/proc/{pid}/status").splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
    return int(line.split()[1])


def test_the_bus_and_the_daemon_come_later_and_again() -> None:
    async def work(bus: Bus) -> None:
        init = Init()
        stick = recorded("stick")
        plug(stick)
        async with listening(init):
            bus.start()
            await asyncio.to_thread(bus.start_stand_in)
            await init.wait_told(2)
            # The daemon is started anew: nothing has come or gone.
            bus.end("stand-in")
            await asyncio.to_thread(bus.start_stand_in)
            bus.end("stand-in")
            unplug(stick)
            await asyncio.to_thread(bus.start_stand_in)
            await init.wait_told(4)
            for name in ("stand-in", "bus"):
                bus.end(name)
            bus.start()
            plug(stick)
            await asyncio.to_thread(bus.start_stand_in)
            await init.wait_told(6)
        assert names(init) == [*ARRIVAL, *DEPARTURE, *ARRIVAL]
        finish(init)

    on_a_bus(work)


def test_the_next_supervisor_tells_what_has_changed() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        bus.start_stand_in()
        init, stick = Init(), recorded("stick")
        async with listening(init):
            plug(stick)
            await init.wait_told(2)
        async with listening(init):
            unplug(stick)
            await init.wait_told(4)
        plug(stick)
        async with listening(init):
            await init.wait_told(6)
        assert names(init) == [*ARRIVAL, *DEPARTURE, *ARRIVAL]
        # What it was is damaged: everything that is there is told as if it were new.
        os.ftruncate(init.kept[KEPT], 3)
        async with listening(init):
            await init.wait_told(8)
        assert names(init)[6:] == ARRIVAL
        assert "not known any more" in init.warnings[-1]
        finish(init)

    on_a_bus(work)


def test_a_stand_in_that_is_killed_leaves_its_mounts_to_the_next() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        plug(recorded("stick"))
        bus.start_stand_in()
        init = Init()
        async with listening(init):
            await init.wait_told(2)
            await asyncio.to_thread(bus.run, "udisksctl", "mount", "-b", "/dev/sda1")
            await init.wait_told(3)
            bus.end("stand-in")
            await asyncio.to_thread(bus.start_stand_in)
            again = await asyncio.to_thread(bus.run, "udisksctl", "mount", "-b", "/dev/sda1")
            assert "already mounted at `/media/root/PHOTOS'" in again
            said = await asyncio.to_thread(bus.run, "udisksctl", "unmount", "-b", "/dev/sda1")
            assert said == "Unmounted /dev/sda1.\n"
            await init.wait_told(4)
        assert names(init) == [*ARRIVAL, "storage-mounted", "storage-unmounted"]
        finish(init)

    on_a_bus(work)


def signal(member: str, signature: str, body: list[object]) -> Message:
    return Message(
        message_type=MessageType.SIGNAL,
        path=ROOT,
        interface="org.freedesktop.DBus.ObjectManager",
        member=member,
        signature=signature,
        body=body,
    )


def test_signals_that_mean_nothing_or_are_somebody_elses() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        bus.start_stand_in()
        init = Init()
        plug(recorded("stick"))
        async with listening(init):
            await init.wait_told(2)
            bus.end("stand-in")
            impostor = await MessageBus(bus_type=BusType.SYSTEM).connect()
            drive, block = f"{ROOT}/drives/x", f"{ROOT}/block_devices/x"
            added: list[list[object]] = [
                [drive, {f"{NAME}.Drive": {"Vendor": Variant("s", "x")}}],
                [block, {f"{NAME}.Block": {"Drive": Variant("o", drive)}}],
            ]
            # Not who has the name.
            for body in added:
                await impostor.send(signal("InterfacesAdded", "oa{sa{sv}}", body))
            # Now it has the name, and nothing; then it speaks nonsense.
            await impostor.request_name(NAME)
            await init.wait_told(4)
            await impostor.send(signal("InterfacesAdded", "s", ["nothing"]))
            for body in added:
                await impostor.send(signal("InterfacesAdded", "oa{sa{sv}}", body))
            await init.wait_told(5)
            await leave(impostor)
        assert names(init) == [*ARRIVAL, *DEPARTURE, "storage-drive-added"]
        assert init.warnings == [
            "UDisks2: a signal InterfacesAdded that means nothing: list index out of range"
        ]
        finish(init)

    on_a_bus(work)


def test_who_looks_with_busctl_finds_it_and_is_told_what_cannot_be() -> None:
    async def work(bus: Bus) -> None:
        bus.start()
        bus.start_stand_in()
        plug(recorded("stick"))
        # It looks anew for this call, whatever it has heard of.
        said = await asyncio.to_thread(bus.call, PARTITION, f"{NAME}.Block.Rescan", "{}")
        assert said == "()\n"
        introspected = bus.run("gdbus", "introspect", "--system", "-r", "-d", NAME, "-o", "/")
        for name in ("Drive", "Block", "PartitionTable", "Partition", "Filesystem", "Manager"):
            assert f"interface {NAME}.{name} {{" in introspected
        assert "stand-in of hostlab" in introspected
        properties = "org.freedesktop.DBus.Properties"
        label = bus.call(PARTITION, f"{properties}.Get", f"{NAME}.Block", "IdLabel")
        assert label == "(<'PHOTOS'>,)\n"
        wanted = "{'label': <'PHOTOS'>}"
        found = bus.call("/Manager", f"{NAME}.Manager.ResolveDevice", wanted, "{}")
        assert found == f"([objectpath '{ROOT}{PARTITION}'],)\n"
        devices = bus.call("/Manager", f"{NAME}.Manager.GetBlockDevices", "{}")
        assert devices.count(ROOT) == 2
        for path, method, arguments, answer in (
            (PARTITION, f"{NAME}.Block.Format", ("vfat", "{}"), "Error.NotSupported"),
            (PARTITION, f"{NAME}.Filesystem.Unmount", ("{}",), "Error.NotMounted"),
            (PARTITION, f"{NAME}.Filesystem.Nothing", (), "UnknownMethod"),
            ("/nothing", f"{properties}.GetAll", (NAME,), "UnknownObject"),
            (PARTITION, f"{properties}.GetAll", ("a.b",), "UnknownInterface"),
            (PARTITION, f"{properties}.Get", (f"{NAME}.Block", "No"),
             "UnknownProperty"),
        ):  # fmt: skip
            assert answer in bus.call(path, method, *arguments), method

    on_a_bus(work)


def test_it_refuses_where_real_devices_are() -> None:
    """In the network namespace of this test, which hears the machine's; nothing is connected to."""
    import subprocess

    from tests.netns.init.storage_site import STAND_IN

    done = subprocess.run(STAND_IN, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 3
    assert "a stand-in is for nodes without devices" in done.stderr
