"""Jobs that devices of the machine start: the real kernel tells of a real device."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hostlab.linux.sysfs import udev_runs
from hostlab.linux.uevent_socket import hears_machine
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns

DEVICE = Path("/sys/class/mem/full/uevent")
"""Of /dev/full; whoever writes an action to it has the kernel tell of that, and nothing else."""
TASK = "task\nscript\necho $ACTION $KERNEL $DEVNAME $MAJOR:$MINOR\nend script\n"
JOBS = {
    "there": f"start on mem-device-added KERNEL=full\n{TASK}",
    "changed": f"start on mem-device-changed KERNEL=f*\n{TASK}",
    "other": f"start on mem-device-changed KERNEL=null\n{TASK}",
}


def lines(alone: Alone, job: str) -> list[str]:
    path = alone.logs / f"{job}.log"
    return path.read_text().splitlines() if path.exists() else []


def test_the_kernels_own_events_start_jobs(tmp_path: Path) -> None:
    if not hears_machine() or udev_runs() or not os.access(DEVICE, os.W_OK):
        pytest.skip("here: the machine's devices are not to be heard by this user")
    with standing(tmp_path, JOBS) as alone:
        # What is there when the init begins is told.
        wait_until(lambda: lines(alone, "there") == ["add full /dev/full 1:7"], "what is there")
        for count in range(1, 4):
            old = alone.supervisor
            if count == 2:
                os.kill(old, signal.SIGSTOP)
            DEVICE.write_text("change")
            if count == 2:
                os.kill(old, signal.SIGKILL)
            expected = ["change full /dev/full 1:7"] * count
            wait_until(lambda said=expected: lines(alone, "changed") == said, "a change")  # type: ignore[misc]  # mypy infers no type of a lambda's default
        assert lines(alone, "there") == ["add full /dev/full 1:7"], "told once, whoever has died"
        assert lines(alone, "other") == []
        assert "device" not in alone.own_log
