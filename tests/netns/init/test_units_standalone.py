"""systemd's units in an init beside another one: nothing of the machine's changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import standing

pytestmark = pytest.mark.netns

UNITS = {
    "web.service": "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n",
    "other.service": "[Service]\nExecStart=/bin/sleep 1001\n",
    "round-a.service": "[Unit]\nAfter=round-b.service\n[Service]\nExecStart=/bin/sleep 1002\n",
    "round-b.service": "[Unit]\nAfter=round-a.service\n[Service]\nExecStart=/bin/sleep 1003\n",
}


def write(directory: Path) -> str:
    units = directory / "units"
    (units / "multi-user.target.wants").mkdir(parents=True)
    for name, text in UNITS.items():
        (units / name).write_text(text)
    (units / "multi-user.target.wants" / "web.service").symlink_to("../web.service")
    return str(units)


def places(directory: Path) -> tuple[str, ...]:
    """Where its job files and logs are, which are not the machine's."""
    return "--confdir", str(directory / "jobs"), "--logdir", str(directory / "logs")


def test_what_is_enabled_runs(tmp_path: Path) -> None:
    before = os.path.exists("/run/systemd/system"), os.path.realpath("/usr/bin/systemctl")
    units = write(tmp_path)
    words = ("--units", "--unit", "round-a", "--unit", "round-b", "--unit-dir", units)
    with standing(tmp_path, words=(*places(tmp_path), *words)) as alone:
        rows = {row["name"]: row["state"] for row in alone.table()}
        assert rows["web.service"] == "running"
        assert "other.service" not in rows
        assert rows["round-a.service"] == rows["round-b.service"] == "running"
        assert "ordering cycle: round-a.service after round-b.service" in alone.own_log
        systemctl = str(alone.run / "bin" / "systemctl")
        status, out, _ = alone.program(systemctl, "is-active", "web", "other")
        assert (status, out) == (0, "active\ninactive\n")
        assert alone.program(systemctl, "enable", "--now", "other")[0] == 0
        status, _, err = alone.program(systemctl, "disable", "web")
        assert err == f'Removed "{units}/multi-user.target.wants/web.service".\n'
        pid = alone.pid("web.service")
        assert alone("job", "stop", "--init", "web.service")[0] == 0
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its process is gone")
    assert before == (os.path.exists("/run/systemd/system"), os.path.realpath("/usr/bin/systemctl"))


def test_only_what_is_named_runs(tmp_path: Path) -> None:
    units = write(tmp_path)
    words = ("--unit", "other", "--unit-dir", units)
    with standing(tmp_path, words=(*places(tmp_path), *words)) as alone:
        rows = {row["name"]: row["state"] for row in alone.table()}
        assert rows["other.service"] == "running"
        assert "web.service" not in rows


def test_a_word_that_is_no_unit_is_told(tmp_path: Path) -> None:
    words = (*places(tmp_path), "--unit", "a@.service")
    with standing(tmp_path, words=words, is_up=False) as alone:
        assert alone.ended() == 2
        assert "`a@.service` is a template" in alone.said
