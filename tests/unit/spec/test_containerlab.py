"""A containerlab topology becomes a description that loads; what does not is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.containerlab import import_containerlab
from hostlab.spec.importing import Imported
from hostlab.spec.model import Lab, Limits

pytestmark = pytest.mark.unit

FABRIC = (Path(__file__).parents[2] / "data" / "fabric.clab.yml").read_text()


def read(text: str, **variables: str) -> Imported:
    return import_containerlab(text, file="x.clab.yml", variables=variables)


def lab_of(imported: Imported) -> Lab:
    return load(imported.text, file="lab.yaml", directory="/srv")


def nodes_of(text: str) -> tuple[dict[str, Any], str]:
    imported = read(text)
    notes = "\n".join(note.message for note in imported.notes)
    return yaml.safe_load(imported.text)["nodes"], notes


def test_links_are_segments_of_two_ports_and_bridges_of_many() -> None:
    lab = lab_of(read(FABRIC))
    assert lab.name == "fabric"
    ports = {
        segment.name: [
            (node.name, interface.name)
            for node in lab.nodes
            for interface in node.interfaces
            if interface.segment == segment.name
        ]
        for segment in lab.segments
    }
    assert ports == {
        "sw1": [("client-1", "eth1"), ("client2", "eth1")],
        "r1-r2": [("r1", "eth1"), ("r2", "eth1")],
        "r1-r2-2": [("r1", "eth2"), ("r2", "eth2")],
        "r2-srl": [("r2", "eth3"), ("srl", "ethernet-1-1")],
    }
    mtus = {segment.name: segment.mtu for segment in lab.segments}
    assert (mtus["r1-r2"], mtus["r1-r2-2"]) == (1400, 1500)


def test_ip_commands_become_addresses_and_routes() -> None:
    router = lab_of(read(FABRIC)).node("r1")
    assert router.interfaces[0].addresses == ("10.0.0.1/30", "2001:db8::1/64")
    assert router.interfaces[1].addresses[0] == "10.0.1.1/30"
    assert [(route.to, route.via) for route in router.routes] == [("10.2.0.0/24", "10.0.0.2")]
    assert router.jobs[0].script == "echo up\nsysctl -w net.ipv4.conf.all.rp_filter=0"
    assert router.jobs[0].task


def test_defaults_kinds_groups_and_nodes_are_merged() -> None:
    lab = lab_of(read(FABRIC, HOME="/home/me"))
    router, client = lab.node("r2"), lab.node("client-1")
    assert dict(router.environment) == {"SITE": "a", "LEVEL": "kind"}
    assert ("net.ipv4.ip_forward", "1") in router.sysctls
    assert router.limits == Limits(memory=2**30, cpu=1.5, cpus="0-1")
    assert dict(client.environment)["LEVEL"] == "node"
    assert dict(client.environment)["HOME_DIR"] == "/home/me"
    assert ("net.ipv4.ip_forward", "0") in client.sysctls
    assert {(v.source, v.target, v.writable) for v in client.volumes} == {
        ("/srv/other.sh", "/common.sh", True),
        ("/root/files", "/root/files", False),
    }


def test_a_client() -> None:
    lab = lab_of(read(FABRIC))
    client = lab.node("client-1")
    assert client.jobs[0].argv == ("sh", "-c", "sleep infinity")
    assert client.jobs[0].user == "1000"
    assert {(p.port, p.inner, p.protocol) for p in client.publish} == {
        (80, 8080, "tcp"),
        (55555, 43555, "udp"),
    }
    assert lab.checks[0].arguments["run"] == "cat /etc/os-release"
    assert lab.checks[0].within_s == 5 + 3 * (1 + 1)
    assert lab.node("sidecar").namespaces == (("net", "client2"),)


def test_other_ways_to_say_the_same() -> None:
    nodes, notes = nodes_of("""
topology:
  defaults: {kind: linux, entrypoint: /bin/run}
  nodes:
    a:
      cmd: one two
      exec:
        - ip a a 10.0.0.1/24 dev eth1
        - ip addr add fd00::1/64 dev eth1
        - ip link set dev eth1 up
        - ip route add 10.9.0.0/16 via 10.0.0.2 dev eth1
        - ip -6 r add default via fd00::2
      healthcheck: {test: [CMD, curl, -f, 'http://a b'], interval: 2, timeout: 1, retries: 5}
    b:
  links:
    - type: veth
      endpoints:
        - {node: a, interface: eth1, mac: '02:00:00:00:00:03'}
        - {node: b, interface: eth1, ipv4: 10.0.0.2/24, ipv6: 'fd00::2/64'}
""")
    assert notes == ""
    assert nodes["a"]["interfaces"]["eth1"] == {
        "segment": "a-b",
        "addresses": ["10.0.0.1/24", "fd00::1/64"],
        "mac": "02:00:00:00:00:03",
    }
    assert nodes["b"]["interfaces"]["eth1"]["addresses"] == ["10.0.0.2/24", "fd00::2/64"]
    assert nodes["a"]["routes"] == ["10.9.0.0/16 via 10.0.0.2", "default via fd00::2"]
    assert nodes["a"]["jobs"] == {"main": "/bin/run one two"}
    assert nodes["b"]["jobs"] == {"main": "/bin/run"}
    assert nodes["a"]["checks"] == [{"command": "curl -f 'http://a b'", "within": "15s"}]


def test_what_the_fabric_says_beyond_is_listed_with_places() -> None:
    text = "\n".join(str(note) for note in read(FABRIC).notes)
    for said in (
        "x.clab.yml:4:1: `mgmt` is left out",
        "`image` `alpine:3`: the machine's own file system stands in for it",
        "`startup-config` is left out",
        "`stages` is left out",
        "`kind` `nokia_srlinux`: its network system is not there",
        "`mgmt-ipv4` is left out",
        "the node `client_1` is called `client-1`",
        "`dnss` was not understood; did you mean `dns`?",
        "the interface `ethernet-1/1` is called `ethernet-1-1`",
        "a link to the machine's own network is left out",
        "a link of `nobody`, which is no node",
        "a link to the management network is left out",
        "a link through a VXLAN tunnel is left out",
    ):
        assert said in text


@pytest.mark.parametrize(
    "command",
    [
        "ip addr add 10.0.0.1/24 dev eth7",
        "ip addr add nonsense dev eth1",
        "ip route add 10.0.0.0/8 via nonsense",
        "ip route add nonsense via 10.0.0.1",
        "ip route add 10.0.0.0/8 via 10.0.0.1 dev eth7",
        "ip link set eth1 down",
    ],
)
def test_an_ip_command_that_says_something_else_stays_a_command(command: str) -> None:
    nodes, _ = nodes_of(
        f"topology: {{nodes: {{a: {{exec: ['{command}']}}, b: }}, "
        "links: [{endpoints: ['a:eth1', 'b:eth1']}]}"
    )
    assert nodes["a"]["jobs"]["exec"] == {"task": True, "exec": command}
    assert nodes["a"]["interfaces"] == {"eth1": {"segment": "a-b"}}


def test_commands_that_follow_the_nodes_own_wait_for_it() -> None:
    nodes, notes = nodes_of(
        "topology: {nodes: {a: {cmd: run, restart-policy: on-failure, exec: [one, two]}, b: }}"
    )
    assert nodes["a"]["jobs"] == {
        "main": {
            "exec": "run",
            "respawn": {"limit": "unlimited", "delay": ["100ms", "1m"]},
            "normal_exit": [0],
        },
        "exec": {"task": True, "script": "one\ntwo", "start_on": "started main"},
    }
    assert "runs one command after another" in notes
    load(yaml.safe_dump({"nodes": nodes}), file="lab.yaml")
    _, notes = nodes_of("topology: {nodes: {a: {cmd: run, restart-policy: sometimes}}}")
    assert "`restart-policy` was not understood: `sometimes`" in notes


@pytest.mark.parametrize(
    ("links", "note"),
    [
        ("[{endpoints: ['a:eth1']}]", "must have two endpoints"),
        ("[{endpoints: ['x:e1', 'y:e1']}]", "a link between two bridges"),
        ("[{type: warp, endpoints: ['a:eth1', 'b:eth1']}]", "of type `warp`"),
        ("[{type: dummy, endpoint: {node: a, interface: e}}]", "without another end"),
        ("[{endpoints: ['a:eth1', 'b:eth1'], mtuu: 3}]", "did you mean `mtu`?"),
        ("[7]", "a mapping belongs here"),
    ],
)
def test_a_link_that_is_not_understood(links: str, note: str) -> None:
    nodes, notes = nodes_of(
        "topology: {nodes: {a: , b: , x: {kind: bridge}, y: {kind: ovs-bridge}}, "
        f"links: {links}}}"
    )
    assert note in notes
    assert list(nodes) == ["a", "b"]


def test_a_node_without_links_has_no_interfaces() -> None:
    lab = lab_of(
        read(
            "topology: {nodes: {a: , b: , c: {network-mode: 'container:a_b'}, a_b: }, "
            "links: [{endpoints: ['a:eth1', 'b:eth1']}]}"
        )
    )
    assert lab.node("a-b").interfaces == ()
    assert lab.node("c").namespaces == (("net", "a-b"),)


@pytest.mark.parametrize("text", ["name: x", "topology: {links: []}", "topology: 7", "[]"])
def test_what_is_no_topology_is_an_error(text: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(text)
    assert all(error.where for error in caught.value.errors)


_KEYS = st.sampled_from(
    [
        *("name", "nodes", "links", "kinds", "groups", "defaults", "a", "b", "kind", "group"),
        *("endpoints", "type", "endpoint", "node", "interface", "exec", "env", "binds", "ports"),
        *("cmd", "memory", "cpu", "healthcheck", "test", "interval", "mtu", "ipv4", "image"),
    ]
)
_WORDS = st.sampled_from(
    ["a:eth1", "b:eth1", "bridge", "linux", "a", "1", "9" * 99, "CMD", "ip addr add 1 dev eth1"]
) | st.text(max_size=6)
_TREES = st.recursive(
    st.none() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(_KEYS, _TREES), st.dictionaries(_KEYS, _TREES, min_size=1))
def test_anything_is_imported_or_refused_with_a_place(
    topology: dict[str, Any], nodes: dict[str, Any]
) -> None:
    text = yaml.dump({"topology": {**topology, "nodes": nodes}}, Dumper=yaml.CSafeDumper)
    try:
        imported = read(text)
    except SpecErrors as error:
        assert error.errors[0].where  # noqa: PT017
    else:
        found = yaml.load(imported.text, Loader=yaml.CSafeLoader)
        assert set(found) <= {"name", "segments", "nodes"}
