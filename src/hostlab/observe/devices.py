"""Devices of a node or of the machine, as the three ways tell of them.

A child goes into the node's namespaces and looks there; each thing that it sees is a line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from collections.abc import Generator, Sequence
from typing import Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.errors import Problem
from hostlab.init.devices.watching import Sight, Way, look
from hostlab.linux.entering import enter_namespaces

_INSIDE: Final = ("user", "mnt", "net")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One device, and who sees it."""

    name: str
    subsystem: str
    path: str
    devname: str
    devtype: str
    vendor: str
    model: str
    serial: str
    label: str
    mountpoints: tuple[str, ...]
    seen_by: tuple[Way, ...]


def sights(pid: int | None, *, watch: bool) -> Generator[Sight, None, None]:
    """What is seen in the namespaces of a process, or here; with `watch` it does not end.

    OSError when the process is gone or may not be joined.
    """
    # Before the child is where there may be no files to import it from.
    with contextlib.suppress(Problem):
        importlib.import_module("hostlab.init.devices.udisks2_client")
    pidfd = None if pid is None else os.pidfd_open(pid)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(pid, pidfd, writer, watch=watch)
    os.close(writer)
    if pidfd is not None:
        os.close(pidfd)
    try:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if line.startswith(b"!"):
                    number, _, text = line[1:].decode().strip().partition(" ")
                    raise OSError(int(number), text)
                yield typed.decode(line, Sight)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)


def _child(pid: int | None, pidfd: int | None, writer: int, *, watch: bool) -> NoReturn:
    def tell(sight: Sight) -> None:
        os.write(writer, msgspec.json.encode(sight) + b"\n")

    try:
        try:
            if pid is not None and pidfd is not None:
                enter_namespaces(pid, pidfd, _INSIDE)
            asyncio.run(look(tell, watch=watch))
        except OSError as error:
            os.write(writer, f"!{error.errno or 0} {error.strerror or error}\n".encode())
        except KeyboardInterrupt:
            pass
    finally:
        os._exit(0)


def listed(found: Sequence[Sight]) -> list[Listed]:
    """The devices, each once; the best that one of the ways says of it counts."""
    by_key: dict[tuple[str, str], list[Sight]] = {}
    for sight in found:
        if not sight.note:
            by_key.setdefault((sight.subsystem, sight.name), []).append(sight)
    return [_listed(each) for each in by_key.values()]


def _listed(seen: Sequence[Sight]) -> Listed:
    def best(field: str) -> str:
        # UDisks2's words are udev's, made fit for people; its path is another thing.
        values = [str(getattr(each, field)) for each in seen]
        return next((value for value in reversed(values) if value), "")

    return Listed(
        name=seen[0].name,
        subsystem=seen[0].subsystem,
        path=seen[0].path,
        devname=best("devname"),
        devtype=seen[0].devtype,
        vendor=best("vendor"),
        model=best("model"),
        serial=best("serial"),
        label=best("label"),
        mountpoints=tuple(dict.fromkeys(each.mountpoint for each in seen if each.mountpoint)),
        seen_by=tuple(way for way in Way if any(each.way is way for each in seen)),
    )
