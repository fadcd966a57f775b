"""Lock files: gone with their last holder, and never held by two."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hostlab.linux.lock_files import locked

pytestmark = pytest.mark.unit


def test_one_that_was_made_for_it_is_gone_afterwards_and_another_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(str(path)):
        assert path.exists()
    assert not path.exists()
    path.touch()
    with locked(str(path), create=False):
        pass
    assert path.exists()


def test_of_many_who_want_it_one_has_it(tmp_path: Path) -> None:
    """Each takes the file away that the others wait for, who then lock one that has no name."""
    path, holders, most = str(tmp_path / "lock"), [0], [0]

    def hold() -> None:
        for _ in range(100):
            with locked(path):
                holders[0] += 1
                os.sched_yield()
                most[0] = max(most[0], holders[0])
                holders[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert most == [1]
    assert holders == [0]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="symbolic links"), locked(str(tmp_path / "lock")):
        pass
    assert not (tmp_path / "theirs").exists()
