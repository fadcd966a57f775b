"""Units in a node whose root has neither Python nor hostlab: what is there was loaded before."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.netns.init.test_readiness_in_nodes import supervisor
from tests.netns.lab.lab_site import site, wait_until

pytestmark = pytest.mark.netns

COMMANDS = ("sh", "cat", "sleep", "mkfifo", "rm", "echo", "mkdir", "kill", "env")
LAB = """
nodes:
  box:
    root: ROOT
    units: [a.service, b.timer, c.socket, d.path]
    jobs: {tick: {start_on: timer EVERY=1h, exec: sleep 1}}
    files:
      /etc/systemd/system/a.service: |
        [Service]
        ExecStart=/bin/sleep 1000
      /etc/systemd/system/b.timer: "[Timer]\\nOnActiveSec=1h\\n"
      /etc/systemd/system/b.service: "[Service]\\nExecStart=/bin/sleep 1000\\n"
      /etc/systemd/system/c.socket: "[Socket]\\nListenStream=80\\n"
      /etc/systemd/system/c.service: "[Service]\\nExecStart=/bin/sleep 1000\\n"
      /etc/systemd/system/d.path: "[Path]\\nPathExists=/srv/there\\n"
      /etc/systemd/system/d.service: "[Service]\\nExecStart=/bin/sleep 1000\\n"
"""


def root(directory: Path) -> Path:
    """A root of busybox alone."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox: apt-get install busybox-static")
    for name in ("bin", "sbin", "etc", "srv", "usr/bin", "root"):
        (directory / name).mkdir(parents=True)
    shutil.copy(busybox, directory / "bin/busybox")
    for name in COMMANDS:
        (directory / "bin" / name).symlink_to("busybox")
    return directory


def test_units_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_of_root = root(tmp_path / "root")
    with site(tmp_path, monkeypatch) as place:
        node = place.up(LAB.replace("ROOT", str(place_of_root)))["box"]
        node.wait_settled(within_s=60)
        units = "a.service b.timer c.socket d.path"
        assert node.succeed(f"/usr/bin/systemctl is-active {units}") == "active\n" * 4
        node.succeed("echo > /srv/there")
        wait_until(lambda: node.jobs()["d.service"].state == "running", "what waits for the path")
        os.kill(supervisor(node), signal.SIGKILL)
        assert node.succeed(f"/usr/bin/systemctl is-active {units}") == "active\n" * 4
        node.succeed("/usr/bin/systemctl start b.service && /usr/bin/journalctl -u b.service")
        log = Path(node.init_log_path()).read_text()
        assert "No module" not in log
        assert "the supervisor ends" not in log
