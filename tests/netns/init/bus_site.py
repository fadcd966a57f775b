"""A message bus of a test's own: Debian's dbus-daemon on a socket below the test's directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

DAEMON = "/usr/bin/dbus-daemon"
ENDS_WITHIN_S = 60
CONFIGURATION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>{kind}</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
{policy}
</busconfig>
"""

needs_bus = pytest.mark.skipif(
    not all(map(shutil.which, ("dbus-daemon", "dbus-send"))), reason="no dbus-daemon here"
)


class Bus:
    """A bus, which may be started, killed and started again."""

    def __init__(self, directory: Path, *, kind: str = "session", policy: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.socket = directory / "bus"
        self.configuration = directory / "bus.conf"
        self.configuration.write_text(
            CONFIGURATION.format(kind=kind, socket=self.socket, policy=policy)
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:path={self.socket}"

    @property
    def variables(self) -> dict[str, str]:
        return {"DBUS_SYSTEM_BUS_ADDRESS": self.address}

    def start(self) -> None:
        """Start it; it listens when this returns."""
        reader, writer = os.pipe()
        words = [DAEMON, "--nofork", "--nopidfile", f"--config-file={self.configuration}"]
        self.process = subprocess.Popen(
            [*words, f"--print-address={writer}"], pass_fds=(writer,), stdin=subprocess.DEVNULL
        )
        os.close(writer)
        with os.fdopen(reader) as told:
            assert told.readline().startswith("unix:path=")

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(ENDS_WITHIN_S)
        self.process = None

    def send(self, path: str, member: str, *arguments: str, to: str = "") -> None:
        """A signal `INTERFACE.MEMBER` with dbus-send's arguments."""
        destination = [f"--dest={to}"] if to else []
        words = ["dbus-send", f"--bus={self.address}", "--type=signal", *destination]
        subprocess.run([*words, path, member, *arguments], check=True, timeout=ENDS_WITHIN_S)

    def call(self, *words: str) -> str:
        """What dbus-send prints of an answer."""
        return self.run("dbus-send", f"--bus={self.address}", "--print-reply", *words)

    def names(self) -> str:
        """What ListNames prints."""
        return self.call(
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.ListNames",
        )

    def run(self, *words: str, user: int | None = None) -> str:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
            user=user,
        )
        return done.stdout + done.stderr

    def rules_by_owner(self) -> dict[str, list[str]]:
        """The match rules that connections have set now, by the connection's unique name."""
        found: dict[str, list[str]] = {}
        owner = ""
        text = self.call(
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.Debug.Stats.GetAllMatchRules",
        )
        for line in text.splitlines():
            if 'string ":' in line:
                owner = line.split('"')[1]
            elif "type=" in line:
                found.setdefault(owner, []).append(line.split('"')[1])
        return found

    def rules(self) -> list[str]:
        """The match rules that connections have set now."""
        return [rule for rules in self.rules_by_owner().values() for rule in rules]


@contextmanager
def bus(
    directory: Path, *, kind: str = "session", policy: Sequence[str] = (), is_up: bool = True
) -> Iterator[Bus]:
    """A bus for the length of the block."""
    found = Bus(directory, kind=kind, policy="\n".join(policy))
    try:
        if is_up:
            found.start()
        yield found
    finally:
        if found.process is not None:
            found.kill()
