"""From the engine's word to a running process: what a job says is so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.spec.job import Job
from tests.netns.init.job_site import Site, site

pytestmark = pytest.mark.netns


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as found:
        yield found


def test_a_job_runs_in_a_cgroup_of_its_own(jobs: Site) -> None:
    ran = jobs.run(Job(name="net/a", script="cat /proc/self/cgroup\necho $0"), instance="x")
    assert f"0::/hostlab-test-{os.getpid()}/job.net%2fa:x/1" in ran.out
    assert ran.out.endswith("/proc/self/fd/9\n")
    assert (ran.status, ran.warnings) == (0, ())
