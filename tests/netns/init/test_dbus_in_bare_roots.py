"""A node whose root has no Python: its init hears its bus, and answers there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.lab.nodes import _prepare_sources
from tests.netns.init.bus_site import needs_bus
from tests.netns.init.job_site import wait_until
from tests.netns.lab.lab_site import described, site

pytestmark = [pytest.mark.netns, needs_bus]

CONFIGURATION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <includedir>/etc/dbus-1/system.d</includedir>
</busconfig>
"""
LAB = """\
nodes:
  box:
    root: {directory: ROOT}
    jobs:
      dbus: {pre_start: mkdir -p /run/dbus, exec: dbus-daemon --nofork --nopidfile --config-file=/etc/bus.conf}
      hears: {start_on: dbus SIGNAL=Changed, task: true, exec: echo "$ARG0"}
      comes: {start_on: login-session-opened, task: true, exec: echo "$USER"}
"""  # noqa: E501


def bare_root(root: Path) -> None:
    """busybox, and dbus-daemon and dbus-send with their libraries; nothing else."""
    for name in ("bin", "etc/dbus-1/system.d", "proc", "sys", "dev", "run", "tmp", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in ("busybox", "sh", "mkdir", "echo", "cat"):
        shutil.copy(busybox, root / "bin" / name)
    for name in ("dbus-daemon", "dbus-send"):
        path = shutil.which(name)
        assert path is not None
        shutil.copy(path, root / "bin" / name)
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            place = root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/bus.conf").write_text(CONFIGURATION)


def test_a_root_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_root(tmp_path / "root")
    with site(tmp_path, monkeypatch) as labs:
        node = labs.up(LAB.replace("ROOT", str(tmp_path / "root")))["box"]
        bus = ("dbus-send", "--bus=unix:path=/run/dbus/system_bus_socket")
        upstart = ("--print-reply", "--dest=com.ubuntu.Upstart", "/com/ubuntu/Upstart")

        def answers() -> bool:
            done = node.execute((*bus, *upstart, "com.ubuntu.Upstart0_6.GetAllJobs"))
            return b"jobs/hears" in done.stdout

        def listens() -> bool:
            to = ("--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus")
            rules = "org.freedesktop.DBus.Debug.Stats.GetAllMatchRules"
            return b"member='Changed'" in node.execute((*bus, *to, rules)).stdout

        wait_until(answers, "an answer")
        wait_until(listens, "the rule of the job")
        node.execute((*bus, "/a", "org.example.A.Changed", "string:hello"))
        log = Path(node.log_path("hears"))
        wait_until(lambda: log.exists() and log.read_text() == "hello\n", "the job")
        said = Path(node.init_log_path())
        assert "warning" not in (said.read_text() if said.exists() else "")


def test_a_node_is_planned_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which only its jobs on a bus need; its init says so."""
    for name in [name for name in sys.modules if name.startswith("hostlab.init.dbus")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "hostlab.init.sources.dbus", raising=False)
    monkeypatch.setitem(sys.modules, "dbus_fast", None)
    text = "nodes: {box: {jobs: {hears: {start_on: dbus SIGNAL=Changed, exec: 'true'}}}}"
    (node,) = described("lab", text).nodes
    _prepare_sources(node)
    assert "hostlab.init.sources.dbus" not in sys.modules
