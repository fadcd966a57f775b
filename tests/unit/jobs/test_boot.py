"""The boot that unchanged jobs wait for."""

from __future__ import annotations

import pytest

from hostlab.jobs.boot import (
    UP,
    Boot,
    Each,
    Milestone,
    Mount,
    boot_events,
    described_boot,
    runlevel_event,
    shutdown_events,
)
from hostlab.jobs.expression import Environment
from hostlab.spec import model
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

BOOT = Boot(
    mounts=(
        Mount(device="proc", mountpoint="/proc", type="proc"),
        Mount(device="tmpfs", mountpoint="/run", type="tmpfs", options="mode=0755"),
    ),
    interfaces=("lo", "eth0"),
    container="hostlab",
)


def test_events_of_a_boot_in_order() -> None:
    assert [each.event for each in boot_events(BOOT)] == [
        "startup",
        "virtual-filesystems",
        "mounted",
        "mounted",
        "local-filesystems",
        "remote-filesystems",
        "all-swaps",
        "filesystem",
        "net-device-up",
        "net-device-up",
        "static-network-up",
        "container",
        "runlevel",
    ]


def test_events_of_a_boot_carry_what_jobs_match() -> None:
    events = boot_events(BOOT)
    assert dict(events[3].environment) == {
        "DEVICE": "tmpfs",
        "MOUNTPOINT": "/run",
        "TYPE": "tmpfs",
        "OPTIONS": "mode=0755",
    }
    assert dict(events[8].environment)["IFACE"] == "lo"
    assert events[11].environment == (("CONTAINER", "hostlab"),)
    assert events[-1].environment == (("RUNLEVEL", "2"), ("PREVLEVEL", "N"))


def test_a_boot_of_no_container_says_so() -> None:
    names = [each.event for each in boot_events(Boot())]
    assert "not-container" in names
    assert "container" not in names


def test_events_on_the_way_down() -> None:
    down = shutdown_events("0", "2")
    assert [each.event for each in down] == ["runlevel", "deconfiguring-networking"]
    assert down[0].environment == (("RUNLEVEL", "0"), ("PREVLEVEL", "2"))
    assert runlevel_event("3", "2").environment[0] == ("RUNLEVEL", "3")


def test_another_table_can_be_put_in_its_place() -> None:
    table = (*UP[:1], Milestone(event="ready", each=Each.ONCE))
    assert [each.event for each in boot_events(BOOT, table)] == ["startup", "ready"]


def test_the_commonest_conditions_of_people_come_true() -> None:
    world = World(
        a="start on filesystem\n",
        b="start on runlevel [2345]\nstop on runlevel [!2345]\n",
        c="start on (local-filesystems and net-device-up IFACE!=lo)\n",
        d="start on mounted MOUNTPOINT=/run\n",
        e="start on (startup and container CONTAINER=lxc)\n",
    )
    for each in boot_events(BOOT):
        world.emit(each.event, **dict(each.environment))
    assert [world.status(name) for name in "abcd"] == ["start/running"] * 4
    assert world.status("e") == "stop/waiting"
    for each in shutdown_events("0", "2"):
        world.emit(each.event, **dict(each.environment))
    assert world.status("b") == "stop/waiting"


def emitted(said: model.Boot) -> list[tuple[str, Environment]]:
    mounts = (Mount(device="/dev/x", mountpoint="/", type="ext4"),)
    boot, table = described_boot(said, mounts=mounts, interfaces=("lo", "eth0"))
    return [(each.event, each.environment) for each in boot_events(boot, table)]


def test_a_description_that_says_nothing_of_its_boot_has_the_usual_one() -> None:
    names = [name for name, _ in emitted(model.Boot())]
    assert names[0] == "startup"
    assert ("container", (("CONTAINER", "hostlab"),)) in emitted(model.Boot())
    assert ("runlevel", (("RUNLEVEL", "3"), ("PREVLEVEL", "N"))) in emitted(
        model.Boot(runlevel="3")
    )
    assert "not-container" in [name for name, _ in emitted(model.Boot(container=None))]


def test_a_description_that_says_which_events_has_these_as_written() -> None:
    braces = model.BootEvent(name="go", environment=(("A", "{x} }"), ("B", "}")))
    said = model.Boot(startup_event="begin", events=(braces,))
    assert emitted(said) == [("begin", ()), ("go", (("A", "{x} }"), ("B", "}")))]
    assert emitted(model.Boot(events=())) == [("startup", ())]
