"""`Type=dbus`: a real service takes a real name on a real bus."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from hostlab.init.readiness.bus_name import BusNames, parse

pytestmark = pytest.mark.netns

CONFIG = """<busconfig><type>system</type><listen>unix:path={path}</listen>
<auth>EXTERNAL</auth><policy context="default"><allow send_destination="*" eavesdrop="true"/>
<allow receive_sender="*"/><allow own="*"/></policy></busconfig>"""


DEADLINE_S = 60


def needs_dbus() -> str:
    found = shutil.which("dbus-daemon")
    if found is None:
        pytest.skip("no dbus-daemon: `make dev` as root installs it")
    return found


def test_a_name_is_told_when_it_is_taken_and_when_it_is_there(tmp_path: Path) -> None:
    program = needs_dbus()
    path = tmp_path / "bus"
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(path=path))
    words = [program, f"--config-file={config}", "--nofork", "--print-address"]
    bus = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert bus.stdout is not None
    assert bus.stdout.readline()

    async def test() -> list[str]:
        said: list[str] = []
        has_said = asyncio.Event()

        def warn(text: str) -> None:
            said.append(text)
            has_said.set()

        names = BusNames(warn=warn, path=str(path))
        there, taken = asyncio.Event(), asyncio.Event()
        names.wait(1, "org.freedesktop.DBus", there.set)
        names.wait(2, "org.example.X", taken.set)
        await asyncio.wait_for(there.wait(), DEADLINE_S)
        assert not taken.is_set()
        address = f"unix:path={path}"
        asked = await asyncio.create_subprocess_exec(
            "dbus-send", f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus",
            "/", "org.freedesktop.DBus.RequestName", "string:org.example.X", "uint32:0",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.wait_for(taken.wait(), DEADLINE_S)
        await asked.wait()
        again = asyncio.Event()
        names.wait(3, "org.example.Nobody", again.set)
        bus.terminate()
        bus.wait()
        await asyncio.wait_for(has_said.wait(), DEADLINE_S)
        assert not again.is_set(), "a bus that goes makes nothing ready"
        names.forget(3)
        names.wait(4, "org.example.X", again.set)
        assert again.is_set(), "without a bus it is taken for ready"
        return said

    try:
        said = asyncio.run(test())
    finally:
        bus.kill()
        bus.wait()
        bus.stdout.close()
    assert said[0].startswith("the system bus tells no longer who has org.example.Nobody")
    assert said[1].startswith("no name on the system bus can be awaited: ")


def test_nonsense_is_no_message() -> None:
    assert parse(b"l\1") is None
    for data in (b"x" * 32, b"l\1\0\1" + b"\xff" * 12):
        with pytest.raises(Exception, match="message"):
            parse(data)
