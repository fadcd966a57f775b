"""Jobs that a D-Bus signal starts, in an init that runs; its supervisor may die in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.netns.init.bus_site import Bus, bus, needs_bus
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = [pytest.mark.netns, needs_bus]

HEARS = """\
start on dbus SIGNAL=SessionNew INTERFACE=org.freedesktop.login1.Manager
task
instance $ARG0
exec echo "$SIGNAL of $ARG0 at $OBJPATH"
"""
UNTIL = "start on startup\nstop on dbus SIGNAL=Over BUS=system\nexec sleep 1000\n"


def session_new(place: Bus, name: str) -> None:
    path = f"objpath:/org/freedesktop/login1/session/_3{name}"
    member = "org.freedesktop.login1.Manager.SessionNew"
    place.send("/org/freedesktop/login1", member, f"string:{name}", path)


def said(alone: Alone, name: str) -> str:
    path = alone.logs / f"hears-{name}.log"
    return path.read_text() if path.exists() else ""


def wait_rules(place: Bus, count: int) -> None:
    wait_until(lambda: len(place.rules()) == count, f"{count} rules")


def test_a_signal_starts_and_stops_jobs(tmp_path: Path) -> None:
    """Before and behind a supervisor's death, and a restart of the bus."""
    place = Bus(tmp_path / "bus")
    jobs = {"hears": HEARS, "until": UNTIL}
    try:
        with standing(tmp_path, jobs, environment=place.variables) as alone:
            # The bus is a thing that comes later.
            place.start()
            wait_rules(place, 2)
            session_new(place, "1")
            wait_until(lambda: bool(said(alone, "1")), "the first session's job")
            first = place.rules_by_owner().keys()
            os.kill(alone.supervisor, signal.SIGKILL)
            wait_until(lambda: not first & place.rules_by_owner().keys(), "the connection's end")
            wait_rules(place, 2)
            session_new(place, "2")
            wait_until(lambda: bool(said(alone, "2")), "the second session's job")
            place.kill()
            place.start()
            wait_rules(place, 2)
            place.send("/x", "org.example.X.Over")
            alone.wait_state("until", "stopped")
            assert said(alone, "1") == "SessionNew of 1 at /org/freedesktop/login1\n"
            (alone.jobs / "hears.conf").unlink()
            wait_rules(place, 1)
    finally:
        if place.process is not None:
            place.kill()


def test_without_the_library_only_its_events_are_missed(tmp_path: Path) -> None:
    (tmp_path / "dbus_fast.py").write_text("raise ImportError('none here')\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    jobs = {"hears": HEARS, "other": "start on startup\nexec sleep 1000\n"}
    with standing(tmp_path, jobs, environment=environment) as alone:
        assert alone.row("other")["state"] == "running"
        assert "pip install 'hostlab[dbus]'" in alone.own_log


def test_an_init_sleeps_over_what_no_job_wants(tmp_path: Path) -> None:
    def wakings(pid: int) -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    with (
        bus(tmp_path / "bus") as place,
        standing(tmp_path, {"hears": HEARS}, environment=place.variables) as alone,
    ):
        wait_rules(place, 1)
        supervisor = alone.supervisor
        found = []
        # What it was at when its rule was set may still have to end: not one wakes it, then.
        for _ in range(10):
            before = wakings(supervisor)
            for _ in range(50):
                place.send("/x", "org.example.X.Unwanted")
            found.append(wakings(supervisor) - before)
            if not found[-1]:
                break
        assert found[-1] == 0, found
