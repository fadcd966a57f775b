"""Sockets, timers, paths and slices as values."""

from __future__ import annotations

import pytest

from hostlab.spec.systemd.kinds import (
    Listen,
    Listening,
    PathUnit,
    Repeated,
    SliceUnit,
    SocketUnit,
    TimerUnit,
    Watched,
)
from tests.unit.spec.systemd.unit_site import DATA, loaded

pytestmark = pytest.mark.unit


def test_a_socket() -> None:
    found = loaded(
        "[Socket]\nListenStream=80\nListenDatagram=/run/%p\nListenStream=[::1]:81\n"
        "SocketMode=0600\nBacklog=7\nFileDescriptorName=web\nFreeBind=yes\n", "x.socket",
    )  # fmt: skip
    assert isinstance(found.kind, SocketUnit)
    assert found.kind.listen == (
        Listen(kind=Listening.STREAM, address="80"),
        Listen(kind=Listening.DATAGRAM, address="/run/x"),
        Listen(kind=Listening.STREAM, address="[::1]:81"),
    )
    assert (found.kind.service, found.kind.mode, found.kind.backlog) == ("x.service", 0o600, 7)
    assert (found.kind.name, found.kind.free_bind) == ("web", True)
    assert found.job is not None
    assert found.job.commands == ()


def test_a_socket_that_accepts_has_a_service_for_each_connection() -> None:
    found = loaded("[Socket]\nListenStream=/s\nAccept=yes\n", "x.socket").kind
    assert isinstance(found, SocketUnit)
    assert found.service == "x@.service"


def test_a_timer() -> None:
    found = loaded(
        "[Timer]\nOnCalendar=daily\nOnCalendar=Mon *-*-* 00:00:00\nOnBootSec=5min\n"
        "RandomizedDelaySec=1h\nPersistent=true\nUnit=y.service\n", "x.timer",
    ).kind  # fmt: skip
    assert isinstance(found, TimerUnit)
    assert found.calendar == ("daily", "Mon *-*-* 00:00:00")
    assert found.repeated == (Repeated(since="OnBootSec", seconds=300.0),)
    assert (found.unit, found.randomized_delay_s, found.persistent) == ("y.service", 3600, True)


def test_a_path() -> None:
    found = loaded("[Path]\nPathChanged=/etc/a\nMakeDirectory=yes\n", "x.path").kind
    assert found == PathUnit(
        unit="x.service",
        watched=(Watched(kind="PathChanged", path="/etc/a"),),
        make_directory=True,
    )


def test_a_slice_is_below_the_one_of_its_name() -> None:
    assert loaded("", "a-b.slice").kind == SliceUnit(parent="a.slice")
    assert loaded("", "a.slice").kind == SliceUnit(parent="-.slice")


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.socket", "[Socket]\n"), ("x.timer", "[Timer]\nPersistent=yes\n"),
     ("x.path", "[Path]\nPathChanged=rel\n")],
)  # fmt: skip
def test_one_that_waits_for_nothing_is_an_error(name: str, text: str) -> None:
    found = loaded(text, name)
    assert found.error is not None
    assert found.error.message.startswith(f"{name}: it ")
    assert found.job is None


def test_a_mount_is_no_job_and_no_error() -> None:
    found = loaded("[Mount]\nWhat=a\nWhere=/b\nNice=1\n", "b.mount")
    assert (found.job, found.error, found.warnings) == (None, None, ())


def test_ssh_as_debian_ships_it() -> None:
    found = loaded((DATA / "ssh.socket").read_text(), "ssh.socket")
    assert isinstance(found.kind, SocketUnit)
    assert found.kind.listen == (Listen(kind=Listening.STREAM, address="22"),)
    assert found.dependencies.before == ("sockets.target", "ssh.service", "shutdown.target")
