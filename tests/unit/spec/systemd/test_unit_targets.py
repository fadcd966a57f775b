"""The targets that every host has."""

from __future__ import annotations

import pytest

from hostlab.jobs import facts
from hostlab.spec.systemd.loading import load_units
from hostlab.spec.systemd.targets import STANDARD, standard_targets
from hostlab.spec.systemd.unit import read_unit
from tests.unit.jobs.jobs_world import World
from tests.unit.spec.systemd.unit_site import DATA

pytestmark = pytest.mark.unit


def test_a_daemon_wanted_by_multi_user_comes_up_behind_the_early_boot() -> None:
    nginx = (DATA / "nginx.service").read_text()
    files = [
        read_unit("nginx.service", [(nginx, "nginx.service")]),
        read_unit("multi-user.target", [("[Unit]\nRequires=basic.target\nAfter=basic.target\n",
                                         "multi-user.target")], wants=("nginx.service",)),
    ]  # fmt: skip
    found = load_units([*files, *standard_targets({"multi-user.target"})])
    assert [str(each) for each in found.cycles] == []
    assert [each for unit in found.units for each in unit.warnings] == []
    w = World()
    for job in found.jobs:
        w.tell(facts.Load(job=job))
    w.start("multi-user.target")
    assert w.status("basic.target") == "start/running"
    assert w.status("network-online.target") == "start/running"
    assert w.status("nginx.service") == "start/pre-start"
    assert w.status("multi-user.target") == "start/starting"


def test_what_a_node_has_itself_is_left_out() -> None:
    names = {unit.name.name for unit in standard_targets({"basic.target"})}
    assert names == set(STANDARD) - {"basic.target"}
