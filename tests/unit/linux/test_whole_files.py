"""Files are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hostlab.linux.whole_files import write_whole

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("is_synced", [False, True])
def test_a_file_is_made_and_replaced(tmp_path: Path, *, is_synced: bool) -> None:
    path = tmp_path / "file"
    before = os.umask(0)
    try:
        write_whole(str(path), b"one", mode=0o640, is_synced=is_synced)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    with open(path, "rb") as held:
        write_whole(str(path), b"two", is_synced=is_synced)
        assert held.read() == b"one"
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_leaves_the_old_one_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(str(path), b"new", is_synced=True)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_beside_it_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"of somebody else")
    (tmp_path / "file.new").symlink_to(other)
    with pytest.raises(OSError, match="Too many levels"):
        write_whole(str(tmp_path / "file"), b"new")
    assert other.read_bytes() == b"of somebody else"
    assert (tmp_path / "file.new").is_symlink()


def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    write_whole(str(tmp_path / "file"), b"new", is_synced=True)
    assert done == [str(tmp_path / "file.new"), "rename", str(tmp_path)]
