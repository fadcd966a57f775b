"""Faults that end processes, and labs that end with faults in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from hostlab.cli.labs import status_command
from hostlab.errors import Failed, UsageError
from hostlab.faults import injecting, witness
from hostlab.lab import driver
from hostlab.linux import cgroups
from tests.netns.faults.fault_site import (
    HELLO,
    asks,
    assert_whole,
    broken_lab,
    inject,
    is_dead,
    job,
    lacking,
    settle,
)
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns


def test_processes_that_die_are_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_lab(tmp_path, monkeypatch) as site:
        before = witness.take(site)
        assert asks(site, "c") == HELLO
        inject(site, "job-down s/echo")
        with pytest.raises(Failed, match="does not run: it is"):
            inject(site, "descriptors-exhausted s/echo")
        injecting.clear(site)
        assert asks(site, "c") == HELLO
        assert_whole(site, before)
        old = job(site)
        inject(site, "job-killed s/echo")
        assert not os.path.exists(f"/proc/{old}") or is_dead(old)
        with pytest.raises(Failed, match="does not run"):
            inject(site, "descriptors-exhausted s/echo")
        injecting.clear(site)
        assert asks(site, "c") == HELLO
        assert_whole(site, before)
        for words in ("node-killed r1", "node-killed s"):
            inject(site, words)
        assert {site.is_dead(name) for name in ("r1", "s")} == {True}
        for words in ("link-down cable", "cpu-slow s", "job-stopped s/echo"):
            with pytest.raises(UsageError, match="dead on purpose"):
                inject(site, words)
        first, second = injecting.injected(site)
        injecting.clear(site, {second.number})
        assert site.is_dead("r1")
        assert not site.is_dead("s")
        injecting.clear(site, {first.number})
        settle(site)
        assert asks(site, "c") == HELLO
        assert_whole(site, before)


def test_what_a_job_has_started_may_end_while_its_limits_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cgroup names it, and a moment later there is no such process."""
    with broken_lab(tmp_path, monkeypatch) as site:
        if site.unified is None:
            pytest.skip("here: no cgroup v2 that names what a job has started")
        with subprocess.Popen(["true"]) as gone:
            pass
        processes = cgroups.processes
        with monkeypatch.context() as patch:
            patch.setattr(cgroups, "processes", lambda path: [gone.pid, *processes(path)])
            (standing,) = inject(site, "descriptors-exhausted s/echo")
        assert [pid for pid, _ in standing.state["processes"]] == [job(site)]
        injecting.clear(site)
        assert asks(site, "c") == HELLO
        with monkeypatch.context() as patch:
            patch.setattr("hostlab.faults.jobs.pid_in", lambda *_: gone.pid)
            with pytest.raises(Failed, match="does not run: its process has just ended"):
                inject(site, "descriptors-exhausted s/echo")


def test_a_node_that_died_by_itself_is_said_to_be_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_lab(tmp_path, monkeypatch) as site:
        before = witness.take(site)
        inject(site, "dns-wrong d name=s")
        inject(site, "link-down d:eth0")
        inject(site, "node-cut-off r1")
        for name in ("d", "r1"):
            os.kill(site.nodes[name], 9)
        wait_until(lambda: site.is_dead("d") and site.is_dead("r1"), "the nodes are dead")
        with pytest.raises(Failed, match=r"node d of lab \S+ is dead"):
            inject(site, "node-frozen d")
        # The same `up` makes the nodes anew; what is left of their faults can be cleared.
        inject(site, "node-killed s")
        driver.stage(site.lab)
        site.look()
        assert "node-killed" not in {each.fault.kind for each in injecting.injected(site)}
        inject(site, "node-cut-off s")
        injecting.clear(site)
        settle(site)
        assert asks(site, "c") == HELLO
        assert_whole(site, before)


def test_a_node_that_is_frozen_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_lab(tmp_path, monkeypatch) as site:
        if lacking(site, "node-frozen s"):
            pytest.skip("here: no cgroup v2 that can be frozen")
        inject(site, "node-frozen s")
        told = CliRunner().invoke(status_command, [site.lab.name], standalone_mode=False)
        states = dict(line.split()[:2] for line in told.stdout.splitlines()[1:])
        assert states.pop("s") == "frozen"
        assert set(states.values()) == {"up"}


def test_down_ends_whatever_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`broken_lab` takes it down, and looks whether anything is left."""
    with broken_lab(tmp_path, monkeypatch) as site:
        for words in (
            "node-killed r1",
            "node-frozen s",
            "cpu-slow s",
            "memory-pressure d",
            "partition right apart=s",
            "dns-slow c",
            "read-only c",
            "disk-full d path=/tmp",
        ):
            if not lacking(site, words):
                inject(site, words)
