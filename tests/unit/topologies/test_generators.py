"""Generated networks have the form that their names promise, the same one every time."""

from __future__ import annotations

import networkx
import pytest

from hostlab.errors import UsageError
from hostlab.spec import Lab, load
from hostlab.topologies.generators import clos, fat_tree, generated, grid, random_regular, ring
from hostlab.topologies.network import HOST, Network

pytestmark = pytest.mark.unit


def graph(network: Network) -> networkx.MultiGraph:
    found = networkx.MultiGraph()
    found.add_nodes_from(vertex.id for vertex in network.vertices)
    found.add_edges_from(edge.ends for edge in network.edges)
    return found


def lab_of(network: Network) -> Lab:
    return load(generated(network).encode(), file="lab.yaml", directory="/srv")


def test_a_ring_and_a_grid_are_those_of_networkx() -> None:
    for ours, theirs in (
        (ring(7), networkx.cycle_graph(7)),
        (grid(3, 4), networkx.grid_2d_graph(3, 4)),
    ):
        assert networkx.is_isomorphic(networkx.Graph(graph(ours)), theirs)
        assert graph(ours).number_of_edges() == theirs.number_of_edges()


@pytest.mark.parametrize(("nodes", "degree"), [(12, 3), (20, 4), (9, 2), (6, 5), (200, 3)])
def test_a_random_regular_network_is_regular_simple_and_connected(nodes: int, degree: int) -> None:
    found = graph(random_regular(nodes, degree, 7))
    assert networkx.is_k_regular(networkx.Graph(found), degree)
    assert found.number_of_edges() == nodes * degree // 2
    assert networkx.is_connected(found)


def test_a_seed_is_a_network() -> None:
    assert random_regular(20, 3, 7) == random_regular(20, 3, 7)
    several = {random_regular(20, 3, seed).edges for seed in range(10)}
    assert len(several) == 10
    # The regular graph that is begun with has short ways round; chance makes other ones.
    begun = networkx.circulant_graph(20, [1, 10])
    mixed = networkx.Graph(graph(random_regular(20, 3, 7)))
    assert not networkx.is_isomorphic(mixed, begun)


def test_a_clos_fabric_joins_each_leaf_to_each_spine() -> None:
    lab = lab_of(clos(2, 3, 2))
    on = {node.name: [each.segment for each in node.interfaces] for node in lab.nodes}
    assert on["leaf2"] == ["spine1_leaf2", "spine2_leaf2", "leaf2-hosts"]
    assert on["host2-1"] == ["leaf2-hosts"]
    assert len(on) == 2 + 3 + 6
    gateways = {route.via for route in lab.node("host2-1").routes}
    leaf = lab.node("leaf2").interfaces[2]
    assert gateways == {address.partition("/")[0] for address in leaf.addresses}


@pytest.mark.parametrize("ports", [2, 4, 6])
def test_a_fat_tree_has_as_many_ways_as_cores_between_pods(ports: int) -> None:
    network = fat_tree(ports)
    half = ports // 2
    hosts = [vertex.id for vertex in network.vertices if vertex.role == HOST]
    assert len(hosts) == ports**3 // 4
    found = networkx.Graph(graph(network))
    routers = [v.id for v in network.vertices if v.role != HOST and not v.is_segment]
    assert len(routers) == 5 * half * half
    assert {found.degree(name) for name in routers if "edge" not in name} == {ports}
    first, last = f"edge1-{1}", f"edge{ports}-{half}"
    ways = list(networkx.all_shortest_paths(found, first, last))
    assert len(ways) == half * half
    assert {len(way) for way in ways} == {5}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ring(2), "a ring has 3 nodes or more, not 2"),
        (lambda: grid(1, 1), "a grid has 2 nodes or more, not 1"),
        (lambda: random_regular(5, 3, 1), "no network of 5 nodes has 3 links at each"),
        (lambda: random_regular(4, 4, 1), "no network of 4 nodes has 4 links at each"),
        (lambda: random_regular(10**6, 4, 1), "more than 10,000 nodes"),
        (lambda: fat_tree(3), "a fat tree has an even number of ports, not 3"),
        (lambda: generated(clos(100, 100, 0)), "200 nodes and 10,000 links are more than"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=message):
        make()
