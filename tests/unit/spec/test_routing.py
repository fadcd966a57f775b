"""A node's `routing:` and `loopback:`: what is filled in, what is refused, what the daemons get."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from hostlab.errors import SpecError, SpecErrors
from hostlab.plan.difference import difference
from hostlab.plan.operations import Kind
from hostlab.spec import load
from hostlab.spec.job import Expect
from hostlab.spec.model import Lab, Node
from hostlab.spec.routing import Engine, Origin, PrefixRange
from hostlab.spec.routing_jobs import configurations

pytestmark = pytest.mark.unit


def lab_of(text: str) -> Lab:
    return load(textwrap.dedent(text), file="lab.yaml")


def errors_of(text: str) -> Sequence[SpecError]:
    with pytest.raises(SpecErrors) as caught:
        lab_of(text)
    return caught.value.errors


def one(text: str) -> str:
    """The only error, with its line and column before it."""
    errors = errors_of(text)
    assert len(errors) == 1, "\n".join(map(str, errors))
    where = errors[0].where
    assert where is not None
    return f"{where.line}:{where.column}: {errors[0].message}"


def pair(routing: str, other: str = "{}", *, more: str = "") -> str:
    return textwrap.dedent(f"""
        segments: [lan]
        nodes:
          r1: {{loopback: true, routing: {routing}}}
          r2: {{loopback: true, routing: {other}}}
        """) + textwrap.indent(textwrap.dedent(more), "  ")


def routed(text: str, node: str = "r1") -> Node:
    return lab_of(text).node(node)


def pimd_of(node: Node) -> list[str]:
    """The lines of pimd's configuration but the first, which is a remark."""
    return [line.text for line in configurations(node)["/run/pimd/pimd.conf"]][1:]


def config(node: Node, engine: Engine, daemon: str = "") -> list[str]:
    """The lines of the daemon's configuration, without their indent."""
    assert node.routing is not None
    made = configurations(replace(node, routing=replace(node.routing, engine=engine)))
    path = "/run/bird/bird.conf" if engine is Engine.BIRD else f"/etc/frr/{daemon}.conf"
    return [line.text.strip() for line in made[path]]


def test_loopbacks_are_numbered_in_the_order_of_the_file() -> None:
    nodes = lab_of("nodes: {a: {loopback: true}, b: {}, c: {loopback: true}}").nodes
    assert [node.loopbacks for node in nodes] == [
        ("10.255.0.1/32", "fd00:0:0:ffff::1/128"),
        (),
        ("10.255.0.2/32", "fd00:0:0:ffff::2/128"),
    ]


def test_a_loopback_that_was_said_is_nobody_elses_by_chance_and_may_be_on_several() -> None:
    nodes = lab_of("""
        nodes:
          a: {loopback: true}
          b: {loopback: [10.255.0.1, '2001:db8::1']}
          c: {loopback: 2001:db8::1}
    """).nodes
    assert nodes[0].loopbacks == ("10.255.0.2/32", "fd00:0:0:ffff::2/128")
    assert nodes[1].loopbacks == ("10.255.0.1/32", "2001:db8::1/128")
    assert nodes[2].loopbacks == ("2001:db8::1/128",)


def test_no_segment_is_assigned_what_loopbacks_are() -> None:
    segments = ", ".join(f"s{n}" for n in range(260))
    with_loopback = lab_of(
        f"segments: [{segments}]\nnodes: {{a: {{interfaces: [], loopback: true}}}}"
    )
    without = lab_of(f"segments: [{segments}]\nnodes: {{a: {{interfaces: []}}}}")
    assert without.segments[255].subnets[0] == "10.255.0.0/24"
    assert not any(s.subnets[0].startswith("10.255.") for s in with_loopback.segments)
    assert with_loopback.segments[:255] == without.segments[:255]


def test_a_loopback_is_one_address_that_no_interface_has() -> None:
    assert one("nodes: {a: {loopback: 10.1.0.0/24}}") == (
        "1:23: 10.1.0.0/24 is a subnet; a loopback is one address"
    )
    assert one("segments: {lan: 10.1.0.0/24}\nnodes: {a: , b: {loopback: 10.1.0.1}}") == (
        "2:28: a's eth0 has 10.1.0.1, b's loopback"
    )


def test_a_router_forwards_and_is_called_by_its_first_ipv4_address() -> None:
    node = routed(pair("{ospf: true}", "{ospf: true}"))
    assert dict(node.sysctls)["net.ipv4.ip_forward"] == "1"
    assert node.routing is not None
    assert node.routing.router_id == "10.255.0.1"
    text = "segments: {lan: 'fd01::/64'}\nnodes: {a: , b: {routing: {ospf: true}}}"
    routing = routed(text, "b").routing
    assert routing is not None
    assert routing.router_id == "0.0.0.2"


def test_forwarding_can_be_denied() -> None:
    text = "segments: [lan]\nnodes: {a: {forwarding: false, routing: {ospf: true}}}"
    assert routed(text, "a").sysctls == ()


def test_two_nodes_with_a_router_id_are_told_with_both_places() -> None:
    text = """
        segments: [lan]
        nodes:
          a: {routing: {router_id: 10.9.9.9, ospf: true}}
          b: {routing: {router_id: 10.9.9.9, ospf: true}}
    """
    assert one(text) == "5:28: b and a (lab.yaml:4:28) both have the router id 10.9.9.9"
    assert one("nodes: {a: {routing: {router_id: 'fd00::1'}}}") == (
        "1:34: fd00::1 cannot be a router id: it is written as an IPv4 address"
    )


@pytest.mark.parametrize("key", ["interfaces: [eth7]", "passive: [eth7]", "costs: {eth7: 5}"])
def test_an_interface_that_is_not_there(key: str) -> None:
    assert one(f"segments: [lan]\nnodes: {{a: {{routing: {{ospf: {{{key}}}}}}}}}").endswith(
        "`a` has no interface `eth7`"
    )


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        ("{ospf: {hello: 1500ms}}", "`1500ms` is not a whole number of seconds, 1 to 65535"),
        ("{ospf: {hello: 5s, dead: 3s}}",
         "a neighbour would be gone after 3 s, and says hello every 5 s"),
        ("{ospf: {area: x}}", "`x` is not an OSPF area"),
        ("{ospf: {versions: [1]}}", "1 is not between 2 and 3"),
        ("{ospf: {redistribute: [ospf]}}", "ospf tells of its own routes anyway"),
        ("{daemons: [pimd]}", "`daemons` are FRR's, and the engine is BIRD"),
        ("{static: ['10.0.0.0/8 by r2']}", "`10.0.0.0/8 by r2` is not understood"),
        ("{static: [10.9.0.0/16 via r9]}", "there is no node `r9`"),
        ("{raw: {replaces: true}}", "`raw` needs `text` or `file`"),
        ("{bfd: {interval: 2m}}", "BFD's interval is 10 ms to 60 s"),
        ("{bgp: {as: 1, peers: [r1]}}", "`r1` would be its own peer"),
        ("{bgp: {as: 1, peers: [r9]}}", "there is no node and no role `r9`"),
        ("{bgp: {as: 1, peers: [10.255.0.1]}}", "10.255.0.1 is `r1`'s own address"),
        ("{bgp: {as: 1, peers: {10.0.0.9: }}}", "the AS of `10.0.0.9` is not known"),
        ("{bgp: {as: 1, hold: 2s}}", "a hold time of 2 s is refused by BGP"),
        ("{bgp: {peers: []}}", "`bgp` of `r1` has no `as`"),
        ("{bgp: {as: 0}}", "0 is not between 1 and 4294967295"),
        ("{bgp: {as: 1, peers: {10.0.0.9: {as: 2, import: {prepend: 2}}}}}",
         "`prepend` is for `export`"),
        ("{bgp: {as: 1, peers: {10.0.0.9: {as: 2, export: {limit: 2}}}}}",
         "`limit` is for `import`"),
        ("{bgp: {as: 1, peers: {10.0.0.9: {as: 2, import: 10.0.0.0/8 ge 9 le 8}}}}",
         "8 is not between 8 and 32"),
        ("{bgp: {as: 1, peers: {10.0.0.9: {as: 2, import: {carrying: 70000:1}}}}}",
         "`70000:1` is not a community"),
        ("{bgp: {as: 1, peers: {10.0.0.9: {as: 2, password: 'a b'}}}}",
         "a password is 1 to 80 printable characters, no blank and none of `\"\\#!`"),
        ("{bgp: {as: 1, peers: {10.99.0.9: {as: 2}}}}", "10.99.0.9 is on no segment of `r1`"),
        ("{engine: quagga}", "`quagga` is none of bird, frr"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(routing: str, message: str) -> None:
    if "le 8" in routing:
        message = "`10.0.0.0/8 ge 9 le 8`: no length is both 9 or more and 8 or less"
    assert message in [error.message for error in errors_of(pair(routing))]


def test_an_as_that_peers_with_itself_as_external() -> None:
    inside = "{bgp: {as: 65001, peers: {r2: {hops: 3}}}}"
    found = errors_of(pair(inside, "{bgp: {as: 65001, peers: [r1]}}"))
    assert [error.message for error in found] == [
        "`hops` is for a peer of another AS, and 65001 is this node's own"
    ]
    other = pair("{bgp: {as: 65001, peers: {r2: {as: 65002}}}}", "{bgp: {as: 65001, peers: [r1]}}")
    assert one(other).endswith("r2's AS is 65001, not 65002")
    by_address = pair(
        "{bgp: {as: 65001, peers: {10.255.0.2: {as: 65002, hops: 2}}}}",
        "{bgp: {as: 65001, peers: [r1]}}",
    )
    assert one(by_address).endswith("r2's AS is 65001, not 65002")


def test_a_session_takes_both_sides() -> None:
    text = pair("{bgp: {as: 65001, peers: [r2]}}", "{bgp: {as: 65002}}")
    assert one(text) == "4:59: `r2` does not name `r1` as a peer"
    by_address = text.replace("[r2]", "[10.255.0.2]")
    assert "`r2` does not name `r1` as a peer" in [e.message for e in errors_of(by_address)]
    own = pair("{bgp: {as: 65001, peers: {r2: {as: 65002}}}}", "{raw: 'protocol bgp {}'}")
    assert routed(own).routing is not None


def test_sessions_within_an_as_are_between_loopbacks_and_others_on_a_segment() -> None:
    internal = pair("{bgp: {as: 65001, peers: [r2]}}", "{bgp: {as: 65001, peers: [r1]}}")
    external = pair("{bgp: {as: 65001, peers: [r2]}}", "{bgp: {as: 65002, peers: [r1]}}")
    far = pair("{bgp: {as: 1, peers: {r2: {hops: 3}}}}", "{bgp: {as: 2, peers: {r1: {hops: 3}}}}")
    for text, first in ((internal, "10.255.0.2"), (external, "10.0.0.2"), (far, "10.255.0.2")):
        routing = routed(text).routing
        assert routing is not None
        assert routing.bgp is not None
        assert routing.bgp.peers[0].address == first
        assert [peer.family for peer in routing.bgp.peers] == [4, 6]
        assert (routing.bgp.peers[0].interface == "eth0") == (first == "10.0.0.2")


def test_a_role_is_all_its_nodes_but_the_one_that_says_it() -> None:
    lab = lab_of("""
        segments: [lan]
        roles:
          mesh: {loopback: true, routing: {bgp: {as: 65001, peers: [mesh]}}}
        nodes: {a: {role: mesh}, b: {role: mesh}, c: {role: mesh}}
    """)
    names = [
        [p.name for p in n.routing.bgp.peers] for n in lab.nodes if n.routing and n.routing.bgp
    ]
    assert names == [["b", "b", "c", "c"], ["a", "a", "c", "c"], ["a", "a", "b", "b"]]


def test_a_route_server_has_clients_and_installs_nothing() -> None:
    text = pair(
        "{bgp: {as: 65001, route_server: true, peers: [r2]}}", "{bgp: {as: 65002, peers: [r1]}}"
    )
    routing = routed(text).routing
    assert routing is not None
    assert routing.bgp is not None
    assert not routing.bgp.installs
    assert all(peer.is_client for peer in routing.bgp.peers)


def test_what_a_filter_means() -> None:
    text = pair(
        "{bgp: {as: 65001, peers: {r2: {import: {prefixes: [10.0.0.0/8 ge 16, 10.1.0.0/16 le 24,"
        " 10.2.0.0/16], limit: 10}}}}}",
        "{bgp: {as: 65002, peers: [r1]}}",
    )
    node = routed(text)
    assert node.routing is not None
    assert node.routing.bgp is not None
    taken = node.routing.bgp.peers[0].taken
    assert taken.prefixes == (
        PrefixRange(prefix="10.0.0.0/8", low=16, high=32),
        PrefixRange(prefix="10.1.0.0/16", low=16, high=24),
        PrefixRange(prefix="10.2.0.0/16", low=16, high=16),
    )
    bird = config(node, Engine.BIRD)
    assert (
        "if net !~ [10.0.0.0/8{16,32}, 10.1.0.0/16{16,24}, 10.2.0.0/16{16,16}] then reject;" in bird
    )
    assert "import limit 10 action disable;" in bird
    # In a session of the other family none of these prefixes can be.
    assert "if true then reject;" in bird
    frr = config(node, Engine.FRR, "bgpd")
    assert "ip prefix-list peer-1-in seq 5 permit 10.0.0.0/8 ge 16 le 32" in frr
    assert "ip prefix-list peer-1-in seq 10 permit 10.1.0.0/16 le 24" in frr
    assert "ip prefix-list peer-1-in seq 15 permit 10.2.0.0/16" in frr
    assert "ipv6 prefix-list peer-2-in seq 5 deny any" in frr
    assert "neighbor 10.0.0.2 maximum-prefix 10" in frr


@pytest.mark.parametrize("hops", ["", "hops: 2"])
def test_frr_believes_next_hops_of_peers_several_hops_away(hops: str) -> None:
    text = pair(
        f"{{engine: frr, bgp: {{as: 65001, peers: {{r2: {{{hops}}}}}}}}}",
        "{bgp: {as: 65002, peers: [r1]}}",
    )
    lines = config(routed(text), Engine.FRR, "bgpd")
    assert ("bgp disable-ebgp-connected-route-check" in lines) == bool(hops)


def test_a_segment_of_two_needs_no_designated_router() -> None:
    lab = lab_of("""
        segments: [two, three]
        roles: {r: {routing: {ospf: {costs: {eth0: 7}, passive: [eth1]}}}}
        nodes:
          a: {role: r, interfaces: [two, three]}
          b: {role: r, interfaces: [two, three]}
          c: {interfaces: [three]}
    """)
    routing = lab.nodes[0].routing
    assert routing is not None
    assert routing.ospf is not None
    first, second = routing.ospf.interfaces
    assert (first.cost, first.is_point_to_point, first.is_passive) == (7, True, False)
    assert (second.cost, second.is_point_to_point, second.is_passive) == (10, False, True)
    assert routing.ospf.dead_s == 4


def test_static_routes_lead_to_nodes_or_nowhere() -> None:
    text = pair("{static: [10.9.0.0/16 via r2, '2001:db8::/32 via r2', 10.8.0.0/16]}", "{}")
    node = routed(text)
    assert [line for line in config(node, Engine.BIRD) if line.startswith("route ")] == [
        "route 10.9.0.0/16 via 10.0.0.2;",
        "route 10.8.0.0/16 blackhole;",
        "route 2001:db8::/32 via fd00::2;",
    ]
    assert config(node, Engine.FRR, "staticd")[2:5] == [
        "ip route 10.9.0.0/16 10.0.0.2 eth0",
        "ipv6 route 2001:db8::/32 fd00::2 eth0",
        "ip route 10.8.0.0/16 blackhole",
    ]


def test_daemons_are_jobs_that_are_ready_when_they_can_be_asked() -> None:
    bird = routed(pair("{ospf: true}"))
    assert [(job.name, job.readiness.kind) for job in bird.jobs] == [("bird", Expect.FORK)]
    assert [file.path for file in bird.files] == ["/run/bird/bird.conf"]
    frr = routed(pair("{engine: frr, ospf: {bfd: true}, static: [10.9.0.0/16], daemons: [pimd]}"))
    assert [job.name for job in frr.jobs] == ["zebra", "staticd", "bfdd", "ospfd", "ospf6d", "pimd"]
    assert all(job.inert_capset for job in frr.jobs)
    assert "SYS_ADMIN" not in frr.capabilities


def test_the_daemons_jobs_and_files_are_nobody_elses() -> None:
    text = """
        segments: [lan]
        nodes:
          a:
            routing: {ospf: true}
            jobs: {bird: sleep 1}
            files: {/run/bird/bird.conf: x}
    """
    assert [error.message for error in errors_of(text)] == [
        "`bird` is the routing daemon's job",
        "`/run/bird/bird.conf` is the routing daemon's configuration",
    ]


def test_a_changed_configuration_is_told_to_its_daemon_and_to_no_other() -> None:
    old = lab_of(pair("{engine: frr, ospf: {versions: 2}}"))
    new = lab_of(pair("{engine: frr, ospf: {versions: 2, costs: {eth0: 5}}}"))
    operations = difference(old, new).operations
    assert [(o.kind, o.restart, o.reload) for o in operations] == [
        (Kind.CHANGE_FILES, (), ()),
        (Kind.CHANGE_JOBS, (), ("ospfd",)),
    ]


@pytest.mark.parametrize("daemon", ["babeld", "nhrpd"])
def test_a_daemon_that_frr_reload_does_not_know_is_started_anew(daemon: str) -> None:
    old, new = (
        lab_of(pair(f"{{engine: frr, daemons: [{daemon}], raw: '! {word}'}}")) for word in "ab"
    )
    (operation,) = (o for o in difference(old, new).operations if o.kind is Kind.CHANGE_JOBS)
    assert (operation.restart, operation.reload) == ((daemon,), ("zebra",))


def test_a_description_that_moved_in_its_file_changes_nothing() -> None:
    text = pair("{ospf: true, raw: '# nothing'}")
    assert not difference(lab_of(text), lab_of("\n\n" + text))


def test_raw_lines_extend_or_replace_and_are_where_they_stand() -> None:
    text = """
        segments: [lan]
        nodes:
          a:
            routing:
              ospf: true
              raw: |
                    # of my own
                    debug tables all;
    """
    node = lab_of(text).nodes[0]
    lines = configurations(node)["/run/bird/bird.conf"]
    assert lines[-1].text == "debug tables all;"
    assert (lines[-1].place.line if lines[-1].place else None) == 9
    assert any("protocol ospf" in line.text for line in lines)
    replaced = lab_of(
        text.replace("raw: |", f"raw:\n{18 * ' '}replaces: true\n{18 * ' '}text: |")
    ).nodes[0]
    texts = [line.text for line in configurations(replaced)["/run/bird/bird.conf"]]
    assert texts[1:] == ["# of my own", "debug tables all;"]


def test_a_raw_file_is_read_beside_the_description() -> None:
    text = "segments: [lan]\nnodes: {a: {routing: {raw: {file: b.conf, replaces: true}}}}"
    files = {"b.conf": b"router id 1.1.1.1;\n"}
    node = load(text, file="lab.yaml", read=files.__getitem__).nodes[0]
    lines = configurations(node)["/run/bird/bird.conf"]
    assert (lines[1].text, str(lines[1].place)) == ("router id 1.1.1.1;", "b.conf:1:1")


def test_redistribution_and_defaults_under_both_engines() -> None:
    node = routed(pair("{ospf: {redistribute: [static, connected], default: true}}"))
    assert node.routing is not None
    assert node.routing.ospf is not None
    assert node.routing.ospf.redistribute == (Origin.STATIC, Origin.CONNECTED)
    bird = config(node, Engine.BIRD)
    assert "if source ~ [RTS_STATIC, RTS_DEVICE] then {" in bird
    assert "if net = 0.0.0.0/0 then {" in bird
    frr = config(node, Engine.FRR, "ospfd")
    assert "redistribute static metric 20 metric-type 2" in frr
    assert "default-information originate always metric 10" in frr


def test_communities_of_both_kinds_under_both_engines() -> None:
    text = pair(
        "{bgp: {as: 65001, peers: {r2: {export: {carrying: ['1:2', '1:2:3'], communities: ['4:5',"
        " '4:5:6'], med: 7, prepend: 2}}}, networks: {10.9.0.0/16: {med: 3, community: '8:9'}}}}",
        "{bgp: {as: 65002, peers: [r1]}}",
    )
    bird = config(routed(text), Engine.BIRD)
    assert "if !((1,2) ~ bgp_community || (1,2,3) ~ bgp_large_community) then reject;" in bird
    assert bird.count("bgp_path.prepend(65001);") == 4
    assert "route 10.9.0.0/16 blackhole { bgp_med = 3; bgp_community.add((8,9)); };" in bird
    frr = config(routed(text), Engine.FRR, "bgpd")
    assert "bgp large-community-list standard peer-1-out permit 1:2:3" in frr
    assert "set as-path prepend 65001 65001" in frr
    assert "network 10.9.0.0/16 route-map network-1" in frr


def test_a_node_in_anothers_network_does_not_route() -> None:
    text = """
        segments: [lan]
        nodes:
          a:
          b: {namespaces: {net: a}, loopback: true, routing: {ospf: true}}
    """
    assert [error.message for error in errors_of(text)] == [
        "`b` shares a network namespace: its owner has the loopback",
        "`b` shares a network namespace: its owner routes",
    ]


def test_hello_as_long_as_it_can_be() -> None:
    routing = routed(pair("{ospf: {hello: 30000}}")).routing
    assert routing is not None
    assert routing.ospf is not None
    assert routing.ospf.dead_s == 65535


PIM = """
segments: {one: 10.1.0.0/24, two: 10.2.0.0/24, blue: {vxlan: {vni: 1, remotes: []}}}
nodes:
  c: {interfaces: [one, blue], routing: {pim: {candidate: 20, groups: [239.0.0.0/8]}}}
  d: {interfaces: [one, two], routing: {pim: {candidate: 7}}}
  e: {interfaces: [two], routing: {pim: true}}
"""


def test_pimd_is_told_its_interfaces_and_what_it_offers() -> None:
    lab = lab_of(PIM)
    last = ["igmp-query-interval 5", "spt-threshold packets 0 interval 5"]
    assert pimd_of(lab.node("c")) == [
        "phyint eth0 enable",
        "bsr-candidate 10.1.0.1 priority 20",
        "rp-candidate 10.1.0.1 time 30 priority 235",
        "group-prefix 239.0.0.0/8",
        *last,
    ]
    assert pimd_of(lab.node("e")) == ["phyint eth0 enable", *last]


def test_pimd_starts_when_there_is_a_way_to_another_candidate() -> None:
    def starts(node: str) -> tuple[object, ...]:
        (job,) = (job for job in lab_of(PIM).node(node).jobs if job.name == "pimd")
        assert job.start_on is not None
        return tuple((m.name, m.arguments) for m in job.start_on.matches)

    assert starts("e") == (("net-route-added", ("TO=10.1.0.0/24",)),)
    # Both are on one segment, so there is nothing to wait for.
    assert starts("c") == starts("d") == (("startup", ()),)


def test_frr_is_told_its_rendez_vous_point_by_its_loopback() -> None:
    node = routed(
        pair("{engine: frr, pim: {rp: r2}}", "{engine: frr, pim: {rp: r2, groups: [239.0.0.0/8]}}")
    )
    lines = config(node, Engine.FRR, "pimd")
    assert "ip pim rp 10.255.0.2 224.0.0.0/4" in lines
    assert lines[lines.index("interface eth0") + 1 :][:2] == ["ip pim", "ip pim hello 1 4"]
    assert lines[-3:] == ["interface lo", "ip pim", "exit"]
    assert [job.name for job in node.jobs] == ["zebra", "pimd"]


def test_pimd_runs_beside_frr() -> None:
    node = routed(pair("{engine: frr, pim: true}", "{engine: frr, pim: {candidate: 1}}"))
    assert "phyint eth0 enable" in pimd_of(node)
    assert [job.name for job in node.jobs] == ["zebra", "pimd"]


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        ("{pim: true}", "4:34: no router offers to be the rendez-vous point"),
        ("{engine: frr, pim: {engine: frr}}", "4:61: FRR's pimd elects no rendez-vous point"),
        (
            "{pim: {rp: r2}}",
            "4:34: FRR's PIM takes FRR's zebra, and the engine is BIRD",
        ),
        (
            "{engine: frr, daemons: [pimd], pim: {candidate: 1}}",
            "4:47: FRR's pimd and Debian's route multicast both",
        ),
        ("{engine: frr, pim: {rp: r3}}", "4:57: there is no node `r3`"),
        ("{engine: frr, pim: {rp: r2}}", "4:57: `r2` does not speak PIM for IPv4"),
        ("{pim: {engine: pimd, rp: 10.0.0.2}}", "4:54: pimd elects its rendez-vous point"),
        (
            "{engine: frr, pim: {rp: 10.0.0.2, candidate: 3}}",
            "4:67: only one of `candidate`, `rp` can be meant",
        ),
        ("{pim: {interface: eth7, candidate: 1}}", "4:51: `r1` has no interface `eth7`"),
        (
            "{pim: {candidate: 1, groups: [10.0.0.0/8]}}",
            "4:63: `10.0.0.0/8` is no prefix of IPv4 groups",
        ),
        ("{bgp: {as: 1, evpn: true}}", "4:47: EVPN is FRR's, and the engine is BIRD"),
    ],
)
def test_multicast_and_evpn_that_cannot_be(routing: str, message: str) -> None:
    assert one(pair(routing)) == message


def test_evpn_is_spoken_in_one_session_by_those_that_both_say_so() -> None:
    speaks = "{engine: frr, bgp: {as: 1, evpn: true, peers: {r2: {reflect: true}, r3: }}}"
    node = routed(
        pair(
            speaks,
            "{engine: frr, bgp: {as: 1, evpn: true, peers: [r1]}}",
            more="r3: {loopback: true, interfaces: [lan], routing: {bgp: {as: 1, peers: [r1]}}}",
        )
    )
    lines = config(node, Engine.FRR, "bgpd")
    start = lines.index("address-family l2vpn evpn")
    assert lines[start + 1 : lines.index("exit-address-family", start)] == [
        "neighbor 10.255.0.2 activate",
        "neighbor 10.255.0.2 route-reflector-client",
        "advertise-all-vni",
    ]
