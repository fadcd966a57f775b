"""Looks into one node from outside: its interfaces, a capture socket, files, process numbers."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.linux.entering import from_inside
from hostlab.linux.packet import capture_socket
from hostlab.linux.sockdiag import Listener, listeners
from hostlab.observe.capabilities import FileCapabilitiesInfo, file_capabilities

_NETWORK: Final = ("user", "net")
_FILES: Final = ("user", "mnt")


def capture_socket_in(pid: int, interface: str, program: bytes = b"") -> socket.socket:
    """`linux.packet.capture_socket` in the network namespace of a process; OSError as there."""

    def work() -> tuple[bytes, list[int]]:
        return b"", [capture_socket(interface, program=program).detach()]

    _, (fd,) = from_inside(pid, _NETWORK, work)
    return socket.socket(fileno=fd)


def interfaces_in(pid: int) -> tuple[str, ...]:
    """The names of the interfaces in the network namespace of a process, by index."""

    def work() -> tuple[bytes, list[int]]:
        names = [name for _, name in sorted(socket.if_nameindex())]
        return msgspec.json.encode(names), []

    data, _ = from_inside(pid, _NETWORK, work)
    return typed.decode(data, tuple[str, ...])


def listening_in(pid: int, protocol: str) -> tuple[Listener, ...]:
    """The sockets that wait for tcp or udp in the network of process `pid`."""

    def work() -> tuple[bytes, list[int]]:
        return msgspec.json.encode(tuple(listeners(protocol))), []

    data, _ = from_inside(pid, _NETWORK, work)
    return typed.decode(data, tuple[Listener, ...])


def file_capabilities_in(pid: int, path: str) -> FileCapabilitiesInfo:
    """What a file gives, looked up where a process sees it and as its user namespace reads it.

    OSError when it cannot be reached there.
    """

    def work() -> tuple[bytes, list[int]]:
        return msgspec.json.encode(file_capabilities(path)), []

    data, _ = from_inside(pid, _FILES, work)
    return typed.decode(data, FileCapabilitiesInfo)


def pids_in(member: int) -> dict[int, int]:
    """Number inside -> pid here, of every process in the PID namespace of process `member`.

    See NSpid in proc_pid_status(5); what lies in namespaces below is left out.
    """
    namespace = os.stat(f"/proc/{member}/ns/pid").st_ino
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.stat(f"/proc/{name}/ns/pid").st_ino == namespace:
                with open(f"/proc/{name}/status", errors="surrogateescape") as file:
                    numbers = next(line for line in file if line.startswith("NSpid:")).split()
                found[int(numbers[-1])] = int(name)
    return dict(sorted(found.items()))


def pid_in(member: int, number: int) -> int:
    """The pid here of the process that has `number` in the PID namespace of process `member`.

    UsageError when there is none.
    """
    found = pids_in(member)
    if number not in found:
        hint = "it has: " + ", ".join(map(str, list(found)[:20]))
        raise UsageError("process", f"there is no process {number} in the node", hint=hint)
    return found[number]
