"""The objects of com.ubuntu.Upstart: their paths, and what they say of themselves.

    /com/ubuntu/Upstart                          the init
    /com/ubuntu/Upstart/jobs/JOB                 a job
    /com/ubuntu/Upstart/jobs/JOB/INSTANCE        an instance of it; `_` is the one without a name

In a path every byte of a name that is no letter or digit is `_` and its two hexadecimal digits
(libnih's nih_dbus_path()). Interfaces, methods, properties and signals are those of version 0.6,
the only one that Upstart ever had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

NAME: Final = "com.ubuntu.Upstart"
ROOT: Final = "/com/ubuntu/Upstart"
JOBS: Final = f"{ROOT}/jobs"
MANAGER: Final = "com.ubuntu.Upstart0_6"
JOB: Final = f"{MANAGER}.Job"
INSTANCE: Final = f"{MANAGER}.Instance"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
PEER: Final = "org.freedesktop.DBus.Peer"
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ESCAPE: Final = re.compile(r"_([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Member:
    """A method, its signatures with an argument's name for each complete type."""

    takes: tuple[tuple[str, str], ...] = ()
    gives: tuple[tuple[str, str], ...] = ()
    is_open: bool = False
    """Anybody may call it; the others only root and the init's own user (dbus/Upstart.conf)."""

    @property
    def signature(self) -> str:
        """Of what it takes."""
        return "".join(kind for _, kind in self.takes)

    @property
    def answer(self) -> str:
        """Of what it gives."""
        return "".join(kind for _, kind in self.gives)


_DETAILS: Final = ("job_details", "as")
_ENV: Final = ("env", "as")
_WAIT: Final = ("wait", "b")
_INSTANCE: Final = ("instance", "o")
_START: Final = Member((_ENV, _WAIT), (_INSTANCE,))

METHODS: Final[Mapping[str, Mapping[str, Member]]] = {
    MANAGER: {
        "ReloadConfiguration": Member(),
        "GetJobByName": Member((("name", "s"),), (("job", "o"),), is_open=True),
        "GetAllJobs": Member((), (("jobs", "ao"),), is_open=True),
        "GetState": Member((), (("state", "s"),)),
        "Restart": Member(),
        "GetEnv": Member((_DETAILS, ("name", "s")), (("value", "s"),)),
        "SetEnv": Member((_DETAILS, ("var", "s"), ("replace", "b"))),
        "SetEnvList": Member((_DETAILS, ("vars", "as"), ("replace", "b"))),
        "UnsetEnv": Member((_DETAILS, ("name", "s"))),
        "UnsetEnvList": Member((_DETAILS, ("name", "as"))),
        "ListEnv": Member((_DETAILS,), (_ENV,)),
        "ResetEnv": Member((_DETAILS,)),
        "EmitEvent": Member((("name", "s"), _ENV, _WAIT)),
        "EmitEventWithFile": Member((("name", "s"), _ENV, _WAIT, ("file", "h"))),
        "NotifyDiskWriteable": Member(),
        "NotifyDBusAddress": Member((("address", "s"),)),
        "NotifyCGroupManagerAddress": Member((("address", "s"),)),
        "EndSession": Member(),
    },
    JOB: {
        "GetInstance": Member((_ENV,), (_INSTANCE,), is_open=True),
        "GetInstanceByName": Member((("name", "s"),), (_INSTANCE,), is_open=True),
        "GetAllInstances": Member((), (("instances", "ao"),), is_open=True),
        "Start": _START,
        "Stop": Member((_ENV, _WAIT)),
        "Restart": _START,
    },
    INSTANCE: {
        "Start": Member((_WAIT,)),
        "Stop": Member((_WAIT,)),
        "Restart": Member((_WAIT,)),
        "Reload": Member(),
    },
    PROPERTIES: {
        "Get": Member((("interface", "s"), ("name", "s")), (("value", "v"),), is_open=True),
        "GetAll": Member((("interface", "s"),), (("values", "a{sv}"),), is_open=True),
        "Set": Member((("interface", "s"), ("name", "s"), ("value", "v"))),
    },
    INTROSPECTABLE: {"Introspect": Member((), (("data", "s"),), is_open=True)},
    PEER: {
        "Ping": Member(is_open=True),
        "GetMachineId": Member((), (("machine_uuid", "s"),), is_open=True),
    },
}
"""Interface -> method."""
PROPERTY_TYPES: Final[Mapping[str, Mapping[str, str]]] = {
    MANAGER: {"version": "s", "log_priority": "s"},
    JOB: {
        "name": "s",
        "description": "s",
        "author": "s",
        "version": "s",
        "usage": "s",
        "start_on": "aas",
        "stop_on": "aas",
        "emits": "as",
    },
    INSTANCE: {"name": "s", "goal": "s", "state": "s", "processes": "a(si)"},
}
WRITABLE: Final = frozenset({(MANAGER, "log_priority")})
SIGNALS: Final[Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]]] = {
    MANAGER: {
        "JobAdded": (("job", "o"),),
        "JobRemoved": (("job", "o"),),
        "EventEmitted": (("name", "s"), _ENV),
        "Restarted": (),
    },
    JOB: {"InstanceAdded": (_INSTANCE,), "InstanceRemoved": (_INSTANCE,)},
    INSTANCE: {
        "GoalChanged": (("goal", "s"),),
        "StateChanged": (("state", "s"),),
        "Failed": (("status", "i"),),
    },
}


def job_path(job: str) -> str:
    """Of a job."""
    return f"{JOBS}/{encode(job)}"


def instance_path(job: str, instance: str) -> str:
    """Of an instance."""
    return f"{job_path(job)}/{encode(instance)}"


def encode(name: str) -> str:
    """A name as an element of a path."""
    text = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in name.encode())
    return text or "_"


def decode(element: str) -> str | None:
    """The name that an element stands for; None when it stands for none."""
    if element == "_":
        return ""
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), element).encode("latin-1", "replace")
    try:
        name = data.decode()
    except UnicodeDecodeError:
        return None
    # What has been written in another way is nobody's path.
    return name if encode(name) == element else None


def names_of(path: str) -> tuple[str, ...] | None:
    """() for the init, (job,) or (job, instance); None for what is no object's path."""
    if path == ROOT:
        return ()
    if not path.startswith(f"{JOBS}/"):
        return None
    names = [decode(element) for element in path.removeprefix(f"{JOBS}/").split("/")]
    if len(names) > 2 or None in names or names[0] == "":
        return None
    return tuple(name for name in names if name is not None)


def introspection(interface: str | None, children: Iterable[str]) -> str:
    """What an object says of itself: its interface, and the elements of the paths below it."""
    lines = [
        '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"',
        ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">',
        "<node>",
    ]
    own = () if interface is None else (interface, PROPERTIES)
    for name in (*own, INTROSPECTABLE, PEER):
        lines += _interface(name)
    lines += [f"  <node name={quoteattr(child)}/>" for child in children]
    return "\n".join([*lines, "</node>", ""])


def _interface(name: str) -> list[str]:
    lines = [f'  <interface name="{name}">']
    for member, method in METHODS[name].items():
        lines.append(f'    <method name="{member}">')
        lines += [_argument(*each, "in") for each in method.takes]
        lines += [_argument(*each, "out") for each in method.gives]
        lines.append("    </method>")
    for member, arguments in SIGNALS.get(name, {}).items():
        lines.append(f'    <signal name="{member}">')
        lines += [_argument(*each) for each in arguments]
        lines.append("    </signal>")
    for key, kind in PROPERTY_TYPES.get(name, {}).items():
        access = "readwrite" if (name, key) in WRITABLE else "read"
        lines.append(f'    <property name="{key}" type="{kind}" access="{access}"/>')
    return [*lines, "  </interface>"]


def _argument(name: str, kind: str, direction: str | None = None) -> str:
    which = "" if direction is None else f' direction="{direction}"'
    return f'      <arg name="{name}" type="{kind}"{which}/>'
