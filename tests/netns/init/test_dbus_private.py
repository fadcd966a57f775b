"""Upstart's private socket in a node: dbus-send without a bus, signals, what is no D-Bus."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.init.bus_site import needs_bus
from tests.netns.init.test_readiness_in_nodes import supervisor
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = [pytest.mark.netns, needs_bus]

ADDRESS = "unix:abstract=/com/ubuntu/upstart"
MANAGER = "com.ubuntu.Upstart0_6"
HEARS = r"""
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect("\0/com/ubuntu/upstart")
sock.sendall(b"\0AUTH\r\n")
assert sock.recv(100) == b"REJECTED EXTERNAL\r\n"
sock.sendall(b"AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")
seen = b""
print("listening", flush=True)
while b"EventEmitted" not in seen or b"WHO=alice" not in seen:
    data = sock.recv(65536)
    assert data
    seen += data
print("heard", flush=True)
"""
MISBEHAVES = r"""
import socket
def speak(*parts):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect("\0/com/ubuntu/upstart")
    for part in parts:
        sock.sendall(part)
    return sock
def heard(sock):
    seen = b""
    try:
        while data := sock.recv(1000):
            seen += data
    except ConnectionResetError:
        pass
    return seen
assert speak(b"\0BEGIN\r\n").recv(100) == b"ERROR\r\n"
assert heard(speak(b"\0" + b"x" * 5000)) == b""
assert heard(speak(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n", b"Z" * 100)).startswith(b"OK ")
print("cut off")
"""
LAB = f"""\
nodes:
  box:
    files:
      /srv/hears: {{content: {json.dumps(HEARS)}}}
      /srv/misbehaves: {{content: {json.dumps(MISBEHAVES)}}}
    jobs:
      # A bus that never runs: the private socket does without.
      dbus: {{manual: true, exec: sleep infinity}}
      hears: {{manual: true, exec: python3 -S -u /srv/hears}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def ask(node: Node, member: str, *arguments: str) -> str:
    words = ("dbus-send", f"--peer={ADDRESS}", "--print-reply", "/com/ubuntu/Upstart")
    done = node.execute((*words, f"{MANAGER}{member}", *arguments))
    return (done.stdout + done.stderr).decode()


def log(node: Node, job: str) -> str:
    path = Path(node.log_path(job))
    return path.read_text() if path.exists() else ""


def test_init_answers_without_a_bus(place: Site) -> None:
    node = place.up(LAB)["box"]
    wait_until(lambda: "jobs/hears" in ask(node, ".GetAllJobs"), "an answer")
    assert "UnknownJob" in ask(node, ".GetJobByName", "string:nothing")
    node.job("hears", "start")
    wait_until(lambda: log(node, "hears") == "listening\n", "a listener")
    ask(node, ".EmitEvent", "string:greet", "array:string:WHO=alice", "boolean:true")
    wait_until(lambda: log(node, "hears") == "listening\nheard\n", "its signal")
    # The next supervisor has the same socket.
    os.kill(supervisor(node), signal.SIGKILL)
    assert "jobs/hears" in ask(node, ".GetAllJobs")
    done = node.execute(("python3", "-S", "/srv/misbehaves"))
    assert done.stdout == b"cut off\n", done.stderr
    assert "jobs/hears" in ask(node, ".GetAllJobs")
