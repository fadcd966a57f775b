"""Faults that a routing daemon does to itself, under both engines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.checks.requests import How, Probe
from hostlab.errors import Failed, UsageError
from hostlab.faults import injecting, record, witness
from hostlab.faults.hands import HANDS
from hostlab.faults.measuring import measure
from hostlab.faults.outage import Outage
from hostlab.faults.record import Phase
from hostlab.faults.site import Site
from hostlab.observe.snapshot import Snapshot
from hostlab.routing import checking, convergence
from hostlab.spec.faults import parse
from hostlab.spec.model import TimedFault
from hostlab.sync import Lab
from tests.netns.faults.fault_site import (
    DEATHS,
    assert_whole,
    broken_lab,
    die_injecting,
    inject,
    node_of,
)
from tests.netns.lab.lab_site import wait_until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

PATIENT_S = 240.0
LAB = """
segments: [lan]
nodes:
  b: {routing: {bgp: {as: 65001, networks: [10.70.0.0/16, 10.71.0.0/16, '2001:db8:70::/48'],
        peers: [f, w]}}}
  f:
    routing:
      engine: frr
      bgp:
        as: 65002
        networks: [10.80.0.0/16, 10.81.0.0/16]
        peers: {b: , w: {export: {med: 7}}}
  w: {routing: {bgp: {as: 65003, peers: [b, f]}}}
  e: {jobs: {speaker: sleep 1000}}
"""
ALONE = """
segments: [lan]
nodes: {r: {routing: {bgp: {as: 65001, networks: [10.70.0.0/16]}}}}
"""
EVERY = {"10.70.0.0/16", "10.71.0.0/16", "10.80.0.0/16", "10.81.0.0/16", "2001:db8:70::/48"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for name in ("bird", "vtysh"):
        if checking.program(name) is None:
            pytest.skip(f"{name} is not installed")
    with (
        pytest.MonkeyPatch.context() as patch,
        broken_lab(tmp_path_factory.mktemp("lab"), patch, LAB, kind="routers") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    settled(site)
    return witness.take(site)


def settled(site: Site) -> None:
    Lab(site.lab.name).wait_converged(timeout_s=PATIENT_S, quiet_s=0)
    told(site, "w", EVERY)


def has(site: Site, node: str) -> set[str]:
    """Where a node's kernel has a route to, by BGP."""
    found = set()
    for family in ("-4", "-6"):
        rows = json.loads(node_of(site, node).succeed(f"ip -j {family} route show"))
        found |= {row["dst"] for row in rows if row["protocol"] in ("bird", "bgp")}
    return found


def told(site: Site, node: str, wanted: set[str]) -> None:
    told_ = has(site, node)

    def same() -> bool:
        told_.clear()
        told_.update(has(site, node))
        return told_ == wanted

    wait_until(same, f"{node} knows {sorted(wanted)}", timeout_s=PATIENT_S)


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def sessions(site: Site) -> dict[str, float]:
    """Since when w's sessions are up, in seconds; BIRD itself is not sure of the last digit."""
    lines = node_of(site, "w").succeed("birdc show protocols").splitlines()
    rows = [line.split() for line in lines if line.startswith("bgp")]
    return {row[0]: seconds(row[4]) for row in rows if row[-1] == "Established"}


@pytest.mark.parametrize(
    ("words", "lacking", "whose"),
    [
        ("announcement-withdrawn b prefix=10.70.0.0/16", "10.70.0.0/16", "b"),
        ("announcement-withdrawn b prefix=2001:db8:70::/48", "2001:db8:70::/48", "b"),
        ("announcement-withdrawn f prefix=10.80.0.0/16", "10.80.0.0/16", "f"),
    ],
)
def test_one_prefix_is_announced_no_more_and_no_session_ends(
    site: Site, before: Snapshot, words: str, lacking: str, whose: str
) -> None:
    settled(site)
    since = sessions(site)
    inject(site, words)
    for node in {"w", "b", "f"} - {whose}:
        told(site, node, EVERY - {lacking} - OWN.get(node, set()))
    with pytest.raises(UsageError, match="holds announcements"):
        inject(site, f"announcement-withdrawn {whose} prefix=10.71.0.0/16")
    injecting.clear(site)
    settled(site)
    assert sessions(site) == pytest.approx(since, abs=0.5)
    assert_whole(site, before)
    assert node_of(site, "b").succeed("ls /run/bird").split() == ["bird.conf", "bird.ctl"]
    assert "hostlab-fault" not in node_of(site, "f").succeed("vtysh -c 'show run' 2>&1")


def test_a_failover_is_measured_when_all_sessions_are_up(site: Site, before: Snapshot) -> None:
    """Without the session that sees a fault the service would be away for longer than by design."""
    settled(site)
    to_f = next(iter(sessions(site)))
    address = site.lab.node("b").interfaces[0].addresses[0].partition("/")[0]
    probe = Probe(how=How.PING, target=address, rate=50, timeout_s=1)
    course = [
        TimedFault(at_s=0, fault=fault)
        for fault in parse(["port-filtered", "e", "port=9"], site.lab)
    ]

    def measured() -> list[Outage]:
        return list(measure(site, course, probe, node="e", settle_s=0.2, wait_s=3))

    node_of(site, "w").succeed(f"birdc disable {to_f}")
    try:
        with pytest.raises(Failed, match=r"not converged in time; missing:\n  (.*\n)*.*w: "):
            measured()
        inject(site, "job-stopped e/speaker")
        (found,) = measured()
        assert found.recovered
    finally:
        injecting.clear(site)
        node_of(site, "w").succeed(f"birdc enable {to_f}")
    settled(site)
    assert_whole(site, before)


def test_a_daemon_that_stands_still_is_named_with_its_node(
    site: Site, before: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(site)
    monkeypatch.setattr(convergence, "LEAST_ANSWER_S", 0.1)
    inject(site, "job-stopped b/bird")
    try:
        # No longer than is left, though a daemon may have more.
        with pytest.raises(
            Failed, match=r"node b: BIRD has not answered in [0-3](\.\d+)? s"
        ) as caught:
            Lab(site.lab.name).wait_converged(timeout_s=3)
        assert "hostlab fault list" in str(caught.value.hint)
    finally:
        injecting.clear(site)
    monkeypatch.undo()
    settled(site)
    assert_whole(site, before)


OWN = {
    "b": {"10.70.0.0/16", "10.71.0.0/16", "2001:db8:70::/48"},
    "f": {"10.80.0.0/16", "10.81.0.0/16"},
}


@pytest.mark.parametrize("who", ["b", "f"])
def test_a_session_is_ended_and_comes_back(site: Site, before: Snapshot, who: str) -> None:
    settled(site)
    since = sessions(site)
    inject(site, f"bgp-session-reset {who} peer=w how=soft")
    injecting.clear(site)
    assert sessions(site) == pytest.approx(since, abs=0.5)
    inject(site, f"bgp-session-reset {who} peer=w")
    injecting.clear(site)
    other = {"b": "f", "f": "b"}[who]

    def is_new() -> bool:
        now = sessions(site)
        return now.keys() == since.keys() and all(
            (abs(now[name] - since[name]) < 0.5) == name.endswith(other) for name in now
        )

    wait_until(is_new, "both families' sessions are new ones", timeout_s=PATIENT_S)
    settled(site)
    assert_whole(site, before)


@pytest.mark.parametrize(
    "words",
    [
        "announcement-withdrawn b prefix=10.71.0.0/16",
        "announcement-withdrawn f prefix=10.81.0.0/16",
        "bgp-session-reset b how=soft",
    ],
)
def test_a_command_that_is_killed_leaves_nothing(site: Site, before: Snapshot, words: str) -> None:
    settled(site)
    for die in DEATHS:
        die_injecting(site, words, die)
        injecting.clear(site)
    (fault,) = parse(words.split(), site.lab)
    hands = HANDS[fault.kind]
    settled(site)
    number = record.next_number(record.read(site.directory))
    state = hands.look(site, fault, number)
    record.write(site.directory, number, Phase.BEGUN, fault, state)
    hands.apply(site, fault, state)
    hands.undo(site, fault, state)
    injecting.clear(site)
    settled(site)
    assert_whole(site, before)


def test_what_cannot_be_is_said(site: Site, before: Snapshot) -> None:
    refused: list[tuple[str, type[Exception], str]] = [
        ("bgp-session-reset e", UsageError, "e has no BGP by `routing:`"),
        ("bgp-session-reset b peer=e", UsageError, "b has no BGP peer 'e'"),
        ("bgp-session-reset b how=so", UsageError, "neither hard nor soft"),
        ("announcement-withdrawn b prefix=10.99.0.0/16", Failed, "announces 10.99.0.0/16 to nob"),
        ("announcement-withdrawn f prefix=10.99.0.0/16", Failed, "announces 10.99.0.0/16 to nob"),
    ]
    for words, kind, said in refused:
        with pytest.raises(kind, match=said):
            inject(site, words)
    inject(site, "node-frozen b")
    with pytest.raises(UsageError, match="frozen on purpose"):
        inject(site, "bgp-session-reset b")
    injecting.clear(site)
    settled(site)
    assert_whole(site, before)


def test_a_daemon_that_is_dead(site: Site, before: Snapshot) -> None:
    settled(site)
    inject(site, "announcement-withdrawn f prefix=10.80.0.0/16")
    inject(site, "announcement-withdrawn b prefix=10.70.0.0/16")
    # What comes in its place reads what is described, and clearing has nothing to take back.
    for node, job in (("f", "bgpd"), ("b", "bird")):
        node_of(site, node).job(job, "stop")
        with pytest.raises(Failed, match=f"{job} of node {node} does not run"):
            inject(site, f"bgp-session-reset {node}")
        node_of(site, node).job(job, "start")
    injecting.clear(site)
    settled(site)
    assert_whole(site, before)


def test_a_node_that_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if checking.program("bird") is None:
        pytest.skip("bird is not installed")
    with broken_lab(tmp_path, monkeypatch, ALONE) as alone:
        inject(alone, "node-killed r")
        with pytest.raises(UsageError, match="r is dead on purpose"):
            inject(alone, "bgp-session-reset r")
        injecting.clear(alone)
        os.kill(alone.nodes["r"], 9)
        wait_until(lambda: alone.is_dead("r"), "the node is dead")
        for words in ("bgp-session-reset r", "announcement-withdrawn r prefix=10.70.0.0/16"):
            with pytest.raises(Failed, match="node r of lab") as caught:
                inject(alone, words)
            assert "hostlab up" in str(caught.value.hint)
