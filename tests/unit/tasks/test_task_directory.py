"""A namespace's directory goes, whoever still looks into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.tasks.making import remove_directory

pytestmark = pytest.mark.unit

ROUNDS = 2
FILES = 300
"""Which take long enough to remove for the other to come between."""
KEEPER = """
import os, sys
for tasks in sys.argv[1:]:
    print(flush=True)
    while os.path.isdir(tasks):
        try:
            os.close(os.open(f"{tasks}/one.lock", os.O_RDWR | os.O_CREAT, 0o600))
            os.unlink(f"{tasks}/one.lock")
        except FileNotFoundError:
            pass
"""


def test_a_directory_goes_while_a_keeper_locks_its_task(tmp_path: Path) -> None:
    """Far more often than a keeper does it, which locks once."""
    places = [tmp_path / f"{number}/tasks" for number in range(ROUNDS)]
    for tasks in places:
        tasks.mkdir(parents=True)
        for number in range(FILES):
            (tasks / f"{number}").touch()
    argv = [sys.executable, "-I", "-S", "-c", KEEPER, *map(str, places)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as keeper:
        try:
            assert keeper.stdout is not None
            for tasks in places:
                assert keeper.stdout.readline()
                remove_directory(str(tasks.parent))
                assert not tasks.parent.exists()
        finally:
            keeper.kill()


def test_what_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        remove_directory(str(tmp_path / "file"))
