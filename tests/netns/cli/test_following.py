"""`logs -f`: a log is followed over its rotations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.logs.policy import LogPolicy
from hostlab.init.logs.reader import LogReader
from tests.netns.init.log_site import logging, write
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

FOLLOW = "import sys; from hostlab.cli.following import follow_file as f; "


class Follower:
    """A process that follows a log, and what it has written."""

    def __init__(self, path: Path, lines: int | None) -> None:
        code = f"{FOLLOW} f({str(path)!r}, lines={lines}, forever=True)"
        self.process = subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE)
        self.text = b""
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            self.text += data

    def has(self, end: bytes) -> bool:
        return self.text.endswith(end)


@contextlib.contextmanager
def following(path: Path, lines: int | None = None) -> Iterator[Follower]:
    """A follower for the length of the block; it ends with the log's directory."""
    follower = Follower(path, lines)
    try:
        yield follower
        shutil.rmtree(path.parent, ignore_errors=True)
        assert follower.process.wait(60) == 0
    finally:
        follower.process.kill()
        follower.process.wait()
        follower.thread.join()
        assert follower.process.stdout is not None
        follower.process.stdout.close()


def test_nothing_is_lost_or_repeated_while_a_log_is_rotated(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.mkdir()
    policy = LogPolicy(max_bytes=2000, old_files=1000)

    async def scenario(first: int, end: int) -> None:
        async with logging(place, policy=policy) as logs:
            fd = logs.writer("job")
            for number in range(first, end):
                write(fd, b"line %d\n" % number)
                logs.flush()
            os.close(fd)

    asyncio.run(scenario(0, 1000))
    with following(place / "job.log") as whole, following(place / "job.log", 700) as last:
        wait_until(lambda: whole.has(b" 999\n") and last.has(b" 999\n"), "what was there")
        asyncio.run(scenario(1000, 6000))
        wait_until(lambda: whole.has(b" 5999\n") and last.has(b" 5999\n"), "what came")
        assert whole.text == b"".join(b"line %d\n" % n for n in range(6000))
        assert last.text == b"".join(b"line %d\n" % n for n in range(300, 6000))


def test_a_log_is_waited_for_and_followed_when_it_is_deleted_or_cut_short(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.mkdir()
    path = place / "job.log"
    with following(path) as follower:
        path.write_bytes(b"one\n")
        wait_until(lambda: follower.has(b"one\n"), "a new log")
        path.unlink()
        path.write_bytes(b"two\n")
        wait_until(lambda: follower.has(b"two\n"), "a log that was deleted")
        os.truncate(path, 0)
        wait_until(lambda: follower.text == b"one\ntwo\n", "nothing new")
        with path.open("ab") as file:
            file.write(b"3\n")
        wait_until(lambda: follower.has(b"3\n"), "a log that was cut short")


def test_a_reader_that_was_away_for_several_rotations_reads_them_all(tmp_path: Path) -> None:
    path = tmp_path / "job.log"

    def rotate() -> None:
        for number in (2, 1, 0):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}.{number}" if number else path, f"{path}.{number + 1}")

    read: list[bytes] = []
    with contextlib.closing(LogReader(str(path))) as reader:
        path.write_bytes(b"one\n")
        read += reader.read()
        with path.open("ab") as file:
            file.write(b"one more\n")
        for text in (b"two\n", b"three\n"):
            rotate()
            path.write_bytes(text)
        read += reader.read()
        read += reader.read()
    assert b"".join(read) == b"one\none more\ntwo\nthree\n"


def held(path: Path) -> bool:
    """Whether this process has a file open that had this name when it was deleted."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # The one that listed them.
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return f"{path} (deleted)" in links


def test_what_was_skipped_is_not_read_when_the_newest_file_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    (tmp_path / "job.log.1").write_bytes(b"old\n")
    path.write_bytes(b"one\ntwo\n")
    read: list[bytes] = []
    with contextlib.closing(LogReader(str(path))) as reader:
        reader.skip_to_last(1)
        read += reader.read()
        path.unlink()
        assert held(path)
        read += reader.read()
        assert not held(path), "or its directory is never quite gone"
        path.write_bytes(b"three\n")
        read += reader.read()
    assert b"".join(read) == b"two\nthree\n"
