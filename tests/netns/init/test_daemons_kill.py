"""Ten daemons whose supervisor is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.netns.init.daemon_requests import SERVES
from tests.netns.init.daemon_site import (
    DAEMONS,
    assert_stops_clean,
    daemons,
    supervisor_of,
    surprises,
)

pytestmark = pytest.mark.netns


def test_they_outlive_their_supervisor(tmp_path: Path) -> None:
    with daemons(tmp_path) as lab:
        server = lab["server"]
        before = {name: job.pid for name, job in server.jobs().items()}
        supervisor = supervisor_of(server)
        os.kill(supervisor, signal.SIGKILL)
        assert {name: job.pid for name, job in server.jobs().items()} == before
        assert supervisor_of(server) != supervisor
        for serves in SERVES.values():
            serves(lab)
        for name in DAEMONS:
            assert_stops_clean(server, name)
        assert surprises(server) == []
