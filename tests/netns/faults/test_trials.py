"""Faults along with checks: a timeline, a trial, and a campaign that finds a planted defect."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.errors import Failed
from hostlab.faults import injecting, schedules, witness
from hostlab.faults.links import IFF_RUNNING
from hostlab.faults.site import Site
from hostlab.faults.trials import Trial, campaign, judged, play, trial
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.observe.snapshot import Snapshot
from hostlab.spec.fault_timeline import steps
from hostlab.spec.faults import parse
from hostlab.spec.model import Fault, TimedFault
from hostlab.sync import Lab
from tests.netns.faults.fault_site import Ran, assert_whole, broken_lab

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[3]
DETOUR = (ROOT / "examples/detour.yaml").read_text().replace("name: detour\n", "")
ON = ("by-a", "by-b", "x")
KINDS = ("link-down", "node-cut-off", "read-only")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        pytest.MonkeyPatch.context() as patch,
        broken_lab(tmp_path_factory.mktemp("lab"), patch, DETOUR) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    holds(site)
    return witness.take(site)


def holds(site: Site) -> None:
    """Its checks do; on a slow machine a second time that they may take, or a third."""
    assert any(judged(site).ok for _ in range(20))


def faults(site: Site, *texts: str) -> tuple[Fault, ...]:
    return tuple(each for text in texts for each in parse(text.split(), site.lab))


def way_of_c(site: Site, broken: Sequence[Fault]) -> Report:
    """Whether the kernels' tables lead from c to the hall; no slow machine changes them."""

    def gateways() -> dict[str, int]:
        with Netlink() as netlink:
            links = {link.index: link.flags & IFF_RUNNING for link in rtnetlink.links(netlink)}
            routes = [r for r in rtnetlink.routes(netlink) if r.to == "10.9.0.0/24"]
        return {str(r.via): r.metric for r in routes if links[r.index]}

    ways: dict[str, int] = site.in_network("c", gateways)
    owners = {i.addresses[0].partition("/")[0]: n for n in site.lab.nodes for i in n.interfaces}
    router = owners[min(ways, key=lambda via: ways[via])]
    ok = ("net.ipv4.ip_forward", "1") in router.sysctls
    return Report(
        rows=(
            Verdict(
                node="c",
                kind="way",
                check="way",
                expected="a router that forwards",
                outcome=Outcome.HOLDS if ok else Outcome.FAILS,
                seen=router.name,
                within_s=0,
                took_s=0,
            ),
        )
    )


def test_one_cable_is_survived_and_two_are_not(site: Site, before: Snapshot) -> None:
    def failed(*texts: str) -> Trial:
        return trial(site, faults(site, *texts), before)

    # What holds is tried again where the machine was too slow for its checks.
    assert any(failed("link-down by-a").ok for _ in range(20))
    both = failed("link-down by-a", "link-down by-b")
    assert len(both.failed) == 1
    assert both.failed[0].startswith("c: http: http://10.9.0.80/: ")
    assert both.left == ()
    impossible = failed("link-down by-a", "link-down c:eth0")
    assert "holds link" in str(impossible.impossible)
    assert impossible.ok
    assert injecting.injected(site) == ()
    assert_whole(site, before)


def test_a_check_about_a_silenced_node_is_not_judged(site: Site, before: Snapshot) -> None:
    wanted = faults(site, "node-cut-off c")
    injecting.inject(site, wanted)
    try:
        assert judged(site, wanted).rows == ()
        assert [row.node for row in judged(site, (), within_s=0.1).rows] == ["c"]
    finally:
        injecting.clear(site)
    assert_whole(site, before)


def test_what_is_left_is_told(site: Site, before: Snapshot) -> None:
    """A lab that is not what it was: here somebody else has changed it meanwhile."""
    wrong = {**before, "route": [*before["route"], "c: a route that was there"]}
    found = trial(site, faults(site, "cpu-slow x" if "cpu" in site.v1 else "dns-slow x"), wrong)
    assert "- route: c: a route that was there" in found.left
    assert not found.ok


def test_what_does_not_hold_before_is_laid_to_no_fault(
    site: Site, before: Snapshot, hostlab: Ran
) -> None:
    """Else the first thing that is broken would be told to be the cause."""
    choices = faults(site, "dns-slow x")
    injecting.inject(site, faults(site, "link-down by-a", "link-down by-b"))
    try:
        with pytest.raises(Failed, match="before anything is broken: c: way: ") as caught:
            next(campaign(site, choices, seed=1, runs=1, most=1, judge=way_of_c))
        assert caught.value.hint == "standing already: link-down by-a, link-down by-b"
        said = hostlab("fault", "try", "dns-slow x", "--lab", site.lab.name, status=1)
        assert "a check does not hold before anything is broken: c: http: " in said
        assert [each.fault.kind for each in injecting.injected(site)] == ["link-down"] * 2
        numbers = [each.number for each in injecting.injected(site)]
        told = f"broken on purpose: {numbers[0]} link-down by-a, {numbers[1]} link-down by-b; `"
        assert told in hostlab("check", site.lab.name, status=1)
        assert f"warning: {told}" in hostlab("status", site.lab.name, status=0)
        (warning,) = json.loads(hostlab("status", site.lab.name, "--json", status=0))["warnings"]
        assert warning.startswith(told)
    finally:
        injecting.clear(site)
    assert_whole(site, before)


def test_what_somebody_else_has_mended_hinders_no_mending(site: Site, before: Snapshot) -> None:
    both = faults(site, "link-down by-a", "node-cut-off x")
    timeline = [TimedFault(at_s=0, fault=each) for each in both]
    course = play(site, timeline, judges=False)
    next(course)
    second = next(course)
    (first, _) = injecting.injected(site)
    injecting.clear(site, {first.number})
    assert second.what == "injected"
    assert [m.text for m in course] == [str(each) for each in reversed(both)]
    assert injecting.injected(site) == ()
    done = injecting.inject(site, both)
    injecting.clear(site, {done[1].number})
    assert [each.number for each in injecting.mend(site, done)] == [done[0].number]
    assert_whole(site, before)


def test_a_command_that_is_told_to_end_mends_what_it_broke(site: Site, before: Snapshot) -> None:
    words = ("fault", "inject", "flap", "x:eth0", "times=1000", "period=1h")
    command = [sys.executable, "-P", "-m", "hostlab.cli.main", *words, "--lab", site.lab.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("injected link-down x:eth0\n")
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert injecting.injected(site) == ()
    assert_whole(site, before)


def test_a_timeline_is_played_with_its_checks(site: Site, before: Snapshot) -> None:
    moments = list(play(site, site.lab.faults))
    done = [(m.what, m.text) for m in moments if m.what != "checks"]
    assert done == [
        ("cleared" if step.clears else "injected", str(step.fault))
        for step in steps(site.lab.faults)
    ]
    assert [m.at_s for m in moments] == sorted(m.at_s for m in moments)
    assert moments[0].what == moments[-1].what == "checks"
    assert all(
        m.at_s >= step.at_s
        for m, step in zip(
            [m for m in moments if m.what != "checks"], steps(site.lab.faults), strict=True
        )
    )
    assert_whole(site, before)


def test_what_a_timeline_has_broken_is_mended_when_it_is_ended(
    site: Site, before: Snapshot
) -> None:
    timeline = [TimedFault(at_s=0, fault=each) for each in faults(site, "link-down by-a")]
    course = play(site, timeline, judges=False)
    assert next(course).what == "injected"
    assert len(injecting.injected(site)) == 1
    course.close()
    assert injecting.injected(site) == ()
    course = play(site, timeline)
    assert [moment.what for moment in course] == [
        "checks",
        "injected",
        "checks",
        "cleared",
        "checks",
    ]
    assert_whole(site, before)


def test_a_campaign_finds_the_planted_defect_and_shrinks_it(
    site: Site, before: Snapshot, hostlab: Ran
) -> None:
    """Router d was forgotten: whoever pulls both other cables, whatever else there is, sees it."""
    choices = schedules.pool(site.lab, KINDS, ON)
    told: list[int] = []
    finding = next(
        campaign(site, choices, seed=3, runs=100, most=4, tell=lambda run, _: told.append(run))
    )
    assert told == list(range(1, finding.run + 1))
    assert len(finding.schedule) > 2
    assert {str(fault) for fault in finding.fewest.faults} <= {
        "link-down by-a",
        "link-down by-b",
        "link-down c:eth0",
        "link-down c:eth1",
        "link-down a:eth0",
        "link-down b:eth0",
    }
    assert len(finding.fewest.faults) == 2
    words = shlex.split(finding.replay)
    assert words[0] == "hostlab"
    said = hostlab(*words[1:], status=1)
    assert said.startswith("✗ c: http: http://10.9.0.80/: expected status 200")
    assert_whole(site, before)


WRONG = """
segments: [lan]
nodes:
  server: {jobs: {web: python3 -m http.server 8080}}
  client:
checks:
  - {on: client, tcp: "server:80", within: 0s}
  - {on: client, command: {run: "echo opensesame; exit 3", lacks: !secret "opensesame"}, within: 0s}
"""


def test_what_fails_is_masked_and_says_why_unless_something_is_broken_on_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_lab(tmp_path, monkeypatch, WRONG, kind="wrong") as site:
        Lab(site.lab.name)["server"].wait_for_open_port(8080)
        port, command = judged(site).rows
        why = "server: nothing listens on tcp 80; web listens on 8080 (0.0.0.0)"
        assert port.log == ("server refused: 80", why)
        assert command.log == ("••••••",)
        wanted = faults(site, "read-only client")
        assert [row.log for row in judged(site, wanted).rows] == [port.log[:1], command.log]
        found = trial(site, wanted, witness.take(site))
        assert why not in "".join(found.failed)
        assert f"\n    | {why}" in found.left[0]
        assert "opensesame" not in json.dumps((found.failed, found.left))


def test_the_command_line(site: Site, before: Snapshot, hostlab: Ran) -> None:
    lab = ("--lab", site.lab.name)
    assert hostlab("fault", "inject", "link-down", "by-a", *lab, status=0).endswith(
        "link-down by-a\n"
    )
    (row,) = json.loads(hostlab("fault", "list", "--json", *lab, status=0))
    assert (row["kind"], row["on"], row["options"], row["state"]) == (
        "link-down",
        "by-a",
        {},
        "injected",
    )
    hostlab("fault", "inject", "link-down", "by-a", *lab, status=2)
    hostlab("fault", "inject", "one-way-loss", "x:eth0", "loss=20%", *lab, status=0)
    assert "several faults stand" in hostlab("fault", "clear", *lab, status=2)
    assert "there is no fault 0" in hostlab("fault", "clear", "0", *lab, status=2)
    assert "cleared" in hostlab("fault", "clear", str(row["number"]), *lab, status=0)
    assert "one-way-loss x:eth0 loss=20%" in hostlab("fault", "clear", *lab, status=0)
    assert "nothing is broken" in hostlab("fault", "clear", *lab, status=0)
    history = json.loads(hostlab("fault", "list", "--history", "--json", *lab, status=0))
    assert [each["what"] for each in history[-4:]] == ["injected", "injected", "cleared", "cleared"]
    hostlab("fault", "inject", "clock-skew", "x", *lab, status=3)
    said = hostlab("fault", "inject", "flap", "x:eth0", "times=2", "period=20ms", *lab, status=0)
    assert [line.split()[2] for line in said.splitlines()] == ["injected", "cleared"] * 2
    assert "these cannot be done at once" in hostlab(
        "fault", "try", "link-down by-a", "link-down a:eth0", *lab, status=1
    )
    kinds = json.loads(hostlab("fault", "kinds", "--json", status=0))
    assert {each["kind"] for each in kinds} > set(KINDS)
    assert_whole(site, before)
