"""A changed `routing:` of a running node: its daemons are told, and sessions go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.routing import checking
from hostlab.sync import Lab
from tests.netns.lab import lab_site

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

PATIENT_S = 240.0
LAB = """
segments: [lan]
nodes:
  b:
    routing:
      bgp: {as: 65001, peers: {f: , w: }, networks: [10.70.0.0/16B-MORE]}
      raw: B-RAW
  f:
    routing:
      engine: frr
      ospf: {versions: 2, costs: {eth0: F-COST}}
      bgp: {as: 65002, peers: {b: , w: F-FILTER}, networks: [10.80.0.0/16, 10.81.0.0/16]}
      raw: F-RAW
  w: {routing: {bgp: {as: 65003, peers: [b, f]}}}
"""
PLAIN = {"B-MORE": "", "B-RAW": "'# b'", "F-COST": "10", "F-FILTER": "", "F-RAW": "'! f'"}
ALL = {"10.70.0.0/16", "10.80.0.0/16", "10.81.0.0/16"}


def lab_of(name: str, **changes: str) -> Lab:
    text = LAB
    for word, value in (PLAIN | {k.replace("_", "-"): v for k, v in changes.items()}).items():
        text = text.replace(word, value)
    return Lab(lab_site.described(name, text))


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for program in ("bird", "vtysh"):
        if checking.program(program) is None:
            pytest.skip(f"{program} is not installed")
    if not Path("/usr/lib/frr/frr-reload.py").exists():
        pytest.skip("frr-pythontools is not installed")
    with (
        pytest.MonkeyPatch.context() as patch,
        lab_site.site(tmp_path_factory.mktemp("changes"), patch, kind="routes") as place,
    ):
        lab_of(place.name).up(wait_s=PATIENT_S)
        yield place.name


def knows(lab: Lab, wanted: set[str], node: str = "w") -> None:
    def same() -> bool:
        rows = json.loads(lab[node].succeed("ip -j -4 route show"))
        return {row["dst"] for row in rows if row["protocol"] in ("bird", "bgp")} == wanted

    lab_site.wait_until(same, f"{node} knows {sorted(wanted)}", timeout_s=PATIENT_S)


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def sessions(lab: Lab) -> dict[str, float]:
    """Since when w's sessions are up, in seconds; BIRD itself is not sure of the last digit."""
    rows = [line.split() for line in lab["w"].succeed("birdc show protocols").splitlines()]
    return {row[0]: seconds(row[4]) for row in rows if row[-1:] == ["Established"]}


def daemons(lab: Lab) -> dict[str, int]:
    return {f"{n.name}/{r['name']}": r["pid"] for n in lab for r in n.job_table()}


def test_sessions_go_on_when_routing_changes(name: str) -> None:
    before = lab_of(name)
    before.wait_converged(timeout_s=PATIENT_S, quiet_s=0)
    knows(before, ALL)
    since, pids = sessions(before), daemons(before)
    assert len(since) == 4
    now = lab_of(
        name,
        B_MORE=", 10.71.0.0/16",
        F_COST="7",
        F_FILTER="{export: {prefixes: [10.81.0.0/16], med: 9}}",
    )
    assert [(row["kind"], row["subject"]) for row in now.up(wait_s=0)] == [
        ("change files", "b"), ("change jobs", "b"), ("change files", "f"), ("change jobs", "f"),
    ]  # fmt: skip
    knows(now, ALL | {"10.71.0.0/16"})
    lab_site.wait_until(
        # bgpd looks at a changed route map some seconds later.
        lambda: "BGP.med: 9" in now["w"].succeed("birdc show route all for 10.81.0.0/16"),
        "w is told the MED",
        timeout_s=PATIENT_S,
    )
    told = now["f"].succeed("vtysh -c 'show ip ospf interface json' 2>/dev/null")
    assert '"cost":7' in "".join(told.split())
    assert sessions(now) == pytest.approx(since, abs=0.5)
    assert daemons(now) == pids
    lab_of(name).up(wait_s=0)
    knows(before, ALL)
    assert sessions(before) == pytest.approx(since, abs=0.5)
    assert daemons(before) == pids


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # The parser that looks before has this directory; the node has a /tmp of its own.
        ({"B_RAW": "'log \"LOGS/x\" all;'"}, "bird does not take over its configuration: .*LOGS/x"),
        (
            {"F_RAW": '"router bgp 65002\\n neighbor 10.0.0.2 remote-as 9"'},
            "zebra does not take over .*% Can not configure the local system as neighbor",
        ),
    ],
)
def test_what_a_daemon_refuses_is_told_and_taken_back(
    name: str, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    before = lab_of(name)
    before.up(wait_s=0)
    before.wait_converged(timeout_s=PATIENT_S, quiet_s=0)
    knows(before, ALL)
    since, pids = sessions(before), daemons(before)
    change = {key: value.replace("LOGS", str(tmp_path)) for key, value in change.items()}
    with pytest.raises(Failed, match=said.replace("LOGS", str(tmp_path))):
        lab_of(name, B_MORE=", 10.71.0.0/16", **change).up(wait_s=0)
    # Also what came before the part that is refused.
    knows(before, ALL)
    assert before.plan().operations == ()
    assert before["b"].succeed("grep -c 10.71 /run/bird/bird.conf || true") == "0\n"
    assert sessions(before) == pytest.approx(since, abs=0.5)
    assert daemons(before) == pids
