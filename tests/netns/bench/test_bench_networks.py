"""The benchmarks of networks run, in small: that they measure something, never how much."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from bench import drawings
from bench.measure import Outcome, measure
from bench.network_cases import Network, bird_case, frr_case
from bench.path_cases import HOPS, path_case
from hostlab import spec
from hostlab.spec.model import Lab
from hostlab.spec.routing import Engine
from hostlab.topologies.description import Options
from hostlab.topologies.generators import generated, ring
from tests.netns.lab.lab_site import probe

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    if os.geteuid() != 0:
        pytest.skip("here: what is built by hand needs root")
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))


def small(engine: Engine | None) -> Lab:
    text = generated(ring(3), Options(engine=engine))
    return drawings.named(spec.load(text.encode(), file="ring.yaml", directory="/"))


def assert_all_measured(outcome: Outcome, who: tuple[str, ...], *metrics: str) -> None:
    lacking = {name: why for name, why in outcome.absent.items() if name in who}
    assert not lacking
    for name in who:
        for metric in metrics:
            assert all(value > 0 for value in outcome.samples[name][metric].values), (name, metric)


def test_the_benchmark_of_networks_runs() -> None:
    if not Path("/usr/lib/frr/ospfd").exists():
        pytest.skip("frr is not installed")
    whole = frr_case(Network("ring", small))
    # munet fails to start now and then, which is not ours to mend.
    tried = tuple(each for each in whole.contenders if each.name != "munet")
    outcome = measure(dataclasses.replace(whole, contenders=tried), 1, lambda _: None)
    metrics = ("staged_s", "converged_s", "node_mb", "daemons_mb")
    assert_all_measured(outcome, ("hostlab", "by hand"), *metrics)
    assert_all_measured(outcome, ("hostlab, bare",), "staged_s")
    # What Mininet lacks is said; what it is not able to do would be a mistake of ours.
    assert not [why for why in outcome.absent.values() if why.startswith("failed")]


def test_the_benchmark_of_bird_is_of_the_same_network() -> None:
    names = [contender.name for contender in bird_case(Network("ring", small)).contenders]
    assert names == ["hostlab", "by hand"]
    drawn = drawings.drawing(small(Engine.BIRD))
    assert [host.name for host in drawn.hosts] == ["n0", "n1", "n2"]
    assert all("router id" in host.files["bird.conf"] for host in drawn.hosts)
    assert {port.segment for host in drawn.hosts for port in host.ports} == set(drawn.segments)


def test_the_benchmark_of_paths_runs() -> None:
    outcome = measure(path_case(1 << 20, 20), 1, lambda _: None)
    metrics = [f"gb_{hops}_hops_ms" for hops in HOPS] + [f"turn_{hops}_hops_us" for hops in HOPS]
    assert_all_measured(outcome, ("hostlab", "by hand", "by hand, no bridges"), *metrics)
