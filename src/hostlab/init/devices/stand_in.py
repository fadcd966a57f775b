"""A stand-in for UDisks2, for nodes that have no block devices: `udisks2-stand-in`.

Debian's udisksd opens the devices that it speaks of, and a container has none. This program answers
in its place on the node's own system bus: the objects of what is plugged in, their properties, the
signals of what comes and goes, Mount and Unmount. What it mounts is the directory that stands for
the content of a device: bound, if it may mount, else a symbolic link. It formats nothing, checks
nothing: such methods answer NotSupported. Where there are real devices it refuses to start.

It is a job of the node as udisksd would be, and ends when the bus does: the job respawns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from hostlab.errors import Failed, Unsupported, extra
from hostlab.init.devices import introspection
from hostlab.init.devices.mounting import found, free_name, show, take_away
from hostlab.init.devices.plugged import Plugged, read_records
from hostlab.init.devices.udisks2 import (
    MANAGER,
    NAME,
    ROOT,
    Interfaces,
    Objects,
    block_path,
    manager,
    objects_of,
    unescaped,
)
from hostlab.linux.uevent_socket import UeventSocket, hears_machine
from hostlab.linux.uevents import UDEV

try:
    from dbus_fast import BusType, ErrorType, Message, MessageType, RequestNameReply, Variant
    from dbus_fast.aio import MessageBus
    from dbus_fast.errors import AuthError, DBusError
except ImportError as missing:
    raise Unsupported("dbus", "the library dbus-fast is missing", hint=extra("dbus")) from missing

MEDIA: Final = "/media"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
CONTENT: Final = "ID_HOSTLAB_CONTENT"
READ_AT_ONCE: Final = 512
_ERROR: Final = f"{NAME}.Error"


class Refused(Exception):
    """An answer that is an error: its D-Bus name, and words."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class StandIn:
    """Answers for UDisks2 on one connection."""

    def __init__(self, bus: MessageBus, warn: Callable[[str], None], *, media: str = MEDIA) -> None:
        """`warn` is told what a person may want to read; mount points are made below `media`."""
        self.bus = bus
        self.warn = warn
        self.media = media
        self.records: tuple[Plugged, ...] = ()
        self.objects: Objects = {}
        self.mounts: dict[str, str] = {}
        """Device file -> where it is mounted."""
        self._appeared: dict[str, int] = {}
        self._jobs = 0

    # What there is.

    def take_up(self) -> None:
        """Find what an earlier stand-in has mounted."""
        self.records = tuple(read_records()[0])
        contents = {
            device["DEVNAME"]: device[CONTENT]
            for device in self._devices()
            if CONTENT in device and "DEVNAME" in device
        }
        self.mounts = found(f"{self.media}/root", contents)

    def look(self) -> None:
        """Look at what is plugged in, and tell what has come, gone or changed."""
        records, wrong = read_records()
        for text in wrong:
            self.warn(text)
        self.records = tuple(records)
        devices = {each["DEVPATH"]: each for record in records for each in record.devices}
        self._appeared = {
            path: self._appeared.get(path, time.time_ns() // 1000) for path in devices
        }
        names = {each.get("DEVNAME") for each in devices.values()}
        for name in [name for name in self.mounts if name not in names]:
            take_away(self.mounts.pop(name))
        self._become(
            objects_of(
                devices.values(),
                {name: (point,) for name, point in self.mounts.items()},
                _attribute,
                appeared_usec=self._appeared,
            )
            | {MANAGER: manager()}
        )

    def _become(self, objects: Objects) -> None:
        before, self.objects = self.objects, objects
        for path in [path for path in list(before)[::-1] if path not in objects]:
            self._signal(OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(before[path])])
        for path, interfaces in objects.items():
            if path not in before:
                body = [path, _variants_of(interfaces)]
                self._signal(OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", body)
                continue
            for interface, properties in interfaces.items():
                old = before[path].get(interface, {})
                changed = {k: v for k, v in properties.items() if old.get(k) != v}
                if changed:
                    body = [interface, _variants(changed), []]
                    self._signal(PROPERTIES, "PropertiesChanged", "sa{sv}as", body, path=path)

    def _signal(
        self, interface: str, member: str, signature: str, body: list[Any], *, path: str = ROOT
    ) -> None:
        self.bus.send(
            Message(
                message_type=MessageType.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )

    # What is asked.

    def answer(self, message: Message) -> Message | bool | None:
        """The answer to a call; None leaves it to the library (Peer)."""
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        path = (message.path or "").rstrip("/")
        is_above = f"{ROOT}/".startswith(f"{path}/") and message.member == "Introspect"
        if not (is_above or f"{path}/".startswith(f"{ROOT}/")):
            return None
        try:
            answer = self._answer(message)
        except Refused as refused:
            return Message.new_error(message, refused.name, str(refused))
        except (OSError, ValueError, IndexError, TypeError, KeyError) as error:
            return Message.new_error(message, f"{_ERROR}.Failed", str(error))
        if answer is None:
            return None
        signature, body = answer
        return Message.new_method_return(message, signature, body)

    def _answer(self, message: Message) -> tuple[str, list[Any]] | None:
        path, body = message.path or "", message.body
        if message.interface == introspection.PEER:
            return None
        standard = (message.interface or "").removeprefix("org.freedesktop.DBus.")
        match standard, message.member:
            case ("ObjectManager", "GetManagedObjects") if path == ROOT:
                objects = {each: _variants_of(self.objects[each]) for each in self.objects}
                return "a{oa{sa{sv}}}", [objects]
            case ("Introspectable", "Introspect"):
                return "s", [introspection.xml(self.objects, path)]
            case ("Properties", "Get"):
                properties = self._interface(path, body[0])
                if body[1] not in properties:
                    raise Refused(ErrorType.UNKNOWN_PROPERTY.value, f"no property {body[1]}")
                return "v", [Variant(*properties[body[1]])]
            case ("Properties", "GetAll"):
                return "a{sv}", [_variants(self._interface(path, body[0]))]
            case ("Properties", "Set"):
                raise Refused(ErrorType.PROPERTY_READ_ONLY.value, "nothing can be set")
            case (interface, member):
                return self._method(path, interface or "", member or "", message)

    def _interface(self, path: str, interface: str) -> Mapping[str, tuple[str, Any]]:
        properties = self._object(path).get(interface)
        if properties is None:
            raise Refused(ErrorType.UNKNOWN_INTERFACE.value, f"{path} has no {interface}")
        return properties

    def _object(self, path: str) -> Interfaces:
        if path not in self.objects:
            raise Refused(ErrorType.UNKNOWN_OBJECT.value, f"there is no {path}")
        return self.objects[path]

    def _method(
        self, path: str, interface: str, member: str, message: Message
    ) -> tuple[str, list[Any]]:
        self._interface(path, interface)
        match interface.removeprefix(f"{NAME}."), member:
            case ("Filesystem", "Mount"):
                return "s", [self._mount(path, message.sender or "")]
            case ("Filesystem", "Unmount"):
                self._unmount(path)
                return "", []
            case ("Manager", "GetBlockDevices"):
                return "ao", [[each for each in self.objects if "/block_devices/" in each]]
            case ("Manager", "ResolveDevice"):
                return "ao", [self._resolve(message.body[0])]
            case ("Block", "Rescan"):
                self.look()
                return "", []
            case _ if member in introspection.METHODS.get(interface, ()):
                text = f"a stand-in of hostlab does not {member}: there is no real device"
                raise Refused(f"{_ERROR}.NotSupported", text)
            case _:
                raise Refused(ErrorType.UNKNOWN_METHOD.value, f"{interface} has no {member}")

    def _resolve(self, wanted: Mapping[str, Variant]) -> list[str]:
        keys = {"path": "DEVNAME", "label": "ID_FS_LABEL", "uuid": "ID_FS_UUID"}
        keys |= {"partuuid": "ID_PART_ENTRY_UUID"}
        return [
            block_path(device)
            for device in self._devices()
            if all(device.get(keys.get(key, "")) == each.value for key, each in wanted.items())
        ]

    def _devices(self) -> list[dict[str, str]]:
        every = (each for record in self.records for each in record.devices)
        return [each for each in every if each.get("SUBSYSTEM") == "block"]

    def _device(self, path: str) -> dict[str, str]:
        return next(each for each in self._devices() if block_path(each) == path)

    # Mounting.

    def _mount(self, path: str, sender: str) -> str:
        device = self._device(path)
        name = device["DEVNAME"]
        if name in self.mounts:
            text = f"Device {name} is already mounted at `{self.mounts[name]}'."
            raise Refused(f"{_ERROR}.AlreadyMounted", text)
        content = device.get(CONTENT)
        if content is None or not os.path.isdir(content):
            raise Refused(f"{_ERROR}.Failed", f"nothing says what is on {name}")
        with self._job("filesystem-mount", path):
            label = unescaped(device.get("ID_FS_LABEL_ENC", "")) or device.get("ID_FS_UUID", "disk")
            label = label.replace("/", "_").replace("\0", "_")
            point = free_name(f"{self.media}/root/{label}")
            show(content, point)
            self.mounts[name] = point
            self.look()
        return point

    def _unmount(self, path: str) -> None:
        name = self._device(path)["DEVNAME"]
        if name not in self.mounts:
            raise Refused(f"{_ERROR}.NotMounted", f"Device `{name}' is not mounted")
        with self._job("filesystem-unmount", path):
            take_away(self.mounts.pop(name))
            self.look()

    @contextlib.contextmanager
    def _job(self, operation: str, path: str) -> Iterator[None]:
        """What is done is an object while it is done."""
        job = f"{ROOT}/jobs/{self._jobs}"
        self._jobs += 1
        properties = {
            "Operation": ("s", operation),
            "Progress": ("d", 0.0),
            "ProgressValid": ("b", False),
            "Bytes": ("t", 0),
            "Rate": ("t", 0),
            "StartTime": ("t", time.time_ns() // 1000),
            "ExpectedEndTime": ("t", 0),
            "Objects": ("ao", [path]),
            "StartedByUID": ("u", 0),
            "Cancelable": ("b", False),
        }
        interface = f"{NAME}.Job"
        body = [job, {interface: _variants(properties)}]
        self._signal(OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", body)
        why = ""
        try:
            yield
        except OSError as error:
            why = str(error)
            raise
        finally:
            self._signal(interface, "Completed", "bs", [not why, why], path=job)
            self._signal(OBJECT_MANAGER, "InterfacesRemoved", "oas", [job, [interface]])


def _attribute(path: str, name: str) -> str:
    try:
        with open(f"/sys{path}/{name}", encoding="utf-8") as file:
            return file.read(4096).strip()
    except OSError:
        return ""


def _variants(properties: Mapping[str, tuple[str, Any]]) -> dict[str, Variant]:
    return {key: Variant(*value) for key, value in properties.items()}


def _variants_of(interfaces: Interfaces) -> dict[str, dict[str, Variant]]:
    return {name: _variants(properties) for name, properties in interfaces.items()}


async def _serve(bus: MessageBus, listener: UeventSocket, warn: Callable[[str], None]) -> None:
    """Answer until the connection ends; raises why."""
    stand_in = StandIn(bus, warn)
    stand_in.take_up()
    bus.add_message_handler(stand_in.answer)
    stand_in.look()

    def heard() -> None:
        has_come = False
        for _ in range(READ_AT_ONCE):
            got = listener.receive()
            if got is None:
                break
            has_come |= got[1] is not None and got[1].subsystem == "block"
        if has_come or listener.take_lost():
            stand_in.look()

    loop = asyncio.get_running_loop()
    loop.add_reader(listener, heard)
    try:
        reply = await bus.request_name(NAME)
        if reply not in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER):
            raise Failed("name", f"somebody else answers for {NAME}")
        ended: Callable[[], Awaitable[None]] = bus.wait_for_disconnect
        await ended()
    finally:
        loop.remove_reader(listener)


async def _main(warn: Callable[[str], None]) -> None:
    listener = UeventSocket(UDEV)
    try:
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        await _serve(bus, listener, warn)
    except (EOFError, AuthError, DBusError) as error:
        raise Failed("bus", f"the system bus: {str(error) or 'it has ended'}") from None
    finally:
        listener.close()


def run(warn: Callable[[str], None]) -> None:
    """Be UDisks2 on the system bus until that ends, which is Failed or an OSError.

    Unsupported where there are real devices.
    """
    if hears_machine():
        hint = "run udisksd, of Debian's package udisks2"
        raise Unsupported("devices", "a stand-in is for nodes without devices", hint=hint)
    asyncio.run(_main(warn))
