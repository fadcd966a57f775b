"""What is said to a user whose labs go without a bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.lab import limits
from hostlab.linux.cgroups import Hierarchies

pytestmark = pytest.mark.unit


def test_nothing_is_said_where_both_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert limits.remarks(Hierarchies(str(tmp_path))) == ()
    assert limits.remarks(Hierarchies(None, {"memory": "/m", "pids": "/p"})) == ()


def test_each_missing_bound_is_said(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (forks,) = limits.remarks(Hierarchies(str(tmp_path)))
    assert "RLIMIT_NPROC" in forks
    assert "memory" not in forks
    (both,) = limits.remarks(Hierarchies())
    assert "nothing bounds a node's memory and all nodes share one bound of 4096" in both
