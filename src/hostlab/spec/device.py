"""A thing that is plugged in: a recording of what a real kernel and udev said of it.

    name: stick
    content: photos            # a directory beside this file: what is on it
    devices:                   # in the order in which they appear
      - path: /devices/pci0000:00/…/usb1/1-1
        subsystem: usb
        kernel: {DEVTYPE: usb_device, PRODUCT: 46f4/1/0, …}
        udev: {ID_MODEL: QEMU_USB_HARDDRIVE, …}
        links: [disk/by-id/…]
        attributes: {idVendor: 46f4, …}

One stick is a dozen devices: the USB device, its interface, a SCSI host, target and device, the
disk and its partitions. Nothing is opened here.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

import msgspec

from hostlab.spec.names import name as parse_name
from hostlab.spec.shapes import Fields, Key, ListOf, MapOf, Said, Table, Text
from hostlab.spec.source import START, Source, Wrong, quoted
from hostlab.spec.yaml_text import compose

MAX_DEVICES: Final = 256
MAX_CHARACTERS: Final = 1 << 20
Pairs = tuple[tuple[str, str], ...]
_PATH: Final = re.compile(r"/devices(/[^/\s]+)+")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
_PROPERTY: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9_.:-]+(/[A-Za-z0-9_.:-]+)*")
_OURS: Final = frozenset({"ACTION", "DEVPATH", "DRIVER", "SEQNUM", "SUBSYSTEM"})


class DeviceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One device of it, as the kernel names them."""

    path: str
    """Below /sys."""
    subsystem: str
    driver: str = ""
    """Which the kernel binds to it when it is there."""
    kernel: Pairs = ()
    """What the kernel's event says beside path, subsystem and action."""
    udev: Pairs = ()
    """What udev's rules add."""
    tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """Names of its device file below /dev."""
    attributes: Pairs = ()
    """Files of its directory in /sys, and what is in them."""

    def kernel_properties(self) -> dict[str, str]:
        """Everything that the kernel says of it."""
        return {"DEVPATH": self.path, "SUBSYSTEM": self.subsystem, **dict(self.kernel)}

    def udev_properties(self) -> dict[str, str]:
        """Everything that udev says of it."""
        found = self.kernel_properties() | dict(self.udev)
        name = found.get("DEVNAME", "")
        if name and not name.startswith("/"):
            found["DEVNAME"] = f"/dev/{name}"
        if self.links:
            found["DEVLINKS"] = " ".join(f"/dev/{link}" for link in self.links)
        if self.tags:
            found["TAGS"] = f":{':'.join(self.tags)}:"
            found["CURRENT_TAGS"] = found["TAGS"]
        return found


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be plugged into a node."""

    name: str
    devices: tuple[DeviceEntry, ...]
    content: str | None = None
    """Absolute path of the directory that stands for what is on it."""


def _pattern(words: str, pattern: re.Pattern[str]) -> Text:
    def parse(word: str) -> str:
        if not pattern.fullmatch(word) or ".." in word.split("/"):
            raise Wrong(f"{quoted(word)} is not {words}")
        return word

    return Text(words, parse, {"type": "string"})


def _property(word: str) -> str:
    if not _PROPERTY.fullmatch(word):
        raise Wrong(f"{quoted(word)} is not the name of a property")
    if word in _OURS:
        raise Wrong(f"{word} is said by `path`, `subsystem`, `driver`, or the event itself")
    return word


def _value(word: str) -> str:
    if "\0" in word or "\n" in word:
        raise Wrong("a property is one line")
    return word


_PROPERTIES: Final = MapOf(Text("a property", _property), Text("a text", _value))
_ENTRY: Final = Table(
    "device",
    "One device of what is plugged in.",
    (
        Key("path", _pattern("a path below /sys/devices", _PATH), "Below /sys.", "/devices/…"),
        Key("subsystem", _pattern("a subsystem", _WORD), "As the kernel has it.", "usb"),
        Key("driver", _pattern("a driver", _WORD), "Bound to it.", "usb-storage"),
        Key("kernel", _PROPERTIES, "What the kernel's event says.", "{DEVTYPE: usb_device}"),
        Key("udev", _PROPERTIES, "What udev's rules add.", "{ID_BUS: usb}"),
        Key("tags", ListOf(_pattern("a tag", _WORD)), "udev's tags.", "[systemd]"),
        Key("links", ListOf(_pattern("a name below /dev", _ATTRIBUTE)), "Names.", "[disk/by-id/x]"),
        Key(
            "attributes",
            MapOf(_pattern("an attribute", _ATTRIBUTE), Text("a text", str)),
            "Files in /sys.",
            "{idVendor: 46f4}",
        ),
    ),
    required=("path", "subsystem"),
)
DEVICE: Final = Table(
    "pluggable device",
    "A thing that can be plugged into a node.",
    (
        Key("name", Text("a name", parse_name), "By which it is unplugged.", "stick"),
        Key("content", Text("a directory", str), "What is on it.", "photos"),
        Key("devices", ListOf(_ENTRY, alone=False), "In the order in which they appear.", "[…]"),
    ),
    required=("name", "devices"),
)


def load_device(text: str, *, file: str, directory: str = "/") -> Device:
    """A recording from its YAML; SpecErrors with every error and its place.

    `directory` is that of the file, absolute: `content` is relative to it.
    """
    source = Source(text.removeprefix("\ufeff"), file)
    if len(text) > MAX_CHARACTERS:
        source.report("yaml", f"longer than {MAX_CHARACTERS:,} characters", START)
        source.raise_errors()
    tree = compose(source)
    if tree is None:
        source.report("missing", "there is no device in it", START)
        source.raise_errors()
    assert tree is not None
    said = DEVICE.read(source, tree)
    source.raise_errors()
    assert said is not None
    fields: Fields = said.value
    entries = fields["devices"]
    _check(source, entries)
    source.raise_errors()
    content = fields.value("content")
    return Device(
        name=fields.value("name"),
        devices=tuple(_entry(each.value) for each in entries.value),
        content=None if content is None else posixpath.normpath(f"{directory}/{content}"),
    )


def _check(source: Source, entries: Said) -> None:
    seen: dict[str, Said] = {}
    if not entries.value:
        source.report("missing", "a device is wanted", entries.at)
    if len(entries.value) > MAX_DEVICES:
        source.report("value", f"more than {MAX_DEVICES} devices", entries.value[MAX_DEVICES].at)
    for entry in entries.value:
        path = entry.value["path"]
        if path.value in seen:
            first = source.place(seen[path.value].at)
            source.report("clash", f"this device is here twice, first at {first}", path.at)
        seen[path.value] = path
        kernel: Fields = entry.value.value("kernel", Fields())
        for number in ("MAJOR", "MINOR"):
            if number in kernel and not kernel.value(number).isdecimal():
                source.report("value", f"{number} is a number", kernel[number].at)


def _entry(fields: Fields) -> DeviceEntry:
    def pairs(key: str) -> Pairs:
        return tuple((name, said.value) for name, said in fields.value(key, Fields()).items())

    def words(key: str) -> tuple[str, ...]:
        return tuple(said.value for said in fields.value(key, []))

    return DeviceEntry(
        path=fields.value("path"),
        subsystem=fields.value("subsystem"),
        driver=fields.value("driver", ""),
        kernel=pairs("kernel"),
        udev=pairs("udev"),
        tags=words("tags"),
        links=words("links"),
        attributes=pairs("attributes"),
    )
