"""VXLAN, on the wire: the shipped examples, looked at through packet sockets on the underlay."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostlab.cli.main import run
from hostlab.linux.neighbours import UNKNOWN
from hostlab.observe.neighbours import Hosts, Place, forwarding
from hostlab.spec.model import Interface
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import assert_holds, probe, wait_until
from tests.netns.lab.wire_site import ARP, IPV4, Wire, frame, is_frame, is_inside

pytestmark = pytest.mark.netns

EXAMPLES = Path(__file__).parents[3] / "examples" / "vxlan"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where both examples are staged, for all tests of the module."""
    probe()
    found = tmp_path_factory.mktemp("vxlan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(found / "run"))
        yield found


def own(name: str, base: Path) -> Path:
    """An example under a name that no other run has."""
    path = base / f"{name}.yaml"
    text = (EXAMPLES / path.name).read_text()
    path.write_text(text.replace(f"name: vxlan-{name}", f"name: vxlan-{name}-{os.getpid()}"))
    return path


@pytest.fixture(scope="module")
def multicast(base: Path) -> Iterator[Lab]:
    with Lab(own("multicast", base)) as lab:
        wake(lab, "r1", "r2")
        yield lab


@pytest.fixture(scope="module")
def static(base: Path) -> Iterator[Lab]:
    with Lab(own("static", base)) as lab:
        wake(lab, "alice2")
        yield lab


def wake(lab: Lab, *nodes: str) -> None:
    """The supervisors of nodes in which a test runs something: they stay for the next test."""
    for name in nodes:
        lab[name].succeed("true")


def mac(lab: Lab, node: str, interface: str) -> str:
    found: list[Interface] = [
        i for i in lab.description.node(node).interfaces if i.name == interface
    ]
    return found[0].mac


def learned(lab: Lab, node: Node, interface: str) -> dict[str, str]:
    """MAC -> the end behind which it was found."""
    places: list[Place] = forwarding(node.pid, Hosts.of(lab.description))
    return {
        place.mac: place.end
        for place in places
        if place.interface == interface and place.state == "learned" and place.end is not None
    }


def is_kind(one: bytes, kind: int) -> bool:
    return int.from_bytes(one[12:14], "big") == kind


def test_both_examples_hold(multicast: Lab, static: Lab) -> None:
    for lab in (multicast, static):
        assert_holds(lab)


def test_what_is_for_everyone_goes_to_the_group_and_the_rest_to_one(multicast: Lab) -> None:
    r1, r2 = multicast["r1"], multicast["r2"]
    for node in (r1, r2):
        node.succeed("ip neigh flush dev blue")
    with Wire(multicast["r3"], "eth0") as third, Wire(r2, "eth0") as second:
        r1.succeed("ping -c1 -W60 192.168.99.2")
        for wire in (second, third):
            asked = wire.wait_carried(
                lambda c: c.vni == 42 and is_kind(c.frame, ARP) and c.frame[:6] == b"\xff" * 6,
                "an ARP request in VNI 42",
            )
            assert asked._replace(frame=b"") == (
                "01:00:5e:00:00:2a", "192.168.0.1", "239.0.0.42", 10, 4789, 42, b"")  # fmt: skip
        answer = second.wait_carried(
            lambda c: c.vni == 42 and is_kind(c.frame, ARP), "the ARP answer"
        )
        assert answer._replace(frame=b"") == (
            mac(multicast, "r1", "eth0"), "192.168.0.2", "192.168.0.1", 10, 4789, 42, b"",
        )  # fmt: skip
        echo = second.wait_carried(lambda c: is_kind(c.frame, IPV4), "the echo request")
        assert (echo.source, echo.destination) == ("192.168.0.1", "192.168.0.2")
        assert echo.outer_mac == mac(multicast, "r2", "eth0")
        assert echo.frame[:6].hex(":") == mac(multicast, "r2", "blue")
        r1.succeed("ping -c1 -W60 192.168.99.3")
        third.wait_carried(lambda c: is_kind(c.frame, IPV4), "the echo request to the third")
    assert learned(multicast, r1, "blue").items() >= {
        (mac(multicast, "r2", "blue"), "192.168.0.2"),
        (mac(multicast, "r3", "blue"), "192.168.0.3"),
    }
    assert mac(multicast, "r2", "blue") not in learned(multicast, r1, "red")


def test_two_numbers_in_one_group_do_not_hear_each_other(multicast: Lab) -> None:
    r1, r2 = multicast["r1"], multicast["r2"]
    with ExitStack() as stack:
        blue, red, theirs_blue, theirs_red, core = (
            stack.enter_context(Wire(node, interface))
            for node, interface in (
                (r1, "blue"), (r1, "red"), (r2, "blue"), (r2, "red"), (r2, "eth0"))
        )  # fmt: skip
        for sent, other, vni, word in ((blue, theirs_red, 42, b"b"), (red, theirs_blue, 43, b"r")):
            heard = theirs_blue if other is theirs_red else theirs_red
            sent.send(frame("02:00:00:00:00:aa", word))
            heard.wait(is_frame(word), f"the frame of VNI {vni}")
            packet = core.wait_carried(is_inside(word), "the same on the wire")
            assert (packet.vni, packet.destination) == (vni, "239.0.0.42")
            assert not any(map(is_frame(word), other.so_far())), f"VNI {vni} is heard in the other"


def test_without_a_group_each_end_gets_a_copy_across_routers(static: Lab) -> None:
    with ExitStack() as stack:
        alice = stack.enter_context(Wire(static["alice1"], "eth0"))
        first, second, third = (
            stack.enter_context(Wire(static[node], "eth0")) for node in ("r1", "r2", "r3")
        )
        bobs = stack.enter_context(Wire(static["bob2"], "eth0"))
        alices = stack.enter_context(Wire(static["alice2"], "eth0"))
        alice.send(frame(mac(static, "alice1", "eth0"), b"all"))
        for wire, destination in ((second, "192.168.2.2"), (third, "192.168.3.2")):
            found = wire.wait_carried(is_inside(b"all"), "the copy")
            # Two routers have taken one each off it.
            assert (found.source, found.destination, found.ttl, found.vni) == (
                "192.168.1.2", destination, 8, 42)  # fmt: skip
        sent = {
            (found.destination, found.ttl)
            for found in (first.wait_carried(is_inside(b"all"), "a copy") for _ in "12")
        }
        assert sent == {("192.168.2.2", 10), ("192.168.3.2", 10)}
        alices.wait(is_frame(b"all"), "the frame behind the bridge")
        assert not any(map(is_frame(b"all"), bobs.so_far())), "the other customer hears it"
        wait_until(
            lambda: (
                learned(static, static["r2"], "blue").get(mac(static, "alice1", "eth0"))
                == "192.168.1.2"
            ),
            "alice1 is learned behind the first end",
        )
        # From here on only the end behind which she is gets what is for her.
        her, him = mac(static, "alice1", "eth0"), mac(static, "alice2", "eth0")
        alices.send(frame(him, b"her", to=her))
        alice.wait(is_frame(b"her"), "the answer")
        assert first.wait_carried(is_inside(b"her"), "it").source == "192.168.2.2"
        alices.send(frame(him, b"end"))
        seen = third.until(lambda one: b"end" in one, "a later frame for everyone")
        assert not any(b"her" in one for one in seen), "the third end gets it, too"


def test_a_path_goes_through_a_tunnel_as_through_a_switch(static: Lab) -> None:
    for end in ("alice2", "alice2:eth0", "10.1.0.3"):
        (way,) = static.paths("alice1", end)
        assert way.reaches, way.problems
        (found,) = way.start.ways
        assert (found.via, found.hop.node) == (None, "alice3" if end == "10.1.0.3" else "alice2")


def test_nobody_is_told_who_is_on_a_tunnel(
    multicast: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    multicast["r1"].succeed("ping -c1 -W60 192.168.99.2")
    assert run(["neighbours", f"{multicast.description.name}/r1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["interface"] for row in told if row["given"]} == {"eth0"}
    assert {row["interface"] for row in told if not row["given"]} >= {"blue"}


def test_what_nobody_described_is_in_both_listings(
    static: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    static["alice2"].succeed("ping -c1 -W60 10.1.0.1")
    name = static.description.name

    def rows(command: str, node: str) -> list[dict[str, object]]:
        assert run([command, f"{name}/{node}", "--json"]) == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    her, him = mac(static, "alice1", "eth0"), mac(static, "alice2", "eth0")
    table = rows("fdb", "r2")
    assert {
        "node": "r2", "interface": "blue", "mac": her, "host": "alice1:eth0", "bridge": None,
        "end": "192.168.1.2", "end_host": "r1:eth0", "state": "learned",
    } in table  # fmt: skip
    assert {
        "node": "r2", "interface": "eth1", "mac": him, "host": "alice2:eth0", "bridge": "br42",
        "end": None, "end_host": None, "state": "learned",
    } in table  # fmt: skip
    flooded = [row for row in table if row["mac"] == UNKNOWN and row["interface"] == "blue"]
    assert {row["end"] for row in flooded} == {"192.168.1.2", "192.168.3.2"}
    assert not any(row["state"] == "own" for row in table)
    (row,) = [row for row in rows("neighbours", "alice2") if row["address"] == "10.1.0.1"]
    assert (row["mac"], row["host"], row["given"]) == (her, "alice1:eth0", False)
    (row,) = [row for row in rows("neighbours", "e1") if row["address"] == "192.168.0.2"]
    assert (row["interface"], row["host"], row["given"]) == ("eth1", "e2:eth1", True)
    assert run(["fdb", f"{name}/r2", "--all"]) == 0
    told = capsys.readouterr().out
    assert "192.168.1.2 (r1:eth0)" in told
    assert " own\n" in told
