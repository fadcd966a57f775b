"""Jobs' output from their pipes to their files: order, rotation, bounds, disks that are full."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.netns.init.log_site import Keeper, logging, until, write

pytestmark = pytest.mark.netns


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
        keeper.close()

    asyncio.run(scenario())
    file = tmp_path / "a_b-x y.log"
    assert file.read_bytes() == b"one\ntwo and a half\n"
    assert file.stat().st_mode & 0o777 == 0o600
