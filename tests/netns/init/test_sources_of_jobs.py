"""Jobs and units that sources start, in an init as its user has it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, alive, standing

pytestmark = pytest.mark.netns

TASK = 'task\nscript\necho "$EVENT $MATCH $INTERFACE $NAME $TRIGGER_PATH"\nend script\n'


def logged(alone: Alone, job: str) -> list[str]:
    path = alone.logs / f"{job.replace('/', '_')}.log"
    return path.read_text().splitlines() if path.exists() else []


def wait_logged(alone: Alone, job: str, count: int) -> list[str]:
    wait_until(lambda: len(logged(alone, job)) >= count, f"{count} lines of {job}")
    return logged(alone, job)


def test_files_and_interfaces_start_jobs(tmp_path: Path) -> None:
    """And a supervisor that follows another starts none of them again."""
    jobs = {
        "made": f"start on file FILE={tmp_path}/in/*.txt EVENT=create\n{TASK}",
        "there": f"start on file FILE={tmp_path}/jobs/ EVENT=create\n{TASK}",
        "link": f"start on net-device-added INTERFACE=lo\n{TASK}",
        "spool": f"start on path NOT_EMPTY={tmp_path}/spool JOB=spool\n{TASK}",
    }
    with standing(tmp_path, jobs) as alone:
        wait_logged(alone, "there", 1)
        wait_logged(alone, "link", 1)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_text("x")
        assert wait_logged(alone, "made", 1) == [f"create {tmp_path}/in/a.txt   "]
        for number in range(3):
            os.kill(alone.supervisor, signal.SIGKILL)
            (tmp_path / "in" / f"b{number}.txt").write_text("x")
            wait_logged(alone, "made", 2 + number)
        assert len(logged(alone, "made")) == 4
        assert len(logged(alone, "there")) == len(logged(alone, "link")) == 1
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "mail").write_text("x")
        wait_logged(alone, "spool", 2)
        (tmp_path / "spool" / "mail").unlink()


def is_dead(pid: int) -> bool:
    return not alive(pid)


def test_no_change_is_lost_with_a_supervisor(tmp_path: Path) -> None:
    """Files come while supervisors are killed at random: each is told, few of them twice."""
    files, kills = 120, 8
    job = (
        f"start on file FILE={tmp_path}/in/* EVENT=create\ntask\ninstance $MATCH\n"
        f"exec mkdir -p {tmp_path}/out/$(basename $MATCH).$$\n"
    )
    (tmp_path / "in").mkdir()
    with standing(tmp_path, {"each": job}) as alone:
        randomness = random.Random(5)
        deaths = set(randomness.sample(range(files), kills))
        for number in range(files):
            (tmp_path / "in" / f"f{number}").write_text("x")
            if number in deaths:
                killed = alone.supervisor
                os.kill(killed, signal.SIGKILL)
                wait_until(partial(is_dead, killed), "a supervisor to die")
        out = tmp_path / "out"

        def seen() -> list[str]:
            return [name.partition(".")[0] for name in os.listdir(out)] if out.is_dir() else []

        wait_until(lambda: len(set(seen())) == files, f"{files} files to be seen")
        wait_until(
            lambda: all(row["state"] != "running" for row in alone.table()), "the jobs to end"
        )
        assert len(seen()) - files <= kills


UNITS = {
    "beat.timer": "[Timer]\nOnActiveSec=100ms\nOnUnitInactiveSec=200ms\n",
    "beat.service": "[Service]\nType=oneshot\nExecStart=/bin/echo beat\n",
    "once.timer": "[Timer]\nOnActiveSec=100ms\nRemainAfterElapse=no\n",
    "once.service": "[Service]\nType=oneshot\nExecStart=/bin/echo once\n",
    "late.timer": "[Timer]\nOnBootSec=0\n",
    "late.service": "[Service]\nType=oneshot\nExecStart=/bin/echo late\n",
    "daily.timer": "[Timer]\nOnCalendar={far}\nPersistent=yes\nRandomizedDelaySec=1h\n",
    "daily.service": "[Service]\nType=oneshot\nExecStart=/bin/echo daily\n",
    "x.path": "[Path]\nPathExists={root}/go\n",
    "x.service": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm {root}/go; echo gone'\n",
}


def test_timer_and_path_units(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    # Once a day, and never while this test runs.
    far = time.strftime("*-*-* %H:00:00", time.localtime(time.time() + 12 * 3600))
    for name, text in UNITS.items():
        (units / name).write_text(text.replace("{root}", str(tmp_path)).replace("{far}", far))
    starts = [name for name in UNITS if not name.endswith(".service")]
    words = ["--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs"),
             "--unit-dir", str(units),
             *(word for name in starts for word in ("--unit", name))]  # fmt: skip
    state = tmp_path / "state"
    with standing(tmp_path, {}, words=words, environment={"HOSTLAB_STATE": str(state)}) as alone:
        wait_logged(alone, "beat.service", 3)
        wait_logged(alone, "late.service", 1)
        wait_logged(alone, "once.service", 1)
        wait_until(lambda: alone.row("once.timer")["state"] == "stopped", "a timer that is over")
        for _ in range(2):
            (tmp_path / "go").touch()
            wait_until(lambda: not (tmp_path / "go").exists(), "the path to be seen")
        assert logged(alone, "daily.service") == []
        status, out, err = alone("job", "timers", "--init", "--json")
        assert status == 0, err
        rows = {row["timer"].split()[0]: row for row in json.loads(out)}
        assert rows["NAME=daily.timer"]["jobs"] == ["daily.service"]
        assert rows["NAME=daily.timer"]["next"].endswith("Z")
        assert rows["NAME=beat.timer"]["last"] is not None or len(rows) > 2
        status, out, _ = alone("job", "timers", "--init")
        assert out.splitlines()[0].split() == ["NODE", "NEXT", "LEFT", "LAST", "JOBS", "TIMER"]
        before = len(logged(alone, "beat.service"))
        os.kill(alone.supervisor, signal.SIGKILL)
        wait_logged(alone, "beat.service", before + 2)
        assert len(logged(alone, "late.service")) == 1, "what has come is not repeated"
    (remembered,) = state.rglob("timers.json")
    (key,) = json.loads(remembered.read_text())
    assert key.startswith(f"NAME=daily.timer CALENDAR={far}")
    # What was missed while nobody ran comes at the next start.
    remembered.write_text(json.dumps({key: time.time() - 3 * 86400}))
    with standing(tmp_path, {}, words=words, environment={"HOSTLAB_STATE": str(state)}) as alone:
        wait_logged(alone, "daily.service", 1)
