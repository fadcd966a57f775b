"""VXLAN over a core of six routers, in three flavours: the shipped examples, on the wire and as the
daemons tell it.

All of them are staged at once: while pimd elects its rendez-vous point, by timers of half a minute
that it does not let be changed, the others are looked at. The last test of each kills a router.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.linux.neighbours import UNKNOWN
from hostlab.observe.neighbours import Hosts, Place, forwarding
from hostlab.sync import Lab, Node
from tests.netns.lab import lab_site
from tests.netns.lab.lab_site import DEADLINE_S, assert_holds, probe, wait_until
from tests.netns.lab.pim_site import (
    REGISTER_STOP,
    Joined,
    bootstrap,
    holds,
    joins,
    member,
    packet,
    pim,
    registered,
    repeat,
    reported,
    source,
    stream,
)
from tests.netns.lab.wire_site import ARP, IPV4, Wire, frame, is_frame, is_inside

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

EXAMPLES = Path(__file__).parents[3] / "examples" / "vxlan"
FLAVOURS = ("multicast", "static", "evpn")
GROUP = "239.0.0.11"
FRR = """
segments:
  s1: 192.168.1.0/24
  s2: 192.168.2.0/24
  a1: 192.168.11.0/24
  a2: 192.168.12.0/24
  b1: 192.168.21.0/24
  b2: 192.168.22.0/24
  blue: {subnets: 192.168.99.0/24, vxlan: {vni: 42, group: 239.0.0.42, ttl: 10}}
roles:
  router:
    loopback: true
    routing: {engine: frr, ospf: {version: 2}, pim: {rp: e1, groups: [239.0.0.0/8]}}
nodes:
  r1: {gateway: e1, interfaces: {eth0: s1, blue: blue}}
  r2: {gateway: e2, interfaces: {eth0: s2, blue: blue}}
  e1: {role: router, interfaces: [s1, a1, b1]}
  e2: {role: router, interfaces: [s2, a2, b2]}
  a: {role: router, interfaces: [a1, a2]}
  b: {role: router, interfaces: [b1, b2]}
checks:
  - {on: r1, reaches: 192.168.99.2, within: 60s}
"""


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lab]]:
    """All three, staged and not awaited."""
    probe()
    base = tmp_path_factory.mktemp("core")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("HOSTLAB_RUN", str(base / "run"))
        found = {}
        for flavour in FLAVOURS:
            name = f"vxlan-core-{flavour}"
            path = base / f"{flavour}.yaml"
            text = (EXAMPLES / f"core-{flavour}.yaml").read_text()
            path.write_text(text.replace(f"name: {name}", f"name: {name}-{os.getpid()}"))
            found[flavour] = lab = Lab(path)
            stack.callback(lab.down)
            lab.up(wait_s=0)
        yield found


@pytest.fixture(scope="module", autouse=True)
def election(labs: dict[str, Lab]) -> Iterator[Wire]:
    """What e3 has heard from c3 since its start."""
    with Wire(labs["multicast"]["e3"], "eth2") as wire:
        yield wire


@pytest.fixture(scope="module")
def static(labs: dict[str, Lab]) -> Lab:
    labs["static"].wait_converged(timeout_s=300)
    wake(labs["static"], "alice2")
    return labs["static"]


@pytest.fixture(scope="module")
def evpn(labs: dict[str, Lab]) -> Lab:
    lab = labs["evpn"]
    lab.wait_converged(timeout_s=300)
    wake(lab, "r1", "r2", "r3", "alice2")
    assert_holds(lab)
    return lab


@pytest.fixture(scope="module")
def multicast(labs: dict[str, Lab]) -> Lab:
    lab = labs["multicast"]
    lab.wait_converged(timeout_s=300)
    wake(lab, "r1", "r2", "e3")
    assert_holds(lab)
    return lab


def wake(lab: Lab, *nodes: str) -> None:
    """The supervisors of nodes in which a test runs something: they stay for the next test."""
    for name in nodes:
        lab[name].succeed("true")


def answers(node: Node, address: str, *, within_s: float = DEADLINE_S) -> None:
    """Packets get there, and back."""
    wait_until(
        lambda: not node.run(f"ping -c1 -W1 {address}", timeout_s=60).status,
        f"{node.name} reaches {address}",
        timeout_s=within_s,
    )


def places(lab: Lab, node: str, interface: str, state: str) -> dict[str, set[str | None]]:
    """MAC -> the ends behind which it is, in the tunnel's own table."""
    found: list[Place] = forwarding(lab[node].pid, Hosts.of(lab.description))
    own = [p for p in found if p.interface == interface and p.state == state and p.end is not None]
    return {mac: {p.end for p in own if p.mac == mac} for mac in {p.mac for p in own}}


def mac(lab: Lab, node: str, interface: str = "eth0") -> str:
    return next(i.mac for i in lab.description.node(node).interfaces if i.name == interface)


def end(lab: Lab, node: str) -> str:
    """The loopback address of a VTEP."""
    return lab.description.node(node).loopbacks[0].partition("/")[0]


def lose(lab: Lab, node: str) -> None:
    """Pull a router's plug."""
    os.kill(lab[node].pid, signal.SIGKILL)


def routes(lab: Lab, node: str, kind: str) -> set[str]:
    """What a node's bgpd has of one type of EVPN's routes."""
    told = json.loads(lab[node].succeed(f"vtysh -c 'show bgp l2vpn evpn route type {kind} json'"))
    return {route for of_one in told.values() if isinstance(of_one, dict) for route in of_one}


def test_static_the_ends_are_loopbacks_and_each_gets_a_copy(static: Lab) -> None:
    assert_holds(static)
    with ExitStack() as stack:
        alice, first, third, bob = (
            stack.enter_context(Wire(static[name], "eth0"))
            for name in ("alice1", "r1", "r3", "bob2")
        )
        alice.send(frame(mac(static, "alice1"), b"all"))
        copy = third.wait_carried(is_inside(b"all"), "the copy")
        sent = {
            (found.source, found.destination, found.ttl, found.vni)
            for found in (first.wait_carried(is_inside(b"all"), "a copy") for _ in "12")
        }
        ends = [end(static, name) for name in ("r1", "r2", "r3")]
        assert sent == {(ends[0], ends[1], 10, 42), (ends[0], ends[2], 10, 42)}
        # Three routers of the core have taken one each off it.
        assert (copy.source, copy.destination, copy.ttl) == (ends[0], ends[2], 7)
        assert not any(map(is_frame(b"all"), bob.so_far())), "the other customer hears it"
    wait_until(
        lambda: places(static, "r3", "blue", "learned").get(mac(static, "alice1")) == {ends[0]},
        "alice1 is learned behind r1's loopback",
    )


def test_static_the_core_loses_a_router_and_traffic_goes_on(static: Lab) -> None:
    with Wire(static["r2"], "eth0") as second:
        answers(static["alice2"], "10.1.0.1")
        asked = second.wait_carried(lambda c: c.source == end(static, "r1"), "an answer")
        assert asked.ttl == 7
        lose(static, "c1")
        answers(static["alice2"], "10.1.0.1")
        second.wait_carried(
            lambda c: c.source == end(static, "r1") and c.ttl == 6, "an answer the longer way"
        )


def test_evpn_tells_who_is_where_and_nothing_is_learned(evpn: Lab) -> None:
    ends = {name: end(evpn, name) for name in ("r1", "r2", "r3")}
    told = places(evpn, "r1", "blue", "given")
    assert told[UNKNOWN] == {ends["r2"], ends["r3"]}
    assert told[mac(evpn, "alice2")] == {ends["r2"]}
    assert told[mac(evpn, "alice3")] == {ends["r3"]}
    assert mac(evpn, "bob2") not in told
    listed = forwarding(evpn["r1"].pid, Hosts.of(evpn.description))
    assert {p.end_host for p in listed if p.interface == "blue" and p.mac == UNKNOWN} == {
        "r2:lo", "r3:lo",
    }  # fmt: skip
    assert places(evpn, "r1", "red", "given")[mac(evpn, "bob2")] == {ends["r2"]}
    for interface in ("blue", "red"):
        assert not places(evpn, "r1", interface, "learned")
    there = {f"[3]:[0]:[32]:[{address}]" for address in ends.values()}
    assert there <= routes(evpn, "r1", "multicast")
    assert f"[2]:[0]:[48]:[{mac(evpn, 'alice1')}]" in routes(evpn, "r3", "macip")


def test_evpn_what_is_for_one_goes_to_one_though_nobody_has_heard_him(evpn: Lab) -> None:
    with ExitStack() as stack:
        alice, first, other = (
            stack.enter_context(Wire(evpn[name], "eth0")) for name in ("alice1", "r1", "alice3")
        )
        alice.send(frame(mac(evpn, "alice1"), b"his", to=mac(evpn, "alice3")))
        other.wait(is_frame(b"his"), "it")
        alice.send(frame(mac(evpn, "alice1"), b"end"))
        last = first.until(lambda one: b"end" in one, "a later frame for everyone")
    assert sum(b"his" in one for one in last) == 1, "it went to others, too"


def test_evpn_a_host_that_is_new_is_told_and_one_that_is_gone_withdrawn(evpn: Lab) -> None:
    new, here = "02:00:00:00:00:99", end(evpn, "r2")
    with Wire(evpn["alice2"], "eth0") as alice:
        alice.send(frame(new, b"new"))
        wait_until(
            lambda: places(evpn, "r1", "blue", "given").get(new) == {here}, "it is told to r1"
        )
    evpn["r2"].succeed(f"bridge fdb del {new} dev eth1 master")
    wait_until(lambda: new not in places(evpn, "r1", "blue", "given"), "it is withdrawn")


def test_evpn_an_end_that_is_not_told_is_missing(evpn: Lab) -> None:
    def say(word: str) -> None:
        bgp = "-c 'conf t' -c 'router bgp 65001' -c 'address-family l2vpn evpn'"
        evpn["r2"].succeed(f"vtysh {bgp} -c '{word}'")

    say("no advertise-all-vni")
    try:
        wait_until(
            lambda: end(evpn, "r2") not in places(evpn, "r1", "blue", "given").get(UNKNOWN, set()),
            "r2 is withdrawn",
        )
        with pytest.raises(Failed) as caught:
            evpn.wait_converged(timeout_s=1)
        assert f"r1: EVPN has not told blue of r2 ({end(evpn, 'r2')})" in str(caught.value)
    finally:
        say("advertise-all-vni")
    evpn.wait_converged(timeout_s=300)


def test_evpn_a_reflector_dies_and_traffic_goes_on(evpn: Lab) -> None:
    with Wire(evpn["r2"], "eth0") as second:
        lose(evpn, "c1")
        answers(evpn["alice2"], "10.1.0.1")
        second.wait_carried(
            lambda c: c.source == end(evpn, "r1") and c.ttl == 6, "an answer the longer way"
        )
    assert places(evpn, "r1", "blue", "given")[mac(evpn, "alice2")] == {end(evpn, "r2")}


def test_frr_routes_multicast_with_the_point_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab_site.site(tmp_path, monkeypatch, kind="frr") as site:
        lab = site.up(FRR)
        lab.wait_converged(timeout_s=300)
        assert_holds(lab)
        told = json.loads(lab["e2"].succeed("vtysh -c 'show ip pim rp-info json'"))
        (point,) = told
        assert point == end(lab, "e1")
        for router in ("a", "b"):
            if "eth1" in lab[router].succeed("ip mroute"):
                lose(lab, router)
                break
        else:
            raise AssertionError("neither way carries the group")
        lab["r1"].succeed("ip neigh flush dev blue")
        answers(lab["r1"], "192.168.99.2")


def test_multicast_the_ends_are_members_and_the_point_is_the_elected_one(
    multicast: Lab, election: Wire
) -> None:
    # c3's on its link to e1. Before it has spoken others may have thought that it is they.
    point = "192.168.21.2"
    told = [said for one in election.so_far() if (said := bootstrap(one)) is not None]
    assert told[-1] == (point, 20)
    for group in ("239.0.0.42", "239.0.0.43"):
        wait_until(
            lambda group=group: (  # type: ignore[misc]  # mypy takes no default of a lambda
                [group, point, "WC"]
                in [
                    line.split()[1:4]
                    for line in multicast["e3"].succeed("pimd -r").splitlines()
                    if line.startswith("INADDR_ANY")
                ]
            ),
            f"e3 has (*,{group}) with the rendez-vous point {point}",
        )


def test_multicast_goes_by_the_point_first_and_then_the_short_way(multicast: Lab) -> None:
    sender = "192.168.1.1"
    with ExitStack() as stack:
        here, far, to_point, to_c1, from_c1 = (
            stack.enter_context(Wire(multicast[node], interface))
            for node, interface in (
                ("r2", "eth0"), ("r2", "eth0"), ("e1", "eth2"), ("e1", "eth1"), ("e2", "eth1"))
        )  # fmt: skip
        sock = stack.enter_context(source(multicast["r1"], sender, ttl=10))
        stack.enter_context(member(multicast["r2"], GROUP, "192.168.2.1"))
        here.wait(lambda one: GROUP in reported(one), "the report of the new member")
        frame = stream(
            sock, GROUP, b"one", to_point,
            lambda one: (inside := registered(one)) is not None and inside.destination == GROUP,
        )  # fmt: skip
        outer, inside = packet(frame), registered(frame)
        assert outer is not None
        assert inside is not None
        assert (outer.destination, inside.source) == ("192.168.21.2", sender)
        stream(sock, GROUP, b"two", far, holds(b"two"))
        short = stream(
            sock, GROUP, b"join", to_c1, lambda one: Joined(GROUP, sender, False) in joins(one)
        )
        joiner = packet(short)
        assert joiner is not None
        assert joiner.source == "192.168.11.2"
        native = packet(stream(sock, GROUP, b"short", from_c1, holds(b"short")))
        assert native is not None
        # Two routers of the core instead of all those by way of the rendez-vous point.
        assert (native.source, native.ttl) == (sender, 8)
        stream(sock, GROUP, b"stop", to_point, lambda one: pim(one, REGISTER_STOP) is not None)
        stream(sock, GROUP, b"last", far, holds(b"last"))
        inside_registers = [registered(one) for one in to_point.so_far()]
        assert not any(p is not None and p.payload[8:] == b"last" for p in inside_registers)


def test_multicast_what_is_for_everyone_goes_to_the_group_and_the_rest_to_one(
    multicast: Lab,
) -> None:
    r1 = multicast["r1"]
    r1.succeed("ip neigh flush dev blue")
    with Wire(multicast["r3"], "eth0") as third, Wire(multicast["r2"], "eth0") as second:
        answers(r1, "192.168.99.2")
        for wire in (second, third):
            asked = wire.wait_carried(
                lambda c: c.vni == 42 and int.from_bytes(c.frame[12:14], "big") == ARP, "ARP"
            )
            assert (asked.source, asked.destination) == ("192.168.1.1", "239.0.0.42")
            assert asked.ttl in (7, 6)
        echo = second.wait_carried(
            lambda c: int.from_bytes(c.frame[12:14], "big") == IPV4, "the echo request"
        )
        assert (echo.source, echo.destination, echo.ttl) == ("192.168.1.1", "192.168.2.1", 7)
        answers(r1, "192.168.99.3")
        ended = third.until(lambda one: b"\xc0\xa8\x63\x03" in one, "what is for the third")
        assert not any(echo.frame in one for one in ended), "the third end gets it, too"
    assert (
        places(multicast, "r1", "blue", "learned").items()
        >= {
            mac(multicast, "r2", "blue"): {"192.168.2.1"},
            mac(multicast, "r3", "blue"): {"192.168.3.1"},
        }.items()
    )


def test_multicast_two_networks_do_not_hear_each_other(multicast: Lab) -> None:
    with ExitStack() as stack:
        blue, red, theirs_blue, theirs_red, core = (
            stack.enter_context(Wire(multicast[node], interface))
            for node, interface in (
                ("r1", "blue"), ("r1", "red"), ("r3", "blue"), ("r3", "red"), ("r3", "eth0"))
        )  # fmt: skip
        for sent, heard, other, vni, word in (
            (blue, theirs_blue, theirs_red, 42, b"b"), (red, theirs_red, theirs_blue, 43, b"r"),
        ):  # fmt: skip
            repeat(
                partial(sent.send, frame("02:00:00:00:00:aa", word)),
                heard, is_frame(word), f"the frame of VNI {vni}",
            )  # fmt: skip
            found = core.wait_carried(is_inside(word), "the same on the wire")
            assert (found.vni, found.destination) == (vni, f"239.0.0.{vni}")
            assert not any(map(is_frame(word), other.so_far())), f"VNI {vni} is heard in the other"


def test_multicast_the_core_loses_a_router_and_traffic_goes_on(multicast: Lab) -> None:
    r2 = multicast["r2"]
    answers(r2, "192.168.99.1")
    with Wire(r2, "eth0") as second:
        lose(multicast, "c1")
        answers(r2, "192.168.99.1")
        second.wait_carried(
            lambda c: c.source == "192.168.1.1" and c.ttl == 6, "an answer the longer way"
        )
    if os.environ.get("HOSTLAB_VXLAN") == "all":
        # pimd looks for a new way every 20 s, which is too long for every run.
        r2.succeed("ip neigh flush dev blue")
        answers(r2, "192.168.99.1", within_s=180)
