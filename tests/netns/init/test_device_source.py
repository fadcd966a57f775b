"""The source of devices on the kernel's netlink: names, bursts, losses, a supervisor's death."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hostlab.init.devices.plugged import RECORDS
from hostlab.init.sources import Sources, device
from hostlab.init.sources.device import SOCKET, SPOOL, DeviceSource
from hostlab.init.sources.events import module_of
from hostlab.linux.sysfs import UDEV_CONTROL
from hostlab.linux.uevent_socket import UeventSender
from hostlab.linux.uevents import KERNEL
from hostlab.spec.job import Match
from tests.netns.init.source_site import DEADLINE_S, Init, counted_turns, finish
from tests.netns.linux.test_uevent_socket import raw_socket
from tests.netns.linux.uevent_site import alone, disk

pytestmark = pytest.mark.netns

ALL = tuple(f"block-device-{verb}" for verb in ("added", "changed", "removed"))


def alone_async(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    alone(lambda: asyncio.run(main()))


@asynccontextmanager
async def listening(init: Init, *names: str) -> AsyncIterator[DeviceSource]:
    """A source whose supervisor's death is the end: what is kept stays kept."""
    source = DeviceSource(init.surroundings())
    try:
        source.listen(frozenset(Match(name) for name in names or ALL))
        yield source
    finally:
        kept = {name: os.dup(fd) for name, fd in init.kept.items()}
        source.close()
        init.kept.update(kept)


def with_udev() -> None:
    Path(UDEV_CONTROL).parent.mkdir(exist_ok=True)
    Path(UDEV_CONTROL).touch()


def record(*numbers: int) -> None:
    """Write down that these partitions are plugged in."""
    Path(RECORDS).mkdir(parents=True, exist_ok=True)
    devices = [dict(disk(number=number).properties) for number in numbers]
    text = json.dumps({"name": "stick", "devices": devices, "from_later_on": 1})
    Path(f"{RECORDS}/stick.json").write_text(text)


def kernels(init: Init) -> list[tuple[str, str]]:
    return [(emit.name, dict(emit.environment)["KERNEL"]) for emit in init.told]


def test_events_are_named_and_filled_as_upstarts_bridge_does() -> None:
    async def work() -> None:
        init, sender = Init(), UeventSender()
        async with listening(init, *ALL, "usb-device-bind"):
            sender.send_kernel(disk(ID_MODEL="a\x07b\tc"))
            sender.send_kernel(disk("change"))
            sender.send_kernel(disk("move"))
            sender.send_kernel(disk("bind", SUBSYSTEM="usb"))
            sender.send_kernel(disk("remove"))
            await init.wait_told(4)
        assert [emit.name for emit in init.told] == [*ALL[:2], "usb-device-bind", ALL[2]]
        first = init.told[0].environment
        assert first[:5] == (
            ("KERNEL", "sdb"),
            ("DEVPATH", disk().devpath),
            ("DEVNAME", "/dev/sdb"),
            ("SUBSYSTEM", "block"),
            ("ACTION", "add"),
        )
        rest = dict(first[5:])
        assert (rest["MAJOR"], rest["DEVTYPE"], rest["ID_MODEL"]) == ("8", "disk", "ab\tc")
        assert rest["SEQNUM"].isdecimal()
        assert len({key for key, _ in first}) == len(first)
        assert not init.warnings
        finish(init)

    alone_async(work)


def test_where_a_udev_runs_its_word_counts() -> None:
    async def work() -> None:
        init, sender = Init(), UeventSender()
        async with listening(init):
            sender.send_udev(disk(ID_FS_LABEL="NOBODY"))
            sender.send_kernel(disk())
            await init.wait_told(1)
            with_udev()
            sender.send_both(disk("change"), disk("change", ID_FS_LABEL="PHOTOS"))
            await init.wait_told(2)
        assert [dict(emit.environment).get("ID_FS_LABEL") for emit in init.told] == [None, "PHOTOS"]
        finish(init)

    alone_async(work)


def send_many(count: int) -> int:
    """Another process that sends so many without a pause."""
    pid = os.fork()
    if pid == 0:
        sender = UeventSender()
        for number in range(count):
            sender.send_kernel(disk("change", NUMBER=str(number)))
        os._exit(0)
    return pid


def changes(init: Init) -> list[int]:
    """The numbers that `send_many` gave to what has been told."""
    return [int(dict(emit.environment)["NUMBER"]) for emit in init.told if emit.name == ALL[1]]


def said_lost(init: Init) -> int:
    """How many events the warnings say were lost."""
    return sum(int(text.split()[0]) for text in init.warnings)


def test_ten_thousand_at_once() -> None:
    """None is lost, or it is said how many: how much a socket holds is the machine's matter."""

    async def work() -> None:
        init = Init()
        async with listening(init) as source:
            pid = send_many(10_000)
            # Nothing shows the device, so after a loss it is told to be gone, each time.
            while (
                len(changes(init)) + source._socket.dropped < 10_000
                or said_lost(init) < source._socket.dropped
            ):
                init.changed.clear()
                await asyncio.wait_for(init.changed.wait(), DEADLINE_S)
            lost = source._socket.dropped
        await asyncio.to_thread(os.waitpid, pid, 0)
        numbers = changes(init)
        assert len(numbers) == 10_000 - lost
        assert numbers == sorted(set(numbers))
        assert said_lost(init) == lost
        finish(init)

    alone_async(work)


def test_what_is_lost_is_counted_and_looked_for() -> None:
    async def work() -> None:
        init, sender = Init(), UeventSender()
        record(1, 2)
        async with listening(init) as source:
            await init.wait_told(2)
            source._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sender.send_kernel(disk("remove", 1))
            for _ in range(500):
                sender.send_kernel(disk("change", 2))
            # These two are not heard.
            sender.send_kernel(disk("remove", 2))
            sender.send_kernel(disk("add", 3))
            record(3)
            lost = source._socket.dropped
            assert lost > 2
            await init.wait_told(2 + (503 - lost) + 2)
        assert kernels(init)[2] == (ALL[2], "sdb1")
        assert kernels(init)[-2:] == [(ALL[2], "sdb2"), (ALL[0], "sdb3")]
        assert init.warnings == [
            f"{lost} device events were lost, there was no room for them;"
            " the devices are looked at anew"
        ]
        # The next supervisor does not tell of the same loss again.
        async with listening(init):
            sender.send_kernel(disk("change", 3))
            await init.wait_told(2 + (503 - lost) + 3)
        assert len(init.warnings) == 1
        finish(init)

    alone_async(work)


def test_a_loss_is_found_also_by_a_turn_that_took_all_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends before it sees that nothing is left; nobody tells it of the socket again."""

    async def work() -> None:
        init, sender = Init(), UeventSender()
        async with listening(init) as source:
            source._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sent = 0
            while not source._socket.dropped:
                sender.send_kernel(disk("change", NUMBER=str(sent)))
                sent += 1
            monkeypatch.setattr(device, "READ_AT_ONCE", sent - 1)
            # All that were heard, and then that nothing shows the device.
            await init.wait_told(sent)
        assert changes(init) == list(range(sent - 1))
        assert said_lost(init) == 1
        finish(init)

    alone_async(work)


def test_what_is_there_is_added_once() -> None:
    async def work() -> None:
        init = Init()
        record(1, 2)
        async with listening(init, "block-device-added", "usb-device-added"):
            # The second one's own event was under way; the first is gone and comes again.
            sender = UeventSender()
            sender.send_kernel(disk("add", 2))
            sender.send_kernel(disk("remove", 1))
            sender.send_kernel(disk("add", 1))
            await init.wait_told(3)
        assert [name for _, name in kernels(init)] == ["sdb1", "sdb2", "sdb1"]
        # The next supervisor knows that it has been told.
        async with listening(init):
            UeventSender().send_kernel(disk("remove", 2))
            await init.wait_told(4)
        assert kernels(init)[3:] == [(ALL[2], "sdb2")]
        finish(init)

    alone_async(work)


def test_a_supervisor_dies_with_events_heard_and_unheard() -> None:
    async def work() -> None:
        init, sender = Init(), UeventSender()
        async with listening(init) as source:
            for number in range(100):
                sender.send_kernel(disk("change", NUMBER=str(number)))
            # It has heard them all, and dies when it has told some.
            source._read()
            await init.wait_told(32)
            assert len(init.told) < 100
        for number in range(100, 200):
            sender.send_kernel(disk("change", NUMBER=str(number)))
        async with listening(init):
            await init.wait_told(200)
        assert [int(dict(emit.environment)["NUMBER"]) for emit in init.told] == list(range(200))
        assert not init.warnings
        finish(init)

    alone_async(work)


def test_what_is_not_believed_is_counted() -> None:
    async def work() -> None:
        init, forged = Init(), raw_socket()
        async with listening(init):
            for _ in range(25):
                forged.sendto(b"add@/devices/x\0", (0, KERNEL))
            UeventSender().send_kernel(disk())
            await init.wait_told(1)
        counts = [text.split()[0] for text in init.warnings]
        assert counts == ["25"]
        assert "not from the kernel" in init.warnings[0]
        finish(init)

    alone_async(work)


def test_a_damaged_spool_costs_what_is_in_it() -> None:
    async def work() -> None:
        init = Init()
        async with listening(init):
            pass
        os.pwrite(init.kept[SPOOL], b"rubbish!", 0)
        async with listening(init):
            UeventSender().send_kernel(disk())
            await init.wait_told(1)
        assert len(init.warnings) == 1
        assert "events of before are lost" in init.warnings[0]
        finish(init)

    alone_async(work)


def test_it_sleeps_and_is_closed() -> None:
    async def work() -> None:
        init = Init()
        wanted = [Match("block-device-added")]
        sources = Sources(init.surroundings(), lambda: wanted)
        sources.look()
        assert list(sources.names) == ["device"]
        with counted_turns() as turns, pytest.raises(TimeoutError):
            await asyncio.wait_for(init.changed.wait(), 0.5)
        # Six are those of the wait itself.
        assert turns[0] <= 10
        wanted.append(Match("usb-device-added"))
        sources.look()
        UeventSender().send_kernel(disk(SUBSYSTEM="usb"))
        await init.wait_told(1)
        wanted.clear()
        sources.look()
        assert list(sources.names) == []
        assert SOCKET not in init.kept
        sources.close()

    alone_async(work)


def test_which_events_are_its_own() -> None:
    assert module_of("timer") == "hostlab.init.sources.timer"
    assert module_of("usb-serial-device-added") == "hostlab.init.sources.device"
    assert module_of("drm-device-change") == module_of("a-device-b")
    assert module_of("-device-added") is None
    assert module_of("startup") is None
