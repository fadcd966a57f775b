"""A cgroup of v1 that is made while another process makes those above it."""

from __future__ import annotations

import os
from functools import partial
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


@pytest.mark.parametrize("instant", ["made", "given its CPUs"])
def test_one_whose_parent_is_taken_away_meanwhile_is_made_all_the_same(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    """As a `down` does that ends the last lab while another comes up."""
    found = cgroups.find()
    places = [place for place in (found.unified, found.v1.get("cpuset")) if place is not None]
    if not places:
        pytest.skip("here: no cgroup that is ours to write")
    patched = (os, "mkdir") if instant == "made" else (cgroups, "_inherit")
    act = getattr(*patched)
    for place in places:
        mine = f"{place}/hostlab-test-{os.getpid()}"
        request.addfinalizer(partial(cgroups.remove, mine))
        taken: list[str] = []

        def meanwhile(path: str, *others: str) -> object:
            done = act(path, *others)
            if path == mine and not taken:  # noqa: B023
                taken.append(path)  # noqa: B023
                os.rmdir(path)
            return done

        with monkeypatch.context() as patch:
            patch.setattr(*patched, meanwhile)
            cgroups.make(f"{mine}/lab")
        assert taken or place == found.unified
        assert os.path.isdir(f"{mine}/lab")
