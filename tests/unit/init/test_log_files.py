"""The last lines of a log that has been rotated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostlab.init.logs import files as log_files
from hostlab.init.logs.files import opened, read_last

pytestmark = pytest.mark.unit

TEXTS = st.lists(st.text(alphabet="ab\n", max_size=12).map(str.encode), min_size=1, max_size=4)


def lay(directory: Path, texts: list[bytes]) -> str:
    """Files of a log, the oldest first; its path."""
    path = directory / "job.log"
    for old in directory.iterdir():
        old.unlink()
    for number, text in enumerate(reversed(texts)):
        (path if not number else Path(f"{path}.{number}")).write_bytes(text)
    return str(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.integers(1, 5), st.integers(1, 4))
def test_the_last_lines_are_found_over_files_and_blocks(
    tmp_path: Path, texts: list[bytes], lines: int, block: int
) -> None:
    path = lay(tmp_path, texts)
    with pytest.MonkeyPatch.context() as patch, opened(path) as files:
        patch.setattr(log_files, "BLOCK_BYTES", block)
        found = read_last(files, lines)
    assert found == b"".join(b"".join(texts).splitlines(keepends=True)[-lines:])


def test_files_come_oldest_first_over_a_gap_and_without_strangers(tmp_path: Path) -> None:
    for name in ("job.log", "job.log.1", "job.log.3", "job.log.old", "job.logs", "other.log.2"):
        (tmp_path / name).write_text(name)
    with opened(str(tmp_path / "job.log")) as files:
        assert [os.read(fd, 100) for fd in files] == [b"job.log.3", b"job.log.1", b"job.log"]


def test_a_file_that_is_met_twice_during_a_rotation_counts_once(tmp_path: Path) -> None:
    path = lay(tmp_path, [b"old\n", b"new\n"])
    os.rename(f"{path}.1", f"{path}.2")
    os.link(path, f"{path}.1")
    with opened(path) as files:
        assert read_last(files, 9) == b"old\nnew\n"


def test_a_log_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    with opened(str(tmp_path / "none" / "job.log")) as files:
        assert files == []
        assert read_last(files, 3) == b""
