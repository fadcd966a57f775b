"""Daemons under their units whose supervisors are killed, all at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.netns.daemons.unit_daemons import DAEMONS
from tests.netns.daemons.unit_site import daemons, main_of, surprises
from tests.netns.init.test_readiness_in_nodes import supervisor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]
"""Eighteen nodes with daemons boot."""


def test_they_outlive_their_supervisors(tmp_path: Path) -> None:
    with daemons(tmp_path) as lab:
        before = {daemon.name: main_of(lab[daemon.name], daemon.unit) for daemon in DAEMONS}
        for daemon in DAEMONS:
            os.kill(supervisor(lab[daemon.name]), signal.SIGKILL)
        for daemon in DAEMONS:
            node = lab[daemon.name]
            assert main_of(node, daemon.unit) == before[daemon.name]
            daemon.serves(node, lab["peer"])
        for daemon in DAEMONS:
            node = lab[daemon.name]
            node.succeed(f"systemctl stop {daemon.stopped or daemon.unit}")
            assert surprises(node) == []
