"""Specifiers, `%i` and the like: what they stand for (systemd.unit(5), "Specifiers").

What depends on the machine comes in as a `Machine`; with one of the defaults a unit reads as it
would in a new node of the system's own init.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.unit_names import UnitName, unescape, unescape_path

_SPECIFIER = re.compile(r"%(.?)", re.S)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the specifiers and directories of a unit depend on, beside its name."""

    hostname: str = "localhost"
    pretty_hostname: str = ""
    machine_id: str = ""
    boot_id: str = ""
    kernel: str = ""
    architecture: str = "x86-64"
    user: str = "root"
    uid: int = 0
    group: str = "root"
    gid: int = 0
    home: str = "/root"
    shell: str = "/bin/sh"
    os_release: tuple[tuple[str, str], ...] = ()
    """`ID`, `VERSION_ID`, … of os-release(5)."""
    runtime: str = "/run"
    state: str = "/var/lib"
    cache: str = "/var/cache"
    logs: str = "/var/log"
    configuration: str = "/etc"
    temporary: str = "/tmp"
    temporary_var: str = "/var/tmp"
    credentials: str = "/run/credentials"
    memory_bytes: int | None = None
    """For limits that are a percentage; None when it is not known."""

    def os(self, key: str) -> str:
        """A value of os-release, empty when it is not there."""
        return dict(self.os_release).get(key, "")


def expand_specifiers(text: str, name: UnitName, machine: Machine, *, fragment: str = "") -> str:
    """The text with every specifier replaced; Wrong for one that does not exist.

    `fragment` is the path of the unit's file, for `%y` and `%Y`.
    """
    if "%" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        replace = _TABLE.get(letter)
        if replace is None:
            shown = quoted(found[0])
            raise Wrong(f"{shown} is no specifier", "a percent sign itself is `%%`")
        return replace(name, machine, fragment)

    return _SPECIFIER.sub(one, text)


def _last_part(prefix: str) -> str:
    return prefix.rpartition("-")[2]


def _file_name(name: UnitName, _machine: Machine, _fragment: str) -> str:
    text = unescape_path(name.instance or name.prefix)
    return text if text.startswith("/") else f"/{text}"


Replacement = Callable[[UnitName, Machine, str], str]
_TABLE: dict[str, Replacement] = {
    "a": lambda n, m, f: m.architecture,
    "A": lambda n, m, f: m.os("IMAGE_VERSION"),
    "b": lambda n, m, f: m.boot_id,
    "B": lambda n, m, f: m.os("BUILD_ID"),
    "C": lambda n, m, f: m.cache,
    "d": lambda n, m, f: f"{m.credentials}/{n.name}",
    "E": lambda n, m, f: m.configuration,
    "f": _file_name,
    "g": lambda n, m, f: m.group,
    "G": lambda n, m, f: str(m.gid),
    "h": lambda n, m, f: m.home,
    "H": lambda n, m, f: m.hostname,
    "i": lambda n, m, f: n.instance or "",
    "I": lambda n, m, f: unescape(n.instance or ""),
    "j": lambda n, m, f: _last_part(n.prefix),
    "J": lambda n, m, f: unescape(_last_part(n.prefix)),
    "l": lambda n, m, f: m.hostname.partition(".")[0],
    "L": lambda n, m, f: m.logs,
    "m": lambda n, m, f: m.machine_id,
    "M": lambda n, m, f: m.os("IMAGE_ID"),
    "n": lambda n, m, f: n.name,
    "N": lambda n, m, f: n.stem,
    "o": lambda n, m, f: m.os("ID"),
    "p": lambda n, m, f: n.prefix,
    "P": lambda n, m, f: unescape(n.prefix),
    "q": lambda n, m, f: m.pretty_hostname or m.hostname,
    "s": lambda n, m, f: m.shell,
    "S": lambda n, m, f: m.state,
    "t": lambda n, m, f: m.runtime,
    "T": lambda n, m, f: m.temporary,
    "u": lambda n, m, f: m.user,
    "U": lambda n, m, f: str(m.uid),
    "v": lambda n, m, f: m.kernel,
    "V": lambda n, m, f: m.temporary_var,
    "w": lambda n, m, f: m.os("VERSION_ID"),
    "W": lambda n, m, f: m.os("VARIANT_ID"),
    "y": lambda n, m, f: f,
    "Y": lambda n, m, f: f.rpartition("/")[0],
}
SPECIFIERS = tuple(_TABLE)
