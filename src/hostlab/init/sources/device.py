"""Devices as events: `block-device-added KERNEL=sdb1 DEVNAME=/dev/sdb1 ID_FS_LABEL=PHOTOS …`.

The names and variables are those of Upstart's udev bridge. Two may speak of a device: the kernel,
and udev when its rules are through. Where a udev runs, which is told as libudev tells it, its word
counts; where none runs, the kernel's. In a node `hostlab device plug` plays both: it leaves udev's
sign, and its second event has the properties.

Reading never waits for the engine: each turn of the loop takes from the kernel what is there and
puts it into a spool that the holder keeps, as it keeps the socket; events are told from the spool,
some a turn. What the kernel had no room for is counted by the kernel, and then devices are
enumerated: what has come or gone unheard is told; changes in between are not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from hostlab.errors import DecodeError
from hostlab.init.devices.plugged import read_records
from hostlab.init.sources import Surroundings
from hostlab.init.sources.spool import Spool
from hostlab.jobs.facts import Emit
from hostlab.linux import sysfs
from hostlab.linux.uevent_socket import UeventSocket, hears_machine
from hostlab.linux.uevents import KERNEL, UDEV, Uevent, decode, encode_udev, of_device
from hostlab.spec.job import Match

SOCKET: Final = "devices socket"
SPOOL: Final = "devices spool"
"""What the holder calls the two."""
READ_AT_ONCE: Final = 512
"""Datagrams a turn of the loop."""
TELL_AT_ONCE: Final = 16
"""Events a turn: the engine needs some 0.1 ms for one that starts nothing."""
MAX_KNOWN: Final = 65536
"""Devices that are remembered, to tell after a loss which of them have gone."""
VERBS: Final[Mapping[str, str]] = {"add": "added", "change": "changed", "remove": "removed"}
"""udev's actions as Upstart says them; the others are said as they are."""
_FIRST: Final = ("KERNEL", "DEVPATH", "DEVNAME", "SUBSYSTEM", "ACTION")


def open_source(surroundings: Surroundings) -> DeviceSource:
    """The source of devices."""
    return DeviceSource(surroundings)


def event_name(event: Uevent) -> str:
    """What jobs call the event."""
    return f"{event.subsystem}-device-{VERBS.get(event.action, event.action)}"


def environment(event: Uevent) -> tuple[tuple[str, str], ...]:
    """The event's variables: five that every bridge of Upstart's sent first, then all the others.

    Bytes that no one can print are left out, as there: some hardware has them in its names.
    """
    values = (event.kernel, event.devpath, event.devname, event.subsystem, event.action)
    first = [(key, value) for key, value in zip(_FIRST, values, strict=True) if value]
    rest = [(key, value) for key, value in event.properties if key not in _FIRST]
    return tuple((_printable(key), _printable(value)) for key, value in (*first, *rest))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c for c in text if c.isprintable() or c == "\t")


class DeviceSource:
    """Tells what jobs listen to of what is heard."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._names: frozenset[str] = frozenset()
        self._subsystems: frozenset[str] = frozenset()
        self._known: dict[str, Uevent] = {}
        self._told_at_start: set[str] = set()
        """Devices whose own `add` may still be under way, and is not told then."""
        self._waiting: deque[tuple[int, Uevent]] = deque()
        self._is_telling = False
        self._is_full = False
        self._next_read: asyncio.Handle | None = None
        self._said: dict[str, int] = {}
        self._is_machine = hears_machine()
        self._is_first = SOCKET not in surroundings.kept
        with contextlib.ExitStack() as stack:
            self._spool = self._take_spool()
            stack.callback(self._spool.close)
            self._socket = self._take_socket()
            stack.callback(self._socket.close)
            asyncio.get_running_loop().add_reader(self._socket, self._read)
            stack.pop_all()

    def _take_spool(self) -> Spool:
        kept = self._surroundings.kept.get(SPOOL)
        if kept is not None:
            fd = os.dup(kept)
            try:
                return Spool(fd)
            except ValueError as error:
                os.close(fd)
                self._surroundings.warn(f"device events of before are lost: {error}")
        spool = Spool()
        self._surroundings.keep(SPOOL, spool.fd)
        return spool

    def _take_socket(self) -> UeventSocket:
        kept = self._surroundings.kept.get(SOCKET)
        if kept is not None:
            return UeventSocket(fd=os.dup(kept), lost=self._spool.mark)
        found = UeventSocket()
        self._surroundings.keep(SOCKET, found.fileno())
        return found

    def listen(self, operands: frozenset[Match]) -> None:
        """From now on these are told; devices that are there at the first time are `added`."""
        self._names = frozenset(match.name for match in operands)
        subsystems = frozenset(name.rpartition("-device-")[0] for name in self._names)
        there = list(self._present(subsystems - self._subsystems))
        self._subsystems = subsystems
        self._known = {p: e for p, e in self._known.items() if e.subsystem in subsystems}
        for event in there:
            self._know(event)
        if self._is_first:
            for event in there:
                self._queue(encode_udev(event), event)
                self._told_at_start.add(event.devpath)
        elif not self._waiting:
            self._take_up()
        self._is_first = False
        self._go_on()

    def close(self) -> None:
        """Nobody listens any more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._next_read is not None:
            self._next_read.cancel()
        self._socket.close()
        self._spool.close()
        self._waiting.clear()
        self._surroundings.drop(SOCKET)
        self._surroundings.drop(SPOOL)

    # What is there.

    def _present(self, subsystems: Iterable[str]) -> Iterable[Uevent]:
        """The devices of subsystems: the machine's in /sys, a node's as they were plugged in."""
        if self._is_machine:
            for subsystem in sorted(subsystems):
                yield from sysfs.devices(subsystem)
            return
        records, wrong = read_records()
        for text in wrong:
            self._surroundings.warn(f"what is plugged in cannot be read: {text}")
        wanted = frozenset(subsystems)
        for record in records:
            yield from (event for event in record.arrival() if event.subsystem in wanted)

    def _know(self, event: Uevent) -> None:
        if event.action == "remove":
            self._known.pop(event.devpath, None)
        elif len(self._known) < MAX_KNOWN:
            self._known[event.devpath] = event

    def _look_again(self, lost: int) -> None:
        """Tell what has come or gone while nothing was heard."""
        self._surroundings.warn(
            f"{lost} device events were lost, there was no room for them;"
            " the devices are looked at anew"
        )
        there = {event.devpath: event for event in self._present(self._subsystems)}
        gone = [event for path, event in self._known.items() if path not in there]
        for event in gone[::-1]:
            properties = {**dict(event.properties), "DEVPATH": event.devpath}
            self._queue_known(of_device("remove", properties, UDEV))
        for path, event in there.items():
            if path not in self._known:
                self._queue_known(event)

    def _queue_known(self, event: Uevent) -> None:
        self._know(event)
        self._queue(encode_udev(event), event)

    # What is heard.

    def _read_on(self) -> None:
        """Read in the next turn, whether or not there is more: nothing else shows what was lost."""
        if self._next_read is None:
            self._next_read = asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        if self._next_read is not None:
            self._next_read.cancel()
            self._next_read = None
        counting = UDEV if sysfs.udev_runs() else KERNEL
        for _ in range(READ_AT_ONCE):
            if self._spool.is_full:
                self._pause()
                break
            heard = self._socket.receive(peek=True)
            if heard is None:
                self._drained()
                break
            data, event = heard
            if event is not None and event.group == counting:
                self._heard(data, event)
            self._socket.drop()
        else:
            self._read_on()
        self._say_ignored()
        self._go_on()

    def _heard(self, data: bytes, event: Uevent) -> None:
        if event.subsystem not in self._subsystems:
            return
        self._know(event)
        if event.devpath in self._told_at_start and event.action in ("add", "remove"):
            self._told_at_start.remove(event.devpath)
            if event.action == "add":
                return
        self._queue(data, event)

    def _queue(self, data: bytes, event: Uevent) -> None:
        if event_name(event) in self._names:
            self._waiting.append((self._spool.put(event.group, data), event))

    def _drained(self) -> None:
        lost = self._socket.take_lost()
        if lost:
            self._look_again(lost)
            self._spool.mark = self._socket.dropped
            self._spool.note()

    def _pause(self) -> None:
        """The kernel keeps what comes while the engine is busy; what it cannot keep it counts."""
        if not self._is_full:
            self._is_full = True
            asyncio.get_running_loop().remove_reader(self._socket)

    def _say_ignored(self) -> None:
        """The first of a kind, and then each time that there are ten times as many."""
        for reason, count in self._socket.ignored.items():
            if count >= self._said.get(reason, 1):
                self._said[reason] = 10 ** len(str(count))
                problem = self._socket.last_problem
                self._surroundings.warn(f"{count} device events were ignored; {problem}")

    # What is told.

    def _take_up(self) -> None:
        """What an earlier supervisor had heard and not told."""
        for end, group, data in self._spool.waiting():
            with contextlib.suppress(DecodeError):
                event = decode(data, UDEV if group == UDEV else KERNEL)
                self._waiting.append((end, event))

    def _go_on(self) -> None:
        if self._waiting and not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        for _ in range(min(TELL_AT_ONCE, len(self._waiting))):
            end, event = self._waiting.popleft()
            name = event_name(event)
            if name in self._names:
                self._surroundings.tell(Emit(name=name, environment=environment(event)))
            self._spool.told(end)
        if self._is_full and not self._spool.is_full:
            self._is_full = False
            asyncio.get_running_loop().add_reader(self._socket, self._read)
            self._read_on()
        self._go_on()
