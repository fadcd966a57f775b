"""Each of Debian's daemons in a node of its own, under the unit that its package ships.

It is ready by its own protocol, so its first request is answered; it reloads, stops clean, and
starts again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.jobs.job_state import JobState
from hostlab.sync import Lab, Node
from tests.netns.daemons.unit_daemons import BY_SOCKET, DAEMONS, Daemon, daemon_of
from tests.netns.daemons.unit_site import UNITS, daemons, main_of, surprises
from tests.netns.init.daemon_site import cgroup_of, processes

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]
"""The first test waits for eighteen nodes with daemons as well."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with daemons(tmp_path_factory.mktemp("daemons")) as found:
        yield found


def order(node: Node, verb: str, unit: str) -> None:
    """As an administrator in the node does."""
    assert node.succeed(f"systemctl {verb} {unit}", timeout_s=100) == ""


def group_of(node: Node, unit: str) -> Path | None:
    """The cgroup of a unit's processes."""
    main = main_of(node, unit)
    return None if main is None else cgroup_of(node, main).parent


@pytest.mark.parametrize("daemon", DAEMONS, ids=lambda daemon: daemon.name)
def test_daemon_under_its_own_unit(lab: Lab, daemon: Daemon) -> None:
    node, peer = lab[daemon.name], lab["peer"]
    assert node.succeed(f"cat {UNITS / daemon.unit}") == (UNITS / daemon.unit).read_text()
    assert node.jobs()[daemon.unit].state is JobState.RUNNING
    main = main_of(node, daemon.unit)
    if daemon.program:
        assert node.succeed(f"cat /proc/{main}/comm") == f"{daemon.program}\n"
    daemon.serves(node, peer)
    if daemon.changed is not None:
        node.succeed(daemon.change)
        order(node, "reload", daemon.unit)
        daemon.changed(node, peer)
        assert (main_of(node, daemon.unit) == main) is not daemon.replaced
    group = group_of(node, daemon.unit)
    order(node, "stop", daemon.stopped or daemon.unit)
    assert node.jobs()[daemon.unit].state is JobState.STOPPED
    assert group is None or processes(group) == set()
    if daemon.reset:
        node.succeed(daemon.reset)
    order(node, "start", daemon.unit)
    assert node.jobs()[daemon.unit].state is JobState.RUNNING
    daemon.serves(node, peer)
    assert surprises(node) == []


@pytest.mark.parametrize("name", BY_SOCKET)
def test_daemon_starts_when_somebody_connects(lab: Lab, name: str) -> None:
    """By its socket unit; stopped, it starts again for the next one."""
    node, peer, service = lab[f"{name}-socket"], lab["peer"], f"{name}.service"
    assert node.jobs()[f"{name}.socket"].state is JobState.RUNNING
    for _ in range(2):
        assert node.shell(f"systemctl is-active {service}").stdout == b"inactive\n"
        daemon_of(name).serves(node, peer)
        assert node.jobs()[service].state is JobState.RUNNING
        order(node, "stop", service)
