"""A change in its file, its locks, and when it is due."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.firewall.change import ChangeDirectory, Maker, Phase, boottime
from hostlab.firewall.here import holding
from hostlab.firewall.way_back import is_due
from tests.unit.firewall.change_site import NEW, OLD, a_change

pytestmark = pytest.mark.unit


@pytest.fixture
def place(tmp_path: Path) -> ChangeDirectory:
    found = ChangeDirectory(str(tmp_path / "place"))
    found.make()
    return found


def test_it_is_read_as_it_was_written_and_not_after_another_boot(place: ChangeDirectory) -> None:
    assert place.read() is None
    change = a_change()
    place.write(change)
    assert place.read() == change
    place.write(a_change(boot="another"))
    assert place.read() is None


def test_a_file_of_something_else_is_named(place: ChangeDirectory) -> None:
    Path(place.file).write_text('{"phase": "unheard of"}')
    with pytest.raises(Failed, match=r"change\.json is not what hostlab writes"):
        place.read()


def test_what_is_ours_follows_from_the_change_alone(place: ChangeDirectory) -> None:
    assert place.read_applied() is None
    for phase in (Phase.ARMED, Phase.LOADING, Phase.LOADED, Phase.STUCK, Phase.REVERTED):
        place.write(a_change(phase=phase, applied=OLD))
        assert place.read_applied() == OLD
    place.write(a_change(phase=Phase.CONFIRMED, applied=OLD))
    assert place.read_applied() == NEW


def test_one_operator_at_a_time_and_the_second_is_told_whom(place: ChangeDirectory) -> None:
    maker = Maker(pid=77, started="1", user="ann", connection="192.0.2.9 4000 192.0.2.1 22")
    with place.operator():
        place.write(a_change(maker=maker))
        with pytest.raises(Failed, match=r"ann from 192\.0\.2\.9 \(process 77\)"), place.operator():
            pass
        place.write(a_change(maker=maker, phase=Phase.REVERTED))
        with pytest.raises(Failed, match="somebody else"), place.operator():
            pass
    with place.operator():
        pass


def test_the_lock_of_a_killed_operators_child_is_waited_for(place: ChangeDirectory) -> None:
    dead = Maker(pid=os.getpid(), started="another's", user="ann")
    place.write(a_change(maker=dead))
    holder = subprocess.Popen(
        ["flock", f"{place.path}/operator", "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    child = os.fork()
    if not child:
        with place.operator():
            os._exit(0)
    holder.communicate(b"\n")
    assert os.waitpid(child, 0)[1] == 0


def test_a_tool_keeps_the_lock_of_who_was_killed(place: ChangeDirectory, tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    maker = os.fork()
    if not maker:
        with place.kernel() as lock:
            holding(lock)(("sh", "-c", f"exec cat {fifo} >/dev/null"))
        os._exit(0)
    # Opens when the tool has opened it to read.
    writer = os.open(fifo, os.O_WRONLY)
    os.kill(maker, 9)
    os.waitpid(maker, 0)
    tried = ["flock", "-n", f"{place.path}/kernel", "true"]
    assert subprocess.run(tried, check=False).returncode == 1
    os.close(writer)
    with place.kernel():
        pass


def test_when_a_change_is_due() -> None:
    dead = Maker(pid=os.getpid(), started="another's", user="root")
    past = boottime() - 1
    assert not is_due(a_change())
    assert is_due(a_change(deadline=past))
    assert not is_due(a_change(maker=dead))
    for phase in (Phase.ARMED, Phase.LOADING):
        assert not is_due(a_change(phase=phase))
        assert is_due(a_change(phase=phase, maker=dead))
    assert is_due(a_change(phase=Phase.STUCK))
    for phase in (Phase.CONFIRMED, Phase.REVERTED):
        assert not is_due(a_change(phase=phase, deadline=past, maker=dead))


def test_a_zombie_is_not_there() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{pid}/stat") as file:
        started = file.read().rpartition(")")[2].split()[19]
    assert not Maker(pid=pid, started=started, user="root").is_there()
    os.waitpid(pid, 0)
