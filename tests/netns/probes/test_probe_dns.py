"""The shipped lab of name servers: a real authority and a real recursor, asked in every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlab.sync import Lab
from tests.netns.lab.lab_site import assert_holds, site
from tests.netns.probes.probe_site import Probe, needs

pytestmark = pytest.mark.netns

EXAMPLE = Path(__file__).parents[3] / "examples" / "geodns" / "geodns.yaml"
AUTHORITY, RECURSOR = "192.0.2.53", "192.0.2.100"
FRANCE, AMERICA = "138.231.136.0/24", "170.149.100.0/24"
FRENCH, AMERICAN = ["195.8.215.136", "195.8.215.137"], ["188.65.120.135", "188.65.120.136"]
ROOT = """
  root:
    interfaces: {eth0: {segment: world, address: 192.0.2.54}}
    gateway: router
    jobs: {gdnsd: gdnsd -c /etc/gdnsd start}
    files:
      /etc/gdnsd/config: |
        options => { run_dir = /run/gdnsd, state_dir = /run/gdnsd, listen => 192.0.2.54 }
      /etc/gdnsd/zones/com: |
        @ SOA ns hostmaster ( 1 7200 1800 259200 900 )
        @ NS ns
        ns A 192.0.2.54
        example NS ns1.example
        ns1.example A 192.0.2.53
        lame NS ns1.lame
        ns1.lame A 192.0.2.53
        dead NS ns1.dead
        ns1.dead A 192.0.2.1

checks:
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs("gdnsd", "unbound")
    text = EXAMPLE.read_text().replace("name: geodns\n", "").replace("\nchecks:\n", ROOT)
    directory = tmp_path_factory.mktemp("dns")
    with pytest.MonkeyPatch.context() as patch, site(directory, patch, kind="dns") as place:
        found = place.up(text)
        assert_holds(found)
        yield found


@pytest.fixture
def probe(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Probe:
    return Probe(lab, capsys)


def dns(probe: Probe, *words: str, status: int = 0, node: str = "router") -> dict[str, Any]:
    return probe("dns", *words, status=status, node=node)


def test_each_subnet_has_its_answer_and_its_scope(probe: Probe) -> None:
    both = ("www.example.com", "--server", AUTHORITY, "--subnet", FRANCE, "--subnet", AMERICA)
    row = probe("dns", *both, "--distinct", "--scope", "24", "--authoritative", node="router")
    one, other = row["facts"]["responses"]
    assert sorted(each["data"] for each in one["answers"]) == FRENCH
    assert sorted(each["data"] for each in other["answers"]) == AMERICAN
    assert (one["scope"], other["scope"]) == (24, 24)
    assert (
        f"www.example.com A @{AUTHORITY}: NOERROR, flags qr aa rd, client subnet {FRANCE},"
        in (row["log"][0])
    )
    row = dns(probe, *both, "--scope", "16", status=1)
    assert "answers with scope /24" in row["seen"]
    same = ("--subnet", FRANCE, "--subnet", "138.231.136.128/25")
    row = dns(probe, "www.example.com", "--server", AUTHORITY, *same, "--distinct", status=1)
    assert "are answered the same" in row["seen"]


def test_a_recursor_answers_both_from_its_cache(probe: Probe) -> None:
    """Its authority is stopped, so that what it says is what it has kept."""
    row = dns(probe, "www.example.com", "--server", RECURSOR, node="juan")
    assert FRENCH[0] in row["seen"]
    dns(probe, "www.example.com", "--server", RECURSOR, node="kate")
    both = ("--subnet", FRANCE, "--subnet", AMERICA, "--distinct")
    probe("dns", "www.example.com", "--server", RECURSOR, *both, node="router")
    job = ("gdnsd", "--node", f"{probe.lab}/authority")
    probe.words("job", "stop", *job, status=0)
    try:
        dns(probe, "www.example.com", "--server", AUTHORITY, status=1)
        row = probe(
            "dns", "www.example.com", "--server", RECURSOR, *both, "--no-recursion", node="router"
        )
    finally:
        probe.words("job", "start", *job, status=0)
        probe.awaited("tcp", f"{AUTHORITY}:53", node="router")
    data = [sorted(each["data"] for each in r["answers"]) for r in row["facts"]["responses"]]
    assert data == [FRENCH, AMERICAN]


def test_types_codes_and_transports(probe: Probe) -> None:
    server = ("--server", AUTHORITY)
    dns(probe, "mail.example.com", *server, "--answer", "192.0.2.25", "--tcp")
    row = dns(probe, "mail.example.com", *server, "--answer", "192.0.2.26", status=1)
    assert row["seen"] == f"{AUTHORITY} says 192.0.2.25"
    dns(probe, "example.com", "SOA", *server)
    dns(probe, "example.com", "TYPE65", *server, status=1)
    dns(probe, "none.example.com", *server, "--rcode", "nxdomain")
    row = dns(probe, "none.example.com", *server, status=1)
    assert row["seen"] == f"{AUTHORITY} answers NXDOMAIN"
    row = dns(probe, "www.example.com", "--server", RECURSOR, "--authoritative", status=1)
    assert row["seen"] == f"{RECURSOR} answers without authority"
    row = dns(probe, "www.example.com", "--server", f"{AUTHORITY}:54", status=1)
    assert "refused on udp port 54" in row["seen"]
    row = dns(probe, "www.example.com", "NONSENSE", *server, status=1)
    assert row["seen"].startswith("this cannot be asked: ")


def test_two_servers_are_compared(probe: Probe) -> None:
    """A client of no known network is in France for one of them, and in America for another."""
    servers = ("--server", AUTHORITY, "--server", RECURSOR)
    dns(probe, "mail.example.com", *servers)
    row = dns(
        probe, "example.net", "SOA", "--server", AUTHORITY, "--server", "192.0.2.54", status=1
    )
    assert "192.0.2.54 answers REFUSED" in row["seen"]
    assert "the servers differ" in row["seen"]


def test_an_mx_that_names_an_address_is_told(probe: Probe) -> None:
    dns(probe, "example.com", "MX", "--server", AUTHORITY, "--answer", "10 mail.example.com.")
    row = dns(probe, "example.net", "MX", "--server", AUTHORITY, status=1)
    assert row["seen"] == (
        "MX 10 192.0.2.25. names an address: a name belongs there (RFC 1035 §3.3.9),"
        " with an A record of its own"
    )


def test_the_way_from_the_root_down(probe: Probe) -> None:
    probe.awaited("tcp", "192.0.2.54:53", node="router")
    start = ("--trace", "--server", "192.0.2.54")
    row = dns(probe, "mail.example.com", *start, "--answer", "192.0.2.25")
    assert row["log"] == [
        ". (192.0.2.54): refers to example.com. at ns1.example.com.",
        "example.com. (192.0.2.53): answers A 192.0.2.25",
    ]
    assert row["seen"] == "192.0.2.53 says 192.0.2.25, in 2 steps"
    row = dns(probe, "www.lame.com", *start, status=1)
    assert row["seen"] == "lame.com. answers REFUSED"
    row = dns(probe, "www.dead.com", *start, status=1)
    assert "dead.com. 192.0.2.1: refused on udp port 53" in row["seen"]
    dns(probe, "none.example.com", *start, "--rcode", "NXDOMAIN")
