"""Whose word counts, and that a word counts once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.firewall import confirming, history
from hostlab.firewall.change import ChangeDirectory, Maker, Phase, boottime
from hostlab.linux.procfs import start_time
from tests.unit.firewall.change_site import a_change

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not confirming.can_change(), reason="here: no CAP_NET_ADMIN"),
]
CONNECTION = "192.0.2.9 4000 192.0.2.1 22"
ANOTHER = "192.0.2.9 4001 192.0.2.1 22"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChangeDirectory:
    monkeypatch.setenv("HOSTLAB_STATE", str(tmp_path / "state"))
    found = ChangeDirectory(str(tmp_path / "place"))
    found.make()
    return found


# Whoever runs the tests may sit in an old session, or in one whose leader has ended.
CONFIRM = """
import sys
from hostlab.errors import Failed
from hostlab.firewall import confirming
from hostlab.firewall.change import ChangeDirectory
try:
    print(confirming.confirm(ChangeDirectory(sys.argv[1])).phase)
except Failed as error:
    print(error)
"""
ORPHAN = """
import os
if os.fork():
    os._exit(0)
input()
"""


def in_a_new_session(place: ChangeDirectory, program: str) -> str:
    """What a program says that leads a session of its own; its line comes once that has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", program, place.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as leader:
        if program.startswith(ORPHAN):
            leader.wait(60)
        return leader.communicate("\n", timeout=60)[0]


def maker() -> Maker:
    pid = os.getpid()
    started = start_time(pid) or ""
    return Maker(pid=pid, started=started, user="root", connection=CONNECTION)


def test_a_session_from_before_the_load_proves_nothing(place: ChangeDirectory) -> None:
    place.write(a_change(loaded=boottime()))
    with pytest.raises(Failed, match="began before"):
        confirming.confirm(place)


def test_a_session_from_after_it_does_unless_it_is_the_same_connection(
    place: ChangeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(a_change(loaded=0.001, maker=maker()))
    monkeypatch.setenv("SSH_CONNECTION", CONNECTION)
    assert "began before" in in_a_new_session(place, CONFIRM)
    monkeypatch.setenv("SSH_CONNECTION", ANOTHER)
    assert in_a_new_session(place, CONFIRM) == f"{Phase.CONFIRMED}\n"
    assert [each.source for each in history.entries()] == ["rules"]


def test_a_session_whose_leader_has_ended_was_there_before(place: ChangeDirectory) -> None:
    place.write(a_change(loaded=0.001))
    assert "began before" in in_a_new_session(place, ORPHAN + CONFIRM)


def test_a_check_is_worth_it_in_any_session_but_not_too_late(place: ChangeDirectory) -> None:
    place.write(a_change(deadline=boottime() - 1))
    with pytest.raises(Failed, match="time is over"):
        confirming.confirm(place, is_proved=True)
    place.write(a_change())
    confirming.confirm(place, is_proved=True)
    with pytest.raises(Failed, match="it is confirmed"):
        confirming.confirm(place, is_proved=True)


@pytest.mark.parametrize("phase", [Phase.ARMED, Phase.LOADING, Phase.REVERTED, Phase.STUCK])
def test_only_what_is_loaded_can_be_confirmed(place: ChangeDirectory, phase: Phase) -> None:
    place.write(a_change(phase=phase))
    with pytest.raises(Failed, match=f"it is {phase}"):
        confirming.confirm(place, is_proved=True)
