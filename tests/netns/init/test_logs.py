"""Jobs' output from their pipes to their files: order, rotation, bounds, disks that are full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from hostlab.init.logs import file as log_file
from hostlab.init.logs.file import append
from hostlab.init.logs.policy import DAY_S, LogPolicy
from hostlab.linux.splice import PIPE_BYTES
from tests.netns.init.log_site import Keeper, logging, small_disk, until, write

pytestmark = pytest.mark.netns

TEN = b"".join(b"line %04d\n" % n for n in range(10))
DROPPED = re.compile(rb"hostlab: (\d+) lines \((\d+) bytes\) dropped: (.*)\n")


def files(directory: Path, name: str) -> list[bytes]:
    """What a log and its rotated files hold, the oldest first."""
    rotated = sorted(directory.glob(f"{name}.log.*"), key=lambda p: -int(p.suffix[1:]))
    return [p.read_bytes() for p in (*rotated, *directory.glob(f"{name}.log"))]


def test_what_a_process_wrote_is_in_the_file_and_the_pipe_goes_with_its_last_writer(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with logging(tmp_path, keeper) as logs:
            fd = logs.writer("a/b", "x y")
            assert len(keeper.kept) == 1
            write(fd, b"one\ntwo")
            left_behind = os.dup(fd)
            os.close(fd)
            logs.ended("a/b", "x y")
            assert keeper.kept, "a writer is left"
            write(left_behind, b" and a half\n")
            os.close(left_behind)
            await until(lambda: not keeper.kept, "the last writer has gone")
            assert logs.dropped() == ()
            assert logs.pipes() == ()
        keeper.close()

    asyncio.run(scenario())
    file = tmp_path / "a_b-x y.log"
    assert file.read_bytes() == b"one\ntwo and a half\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_an_earlier_process_wrote_stands_before_what_the_next_one_writes(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with logging(tmp_path) as logs:
            before = b""
            for text in (b"pre-start\n", b"main\n", b"post-start\n"):
                fd = logs.writer("job")
                if before:
                    assert (tmp_path / "job.log").read_bytes() == before
                before += text
                write(fd, text)
                os.close(fd)

    asyncio.run(scenario())
    assert (tmp_path / "job.log").read_bytes() == b"pre-start\nmain\npost-start\n"


def test_the_next_supervisor_goes_on_in_order_with_what_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with logging(tmp_path, keeper) as logs:
            writers = [logs.writer("job") for _ in range(11)]
        for number, fd in enumerate(writers):
            write(fd, b"from %d\n" % number)
        for fd in writers[1:]:
            os.close(fd)
        keeper.keep("journal", writers[0])
        keeper.keep("log:garbage", writers[0])
        async with logging(tmp_path, keeper) as logs:
            logs.restore(dict(reversed(keeper.tell().items())))
            assert len(logs.pipes()) == 1
            new = logs.writer("job")
            os.close(new)
            assert len(set(logs.pipes())) == 2, "a name is never given twice"
            keeper.drop("journal")
            keeper.drop("log:garbage")
            os.close(writers[0])
            await until(lambda: not keeper.kept, "the last writer has gone")
        keeper.close()

    asyncio.run(scenario())
    expected = b"".join(b"from %d\n" % number for number in range(11))
    assert (tmp_path / "job.log").read_bytes() == expected


def test_a_file_is_rotated_at_a_line_and_the_oldest_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        policy = LogPolicy(max_bytes=25, old_files=2)
        async with logging(tmp_path, policy=policy) as logs:
            fd = logs.writer("job")
            write(fd, TEN)
            logs.flush()
            os.close(fd)

    asyncio.run(scenario())
    numbers = [re.findall(rb"\d+", text) for text in files(tmp_path, "job")]
    assert numbers == [
        [b"0003", b"0004", b"0005"],
        [b"0006", b"0007", b"0008"],
        [b"0009"],
    ]


def test_a_turn_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "TURN_BYTES", 15)

    async def scenario() -> None:
        async with logging(tmp_path, policy=LogPolicy(max_bytes=10)) as logs:
            fd = logs.writer("job")
            write(fd, TEN)
            logs.flush()
            assert len(b"".join(files(tmp_path, "job"))) == 20
            await until(lambda: files(tmp_path, "job")[-1] == b"line 0009\n", "the other turns")
            os.close(fd)

    asyncio.run(scenario())


def test_a_line_that_is_not_finished_holds_up_a_rotation(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with logging(tmp_path, policy=LogPolicy(max_bytes=5)) as logs:
            fd = logs.writer("job")
            for text in (b"begun, ", b"", b"going on, ", b"done\nnext", b"\n"):
                write(fd, text) if text else None
                logs.flush()
            os.close(fd)

    asyncio.run(scenario())
    assert files(tmp_path, "job") == [b"begun, going on, done\n", b"next\n"]


def test_a_line_without_end_does_not_hold_it_up_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with logging(tmp_path, policy=LogPolicy(max_bytes=1000)) as logs:
            fd = logs.writer("job")
            for _ in range(5):
                write(fd, b"x" * PIPE_BYTES)
                logs.flush()
            os.close(fd)

    asyncio.run(scenario())
    texts = files(tmp_path, "job")
    assert sum(map(len, texts)) == 5 * PIPE_BYTES
    assert max(map(len, texts)) <= 1000 + 2 * PIPE_BYTES


def test_a_file_is_rotated_by_age(tmp_path: Path) -> None:
    late = 0.0

    async def scenario() -> None:
        nonlocal late
        import time

        async with logging(tmp_path, wall=lambda: time.time() + late) as logs:
            fd = logs.writer("job")
            for text, days in ((b"one\n", 6.9), (b"two\n", 7.1), (b"three\n", 7.2)):
                write(fd, text)
                logs.flush()
                late = days * DAY_S
            os.close(fd)

    asyncio.run(scenario())
    assert files(tmp_path, "job") == [b"one\ntwo\n", b"three\n"]


def test_a_file_that_is_deleted_replaced_or_cut_short_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "job.log"

    async def scenario() -> None:
        async with logging(tmp_path) as logs:
            fd = logs.writer("job")

            def say(text: bytes) -> bytes:
                write(fd, text)
                logs.flush()
                return path.read_bytes()

            assert say(b"one\n") == b"one\n"
            path.unlink()
            assert say(b"two\n") == b"two\n"
            (tmp_path / "other").write_bytes(b"other\n")
            (tmp_path / "other").rename(path)
            assert say(b"three\n") == b"other\nthree\n"
            os.truncate(path, 0)
            assert say(b"four\n") == b"four\n"
            os.close(fd)

    asyncio.run(scenario())


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "aim").write_bytes(b"precious\n")
    (tmp_path / "job.log").symlink_to("aim")

    async def scenario() -> None:
        async with logging(tmp_path) as logs:
            fd = logs.writer("job")
            write(fd, b"line\n")
            os.close(fd)
            logs.flush()
            assert [(d.lines, d.size_bytes) for d in logs.dropped()] == [(1, 5)]

    asyncio.run(scenario())
    assert (tmp_path / "aim").read_bytes() == b"precious\n"


def test_what_is_too_much_is_dropped_by_whole_lines_and_counted(tmp_path: Path) -> None:
    now = 0.0
    policy = LogPolicy(rate_bytes=100, burst_bytes=95)

    async def scenario() -> None:
        nonlocal now
        warnings: list[str] = []
        async with logging(
            tmp_path, policy=policy, monotonic=lambda: now, warn=warnings.append
        ) as logs:
            fd = logs.writer("job")
            write(fd, TEN * 3 + b"half a li")
            logs.flush()
            now = 0.5
            write(fd, b"ne\nanother ")
            logs.flush()
            assert logs.dropped()[0].lines == 21
            now = 10.0
            write(fd, b"one\nlast\n")
            logs.flush()
            os.close(fd)
            assert logs.dropped()[0].lines == 22
            assert warnings == ["log job: lines are dropped: more than 100 bytes/s"]

    asyncio.run(scenario())
    missing = TEN * 2 + b"half a line\nanother one\n"
    assert (tmp_path / "job.log").read_bytes() == (
        TEN
        + b"hostlab: more than 100 bytes/s: lines are dropped\n"
        + b"hostlab: 22 lines (%d bytes) dropped: more than 100 bytes/s\n" % len(missing)
        + b"last\n"
    )


def start_flood(lines: int, output: int) -> subprocess.Popen[bytes]:
    """A process that writes as fast as it can; `output` is closed here."""
    command = ("/bin/sh", "-c", f"yes flooded | head -n {lines}")
    process = subprocess.Popen(command, stdout=output)
    os.close(output)
    return process


def ends_in(path: Path, end: bytes) -> bool:
    return path.exists() and path.read_bytes().endswith(end)


def test_a_flood_is_counted_whole_and_another_log_does_not_feel_it(tmp_path: Path) -> None:
    lines = 2_000_000

    async def scenario() -> None:
        policy = LogPolicy(rate_bytes=1 << 14, burst_bytes=1 << 20, pause_s=0.1)
        keeper = Keeper()
        async with logging(tmp_path, keeper, policy=policy) as logs:
            flood, slow = logs.writer("flood"), logs.writer("slow")
            process = start_flood(lines, flood)
            number = 0
            while len(logs.pipes()) > 1:
                write(slow, b"slow %d\n" % number)
                number += 1
                end = b" %d\n" % (number - 1)
                await until(functools.partial(ends_in, tmp_path / "slow.log", end), "the line")
            os.close(slow)
            process.wait()
            assert number > 1
            await until(lambda: not keeper.kept, "both are at their end")
            assert {d.log for d in logs.dropped()} == {"flood"}
            total = logs.dropped()[0]
        keeper.close()
        text = b"".join(files(tmp_path, "flood"))
        notices = [(int(n), int(size)) for n, size, _ in DROPPED.findall(text)]
        assert sum(n for n, _ in notices) == total.lines > lines // 2
        assert sum(size for _, size in notices) == total.size_bytes == total.lines * 8
        assert text.count(b"flooded\n") + total.lines == lines
        assert all(
            line == b"flooded" or line.startswith(b"hostlab: ") for line in text.splitlines()
        )
        slow_lines = (tmp_path / "slow.log").read_bytes().splitlines()
        assert slow_lines == [b"slow %d" % n for n in range(number)]

    asyncio.run(scenario())


def test_a_full_disk_stops_no_writer_and_the_log_says_what_it_lacks() -> None:
    line = b"%07d" % 0 + b"x" * 92 + b"\n"
    policy = LogPolicy(retry_s=0.05)

    async def scenario(place: Path) -> None:
        warnings: list[str] = []
        async with logging(place, policy=policy, warn=warnings.append) as logs:
            fd = logs.writer("job")
            wrote = 0
            while wrote < 2 << 20:
                write(fd, line * 100)
                wrote += 100 * len(line)
                logs.flush()
            kept = (place / "job.log").stat().st_size
            assert 900_000 < kept <= 1 << 20
            assert warnings == [f"log job: lines are dropped: {os.strerror(errno.ENOSPC)}"]
            assert logs.dropped()[0].size_bytes == wrote - kept
            (place / "ballast").unlink()
            await until(lambda: b"dropped" in (place / "job.log").read_bytes(), "the notice")
            write(fd, b"after\n")
            logs.flush()
            os.close(fd)
        text = (place / "job.log").read_bytes()
        (match,) = DROPPED.finditer(text)
        assert text[match.end() :] == b"after\n"
        assert text[match.start() - 1 :].startswith(b"\nhostlab: ")
        assert match[3].decode() == os.strerror(errno.ENOSPC)
        assert int(match[2]) == wrote - kept
        assert text[: match.start()].rstrip(b"\n") == (line * (kept // 100 + 1))[:kept].rstrip(
            b"\n"
        )

    with small_disk(1 << 20) as place:
        (place / "ballast").write_bytes(bytes(8192))
        asyncio.run(scenario(place))


def test_a_notice_is_written_whole_or_not_at_all() -> None:
    with small_disk(1 << 20) as place:
        before = b"x" * 4085 + b"\n"
        (place / "job.log").write_bytes(before)
        with pytest.raises(OSError, match="No space"), (place / "ballast").open("wb") as file:
            file.write(bytes(2 << 20))
        fd = os.open(place / "job.log", os.O_RDWR)
        with pytest.raises(OSError, match="No space"):
            append(fd, len(before), b"hostlab: a notice that does not fit\n")
        os.close(fd)
        assert (place / "job.log").read_bytes() == before


def test_a_log_that_cannot_be_written_is_not_tried_at_every_line(tmp_path: Path) -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        (tmp_path / "job.log").mkdir()
        policy = LogPolicy(retry_s=5.0)
        async with logging(tmp_path, policy=policy, monotonic=lambda: now) as logs:
            fd = logs.writer("job")
            for text, at in ((b"one\n", 0.0), (b"two\n", 4.9), (b"three\n", 5.1)):
                now = at
                write(fd, text)
                logs.flush()
                with contextlib.suppress(OSError):
                    (tmp_path / "job.log").rmdir()
            os.close(fd)

    asyncio.run(scenario())
    assert (tmp_path / "job.log").read_bytes() == (
        b"hostlab: 2 lines (8 bytes) dropped: Is a directory\nthree\n"
    )


def test_a_log_that_cannot_be_opened_is_told_when_it_can_without_a_further_line(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        (tmp_path / "job.log").mkdir()
        async with logging(tmp_path, policy=LogPolicy(retry_s=0.01)) as logs:
            fd = logs.writer("job")
            write(fd, b"lost\npart of a line")
            os.close(fd)
            await until(lambda: not logs.pipes(), "the end of the stream")
            (tmp_path / "job.log").rmdir()
            await until((tmp_path / "job.log").exists, "the notice")

    asyncio.run(scenario())
    assert (tmp_path / "job.log").read_bytes() == (
        b"hostlab: 2 lines (19 bytes) dropped: Is a directory\n"
    )


def test_what_no_log_can_say_is_a_warning_when_the_instance_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()

    async def scenario() -> None:
        warnings: list[str] = []
        policy = LogPolicy(retry_s=0.01)
        async with logging(tmp_path / "gone", policy=policy, warn=warnings.append) as logs:
            (tmp_path / "gone").rmdir()
            fd = logs.writer("job")
            write(fd, b"lost\n")
            os.close(fd)
            logs.ended("job")
            await until(lambda: len(warnings) == 2, "the warning")
            assert logs.dropped() == (), "it is forgotten"
            assert warnings[1].startswith("log job: 1 lines (5 bytes) dropped")

    asyncio.run(scenario())


def test_a_pipe_that_is_not_kept_is_not_given_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with logging(tmp_path) as logs:

            def refuse(name: str, fd: int) -> None:
                raise BlockingIOError(errno.EAGAIN, "the holder is busy")

            logs._keep = refuse
            with pytest.raises(BlockingIOError, match="busy"):
                logs.writer("job")
            assert logs.pipes() == ()

    asyncio.run(scenario())
