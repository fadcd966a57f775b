"""Networks that others have drawn are staged and speak OSPF; paths are those of real packets.

`HOSTLAB_TOPOLOGIES=all` runs all six of the corpus instead of the smallest.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import networkx
import pytest

from hostlab import spec
from hostlab.api import Lab
from hostlab.observe.path import End, Networks, path
from hostlab.observe.path import Path as Way
from hostlab.spec.routing import Engine
from hostlab.topologies.description import Options
from hostlab.topologies.generators import clos, generated
from hostlab.topologies.importing import import_network
from tests.netns.lab.lab_site import probe
from tests.netns.observe.ttl_probe import ARRIVED, addresses, all_probed, branches
from tests.netns.topologies.converging import expected, graph, wait_converged

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

SHARED = os.environ.get("HOSTLAB_SHARED", str(Path(__file__).parents[3] / "../shared"))
CORPUS = Path(SHARED, "corpus/topologies").resolve()
ALL = ("Abilene", "AttMpls", "Belnet2003", "Geant2012", "TataNld", "Uunet")
CHOSEN = ALL if os.environ.get("HOSTLAB_TOPOLOGIES") == "all" else ALL[:1]
PAIRS = 200
PERFECT = Options(is_impaired=False)
UNLIMITED = (
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv4.icmp_ratemask", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
)
"""A router answers each probe, however many come."""


def lab_of(text: str, name: str) -> Lab:
    """A description under a name that no other test run has, whose routers answer every probe."""
    lab = spec.load(text.encode(), file="lab.yaml", directory="/")
    nodes = [
        msgspec.structs.replace(node, sysctls=(*node.sysctls, *UNLIMITED)) for node in lab.nodes
    ]
    return Lab(msgspec.structs.replace(lab, name=f"{name}-{os.getpid()}", nodes=tuple(nodes)))


def loopbacks(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {node.name: node.loopbacks for node in lab.description.nodes if node.loopbacks}


def pairs(lab: Lab) -> list[tuple[str, str]]:
    names = sorted(loopbacks(lab))
    every = [(one, other) for one in names for other in names if one != other]
    return sorted(random.Random(7).sample(every, min(PAIRS, len(every))))


def assert_paths_are_those_of_packets(lab: Lab, chosen: list[tuple[str, str]]) -> int:
    """Each path gets there by shortest ways, and packets take one of them; how many were tried."""
    own = loopbacks(lab)
    net, owners = graph(lab), addresses(lab)
    found: dict[str, list[tuple[str, Way]]] = {}
    with Networks(lab.description, {node.name: node.pid for node in lab}) as networks:
        for start, end in chosen:
            bare = {6 if ":" in each else 4: each.partition("/")[0] for each in own[end]}
            for family in (4, 6):
                way = path(networks, End(start, {}), End(end, bare), family=family)
                found.setdefault(start, []).append((end, way))
    for start, ways in found.items():
        probes = all_probed(lab, start, [(w.destination, w.source) for _, w in ways], owners)
        for (end, way), (hops, met) in zip(ways, probes, strict=True):
            assert way.reaches, way.problems
            told = branches(way.start)
            assert met == ARRIVED[way.family], (start, end, hops, met)
            assert hops in told, (start, end, hops, told)
            shortest = networkx.shortest_path_length(net, start, end)
            assert {len(each) for each in told} == {shortest}, (start, end, told)
    return sum(map(len, found.values()))


@contextlib.contextmanager
def staged(lab: Lab) -> Iterator[None]:
    """The lab is up, whether or not its routing has converged."""
    try:
        lab.up(wait_s=0)
        yield
    finally:
        lab.down()


def staged_and_tried(lab: Lab) -> int:
    with staged(lab):
        wait_converged(lab, expected(lab, graph(lab)))
        return assert_paths_are_those_of_packets(lab, pairs(lab))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    if shutil.which("bird", path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip("bird is not installed")
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_network_of_the_corpus_converges_and_paths_are_those_of_packets(name: str) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/topologies is not here")
    text = (CORPUS / f"{name}.graphml").read_text()
    found = import_network(text, file=f"{name}.graphml", kind="graphml", options=PERFECT)
    lab = lab_of(found.text, name)
    nodes = len(lab.description.nodes)
    assert staged_and_tried(lab) == 2 * min(PAIRS, nodes * (nodes - 1))


@pytest.mark.parametrize(("engine", "protocol"), [(Engine.BIRD, "bird"), (Engine.FRR, "ospf")])
def test_a_fabric_has_as_many_ways_as_spines(engine: Engine, protocol: str) -> None:
    if engine is Engine.FRR and not os.path.exists("/usr/lib/frr/ospfd"):
        pytest.skip("frr is not installed")
    lab = lab_of(generated(clos(2, 2, 1), Options(engine=engine)), f"clos-{engine}")
    with staged(lab):
        wait_converged(lab, expected(lab, graph(lab)))
        for target in lab.description.node("leaf2").loopbacks:
            (route,) = lab.routes(to=target)["leaf1"]
            assert [hop.node for hop in route.hops] == ["spine1", "spine2"]
            assert route.protocol == protocol
        for way in lab.paths("host1-1", "host2-1"):
            assert way.reaches, way.problems
            assert sorted(branches(way.start)) == [
                ["leaf1", f"spine{n}", "leaf2", "host2-1"] for n in (1, 2)
            ]
