"""`hostlab monitor` when what it listens to is killed or ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.init.standalone_site import HOSTLAB, Alone, standing

pytestmark = pytest.mark.netns


@contextmanager
def monitoring(alone: Alone, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A monitor that is subscribed."""
    monitor = subprocess.Popen(
        (*HOSTLAB, "monitor", "--init", *words),
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with monitor:
        try:
            assert monitor.stdout is not None
            for line in monitor.stdout:
                if not line.strip():
                    break
            yield monitor
        finally:
            monitor.kill()


def test_it_goes_on_with_the_next_supervisor(tmp_path: Path) -> None:
    with (
        standing(tmp_path, {}) as alone,
        monitoring(alone, "--event", "thing", "--count", "4") as monitor,
    ):
        assert monitor.stdout is not None
        assert monitor.stderr is not None
        seen = []
        for number in range(4):
            if number:
                os.kill(alone.supervisor, signal.SIGKILL)
                assert "another supervisor goes on" in monitor.stderr.readline()
            alone.client.emit("thing", [("N", str(number))])
            seen.append(monitor.stdout.readline().split()[2:])
        assert seen == [["thing", f"N='{number}'"] for number in range(4)]
        assert monitor.wait(60) == 0


def test_it_ends_with_its_init(tmp_path: Path) -> None:
    with standing(tmp_path, {}) as alone, monitoring(alone, "--count", "1000") as monitor:
        assert alone.stop() == 0
        assert monitor.wait(60) == 1
        assert monitor.stderr is not None
        first, second = monitor.stderr.read().splitlines()
        assert first == "# init: its init hung up"
        assert second.startswith("hostlab: no init is left; ")
