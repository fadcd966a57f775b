"""Ten daemons whose supervisor is killed, becomes another program, or takes its node down."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.sync import Lab, Node
from tests.netns.init.daemon_requests import SERVES
from tests.netns.init.daemon_site import (
    DAEMONS,
    WITHIN_S,
    assert_stops_clean,
    daemons,
    group_of,
    processes,
    supervisor_of,
    surprises,
    words,
)
from tests.netns.init.init_site import children
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, wait_until

pytestmark = pytest.mark.netns


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with daemons(tmp_path) as found:
        yield found


def main_processes(lab: Lab) -> dict[str, int | None]:
    return {name: job.pid for name, job in lab["server"].jobs().items()}


def is_first_program(node: Node) -> bool:
    """Whether the supervisor is still what the node was staged with."""
    return words(node.pid) in {words(pid) for pid in children(node.pid)}


def test_they_outlive_their_supervisor(lab: Lab) -> None:
    server = lab["server"]
    before = main_processes(lab)
    supervisor = supervisor_of(server)
    os.kill(supervisor, signal.SIGKILL)
    assert main_processes(lab) == before
    assert supervisor_of(server) != supervisor
    for serves in SERVES.values():
        serves(server, lab["peer"])
    for name in DAEMONS:
        assert_stops_clean(server, name)
    assert surprises(server) == []


def test_they_go_on_when_init_becomes_another_program(lab: Lab) -> None:
    needs_hostlab_in_nodes()
    server = lab["server"]
    before = main_processes(lab)
    with server.control() as control:
        control.send("reexec")
    wait_until(lambda: not is_first_program(server), "the new program", timeout_s=WITHIN_S)
    assert main_processes(lab) == before
    for serves in SERVES.values():
        serves(server, lab["peer"])
    for name in DAEMONS:
        assert_stops_clean(server, name)


def test_all_of_them_leave_when_they_are_told_as_the_node_is_halted(lab: Lab) -> None:
    server = lab["server"]
    groups = [group_of(server, name) for name in DAEMONS]
    # The node may be down before it has told how the command ended.
    with contextlib.suppress(Failed):
        server.shell("shutdown -h now", timeout_s=WITHIN_S)
    wait_until(lambda: "server" not in lab.nodes(), "the node to be down", timeout_s=WITHIN_S)
    assert [group for group in groups if processes(group)] == []
    said = Path(server.init_log_path()).read_text()
    assert "KILL signal" not in said
    assert "would not stop" not in said
