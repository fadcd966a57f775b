"""A namespace's directory goes, whoever still looks into it."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from hostlab.tasks.making import remove_directory

pytestmark = pytest.mark.unit

ROUNDS = 40


def test_a_directory_goes_while_a_keeper_locks_its_task(tmp_path: Path) -> None:
    """Far more often than a keeper does it, which locks once."""
    for number in range(ROUNDS):
        tasks = tmp_path / f"{number}/tasks"
        tasks.mkdir(parents=True)
        may_end = threading.Event()

        def lock(path: str = f"{tasks}/one.lock", may_end: threading.Event = may_end) -> None:
            while not may_end.is_set():
                with contextlib.suppress(FileNotFoundError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                    os.unlink(path)

        keeper = threading.Thread(target=lock)
        keeper.start()
        try:
            remove_directory(str(tasks.parent))
        finally:
            may_end.set()
            keeper.join()
        assert not tasks.parent.exists()


def test_what_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        remove_directory(str(tmp_path / "file"))
