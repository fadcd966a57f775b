"""A supervisor that cannot go on says why, for the holder only starts another."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from hostlab.init.holder import Inheritance
from hostlab.init.job_supervisor import JobSupervisor, Place
from hostlab.init.protocol import OWN_LOG

pytestmark = pytest.mark.netns


class Broken(JobSupervisor):
    """As one whose root has not the files that it needs."""

    async def started(self) -> None:
        raise ImportError("No module named 'hostlab.init.what'")


def test_why_it_ends_is_in_its_log(tmp_path: Path) -> None:
    state = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel, holder = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place = Place(state_dir=state, log_dir=state, run_directory=str(tmp_path), environment={})

    async def run() -> None:
        await Broken(Inheritance(control, channel), place).run()

    holder.send(b".")
    try:
        with pytest.raises(ImportError):
            asyncio.run(run())
    finally:
        for each in (control, other, channel, holder):
            each.close()
        os.close(state)
    (line,) = (tmp_path / OWN_LOG).read_text().splitlines()
    assert "the supervisor ends: ImportError" in line
    assert "test_supervisor_ends.py:" in line
