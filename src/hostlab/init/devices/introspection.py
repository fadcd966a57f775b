"""UDisks2's interfaces as introspection data: methods by name, properties from the objects.

The methods are those of the interfaces' published description for UDisks 2.9, of which the
stand-in carries out some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hostlab.init.devices.udisks2 import NAME, ROOT, Objects

PEER: Final = "org.freedesktop.DBus.Peer"
_OPTIONS: Final = "a{sv}"
METHODS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    f"{NAME}.Manager": {
        "GetBlockDevices": (_OPTIONS, "ao"),
        "ResolveDevice": (f"{_OPTIONS} {_OPTIONS}", "ao"),
    },
    f"{NAME}.Drive": {
        "Eject": (_OPTIONS, ""),
        "PowerOff": (_OPTIONS, ""),
        "SetConfiguration": (f"a{{sv}} {_OPTIONS}", ""),
    },
    f"{NAME}.Block": {
        "Format": (f"s {_OPTIONS}", ""),
        "OpenDevice": (f"s {_OPTIONS}", "h"),
        "OpenForBackup": (_OPTIONS, "h"),
        "OpenForBenchmark": (_OPTIONS, "h"),
        "OpenForRestore": (_OPTIONS, "h"),
        "Rescan": (_OPTIONS, ""),
    },
    f"{NAME}.PartitionTable": {
        "CreatePartition": (f"t t s s {_OPTIONS}", "o"),
        "CreatePartitionAndFormat": (f"t t s s {_OPTIONS} s {_OPTIONS}", "o"),
    },
    f"{NAME}.Partition": {
        "Delete": (_OPTIONS, ""),
        "Resize": (f"t {_OPTIONS}", ""),
        "SetFlags": (f"t {_OPTIONS}", ""),
        "SetName": (f"s {_OPTIONS}", ""),
        "SetType": (f"s {_OPTIONS}", ""),
    },
    f"{NAME}.Filesystem": {
        "Check": (_OPTIONS, "b"),
        "Mount": (_OPTIONS, "s"),
        "Repair": (_OPTIONS, "b"),
        "Resize": (f"t {_OPTIONS}", ""),
        "SetLabel": (f"s {_OPTIONS}", ""),
        "TakeOwnership": (_OPTIONS, ""),
        "Unmount": (_OPTIONS, ""),
    },
}
"""Interface -> method -> (types in, type out)."""
_HEAD: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)
_STANDARD: Final = """\
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect"><arg type="s" direction="out"/></method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg type="s" direction="in"/><arg type="a{sv}" direction="out"/>
    </method>
    <signal name="PropertiesChanged"><arg type="s"/><arg type="a{sv}"/><arg type="as"/></signal>
  </interface>
"""
_MANAGER: Final = """\
  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects"><arg type="a{oa{sa{sv}}}" direction="out"/></method>
    <signal name="InterfacesAdded"><arg type="o"/><arg type="a{sa{sv}}"/></signal>
    <signal name="InterfacesRemoved"><arg type="o"/><arg type="as"/></signal>
  </interface>
"""


def xml(objects: Objects, path: str) -> str:
    """The introspection data of an object, or of a path that others are below."""
    parts = [_HEAD, "<node>\n", _STANDARD]
    if path == ROOT:
        parts.append(_MANAGER)
    for interface, properties in objects.get(path, {}).items():
        parts.append(f'  <interface name="{interface}">\n')
        parts += _methods(interface)
        parts += [
            f'    <property name="{name}" type="{signature}" access="read"/>\n'
            for name, (signature, _) in properties.items()
        ]
        parts.append("  </interface>\n")
    above = f"{path.rstrip('/')}/"
    below = {
        each.removeprefix(above).partition("/")[0]
        for each in (*objects, ROOT)
        if each.startswith(above)
    }
    parts += [f'  <node name="{name}"/>\n' for name in sorted(below)]
    return "".join((*parts, "</node>\n"))


def _methods(interface: str) -> Iterator[str]:
    for name, (given, returned) in METHODS.get(interface, {}).items():
        arguments = "".join(f'<arg type="{each}" direction="in"/>' for each in given.split())
        if returned:
            arguments += f'<arg type="{returned}" direction="out"/>'
        yield f'    <method name="{name}">{arguments}</method>\n'
