"""Routers in a lab, under both engines: the same description, the same routes in the kernels."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from hostlab import spec
from hostlab.errors import Failed, SpecErrors, Unsupported
from hostlab.linux import mroute
from hostlab.routing import checking
from hostlab.spec.routing import Engine
from hostlab.sync import Lab
from tests.netns.lab import lab_site

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

CONVERGED_S = 300.0
"""For a machine that is busy with others; alone it takes some seconds."""
LAB = """
segments: [ab1, ab2, lan, ix]
roles:
  core:
    loopback: true
    routing:
      engine: ENGINE
      ospf: {bfd: true}
      bfd: {interval: 1s, multiplier: 5}
      bgp: {as: 65001, peers: [core]}
  outside: {routing: {engine: ENGINE}}
nodes:
  a:
    role: core
    interfaces: [ab1, ab2, ix]
    routing:
      ospf: {interfaces: [eth0, eth1]}
      bgp:
        peers:
          core: {next_hop_self: true}
          x: {hold: 6s, import: {prefixes: [10.70.0.0/15 ge 16 le 16, '2001:db8:70::/47 le 48'],
                      local_pref: 200}, export: {communities: ['65001:1']}}
  b: {role: core, interfaces: [ab1, ab2, lan], routing: {ospf: {costs: {eth0: 20, eth1: 20}}}}
  c:
    role: core
    interfaces: [lan]
    routing: {static: [10.60.0.0/16, 10.61.0.0/16 via d], ospf: {redistribute: [static]},
              bgp: {networks: {10.62.0.0/16: {communities: ['65001:62'], med: 5}}}}
  d: {role: core, interfaces: [lan], routing: {ospf: {default: true}}}
  x:
    role: outside
    interfaces: [ix]
    routing:
      bgp:
        as: 65010
        hold: 6s
        peers: {a: , rs: {bfd: true}}
        networks: {10.70.0.0/16: , 10.71.0.0/16: {communities: ['65010:7', '65010:1:1']},
                   10.72.0.0/16: , '2001:db8:70::/48': {med: 9, communities: ['65010:7']}}
  y:
    role: outside
    interfaces: [ix]
    routing: {bgp: {as: 65020, peers: {rs: {import: {carrying: ['65010:7'], limit: 10}}},
                    networks: 10.80.0.0/16}}
  rs:
    role: outside
    interfaces: [ix]
    routing: {bgp: {as: 65030, route_server: true, peers: {x: {bfd: true}, y: }}}
"""
LIMITED = """
segments: [one, two]
roles:
  four: {routing: {bgp: {as: 65001,
                         networks: [10.70.0.0/16, 10.71.0.0/16, 10.72.0.0/16, 10.73.0.0/16]}}}
  few: {routing: {bgp: {as: 65002}}}
nodes:
  b4: {role: four, interfaces: [one], routing: {bgp: {peers: {f2: {family: ipv4}}}}}
  f2: {role: few, interfaces: [one], routing: {engine: frr, bgp: {peers: {
        b4: {family: ipv4, import: {limit: 2}}}}}}
  f4: {role: four, interfaces: [two], routing: {engine: frr, bgp: {peers: {
        b2: {family: ipv4, password: secret}}}}}
  b2: {role: few, interfaces: [two], routing: {bgp: {peers: {
        f4: {family: ipv4, password: secret, import: {limit: 2}}}}}}
"""
TWO = """
segments: [lan]
nodes:
  r1: {routing: {ospf: {versions: 2}}}
  r2: {routing: {ospf: {versions: 2, hello: HELLO}}}
"""


SPEAKER = """
segments: [lan]
roles: {watched: {routing: {bfd: {neighbours: [watched]}}}}
nodes:
  r1: {role: watched, routing: {bgp: {as: 65001, peers: {e: {as: 65002, family: ipv4}}}}}
  r2: {role: watched, routing: {engine: frr}}
  e:
    jobs: {speaker: {exec: exabgp /etc/exabgp.conf, start_on: go}}
    files:
      /etc/exabgp.conf: |
        neighbor 10.0.0.1 {
          router-id 10.0.0.3;
          local-address 10.0.0.3;
          local-as 65002;
          peer-as 65001;
          static { route 10.90.0.0/16 next-hop self; }
        }
"""


def needs(engine: Engine) -> None:
    """Skip where the engine's daemons are not."""
    lacking = "bird" if engine is Engine.BIRD else "vtysh"
    if checking.program(lacking) is None:
        pytest.skip(f"{lacking} is not installed")


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Engine, Lab]]:
    """The lab under either engine, both at once."""
    for engine in Engine:
        needs(engine)
    lab_site.probe()
    run = tmp_path_factory.mktemp("routing") / "run"
    found: dict[Engine, Lab] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(run))
        try:
            for engine in Engine:
                text = LAB.replace("ENGINE", engine.value)
                name = f"test-{os.getpid()}-{engine.value}"
                found[engine] = Lab(lab_site.described(name, text))
                found[engine].up(wait_s=0)
            for lab in found.values():
                lab.wait_converged(timeout_s=CONVERGED_S)
            yield found
        finally:
            for lab in found.values():
                lab.down()


def test_what_a_daemon_says_after_its_start_is_in_its_log(labs: dict[Engine, Lab]) -> None:
    """Also when it has gone to the background, and closed what it was given."""
    for engine, job, said in ((Engine.BIRD, "bird", "Started"), (Engine.FRR, "ospfd", "AdjChg")):
        lines = labs[engine]["a"].log_tail(job, 1000)
        assert any(said in line for line in lines), (engine, lines)


def table(lab: Lab, node: str) -> set[tuple[Any, ...]]:
    """A node's main table, whoever put it there."""
    found = set()
    for family in ("-4", "-6"):
        rows = json.loads(lab[node].succeed(f"ip -j {family} route show table main"))
        for row in rows:
            hops = row.get("nexthops") or [row]
            way = sorted((hop.get("gateway", ""), hop.get("dev", "")) for hop in hops)
            kind = row.get("type", "unicast")
            # What is dropped is on no device, whatever IPv6 shows.
            ways = () if kind == "blackhole" else tuple(way)
            found.add((family, row["dst"], kind, row.get("metric", 0), ways))
    return found


def by_neighbour(lab: Lab, routes: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """The same with the nodes' names for their addresses."""
    names = {"": ""}
    for node in lab.description.nodes:
        for interface in node.interfaces:
            names |= {address.partition("/")[0]: node.name for address in interface.addresses}
            names[link_local(interface.mac)] = node.name
    return {(*rest, tuple((names[via], dev) for via, dev in ways)) for *rest, ways in routes}


def link_local(mac: str) -> str:
    """The address that a link has by its MAC address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def told_in_time(condition: Callable[[], bool], what: str) -> None:
    """Nothing foretells what BGP brings."""
    lab_site.wait_until(condition, what, timeout_s=CONVERGED_S)


def destinations(lab: Lab, node: str) -> dict[str, tuple[Any, ...]]:
    return {f"{family[1]} {to}": ways for family, to, _, _, ways in table(lab, node)}


@pytest.mark.parametrize("node", ["a", "b", "c", "d", "x", "y", "rs"])
def test_both_engines_give_the_same_kernel_tables(labs: dict[Engine, Lab], node: str) -> None:
    def different() -> set[tuple[Any, ...]]:
        # Of a neighbour's two addresses of IPv6 it depends on the moment which one BGP tells.
        bird, frr = (by_neighbour(labs[engine], table(labs[engine], node)) for engine in Engine)
        return bird ^ frr

    told_in_time(lambda: not different(), f"the tables of {node} are the same")


@pytest.mark.parametrize("engine", list(Engine))
def test_what_the_routes_are(labs: dict[Engine, Lab], engine: Engine) -> None:
    lab = labs[engine]

    def lacking() -> list[str]:
        a, b, c = (destinations(lab, name) for name in "abc")
        outside = {"4 10.70.0.0/16", "4 10.71.0.0/16", "6 2001:db8:70::/48"}
        told = {
            "two links of one cost": [hop for _, hop in a.get("4 10.255.0.2", ())]
            == ["eth0", "eth1"],
            "also of IPv6": len(a.get("6 fd00:0:0:ffff::2", ())) == 2,
            "what the filter lets pass": outside <= a.keys() and "4 10.72.0.0/16" not in a,
            "within the AS": outside | {"4 10.62.0.0/16"} <= b.keys(),
            "what is handed on": {"4 10.60.0.0/16", "4 10.61.0.0/16"} <= a.keys(),
            "the default": {"4 default", "6 default"} <= a.keys() & b.keys(),
            "what is dropped": c.get("4 10.60.0.0/16") == (),
            "what is announced is no route of one's own": "4 10.62.0.0/16" not in c,
        }
        return [what for what, holds in told.items() if not holds]

    told_in_time(lambda: not lacking(), "the routes are as described")


@pytest.mark.parametrize("engine", list(Engine))
def test_a_route_server_tells_and_installs_nothing(labs: dict[Engine, Lab], engine: Engine) -> None:
    lab = labs[engine]
    x = lab.description.node("x").interfaces[0].addresses[0].partition("/")[0]

    def is_told() -> bool:
        y = destinations(lab, "y")
        # Only what carries the community, and with x itself as the next hop.
        filtered = {to for to in y if to.startswith("4 10.7")} == {"4 10.71.0.0/16"}
        told = y.get("4 10.71.0.0/16") == ((x, "eth0"),)
        return filtered and told and "4 10.80.0.0/16" in destinations(lab, "x")

    told_in_time(is_told, "x and y know of each other")
    assert {to for to in destinations(lab, "rs") if "10." in to} == {"4 10.3.0.0/24"}


@pytest.mark.parametrize("engine", list(Engine))
def test_routers_reach_each_other_by_their_loopbacks(
    labs: dict[Engine, Lab], engine: Engine
) -> None:
    lab = labs[engine]

    def is_reached(there: str, here: str) -> bool:
        return not lab["a"].shell(f"ping -q -c 1 -W 10 -I {here} {there}").status

    ends = (lab.description.node(name).loopbacks for name in "da")
    for pair in zip(*ends, strict=True):
        there, here = (address.partition("/")[0] for address in pair)
        told_in_time(partial(is_reached, there, here), f"{here} reaches {there}")


def test_bfd_is_up_under_both_engines(labs: dict[Engine, Lab]) -> None:
    def is_up() -> bool:
        bird = labs[Engine.BIRD]["b"].succeed("birdc show bfd sessions")
        frr = labs[Engine.FRR]["b"].succeed("vtysh -c 'show bfd peers json' 2>&1")
        return bird.count(" Up ") == 8 == frr.count('"status":"up"')

    told_in_time(is_up, "each of b's four neighbours is watched in two families")


def test_frrs_daemons_have_no_capability_that_their_node_lacks(labs: dict[Engine, Lab]) -> None:
    node = labs[Engine.FRR]["a"]
    own = node.succeed("grep CapEff /proc/self/status")
    pids = [row["pid"] for row in node.job_table()]
    assert len(pids) == 5
    for pid in pids:
        assert node.succeed(f"grep CapEff /proc/{pid}/status") == own
    assert not int(own.split()[1], 16) >> 21 & 1


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        (Engine.BIRD, ["bird.conf"]),
        (Engine.FRR, ["bfdd.conf", "bgpd.conf", "ospf6d.conf", "ospfd.conf", "zebra.conf"]),
    ],
)
def test_configurations_can_be_read_in_the_run_directory(
    labs: dict[Engine, Lab], engine: Engine, names: list[str]
) -> None:
    node = labs[engine]["a"]
    directory = Path(node.directory) / "routing"
    assert sorted(path.name for path in directory.iterdir()) == names
    for name in names:
        path = f"/run/bird/{name}" if engine is Engine.BIRD else f"/etc/frr/{name}"
        assert node.succeed(f"cat {path}") == (directory / name).read_text()


@pytest.mark.parametrize(("engine", "job"), [(Engine.BIRD, "bird"), (Engine.FRR, "bgpd")])
def test_a_daemon_that_is_killed_comes_again_with_its_routes(
    labs: dict[Engine, Lab], engine: Engine, job: str
) -> None:
    lab = labs[engine]
    routes = {"4 10.71.0.0/16", "6 2001:db8:70::/48"}

    def is_told() -> bool:
        return routes <= destinations(lab, "y").keys()

    told_in_time(is_told, "y has its routes")
    pid = next(row["pid"] for row in lab["y"].job_table() if row["name"] == job)
    with lab["y"].monitor() as told:
        lab["y"].succeed(f"kill -9 {pid}")
        # By then whoever asks hears that it is not running.
        while True:
            effect = told.receive().get("effect", {})
            if effect.get("name") == "started" and ["JOB", job] in effect.get("environment", ()):
                break
    lab.wait_converged(timeout_s=CONVERGED_S)
    told_in_time(is_told, "the routes are there again")


def test_a_peer_that_tells_too_much_is_cut_off_and_the_engines_speak_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in Engine:
        needs(engine)

    def is_cut_off() -> bool:
        bird = lab["b2"].succeed("birdc show protocols")
        frr = lab["f2"].succeed("vtysh -c 'show bgp summary' 2>&1")
        return "Route limit exceeded" in bird and "Idle (PfxCt)" in frr

    def has_no_route() -> bool:
        known = {to for name in ("b2", "f2") for to in destinations(lab, name)}
        return not any(to.startswith("4 10.7") for to in known)

    with lab_site.site(tmp_path, monkeypatch) as place:
        lab = Lab(lab_site.described(place.name, LIMITED))
        lab.up(wait_s=0)
        for node in lab:
            node.wait_settled()
        told_in_time(is_cut_off, "both have ended their sessions")
        told_in_time(has_no_route, "what they had learnt is gone")


def test_what_is_missing_is_named_when_it_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(Engine.BIRD)
    with lab_site.site(tmp_path, monkeypatch) as place:
        lab = Lab(lab_site.described(place.name, TWO.replace("HELLO", "60s")))
        lab.up(wait_s=0)
        for node in lab:
            node.wait_settled()
        with pytest.raises(Failed) as caught:
            lab.wait_converged(timeout_s=0.5)
        lines = caught.value.message.splitlines()
        assert lines[0] == "the routing has not converged in time; missing:"
        assert [line.partition(": ")[0].strip() for line in lines[1:]] == ["r1", "r2"]
        assert "OSPF for IPv4 with r2 on eth0" in lines[1]
        assert lab.is_up()
        # Changed in place, and it converges.
        again = Lab(lab_site.described(place.name, TWO.replace("HELLO", "1s")))
        assert [row["kind"] for row in again.up()] == ["change files", "change jobs"]
        assert again.wait_converged(quiet_s=0).sessions == 2


def test_a_peer_that_is_a_job_and_sessions_of_bfd_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in Engine:
        needs(engine)
    if checking.program("exabgp") is None:
        pytest.skip("exabgp is not installed")
    with lab_site.site(tmp_path, monkeypatch) as place:
        lab = Lab(lab_site.described(place.name, SPEAKER))
        lab.up(wait_s=0)
        for node in lab:
            node.wait_settled()
        with pytest.raises(Failed, match=r"r1: BGP with e \(10\.0\.0\.3\): (?!Established)"):
            lab.wait_converged(timeout_s=0.5)
        lab["e"].emit("go")
        found = lab.wait_converged(timeout_s=CONVERGED_S, quiet_s=0)
        # That of BGP once, for its other end is a job, and those of BFD at both ends.
        assert found.sessions == 5
        assert " Up " in lab["r1"].succeed("birdc show bfd sessions")
        assert "Established" in lab["r1"].succeed("birdc show protocols bgp4_e")
        told_in_time(lambda: "4 10.90.0.0/16" in destinations(lab, "r1"), "r1 has e's route")


@pytest.mark.parametrize(
    ("engine", "raw", "said"),
    [
        (Engine.BIRD, "debug protocols all;\nprotocl rip {}", "syntax error"),
        (Engine.FRR, "ip forwarding\nrooter rip", "% Unknown command"),
    ],
)
def test_what_a_daemon_refuses_is_told_at_its_line_before_anything_is_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, raw: str, said: str
) -> None:
    needs(engine)
    with lab_site.site(tmp_path, monkeypatch) as place:
        lines = raw.replace("\n", "\n        ")
        text = f"segments: [lan]\nnodes:\n  r1:\n    routing:\n      engine: {engine.value}\n"
        text += f"      ospf: true\n      raw: |\n        {lines}\n"
        lab = Lab(lab_site.described(place.name, text))
        with pytest.raises(SpecErrors) as caught:
            lab.up()
        assert not lab.is_up()
    error = caught.value.errors[0]
    assert said in error.message
    assert error.where is not None
    # The name is the first line.
    assert (error.where.line, error.where.column) == (10, 9)
    assert error.hint is not None
    assert raw.splitlines()[1] in error.hint


@pytest.mark.parametrize(
    ("engine", "wrong"), [(Engine.BIRD, "protocl rip {}"), (Engine.FRR, "rooter rip")]
)
def test_each_refused_line_is_told_of_its_own_node(engine: Engine, wrong: str) -> None:
    """Whatever the configuration of the node before has begun and not ended."""
    needs(engine)
    opened = ["log stderr all;"] if engine is Engine.BIRD else ["router ospf", "end"]
    lines = ["name: three", "segments: [lan]", "nodes:"]
    for node, raw in (("r1", [wrong, *opened]), ("r2", opened), ("r3", [*opened, wrong])):
        lines += [f"  {node}:", "    interfaces: [lan]", "    routing:"]
        lines += [f"      engine: {engine.value}", "      ospf: true", "      raw: |"]
        lines += [f"        {line}" for line in raw]
    lab = spec.load("\n".join(lines).encode(), file="three.yaml", directory="/")
    with pytest.raises(SpecErrors) as caught:
        checking.check(lab)
    told = {
        (e.message.split(": ")[0], e.where.line) for e in caught.value.errors if e.where is not None
    }
    wrongs = [number for number, line in enumerate(lines, 1) if line.strip() == wrong]
    assert told == {("node r1", wrongs[0]), ("node r3", wrongs[1])}


@pytest.mark.parametrize(("engine", "package"), [(Engine.BIRD, "bird2"), (Engine.FRR, "frr")])
def test_a_daemon_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, package: str
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(checking, "SBIN", str(tmp_path / "bin"))
    text = f"segments: [lan]\nnodes: {{r1: {{routing: {{engine: {engine.value}, ospf: true}}}}}}"
    with pytest.raises(Unsupported) as caught:
        checking.check(lab_site.described("absent", text))
    assert caught.value.exit_code == 3
    assert caught.value.hint == f"apt-get install {package}"


@pytest.mark.parametrize(
    ("has_frr", "hint"), [(False, "apt-get install pimd"), (True, "exclude each other")]
)
def test_pimd_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_frr: bool, hint: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bird", "vtysh") if has_frr else ("bird",):
        (programs / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(checking, "SBIN", str(programs))
    text = "segments: [lan]\nnodes: {r1: {routing: {pim: {candidate: 1}}}}"
    with pytest.raises(Unsupported) as caught:
        checking.check(lab_site.described("absent", text))
    assert caught.value.exit_code == 3
    assert hint in (caught.value.hint or "")


def test_a_kernel_that_routes_no_multicast(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one does; the errno is what one without CONFIG_IP_MROUTE answers to MRT_INIT."""
    assert mroute.missing() == 0
    monkeypatch.setattr(mroute, "MRT_PIM", 0x7FFF)
    assert mroute.missing() == errno.ENOPROTOOPT
    text = "segments: [lan]\nnodes: {r1: {routing: {pim: {candidate: 1}}}}"
    with pytest.raises(Unsupported) as caught:
        checking.check(lab_site.described("absent", text))
    assert caught.value.exit_code == 3
    assert caught.value.message == (
        "node r1: this kernel routes no multicast (Protocol not available)"
    )
