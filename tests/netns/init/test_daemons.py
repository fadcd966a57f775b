"""Ten daemons run under their own unchanged job files: they come up, serve, and stop clean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.jobs.job_state import JobState
from hostlab.sync import Lab
from tests.netns.init.daemon_requests import SERVES
from tests.netns.init.daemon_site import (
    CORPUS,
    DAEMONS,
    WITHIN_S,
    assert_stops_clean,
    daemons,
    group_of,
    main_of,
    surprises,
)
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with daemons(tmp_path_factory.mktemp("daemons")) as found:
        yield found


def test_the_boot_brings_all_of_them_up(lab: Lab) -> None:
    server = lab["server"]
    states = {name: job.state for name, job in server.jobs().items() if name in DAEMONS}
    assert states == dict.fromkeys(DAEMONS, JobState.RUNNING)
    assert surprises(server) == []


@pytest.mark.parametrize("name", DAEMONS)
def test_its_file_is_the_one_of_the_corpus(lab: Lab, name: str) -> None:
    shown = lab["server"].execute(("cat", f"/etc/init/{name}.conf")).stdout
    assert shown == (CORPUS / DAEMONS[name][0]).read_bytes()


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_serves(lab: Lab, name: str) -> None:
    SERVES[name](lab["server"], lab["peer"])


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_stops_clean_and_comes_back(lab: Lab, name: str) -> None:
    server = lab["server"]
    assert_stops_clean(server, name)
    assert server.jobs()[name].state is JobState.STOPPED
    running = rf"{name} start/running, process \d+\n"
    assert re.fullmatch(running, server.succeed(f"initctl start {name}"))
    server.wait_settled(within_s=WITHIN_S)
    SERVES[name](server, lab["peer"])
    assert surprises(server) == []


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_that_is_killed_comes_back_where_its_file_says_so(lab: Lab, name: str) -> None:
    server = lab["server"]
    main = main_of(server, name)
    Path(group_of(server, name), "cgroup.kill").write_text("1")
    if b"\nrespawn\n" in (CORPUS / DAEMONS[name][0]).read_bytes():
        wait_until(
            lambda: main_of(server, name) not in (None, main),
            f"another {name}",
            timeout_s=WITHIN_S,
        )
    else:
        wait_until(
            lambda: server.jobs()[name].state is JobState.FAILED,
            f"{name} is given up",
            timeout_s=WITHIN_S,
        )
        server.succeed(f"initctl start {name}")
    server.wait_settled(within_s=WITHIN_S)
    SERVES[name](server, lab["peer"])
