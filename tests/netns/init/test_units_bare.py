"""systemd's units in a root that has a busybox, and no Python."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.init.test_systemctl import Ran
from tests.netns.lab.lab_site import site

pytestmark = pytest.mark.netns

APPLETS = ("sh", "sleep", "cat", "rm", "mkfifo", "echo", "ls", "kill")
UNIT = "[Service]\nExecStart=/bin/sh -c 'echo bare; exec sleep 1000'\n"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox: `make dev` as root installs it")
    root = tmp_path / "root"
    for path in ("bin", "usr/bin", "etc/systemd/system", "dev", "proc", "sys", "run", "tmp"):
        (root / path).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/systemd/system/x.service").write_text(
        f"{UNIT}[Install]\nWantedBy=multi-user.target\n"
    )
    with site(tmp_path, monkeypatch) as place:
        text = f"nodes:\n  box:\n    root: {root}\n    units: [x]\n"
        found = place.up(text).nodes()["box"]
        found.wait_settled(within_s=60)
        yield found


def test_units_run_and_are_asked(node: Node) -> None:
    (row,) = [row for row in node.job_table() if row["name"] == "x.service"]
    assert row["state"] == "running"
    assert Ran(node, "/usr/bin/systemctl is-active x").out == "active\n"
    for call in ("status x", "show x", "cat x", "list-units", "list-unit-files", "restart x",
                 "enable x", "daemon-reload", "list-dependencies", "kill x", "stop x"):  # fmt: skip
        ran = Ran(node, f"/usr/bin/systemctl {call}")
        assert ran.status == 0, (call, ran)
    assert "bare" in Ran(node, "journalctl -u x").out
    log = Path(node.init_log_path()).read_text()
    assert "no systemd-tmpfiles here" in log
    assert "systemd-standalone-sysusers" in log
