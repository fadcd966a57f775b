"""Segments that lie over others come, change and go while their nodes run."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from hostlab.errors import Problem, Unsupported
from hostlab.lab import remains
from hostlab.observe.neighbours import Hosts, forwarding
from hostlab.spec.model import SegmentKind
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import Site

pytestmark = pytest.mark.netns

NODES = """
nodes:
  a: {{interfaces: {{eth0: core{a}}}}}
  b: {{interfaces: {{eth0: core{b}}}}}
  c: {{interfaces: {{eth0: core{c}}}}}
  host: {host}
"""


def description(segments: str, *, a: str = "", b: str = "", c: str = "", host: str = "core") -> str:
    return f"segments: {{core: 192.0.2.0/24{segments}}}" + NODES.format(a=a, b=b, c=c, host=host)


BLUE = ", blue: blue"
SEGMENTS = [
    description(""),
    description(", blue: {vxlan: 42}", a=BLUE, b=BLUE),
    description(", blue: {vxlan: 42}", a=BLUE, b=BLUE, c=BLUE),
    description(", blue: {vxlan: {vni: 42, ttl: 9, learning: false}}", a=BLUE, b=BLUE, c=BLUE),
    description(", blue: {mtu: 1300, vxlan: {vni: 42, group: 239.0.0.42}}", a=BLUE, b=BLUE),
    description(
        ", blue: {vxlan: {vni: 42, group: 239.0.0.42}}, far: {extends: blue}",
        a=BLUE, b=f"{BLUE}, eth1: far", host="far",
    ),
    description(
        ", blue: {vxlan: {vni: 7}}, far: {extends: blue}",
        a=BLUE, b=f"{BLUE}, eth1: far", host="far",
    ),
    description(", blue: {}", a=BLUE, b=BLUE),
    description(", blue: {vxlan: 42}, far: {}", a=BLUE, b=f"{BLUE}, eth1: far", host="far"),
]  # fmt: skip
DETAILS = ("id", "group", "link", "ttl", "learning", "port", "local", "udp_csum")


def seen(lab: Lab) -> dict[str, object]:
    """Every node's links with their addresses and settings, its routes, what was entered."""
    return {name: seen_in(lab, node) for name, node in lab.nodes().items()}


def seen_in(lab: Lab, node: Node) -> object:
    links = {}
    for row in ip(node, "-d", "addr"):
        info = row.get("linkinfo", {})
        keys = ("mtu", "address", "master")
        links[row["ifname"]] = (
            {key: row.get(key) for key in keys} | {"up": "UP" in row["flags"]},
            info.get("info_kind"),
            {key: value for key, value in info.get("info_data", {}).items() if key in DETAILS},
            sorted(
                f"{a['local']}/{a['prefixlen']}" for a in row["addr_info"] if a["scope"] == "global"
            ),
        )
    routes = sorted((r["dst"], r["dev"], r.get("gateway", "")) for r in ip(node, "route"))
    places = forwarding(node.pid, Hosts.of(lab.description))
    told = sorted((p.interface, p.mac, p.end) for p in places if p.state == "given" and p.end)
    return links, routes, told


def ip(node: Node, *arguments: str) -> list[dict[str, Any]]:
    """ip(8) in a node's network, without a supervisor of the node's."""
    enter = ["nsenter", "-t", str(node.pid), "-U", "--preserve-credentials", "-n"]
    done = subprocess.run([*enter, "ip", "-j", *arguments], capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def holders(lab: Lab) -> dict[str, int]:
    return {name: node.pid for name, node in lab.nodes().items()}


def test_every_change_ends_where_a_fresh_start_would_and_can_be_taken_back(place: Site) -> None:
    """Each is first tried with a last step that fails: a file, after every network has changed."""
    fresh: dict[int, dict[str, object]] = {}
    for number in (3, 4, 5, 6, 8):
        with place.up(SEGMENTS[number]) as lab:
            fresh[number] = seen(lab)
    lab = place.up(SEGMENTS[0])
    fresh[0] = seen(lab)
    running = holders(lab)
    broken = "{{interfaces: {}, files: {{/etc/zz: {{content: x, owner: nobodys-user}}}}}}"
    for number in (1, 2, 3, 5, 4, 7, 1, 8, 6, 5, 0):
        before = seen(lab)
        head, _, host = SEGMENTS[number].rpartition("host: ")
        with pytest.raises(Problem, match="nobodys-user"):
            place.up(f"{head}host: {broken.format(host)}")
        assert_same("taken back", seen(lab), before)
        assert not lab.plan()
        lab = place.up(SEGMENTS[number])
        if number in fresh:
            assert_same(f"description {number}", seen(lab), fresh[number])
        assert not lab.plan()
    assert holders(lab) == running, "a node was made anew"


def assert_same(what: str, now: dict[str, object], wanted: dict[str, object]) -> None:
    assert now.keys() == wanted.keys()
    for node, found in now.items():
        assert found == wanted[node], f"{what}: {node}"


@pytest.mark.parametrize("kind", [SegmentKind.GRE, SegmentKind.IPIP, SegmentKind.VLAN])
def test_a_tunnel_that_this_kernel_lacks_is_refused_before_anything_is_made(
    place: Site, kind: SegmentKind
) -> None:
    said = "10" if kind is SegmentKind.VLAN else "true"
    text = description(f", blue: {{{kind}: {said}, subnets: 10.9.0.0/24}}", a=BLUE, b=BLUE)
    if lacks(kind):
        with pytest.raises(Unsupported, match=f"this kernel makes no {kind} link") as refused:
            place.up(text)
        assert "modprobe" in (refused.value.hint or "")
        assert refused.value.exit_code == 3
        assert not remains.marked_processes(place.name)
    else:
        place.up(text)["a"].succeed("ping -c1 -W60 10.9.0.2")


def lacks(kind: SegmentKind) -> bool:
    """Whether ip(8) cannot make such a link here either."""
    how = {
        SegmentKind.GRE: "type gretap local 192.0.2.1 remote 192.0.2.2",
        SegmentKind.IPIP: "type ipip local 192.0.2.1 remote 192.0.2.2",
        SegmentKind.VLAN: "link br0 type vlan id 10",
    }[kind]
    script = f"ip link add br0 type bridge && ip link add t9 {how}"
    return subprocess.run(["unshare", "-rn", "sh", "-c", script], check=False).returncode != 0
