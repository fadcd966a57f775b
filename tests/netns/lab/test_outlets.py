"""What leads out of a lab: nodes on a device of the machine, taps, cables to other labs.

The machine's network is one of the test's own: nothing is done to the real one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hostlab.cli.main import run
from hostlab.errors import Failed, Problem, UsageError
from hostlab.lab import driver, joining
from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.libc import setns, unshare
from hostlab.sync import Lab
from tests.netns.lab.lab_site import DEADLINE_S, Site, wait_until
from tests.netns.lab.wire_site import Wire, frame, is_frame

pytestmark = pytest.mark.netns


def ip(*arguments: str, pid: int | None = None) -> list[dict[str, Any]]:
    """ip(8) here, or in the network of a process."""
    enter = [] if pid is None else ["nsenter", "-t", str(pid), "-n"]
    command = [*enter, "ip", "-j", *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return found


@pytest.fixture
def machine() -> Iterator[None]:
    """A network of the test's own, with a device `eno2` that leads to `far`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        os.close(home)
        pytest.skip("here: this user may not make a network")
    try:
        for command in (
            "link set lo up",
            "link add eno2 type veth peer name far",
            "link set eno2 up",
            "link set far up",
            "addr add 10.77.0.100/24 dev far",
        ):
            ip(*command.split())
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


def is_answered(address: str) -> bool:
    """Whether somebody on the machine's network answers."""
    return not subprocess.run(["ping", "-c1", "-W1", address], capture_output=True).returncode


ON_DEVICE = "segments: {{out: {{subnets: 10.77.0.0/24, macvlan: {}}}, lan: 10.78.0.0/24}}\n{}"
TWO = "nodes: {a: out, b: {interfaces: {eth0: {segment: out, address: 10.77.0.9}}}}"
MOVED = "nodes: {{a: lan, b: {{hostname: anew, interfaces: {{eth0: {{segment: out, address: 10.77.0.8}}}}}}{}}}"  # fmt: skip # noqa: E501
BROKEN = ", zz: {interfaces: lan, files: {/etc/zz: {content: x, owner: nobodys-user}}}"


def kill(lab: Lab, node: str) -> None:
    """End a node, and wait until the hub knows."""
    os.kill(lab[node].pid, signal.SIGKILL)
    wait_until(lambda: node not in lab.nodes(), f"{node} has died")


def test_nodes_on_a_device_of_the_machine(machine: None, place: Site) -> None:
    before = ip("link")
    lab = place.up(ON_DEVICE.format("eno2", TWO))
    wait_until(lambda: is_answered("10.77.0.9"), "b answers the machine's network")
    lab["a"].succeed("ping -c1 -W60 10.77.0.9")
    described = {node.name: node.interfaces[0].mac for node in lab.description.nodes}
    for node in ("a", "b"):
        (link,) = [row for row in ip("-d", "link", pid=lab[node].pid) if row["ifname"] == "eth0"]
        assert link["address"] == described[node]
        assert link["linkinfo"]["info_kind"] == "macvlan"
        assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    with pytest.raises(Problem, match="nobodys-user"):
        place.up(ON_DEVICE.format("eno2", MOVED.format(BROKEN)))
    assert not lab.plan()
    lab["a"].succeed("ping -c1 -W60 10.77.0.9")
    lab = place.up(ON_DEVICE.format("eno2", MOVED.format("")))
    wait_until(lambda: is_answered("10.77.0.8"), "b answers under its new address")
    assert not is_answered("10.77.0.1"), "a has left"
    assert not [row for row in ip("link", pid=lab.status()["pid"]) if row["ifname"][:2] == "sp"]
    with pytest.raises(UsageError, match="no device eno3") as absent:
        place.up(ON_DEVICE.format("eno3", TWO))
    assert "eno2, far" in (absent.value.hint or "")
    with pytest.raises(UsageError, match="eno2 carries 1500 bytes at most"):
        place.up(ON_DEVICE.format("{device: eno2, mode: private}, mtu: 9000", TWO))
    assert is_answered("10.77.0.8")
    kill(lab, "b")
    lab = place.up(ON_DEVICE.format("eno2", MOVED.format("")))
    wait_until(lambda: is_answered("10.77.0.8"), "b answers again")
    lab.down()
    assert [row["ifname"] for row in ip("link")] == [row["ifname"] for row in before]


SAME_MAC = "nodes: {a: {interfaces: {eth0: {segment: out, mac: '02:00:00:00:00:99'}}}}"


def test_a_mac_address_on_a_device_is_waited_for(
    machine: None, place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a lab that went down the kernel may still have the links, and another may be up."""
    other = Site(f"{place.name}-other")
    lab = place.up(ON_DEVICE.format("eno2", SAME_MAC))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(joining, "FREE_TIMEOUT_S", 0.1)
            with pytest.raises(Failed, match="02:00:00:00:00:99 is on eno2 already"):
                other.up(ON_DEVICE.format("eno2", SAME_MAC))
        lab.down()
        other.up(ON_DEVICE.format("eno2", SAME_MAC))
        wait_until(lambda: is_answered("10.77.0.1"), "the other lab's node answers")
    finally:
        driver.unstage(other.name)


TALK = """
import os, select, sys, time
fd, deadline = int(sys.argv[1]), time.monotonic() + 60
while time.monotonic() < deadline:
    os.write(fd, bytes.fromhex(sys.argv[2]))
    if select.select([fd], [], [], 0.05)[0] and b"back" in os.read(fd, 65536):
        sys.exit(0)
sys.exit("no answer")
"""
TAPS = "segments: {{lan: {{subnets: 10.7.0.0/24, taps: [{}]}}}}\nnodes: [a]"


def test_a_program_of_the_machine_has_a_tap(place: Site) -> None:
    lab = place.up(TAPS.format("vm1, vm2"))
    name = f"{place.name}/lan"
    hello = frame("02:00:00:00:00:77", b"hello").hex()
    command = [sys.executable, "-m", "hostlab.cli.main", "tap", f"{name}/vm1", "--"]
    for _ in "12":
        program = [*command, sys.executable, "-c", TALK, "{fd}", hello]
        with Wire(lab["a"], "eth0") as wire, subprocess.Popen(program) as talking:
            wire.wait(is_frame(b"hello"), "a word from outside")
            assert run(["tap", f"{name}/vm1", "--", "true"]) == 1, "one tap has two owners"
            wire.send(frame("02:00:00:00:00:78", b"back"))
            assert talking.wait(DEADLINE_S) == 0
    assert run(["tap", f"{name}/vm3", "--", "true"]) == 2
    place.up(TAPS.format("vm2"))
    assert run(["tap", f"{name}/vm1", "--", "true"]) == 2
    assert outlets(lab, "tap:") == 1
    os.kill(lab.status()["pid"], signal.SIGKILL)
    lab = place.up("segments: [other]\nnodes: [a]")
    assert outlets(lab, "tap:") == 0


JOINED = "segments: {{lan: {{subnets: 10.66.0.0/24{}}}}}\nnodes: {{n: {{interfaces: {{eth0: {{segment: lan, address: 10.66.0.{}}}}}}}}}"  # fmt: skip # noqa: E501


def outlets(lab: Lab, prefix: str) -> int:
    """How many links of a kind there are in the switch namespace."""
    rows = ip("link", pid=lab.status()["pid"])
    return sum(a.startswith(prefix) for row in rows for a in row.get("altnames", ()))


def cables(lab: Lab) -> int:
    """How many cables to other labs have an end in this one."""
    return outlets(lab, "cable:")


def test_two_labs_are_joined(place: Site) -> None:
    other = Site(f"{place.name}-other")
    says, answers = (f", lab: {each.name}/lan" for each in (other, place))
    try:
        one = place.up(JOINED.format(says, 1))
        assert any("is not joined" in warning for warning in one.status()["warnings"])
        two = other.up(JOINED.format("", 2))
        assert not any("is not joined" in warning for warning in one.status()["warnings"])
        one["n"].succeed("ping -c1 -W60 10.66.0.2")
        # Both say it: that is one cable still, and no loop.
        other.up(JOINED.format(answers, 2))
        place.up(JOINED.format(says, 1))
        assert (cables(one), cables(two)) == (1, 1)
        place.up(JOINED.format("", 1))
        assert (cables(one), cables(two)) == (1, 1), "the other still wants it"
        other.up(JOINED.format("", 2))
        assert (cables(one), cables(two)) == (0, 0)
        other.up(JOINED.format(answers, 2))
        with pytest.raises(
            UsageError, match=f"{other.name}/n and {place.name}/n would both have 10.66.0.1"
        ):
            other.up(JOINED.format(answers, 1))
        with pytest.raises(UsageError, match=r"lan has an MTU of 1400, .* one of 1500"):
            other.up(JOINED.format(f"{answers}, mtu: 1400", 2))
        other.up(JOINED.format(answers, 2))
        # Its namespace lives on, as one does that the kernel has not collected yet.
        with open(f"/proc/{one.status()['pid']}/ns/net"):
            one.down()
            assert cables(two) == 1
            one = place.up(JOINED.format("", 1))
            one["n"].succeed("ping -c1 -W60 10.66.0.2")
        one.down()
        wait_until(lambda: cables(two) == 0, "the cable has gone with the lab at its other end")
        assert two["n"].succeed("echo alive") == "alive\n"
        one = place.up(JOINED.format("", 1))
        one["n"].succeed("ping -c1 -W60 10.66.0.2")
        with pytest.raises(UsageError, match=f"{place.name}/lan, which is no segment"):
            place.up("segments: {other: }\nnodes: [n]")
    finally:
        driver.unstage(other.name)


def test_a_lab_is_not_joined_to_itself(place: Site) -> None:
    with pytest.raises(Problem, match="is this lab itself"):
        place.up(JOINED.format(f", lab: {place.name}/lan", 1))
