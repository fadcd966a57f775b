"""Networks that others have drawn are staged and speak OSPF; paths are those of real packets.

`HOSTLAB_TOPOLOGIES=all` runs all six of the corpus instead of the smallest, and cuts every link of
two of them instead of a few.
"""

from __future__ import annotations

import contextlib
import itertools
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
from hostlab.faults.injecting import clear, inject
from hostlab.faults.site import Site
from hostlab.observe.path import End, Networks, path
from hostlab.observe.path import Path as Way
from hostlab.spec.faults import parse
from hostlab.spec.routing import Engine
from hostlab.topologies.description import Options
from hostlab.topologies.generators import clos, generated
from hostlab.topologies.importing import import_network
from tests.netns.lab.lab_site import probe
from tests.netns.observe.ttl_probe import ARRIVED, addresses, all_probed, branches
from tests.netns.topologies.converging import Kernels, expected, graph

IS_WHOLE = os.environ.get("HOSTLAB_TOPOLOGIES") == "all"
pytestmark = [pytest.mark.netns, pytest.mark.timeout(3600 if IS_WHOLE else 600)]

SHARED = os.environ.get("HOSTLAB_SHARED", str(Path(__file__).parents[3] / "../shared"))
CORPUS = Path(SHARED, "corpus/topologies").resolve()
ALL = ("Abilene", "AttMpls", "Belnet2003", "Geant2012", "TataNld", "Uunet")
CHOSEN = ALL if IS_WHOLE else ALL[:1]
CUT = tuple(name for name in ("Abilene", "Geant2012") if name in CHOSEN)
"""Those whose links are cut."""
CUTS = 1
"""How many of them, unless all are."""
PAIRS = 200
PAIRS_A_CUT = 5
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


def pairs(net: networkx.MultiGraph, *, most: int, seed: int = 7) -> list[tuple[str, str]]:
    """Some that are joined."""
    every = [
        pair for pair in itertools.permutations(sorted(net), 2) if networkx.has_path(net, *pair)
    ]
    return sorted(random.Random(seed).sample(every, min(most, len(every))))


def assert_paths_are_those_of_packets(
    lab: Lab, net: networkx.MultiGraph, chosen: list[tuple[str, str]]
) -> int:
    """Each path gets there by shortest ways, and packets take one of them; how many were tried."""
    own, owners = loopbacks(lab), addresses(lab)
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


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    probe()
    if shutil.which("bird", path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip("bird is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
        yield


@pytest.fixture(scope="module")
def drawn(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A network of the corpus, up."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/topologies is not here")
    name = request.param
    text = (CORPUS / f"{name}.graphml").read_text()
    found = import_network(text, file=f"{name}.graphml", kind="graphml", options=PERFECT)
    lab = lab_of(found.text, name)
    with staged(lab):
        yield lab


@pytest.mark.parametrize("drawn", CHOSEN, indirect=True)
def test_a_network_of_the_corpus_converges_and_paths_are_those_of_packets(drawn: Lab) -> None:
    net = graph(drawn)
    with Kernels(drawn) as kernels:
        kernels.wait_converged(expected(drawn, net))
        assert kernels.reached() == joined(drawn, net)
    nodes = len(drawn.description.nodes)
    tried = assert_paths_are_those_of_packets(drawn, net, pairs(net, most=PAIRS))
    assert tried == 2 * min(PAIRS, nodes * (nodes - 1))


def joined(lab: Lab, net: networkx.MultiGraph) -> set[tuple[str, str]]:
    """From which node there is a way to which address of another, by graph theory."""
    own = loopbacks(lab)
    return {
        (start, address)
        for part in networkx.connected_components(net)
        for start, end in itertools.permutations(part & own.keys(), 2)
        for address in own[end]
    }


def apart(lab: Lab) -> list[str]:
    """The links in a random order in which, if it can be, the next shares no node with the last.

    A router that has told of a link says nothing new for five seconds (RFC 2328, MinLSInterval).
    """
    ends = {
        segment.name: {
            node.name
            for node in lab.description.nodes
            for interface in node.interfaces
            if interface.segment == segment.name
        }
        for segment in lab.description.segments
    }
    left = sorted(name for name, members in ends.items() if len(members) > 1)
    random.Random(7).shuffle(left)
    found: list[str] = []
    while left:
        last = ends[found[-1]] if found else set()
        found.append(next((name for name in left if not ends[name] & last), left[0]))
        left.remove(found[-1])
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drawn", CUT, indirect=True)
def test_with_any_one_link_down_whoever_is_still_joined_reaches_one_another(drawn: Lab) -> None:
    whole = graph(drawn)
    links = apart(drawn)
    with Kernels(drawn) as kernels:
        kernels.wait_converged(expected(drawn, whole))
        site = Site.of(drawn.name)
        for number, link in enumerate(links if IS_WHOLE else links[:CUTS]):
            # The one before comes back as this one goes, so that it is missed once, not twice.
            clear(site)
            inject(site, parse(["link-down", link], site.lab))
            net = graph(drawn, without=link)
            kernels.wait_converged(expected(drawn, net))
            assert kernels.reached() == joined(drawn, net), link
            chosen = pairs(net, most=PAIRS_A_CUT, seed=number)
            assert assert_paths_are_those_of_packets(drawn, net, chosen) == 2 * len(chosen)
        clear(site)
        kernels.wait_converged(expected(drawn, whole))
        assert kernels.reached() == joined(drawn, whole)
    assert drawn.wait_converged(timeout_s=300).routers == len(loopbacks(drawn))


@pytest.mark.parametrize(("engine", "protocol"), [(Engine.BIRD, "bird"), (Engine.FRR, "ospf")])
def test_a_fabric_has_as_many_ways_as_spines(engine: Engine, protocol: str) -> None:
    if engine is Engine.FRR and not os.path.exists("/usr/lib/frr/ospfd"):
        pytest.skip("frr is not installed")
    lab = lab_of(generated(clos(2, 2, 1), Options(engine=engine)), f"clos-{engine}")
    with staged(lab):
        with Kernels(lab) as kernels:
            kernels.wait_converged(expected(lab, graph(lab)))
        for target in lab.description.node("leaf2").loopbacks:
            (route,) = lab.routes(to=target)["leaf1"]
            assert [hop.node for hop in route.hops] == ["spine1", "spine2"]
            assert route.protocol == protocol
        for way in lab.paths("host1-1", "host2-1"):
            assert way.reaches, way.problems
            assert sorted(branches(way.start)) == [
                ["leaf1", f"spine{n}", "leaf2", "host2-1"] for n in (1, 2)
            ]
