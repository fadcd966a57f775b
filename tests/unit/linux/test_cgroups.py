"""Where labs' cgroups may stand, on machines of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.linux import cgroups

pytestmark = pytest.mark.unit

SESSION = "/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope"
V1 = "{n} 25 0:3{n} / {root}/{name} rw,nosuid shared:{n} - cgroup cgroup rw,{name}\n"


def machine(root: Path, mounts: str, own: str) -> cgroups.Hierarchies:
    (root / "mountinfo").write_text(mounts)
    (root / "own").write_text(own)
    return cgroups.find(mountinfo=str(root / "mountinfo"), own=str(root / "own"))


def directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.procs").touch()


def v2(root: Path, place: str) -> str:
    for path in (root / place.strip("/"), *(root / place.strip("/")).parents):
        if path.is_relative_to(root):
            directory(path)
    return f"30 25 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_pure_v2_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    root = tmp_path / "cgroup"
    found = machine(tmp_path, v2(root, SESSION), f"0::{SESSION}\n")
    assert (found.kind, found.unified) == ("v2", str(root))


def test_pure_v2_in_a_user_s_session_is_what_systemd_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    root = tmp_path / "cgroup"
    delegated = f"{root}/user.slice/user-1000.slice/user@1000.service"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path).startswith(delegated))
    found = machine(tmp_path, v2(root, SESSION), f"0::{SESSION}\n")
    assert (found.kind, found.unified) == ("v2", delegated)


def test_hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    root = tmp_path / "cgroup"
    mounts = v2(root / "unified", "/")
    for number, name in enumerate(("memory", "pids", "freezer")):
        directory(root / name / "box")
        directory(root / name)
        mounts += V1.format(n=number, root=root, name=name)
    found = machine(tmp_path, mounts, "3:memory:/box\n2:pids:/\n1:freezer:/\n0::/\n")
    assert found.kind == "hybrid"
    assert found.unified == f"{root}/unified"
    assert found.v1 == {
        "memory": f"{root}/memory/box",
        "pids": f"{root}/pids",
        "freezer": f"{root}/freezer",
    }


def test_v1_with_controllers_mounted_together(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    directory(root / "cpu,cpuacct")
    mounts = f"7 2 0:9 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    found = machine(tmp_path, mounts, "4:cpu,cpuacct:/\n")
    place = f"{root}/cpu,cpuacct"
    assert (found.kind, found.v1) == ("v1", {"cpu": place, "cpuacct": place})


def test_none(tmp_path: Path) -> None:
    mounts = "25 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
    assert machine(tmp_path, mounts, "0::/\n").kind == "none"
