"""`hostlab routes`, `path` and `addresses` at a lab that is up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from hostlab.api import Lab
from hostlab.cli.main import run
from tests.netns.lab.lab_site import described, site, wait_until

pytestmark = pytest.mark.netns
LAB = """
segments: [lan, far]
nodes:
  alice: {interfaces: [lan], gateway: r1}
  r1: {interfaces: [lan, far], forwarding: true}
  bob: {interfaces: [far], gateway: r1}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch, site(tmp_path_factory.mktemp("cli"), patch) as at:
        found = at.up(LAB)
        found["alice"].succeed("true")  # A supervisor starts with the first command, and stays.
        yield found


class Ran:
    """What a command printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        capsys.readouterr()
        self.status = run(list(arguments))
        self.out, self.err = capsys.readouterr()


def test_a_path_is_a_line_a_node(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "path", "alice", "bob")
    assert ran.status == 0
    assert ran.out == (
        "IPv4: alice (10.0.0.1) to bob (10.1.0.2): gets there\n"
        "  alice -> eth0 via 10.0.0.2  [0.0.0.0/0 static]\n"
        "  r1 (eth0) -> eth1  [10.1.0.0/24 kernel]\n"
        "  bob (eth0): arrived\n"
        "\n"
        "IPv6: alice (fd00::1) to bob (fd00:0:0:1::2): gets there\n"
        "  alice -> eth0 via fd00::2  [::/0 static metric 1024]\n"
        "  r1 (eth0) -> eth1  [fd00:0:0:1::/64 kernel metric 256]\n"
        "  bob (eth0): arrived\n"
    )


def test_ends_are_named_in_each_way(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for start, end in (
        (f"{lab.name}/alice", f"{lab.name}/bob"),
        ("alice:eth0", "bob:eth0"),
        ("10.0.0.1", "bob"),
        ("alice", "10.1.0.2"),
        ("10.0.0.1", "10.1.0.2"),
    ):
        (found,) = json.loads(Ran(capsys, "path", start, end, "-4", "--json").out)
        assert (found["reaches"], found["source"], found["destination"]) == (
            True,
            "10.0.0.1",
            "10.1.0.2",
        )
        assert found["start"]["ways"][0]["hop"]["node"] == "r1"


def test_a_way_that_ends_has_exit_status_1(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "path", "bob", "10.9.9.9")
    assert ran.status == 1
    assert ran.out.endswith("  ✗ r1: no route (to 10.9.9.9)\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("path", "alice", "carol"), "the lab has no node 'carol'"),
        (("path", "alice", "bob:eth7"), "bob has no interface 'eth7'"),
        (("path", "10.9.9.9", "bob"), "no node has the address 10.9.9.9"),
        (("path", "alice", "10.1.0.2", "-6"), "alice and 10.1.0.2 have no addresses of IPv6"),
        (("path", "a/alice", "b/bob"), "both ends are in one lab"),
        (("routes", "--to", "bob"), "'bob' is no prefix and no address"),
        (("routes", "carol"), "has no node 'carol'"),
        (("addresses", "--hosts", "--json"), "choose one"),
        (("addresses", "--zone", "a_b"), "'a_b' is no domain"),
    ],
)
def test_what_is_not_there_is_the_users_mistake(
    lab: Lab, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    ran = Ran(capsys, *arguments)
    assert ran.status == 2
    assert message in ran.err


def test_routes_tell_who_has_which_from_whom(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Ran(capsys, "routes", "--to", "10.1.0.2").out.splitlines()
    assert [line.split() for line in lines] == [
        ["NODE", "TO", "VIA", "INTERFACE", "PROTOCOL", "METRIC"],
        ["alice", "0.0.0.0/0", "10.0.0.2", "(r1)", "eth0", "static", "-"],
        ["r1", "10.1.0.0/24", "-", "eth1", "kernel", "-"],
        ["bob", "10.1.0.0/24", "-", "eth0", "kernel", "-"],
        ["bob", "0.0.0.0/0", "10.1.0.1", "(r1)", "eth0", "static", "-"],
    ]
    for same in ("10.1.0.0/255.255.255.0", "10.1.0.77/24"):
        assert Ran(capsys, "routes", "r1", "--to", same).out.split()[6:8] == ["r1", "10.1.0.0/24"]
    assert Ran(capsys, "routes", "r1", "--to", "172.16.0.0/12").out.split()[-6:] == [
        "r1", "no", "route", "-", "-", "-", "-"
    ][-6:]  # fmt: skip
    found = json.loads(Ran(capsys, "routes", "alice", "--json").out)
    assert found[0] == {
        "node": "alice",
        "to": "0.0.0.0/0",
        "hops": [{"interface": "eth0", "via": "10.0.0.2", "node": "r1"}],
        "protocol": "static",
        "metric": 0,
        "table": 254,
        "kind": "unicast",
    }


def test_addresses_of_a_lab_that_is_up(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(Ran(capsys, "addresses", "--json").out)
    assert found[0]["addresses"] == ["10.0.0.1/24", "fd00::1/64"]
    hosts = Ran(capsys, "addresses", lab.name, "--hosts").out
    assert hosts == lab["alice"].succeed("cat /etc/hosts")
    zone = Ran(capsys, "addresses", "--zone", "lab.example").out
    assert "eth0.bob IN A 10.1.0.2" in zone.splitlines()


def test_a_node_that_is_down_is_named(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with Lab(described(f"mortal-{os.getpid()}", LAB)) as mortal:
        os.kill(mortal["r1"].pid, signal.SIGKILL)
        wait_until(lambda: "r1" not in mortal.nodes(), "the lab knows that r1 is down")
        for ends in (("alice", "bob"), ("r1", "bob"), ("alice", "r1")):
            ran = Ran(capsys, "path", *(f"{mortal.name}/{end}" for end in ends), "-4")
            assert (ran.status, "✗ r1: node down\n" in ran.out) == (1, True), ran.out
