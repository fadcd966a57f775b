"""Plugging things into nodes, and pulling them out.

In a container node the kernel is the machine's, which has no such device. So everybody who looks is
shown one: listeners get the events that a real kernel and udev sent, /sys and udev's database get
the entries, and what is on a stick is a directory. What cannot be so is told: no user namespace has
a device file of its own. `plug` and `unplug` are all that others know; a node that is a virtual
machine will do the same by its own kernel.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final, Protocol

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.init.devices.plugged import RECORDS, SUFFIX, Plugged
from hostlab.lab import attach, sys_overlay
from hostlab.lab.access import NodeConnection
from hostlab.lab.driver import running
from hostlab.lab.paths import read_if_there
from hostlab.linux.entering import enter_namespaces, from_inside
from hostlab.linux.libc import umount2
from hostlab.linux.mounts import MNT_DETACH, UMOUNT_NOFOLLOW
from hostlab.linux.procfs import start_time
from hostlab.linux.sysfs import (
    UDEV_CONTROL,
    UDEV_DATA,
    UDEV_TAGS,
    database_name,
    database_text,
    of_kernel,
)
from hostlab.linux.uevent_socket import UeventSender
from hostlab.linux.uevents import UDEV, Uevent, of_device
from hostlab.linux.whole_files import write_whole
from hostlab.spec.device import Device, DeviceEntry, load_device
from hostlab.spec.mount_options import mount_flags

CONTENT: Final = "ID_HOSTLAB_CONTENT"
"""The property that names the directory with what is on a device."""
_INSIDE: Final = ("user", "mnt", "net")


class Sockets(Protocol):
    """A node that things can be plugged into."""

    def plug(self, device: Device) -> Sequence[str]:
        """Plug it in; what of it could not be shown, for people."""

    def unplug(self, name: str) -> None:
        """Pull it out."""

    def plugged(self) -> Sequence[Plugged]:
        """What is plugged in."""


def sockets_of(node: NodeConnection) -> Sockets:
    """Where things are plugged into a node, whichever kind of node it is."""
    return ContainerSockets(node)


def read_device(path: str) -> Device:
    """The recording in a file; UsageError when it cannot be read, SpecErrors as `load_device`."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise UsageError("no-file", f"{path}: {error.strerror}") from None
    return load_device(text, file=path, directory=os.path.dirname(os.path.abspath(path)))


class ContainerSockets:
    """Those of a node that is made of namespaces."""

    def __init__(self, node: NodeConnection) -> None:
        self.node = node

    def plug(self, device: Device) -> Sequence[str]:
        """Plug a device in, all of it, or what can be shown; OSError when not even its events."""
        if device.content is not None and not os.path.isdir(device.content):
            raise UsageError("content", f"{device.content} is no directory")
        with self._locked() as directory:
            others = self.plugged()
            self._check_free(device, others)
            plan = _Plan(device, others)
            hub = self._hub() if device.content is not None else None

            def work() -> tuple[bytes, Sequence[int]]:
                warnings = _plug(plan, hub, self.node.pid)
                return json.dumps([plan.is_shown, warnings]).encode(), ()

            # Before anything is done: whatever comes of it can be taken away again.
            place = f"{directory}/{device.name}{SUFFIX}"
            write_whole(place, self._kept(plan))
            # The content is picked up among the lab's mounts, before the node's are entered.
            data, _ = from_inside(self.node.pid, ("user",), work)
            warnings: list[str]
            plan.is_shown, warnings = json.loads(data)
            write_whole(place, self._kept(plan))
        return [*warnings, *plan.remarks()]

    def unplug(self, name: str) -> None:
        """Pull a device out: it is gone, and then its events tell so."""
        with self._locked() as directory:
            found = self._found(name)
            others = [each for each in self.plugged() if each.name != name]

            def work() -> tuple[bytes, Sequence[int]]:
                _unplug(found, others)
                return b"", ()

            from_inside(self.node.pid, _INSIDE, work)
            os.unlink(f"{directory}/{name}{SUFFIX}")

    def plugged(self) -> Sequence[Plugged]:
        """What is plugged in, by name; of an earlier life of the node nothing is.

        It is the lab's own account: what a node's root could write is not acted upon.
        """
        found = []
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._directory)):
                data = read_if_there(f"{self._directory}/{name}")
                if name.endswith(SUFFIX) and data is not None:
                    kept = typed.decode(data, _Kept)
                    if kept.life == self._life():
                        found.append(kept.thing)
        return found

    @property
    def _directory(self) -> str:
        return f"{self.node.directory}/devices"

    @contextmanager
    def _locked(self) -> Iterator[str]:
        """One at a time; the directory of what is kept."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield self._directory
        finally:
            os.close(fd)

    def _life(self) -> str:
        return f"{self.node.pid} {start_time(self.node.pid)}"

    def _kept(self, plan: _Plan) -> bytes:
        return msgspec.json.encode(_Kept(life=self._life(), thing=plan.record()))

    def _found(self, name: str) -> Plugged:
        found = {each.name: each for each in self.plugged()}
        if name not in found:
            known = ", ".join(found) or "nothing"
            text = f"no {name!r} is plugged into node {self.node.name}"
            raise UsageError("not-plugged", text, hint=f"plugged in: {known}")
        return found[name]

    def _check_free(self, device: Device, others: Sequence[Plugged]) -> None:
        """Nothing of this name, nor with a device at one of its places, may be plugged in."""
        paths = {entry.path for entry in device.devices}
        for other in others:
            if other.name == device.name or paths & {each["DEVPATH"] for each in other.devices}:
                text = f"{other.name} is in its place in node {self.node.name}"
                hint = f"hostlab device unplug {self.node.name} {other.name}"
                raise UsageError("plugged", text, hint=hint)

    def _hub(self) -> int:
        with closing(running(self.node.lab)) as control:
            return int(control.call("status")["pid"])


class _Kept(msgspec.Struct, frozen=True):
    """What is kept of a thing that is plugged in, outside of the node."""

    life: str
    """Of the node: its first process and when that was started."""
    thing: Plugged


class _Plan:
    """Everything that is written and sent, made before the node is entered."""

    def __init__(self, device: Device, others: Sequence[Plugged]) -> None:
        self.device = device
        self.others = others
        self.directories = sys_overlay.directories_for(entry.path for entry in device.devices)
        self.content = None if device.content is None else f"{RECORDS}/{device.name}"
        self.events: list[tuple[Uevent, Uevent]] = []
        """The kernel's, and udev's of the same."""
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.devices: list[dict[str, str]] = []
        self.is_shown = True
        """In /sys; what could not be once is not tried again with the next thing."""
        for entry in device.devices:
            self._add(entry)
        for entry, said in zip(device.devices[::-1], self.devices[::-1], strict=True):
            if entry.driver:
                kernel = entry.kernel_properties() | {"DRIVER": entry.driver}
                self.events.append((of_device("bind", kernel), of_device("bind", said, UDEV)))

    def _add(self, entry: DeviceEntry) -> None:
        kernel, udev = entry.kernel_properties(), entry.udev_properties()
        if self.content is not None and "ID_FS_USAGE" in udev:
            udev[CONTENT] = self.content
        self.events.append((of_device("add", kernel), of_device("add", udev, UDEV)))
        bound = {"DRIVER": entry.driver} if entry.driver else {}
        self.devices.append(udev | bound)
        files, links = sys_overlay.entries(entry.path, kernel | bound, dict(entry.attributes))
        self.files |= files
        self.links |= links

    def record(self) -> Plugged:
        """What is written down of it."""
        return Plugged(
            name=self.device.name,
            devices=tuple(self.devices),
            content=self.content,
            directories=self.directories if self.is_shown else (),
            files=self.files if self.is_shown else {},
            links=self.links if self.is_shown else {},
        )

    def remarks(self) -> list[str]:
        """What no container can have."""
        names = [entry.udev_properties().get("DEVNAME") for entry in self.device.devices]
        found = [name for name in names if name and name.startswith("/dev/sd")] or names
        first = next(filter(None, found), None)
        if first is None:
            return []
        return [f"there is no {first}: a container can be given no device file"]


def _plug(plan: _Plan, hub: int | None, node: int) -> list[str]:
    """In a child that is in the lab's user namespace: go in, and do everything."""
    warnings: list[str] = []
    content = -1
    if hub is not None:
        _enter(hub, ("mnt",))
        assert plan.device.content is not None
        how = mount_flags(("ro", "nosuid", "nodev"))
        content = attach.pick_up(plan.device.content, flags=how)
    _enter(node, ("mnt", "net"))
    _enter_records()
    if content >= 0:
        with suppress(FileExistsError):
            os.mkdir(plan.device.name, 0o755)
        # By its name in the directory that this process is in: no link is followed.
        attach.put_down(content, plan.device.name, readonly=True)
    try:
        _show([*plan.others, plan], plan.others)
    except OSError as error:
        warnings.append(f"its /sys does not show it: {error.strerror or error}")
        plan.is_shown = False
    _write_database(plan.devices)
    _enter_records()
    name = f"{plan.device.name}{SUFFIX}"
    write_whole(name, msgspec.json.encode(plan.record()), mode=0o644)
    with closing(UeventSender()) as sender:
        for kernel, udev in plan.events:
            sender.send_both(kernel, udev)
    return warnings


def _enter_records() -> None:
    """Go to the directory of the records, which no link leads to.

    A node's root could put one in its way, and have something else mounted over or uncovered.
    """
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in RECORDS.strip("/").split("/"):
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        found = os.open(part, flags, dir_fd=fd)
        os.close(fd)
        fd = found
    if os.fstat(fd).st_dev != os.stat("/run").st_dev:
        raise OSError(errno.EXDEV, "it is not the node's own", RECORDS)
    os.fchdir(fd)
    os.close(fd)


def _enter(pid: int, kinds: Sequence[str]) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        enter_namespaces(pid, pidfd, kinds)
    finally:
        os.close(pidfd)


class _Shown(Protocol):
    """What /sys is to show."""

    @property
    def directories(self) -> Sequence[str]: ...
    @property
    def files(self) -> Mapping[str, str]: ...
    @property
    def links(self) -> Mapping[str, str]: ...


def _show(things: Sequence[_Shown], before: Sequence[_Shown]) -> None:
    covered = [each for thing in before for each in thing.directories]
    if not things:
        sys_overlay.hide(covered)
        return
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for thing in things:
        files |= thing.files
        links |= thing.links
    wanted = [each for thing in things for each in thing.directories]
    sys_overlay.show(wanted, covered, files, links)


def _database(properties: Mapping[str, str]) -> list[str]:
    """The files of udev's database that are about a device: its own, and one for each tag."""
    name = database_name(properties)
    tags = [tag for tag in properties.get("TAGS", "").split(":") if tag]
    return [f"{UDEV_DATA}/{name}", *(f"{UDEV_TAGS}/{tag}/{name}" for tag in tags)]


def _write_database(devices: Sequence[Mapping[str, str]]) -> None:
    os.makedirs(UDEV_DATA, mode=0o755, exist_ok=True)
    # By this name libudev tells that a udev runs, and listens.
    os.close(os.open(UDEV_CONTROL, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    for properties in devices:
        own, *of_tags = _database(properties)
        text = database_text(of_device("add", properties, UDEV))
        with open(own, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
        for path in of_tags:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            open(path, "wb").close()


def _unplug(record: Plugged, others: Sequence[Plugged]) -> None:
    """In a child inside: what is gone is gone before anybody hears of it."""
    _enter_records()
    with suppress(FileNotFoundError):
        os.unlink(f"{record.name}{SUFFIX}")
    if record.content is not None:
        # Who reads from it keeps what is open, and finds nothing more.
        with suppress(OSError):
            umount2(record.name.encode(), MNT_DETACH | UMOUNT_NOFOLLOW)
            os.rmdir(record.name)
    for properties in record.devices:
        for path in _database(properties):
            with suppress(FileNotFoundError):
                os.unlink(path)
    with suppress(OSError):
        _show(others, [record, *others])
    with closing(UeventSender()) as sender:
        for event in record.departure():
            said = of_kernel(dict(event.properties))
            sender.send_both(of_device(event.action, said), event)
