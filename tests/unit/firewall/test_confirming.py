"""Whose word counts, and that a word counts once."""

from __future__ import annotations

import os
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
    with pytest.raises(Failed, match="began before"):
        confirming.confirm(place)
    monkeypatch.setenv("SSH_CONNECTION", ANOTHER)
    assert confirming.confirm(place).phase is Phase.CONFIRMED
    assert [each.source for each in history.entries()] == ["rules"]


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
