"""Run directories that several commands make and take away at the same time."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import Problem
from hostlab.lab.paths import LabDirectory

pytestmark = pytest.mark.unit


def test_a_base_that_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`makedirs` finds it there, and a moment later not: of that it says that it exists."""
    base, makedirs, tries = tmp_path / "run", os.makedirs, []

    def meanwhile(path: str, **others: Any) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        makedirs(path, **others)

    monkeypatch.setattr(os, "makedirs", meanwhile)
    with LabDirectory("one", str(base)).locked():
        assert os.listdir(base) == [".one.lock"]
    assert not base.exists()
    assert len(tries) == 2


def test_what_is_there_and_no_directory_is_an_error(tmp_path: Path) -> None:
    base = tmp_path / "run"
    base.touch()
    with (
        pytest.raises(Problem, match="run: File exists"),
        LabDirectory("one", str(base)).locked(),
    ):
        pass
