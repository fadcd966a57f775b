"""A system bus with the stand-in for UDisks2 on it, in namespaces of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.devices.plugged import RECORDS
from hostlab.linux.uevent_socket import UeventSender
from hostlab.linux.uevents import UDEV, of_device
from hostlab.spec.device import Device, load_device
from tests.netns.linux.uevent_site import alone

EXAMPLES = Path(__file__).parents[3] / "examples"
SOCKET = "/run/dbus/system_bus_socket"
STAND_IN = [sys.executable, "-m", "hostlab.cli.main", "device", "udisks2-stand-in"]
ENDS_WITHIN_S = 60


def recorded(name: str) -> Device:
    path = EXAMPLES / "devices" / f"{name}.yaml"
    return load_device(path.read_text(), file=path.name, directory=str(path.parent))


def properties(device: Device) -> list[dict[str, str]]:
    """What udev says of it, with a place for its content."""
    found = [entry.udev_properties() for entry in device.devices]
    for each in found:
        if "ID_FS_USAGE" in each:
            each["ID_HOSTLAB_CONTENT"] = f"{RECORDS}/{device.name}"
    return found


def plug(device: Device) -> None:
    """As `hostlab device plug` does, from inside."""
    content = Path(RECORDS) / device.name
    content.mkdir(parents=True, exist_ok=True)
    (content / "cat.txt").write_text("a cat\n")
    found = properties(device)
    Path(f"{RECORDS}/{device.name}.json").write_text(
        json.dumps({"name": device.name, "devices": found, "content": str(content)})
    )
    sender = UeventSender()
    for each in found:
        sender.send_udev(of_device("add", each, UDEV))
    sender.close()


def unplug(device: Device) -> None:
    Path(f"{RECORDS}/{device.name}.json").unlink()
    shutil.rmtree(f"{RECORDS}/{device.name}")
    sender = UeventSender()
    for each in properties(device)[::-1]:
        sender.send_udev(of_device("remove", each, UDEV))
    sender.close()


class Bus:
    """Debian's dbus-daemon as the system bus of these namespaces, and who is on it."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
        reader, writer = os.pipe()
        words = ["dbus-daemon", "--nofork", "--nopidfile", f"--print-address={writer}"]
        words.append(f"--config-file={EXAMPLES}/devices/bus.conf")
        self.processes["bus"] = subprocess.Popen(words, pass_fds=(writer,))
        os.close(writer)
        with os.fdopen(reader) as told:
            assert told.readline().startswith("unix:path=")

    def start_stand_in(self) -> None:
        """It answers when this returns."""
        self.processes["stand-in"] = subprocess.Popen(STAND_IN)
        self.run("gdbus", "wait", "--system", "--timeout", "50", "org.freedesktop.UDisks2")

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(ENDS_WITHIN_S)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
        )
        return done.stdout + done.stderr

    def call(self, path: str, method: str, *arguments: str) -> str:
        name = "org.freedesktop.UDisks2"
        words = ["gdbus", "call", "--system", "-d", name, "-o", f"/org/freedesktop/UDisks2{path}"]
        return self.run(*words, "-m", method, *arguments)


@contextmanager
def bus() -> Iterator[Bus]:
    found = Bus()
    try:
        yield found
    finally:
        for name in list(found.processes):
            found.end(name)


def on_a_bus(work: Callable[[Bus], Awaitable[Any]]) -> None:
    """Run in namespaces of one's own."""
    if not all(map(shutil.which, ("dbus-daemon", "gdbus", "udisksctl"))):
        pytest.skip(
            "no dbus-daemon, gdbus or udisksctl: apt-get install dbus libglib2.0-bin udisks2"
        )

    async def main() -> None:
        with bus() as found:
            await work(found)

    alone(lambda: asyncio.run(main()))
