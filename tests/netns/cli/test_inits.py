"""Commands that ask the init without a lab."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from hostlab.jobs.drawing_states import STATE_COLOURS
from hostlab.jobs.job_state import JobState
from tests.netns.cli.cli_site import Hostlab
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns


def test_an_init_without_a_lab_is_asked_for_what_its_jobs_say(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init/first.conf").write_text("start on startup\nemits morning\n")
    (tmp_path / "init/second.conf").write_text("start on morning\ntask\nexec false\n")
    hostlab = Hostlab(tmp_path / "run")
    places = ("--confdir", str(tmp_path / "init"), "--logdir", str(tmp_path / "log"))
    with hostlab.start("init", *places) as init:
        try:
            socket = tmp_path / "run/.init/control.sock"
            wait_until(socket.exists, "init's socket")
            listed = hostlab("job", "show-config", "--init").stdout
            assert (
                listed == "first\n  emits morning\n  start on startup\nsecond\n  start on morning\n"
            )
            found = hostlab("job", "find", "morning", "--init", "--json").stdout
            assert [(row["job"], row["role"]) for row in json.loads(found)] == [
                ("first", "emits"),
                ("second", "start on"),
            ]
            hostlab("job", "start", "second", "--init", status=1)
            drawn = hostlab("job", "graph", "--init", "--format", "mermaid").stdout
            assert f"  style j1 fill:{STATE_COLOURS[JobState.FAILED]}\n" in drawn
            # It is found without a name too, where there is no lab.
            names = [row["name"] for row in json.loads(hostlab("job", "list", "--json").stdout)]
            assert names == ["first", "second"]
        finally:
            init.send_signal(signal.SIGTERM)
            assert init.wait(60) == 0
