"""Units as texts, run by the engine with hands: order, conditions, reload and stop of processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from hostlab.init.jobs import Jobs
from hostlab.jobs import facts
from hostlab.spec.systemd.loading import load_units
from hostlab.spec.systemd.unit import read_unit
from tests.netns.init.engine_site import world
from tests.netns.init.log_site import until

pytestmark = pytest.mark.netns

UNITS = {
    "m.target": "[Unit]\nWants=a.service b.service skipped.service failing.service\n",
    "a.service": """
        [Unit]
        After=b.service
        [Service]
        Environment="WORDS=a 'b c'"
        ExecStartPre=-/bin/false
        ExecStartPre=/bin/sh -c 'printf "<%%s>" "$$@" >> {log}' sh $WORDS ${{WORDS}}
        ExecStart=/bin/sleep 60
        ExecReload=/bin/sh -c 'echo reload of $$(cat /proc/$MAINPID/comm) >> {log}'
        ExecStopPost=/bin/sh -c 'echo stopped >> {log}'
        """,
    "b.service": """
        [Service]
        Type=oneshot
        ExecStart=/bin/sh -c 'echo b1 >> {log}'
        ExecStart=/bin/sh -c 'echo b2 >> {log}'
        """,
    "skipped.service": """
        [Unit]
        ConditionPathExists=!/nor/this
        ConditionPathExists=/no/such
        [Service]
        ExecStart=/bin/sh -c 'echo skipped >> {log}'
        """,
    "failing.service": """
        [Unit]
        AssertPathExists=/no/such
        [Service]
        ExecStart=/bin/sh -c 'echo asserted >> {log}'
        """,
}


def reap(jobs: Jobs) -> None:
    """Tell of the processes that have ended, as a holder does."""
    for spawn, (instance, step) in tuple(jobs.engine.spawns.items()):
        running = instance.processes.get(step)
        if running is None or running.spawn != spawn or running.pid is None:
            continue
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(running.pid, os.WNOHANG)
            if pid:
                jobs.ended(spawn, pid, status)


def test_a_target_brings_up_what_it_wants_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def text() -> str:
        return log.read_text() if log.exists() else ""

    async def test() -> list[str]:
        loaded = load_units(
            read_unit(name, [(source.format(log=log), name)]) for name, source in UNITS.items()
        )
        assert [each.error for each in loaded.units] == [None] * len(UNITS)
        async with world(tmp_path) as place:
            jobs = place.jobs()
            for job in loaded.jobs:
                jobs.tell(facts.Load(job=job))
            jobs.tell(facts.Start(job="m.target"))

            def state(name: str) -> str:
                reap(jobs)
                found = jobs.engine.instance(name)
                return str(found.state) if found else "waiting"

            await until(lambda: state("m.target") == "running", "the target is reached")
            assert text() == "b1\nb2\n<a><b c><a 'b c'>"
            assert (state("a.service"), state("skipped.service")) == ("running", "waiting")
            last = jobs.engine.classes["skipped.service"].last
            assert last is not None
            assert not last.failed
            last = jobs.engine.classes["failing.service"].last
            assert last is not None
            assert last.failed
            jobs.tell(facts.Reload(job="a.service"))
            await until(
                lambda: bool(state("a.service")) and "reload of sleep\n" in text(), "it is reloaded"
            )
            jobs.tell(facts.Stop(job="a.service"))
            await until(lambda: state("a.service") == "waiting", "it stops")
            assert text().endswith("stopped\n")
        return place.said

    said = asyncio.run(test())
    assert any("ConditionPathExists=/no/such does not hold" in line for line in said)
