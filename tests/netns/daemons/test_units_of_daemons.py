"""Each of Debian's daemons in a node of its own, under the unit that its package ships.

It is ready by its own protocol, so its first request is answered; it reloads, stops clean, and
starts again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.checks import JobState
from hostlab.sync import Lab, Node
from tests.netns.daemons.unit_daemons import DAEMONS, Daemon, description
from tests.netns.init.daemon_site import cgroup_of, processes
from tests.netns.lab.lab_site import site

pytestmark = pytest.mark.netns

UNITS = Path("/lib/systemd/system")
BOOT_S = 60.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """All of them, as their boot leaves them."""
    missing = [daemon.unit for daemon in DAEMONS if not (UNITS / daemon.unit).exists()]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: `make dev` as root installs them")
    if os.geteuid():
        pytest.skip("only root's lab has the users that the daemons become")
    directory = tmp_path_factory.mktemp("daemons")
    with pytest.MonkeyPatch.context() as patch, site(directory, patch) as place:
        found = place.up(description())
        for node in found:
            node.wait_settled(within_s=BOOT_S)
        yield found


def order(node: Node, verb: str, unit: str) -> None:
    """As an administrator in the node does."""
    assert node.succeed(f"systemctl {verb} {unit}", timeout_s=30) == ""


def main_of(node: Node, unit: str) -> int | None:
    return node.jobs()[unit].pid


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
    order(node, "stop", daemon.unit)
    assert node.jobs()[daemon.unit].state is JobState.STOPPED
    assert group is None or processes(group) == set()
    if daemon.reset:
        node.succeed(daemon.reset)
    order(node, "start", daemon.unit)
    assert node.jobs()[daemon.unit].state is JobState.RUNNING
    daemon.serves(node, peer)
