"""A cgroup of v1 that is made while another process makes those above it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.linux import cgroups

pytestmark = pytest.mark.netns


def test_one_that_has_no_cpus_yet_is_given_them(request: pytest.FixtureRequest) -> None:
    place = cgroups.find().v1.get("cpuset")
    if place is None:
        pytest.skip("here: no cpuset of v1 that is ours to write")
    mine = f"{place}/hostlab-test-{os.getpid()}"
    request.addfinalizer(lambda: cgroups.remove(mine))
    # As far as whoever makes it has come when it has not yet written what it is to have.
    os.mkdir(mine)
    assert Path(mine, "cpuset.cpus").read_text().strip() == ""
    cgroups.make(f"{mine}/lab")
    for name in ("cpuset.cpus", "cpuset.mems"):
        wanted = Path(place, name).read_text()
        assert Path(mine, name).read_text() == Path(mine, "lab", name).read_text() == wanted
    cgroups.make(mine)
