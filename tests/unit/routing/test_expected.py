"""What a description's routing comes to: sessions and prefixes, foretold."""

from __future__ import annotations

import textwrap

import pytest

from hostlab.linux.rtnetlink import link_local
from hostlab.routing.expected import Adjacency, expected
from hostlab.routing.sessions import ESTABLISHED, Neighbour, Sessions, missing
from hostlab.spec import load

pytestmark = pytest.mark.unit

LINE = """
    segments: [ab, bc, cd]
    roles: {r: {loopback: true, routing: {ospf: true}}}
    nodes:
      a: {role: r, interfaces: [ab]}
      b: {role: r, interfaces: [ab, bc], routing: {ospf: {passive: [eth1]}}}
      c: {role: r, interfaces: [bc, cd]}
      d: {role: r, interfaces: [cd]}
"""


def test_each_hears_of_what_hangs_together_with_it() -> None:
    found = expected(load(textwrap.dedent(LINE), file="lab.yaml"))
    assert found["a"].neighbours == {
        Adjacency(4, "eth0"): {"10.255.0.2": "b"},
        Adjacency(6, "eth0"): {"10.255.0.2": "b"},
    }
    # b does not speak on the segment that it shares with c.
    assert Adjacency(4, "eth1") not in found["b"].neighbours
    assert found["a"].prefixes == {
        "10.0.0.0/24", "10.1.0.0/24", "10.255.0.2/32",
        "fd00::/64", "fd00:0:0:1::/64", "fd00:0:0:ffff::2/128",
    }  # fmt: skip
    assert found["d"].prefixes >= {"10.1.0.0/24", "10.255.0.3/32"}
    assert "10.255.0.2/32" not in found["d"].prefixes


def test_a_configuration_of_ones_own_is_not_foretold() -> None:
    text = (
        LINE
        + "          d2: {role: r, interfaces: [cd], routing: {raw: {text: x, replaces: true}}}\n"
    )
    text = text.replace("          d2", "      d2")
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert found["d2"].sessions == 0
    assert found["d"].neighbours[Adjacency(4, "eth0")] == {"10.255.0.3": "c"}


def test_areas_and_versions_keep_routers_apart() -> None:
    text = """
        segments: [lan]
        nodes:
          a: {routing: {ospf: {area: 1}}}
          b: {routing: {ospf: {versions: 2}}}
          c: {routing: {ospf: true}}
    """
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert found["a"].sessions == 0
    assert found["c"].neighbours == {Adjacency(4, "eth0"): {"10.0.0.2": "b"}}


def test_bgp_is_expected_of_nodes_that_route() -> None:
    text = """
        segments: [lan]
        nodes:
          a: {routing: {bgp: {as: 1, peers: {b: , exa: {as: 3}}}}}
          b: {routing: {bgp: {as: 2, peers: [a]}}}
          exa: {}
    """
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert found["a"].peers == {"10.0.0.2": "b", "fd00::2": "b"}


PEERS = """
    segments: [lan]
    nodes:
      a: {routing: {bgp: {as: 1, peers: PEERS}}}
      exa: {jobs: {speaker: EXEC}}
"""


@pytest.mark.parametrize(
    ("peers", "job", "awaited"),
    [
        ("{exa: {as: 2, family: ipv4}}", "exabgp /etc/exabgp.conf", {"10.0.0.2": "exa"}),
        ("{exa: {as: 2, family: ipv4}}", "/usr/sbin/exabgp -d x", {"10.0.0.2": "exa"}),
        ("{10.0.0.2: {as: 2}}", "exabgp x", {"10.0.0.2": "exa"}),
        ("{exa: {as: 2, family: ipv4, await: false}}", "exabgp x", {}),
        ("{exa: {as: 2, family: ipv4}}", "cat exabgp.conf", {}),
        ("{exa: {as: 2, family: ipv4}}", "{exec: exabgp x, manual: true}", {}),
        ("{exa: {as: 2, family: ipv4, await: true}}", "/srv/own", {"10.0.0.2": "exa"}),
        ("{10.0.0.9: {as: 2}}", "exabgp x", {}),
        ("{10.0.0.9: {as: 2, await: true}}", "exabgp x", {"10.0.0.9": "10.0.0.9"}),
    ],
)
def test_a_peer_without_routing_is_awaited_where_a_job_speaks_bgp_or_it_is_said(
    peers: str, job: str, awaited: dict[str, str]
) -> None:
    text = PEERS.replace("PEERS", peers).replace("EXEC", job)
    assert expected(load(textwrap.dedent(text), file="lab.yaml"))["a"].peers == awaited


def test_bfd_takes_both_ends() -> None:
    text = """
        segments: [lan, far]
        roles:
          r: {loopback: true}
        nodes:
          a: {role: r, interfaces: [lan, far], routing: {
                ospf: {versions: 2, bfd: true, interfaces: [eth0]},
                bgp: {as: 1, peers: {b: {bfd: true}, c: {bfd: true, family: ipv6}}},
                bfd: {neighbours: [d]}}}
          b: {role: r, interfaces: [lan], routing: {ospf: {versions: 2, bfd: true},
                bgp: {as: 1, peers: {a: {bfd: true}}}}}
          c: {role: r, interfaces: [far], routing: {bgp: {as: 2, peers: {a: {family: ipv6}}}}}
          d: {role: r, interfaces: [lan], routing: {bfd: {neighbours: [a]}}}
    """
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert found["a"].bfd == {
        "10.0.0.2": "b", "10.255.0.2": "b", "fd00:0:0:ffff::2": "b", "10.0.0.3": "d", "fd00::3": "d"
    }  # fmt: skip
    assert found["c"].bfd == {}
    assert missing(found["d"], Sessions(bfd={"10.0.0.1": "up", "fd00::1": "init"})) == [
        "BFD with a (fd00::1): init"
    ]


def test_bfd_of_ospf_for_ipv6_is_between_addresses_of_the_link() -> None:
    text = """
        segments: [lan]
        nodes:
          a: {routing: {ospf: {versions: 3, bfd: true}}}
          b: {routing: {ospf: {versions: 3, bfd: true}}}
    """
    lab = load(textwrap.dedent(text), file="lab.yaml")
    (far,) = expected(lab)["a"].bfd
    assert far == f"{link_local(lab.node('b').interfaces[0].mac)}%eth0"


def neighbour(number: int, state: str) -> Neighbour:
    return Neighbour(f"10.0.0.{number}", state, state == "Full", state == "2-Way")


def on_lan(*states: str) -> list[str]:
    where = Adjacency(4, "eth0")
    text = """
        segments: [lan]
        nodes:
          a: {routing: {ospf: {versions: 2}}}
          b: {routing: {ospf: true}}
          c: {routing: {ospf: true}}
          d: {routing: {ospf: true}}
    """
    wanted = expected(load(textwrap.dedent(text), file="lab.yaml"))["a"]
    heard = {f"10.0.0.{n}": neighbour(n, state) for n, state in enumerate(states, 2)}
    return missing(wanted, Sessions({where: heard}))


def test_before_there_is_a_designated_router_nobody_is_ready() -> None:
    assert on_lan("2-Way", "2-Way", "2-Way") == [
        f"OSPF for IPv4 with {name} on eth0: 2-Way" for name in "bcd"
    ]
    assert on_lan("Full", "2-Way", "Full") == []
    assert on_lan("Full", "Exchange") == [
        "OSPF for IPv4 with c on eth0: Exchange",
        "OSPF for IPv4 with d on eth0: not heard",
    ]


def test_between_two_routers_nothing_less_than_full_will_do() -> None:
    wanted = expected(load(textwrap.dedent(LINE), file="lab.yaml"))["d"]
    half = {Adjacency(f, "eth0"): {"10.255.0.3": neighbour(3, "2-Way")} for f in (4, 6)}
    half = {w: {r: n._replace(router_id=r) for r, n in each.items()} for w, each in half.items()}
    assert len(missing(wanted, Sessions(half))) == 2


def test_a_bgp_session_is_up_when_it_is_established() -> None:
    text = """
        segments: [lan]
        nodes:
          a: {routing: {bgp: {as: 1, peers: {b: {family: ipv4}}}}}
          b: {routing: {bgp: {as: 2, peers: {a: {family: ipv4}}}}}
    """
    wanted = expected(load(textwrap.dedent(text), file="lab.yaml"))["a"]
    assert missing(wanted, Sessions(peers={"10.0.0.2": ESTABLISHED})) == []
    assert missing(wanted, Sessions(peers={"10.0.0.2": "Active"})) == [
        "BGP with b (10.0.0.2): Active"
    ]
    assert missing(wanted, Sessions()) == ["BGP with b (10.0.0.2): not there"]


def test_multicast_is_expected_on_the_interfaces_that_pim_speaks_on() -> None:
    text = """
        segments: [one, two]
        nodes:
          a: {interfaces: [one, two], routing: {pim: {candidate: 1, interface: eth1}}}
          b: {interfaces: [two], routing: {ospf: true}}
    """
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert (found["a"].multicast, found["b"].multicast) == ({"eth1"}, set())


def test_evpn_tells_the_ends_of_a_vxlan_of_each_other() -> None:
    text = """
        segments: {core: , other: , blue: {vxlan: {vni: 42, evpn: true}}}
        roles:
          all: {routing: {engine: frr, bgp: {as: 1, evpn: true, peers: [all]}}}
        nodes:
          a: {role: all, interfaces: {eth0: core, t: blue}}
          b: {role: all, interfaces: {eth0: core, t: blue}}
          c: {role: all, interfaces: [core]}
    """
    found = expected(load(textwrap.dedent(text), file="lab.yaml"))
    assert found["a"].ends == {"t": {"10.0.0.2": "b"}}
    assert found["b"].ends == {"t": {"10.0.0.1": "a"}}
    assert found["c"].ends == {}
