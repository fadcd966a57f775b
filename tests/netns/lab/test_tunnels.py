"""Tunnels beyond the examples: over IPv6, after a killed supervisor, in a plain user's lab."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostlab.observe.neighbours import Hosts, forwarding
from tests.netns.cli.cli_site import NOBODY, Hostlab, plain_users_python
from tests.netns.lab.lab_site import Site, wait_until
from tests.netns.lab.wire_site import Wire, frame, is_inside

pytestmark = pytest.mark.netns

OVER_6 = """
segments:
  core: {{subnets: 'fd09::/64', mtu: 9000}}
  blue: {{subnets: 192.168.99.0/24, vxlan: {{vni: 42, group: 'ff05::42', ttl: {ttl}}}}}
  red: {{subnets: 192.168.98.0/24, vxlan: {{vni: 43, learning: false, port: 8472}}}}
nodes: {{r: {{count: 3, interfaces: [core, blue, red]}}}}
"""


def test_over_ipv6_and_after_the_hubs_supervisor_was_killed(place: Site) -> None:
    lab = place.up(OVER_6.format(ttl=10))
    # Not fragmented: all that is left of 9,000 bytes, less 20 and 8 for IPv4 and ICMP.
    full = 9000 - 70 - 28
    lab["r1"].succeed(f"ping -c1 -W60 -M do -s {full} 192.168.99.3")
    lab["r1"].fail(f"ping -c1 -W60 -M do -s {full + 1} 192.168.99.3")
    hub = lab.status()["pid"]
    os.kill(hub, signal.SIGKILL)
    lab = place.up(OVER_6.format(ttl=11))
    with ExitStack() as stack:
        blue, red, core, third = (
            stack.enter_context(Wire(lab[node], interface))
            for node, interface in (("r1", "eth1"), ("r1", "eth2"), ("r2", "eth0"), ("r3", "eth0"))
        )
        blue.send(frame("02:00:00:00:00:aa", b"blue"))
        found = core.wait_carried(is_inside(b"blue"), "the frame of blue")
        assert found[1:6] == ("fd09::1", "ff05::42", 11, 4789, 42)
        macs = {n.name: n.interfaces[2].mac for n in lab.description.nodes}
        red.send(frame(macs["r1"], b"red", to=macs["r2"]))
        found = core.wait_carried(is_inside(b"red"), "the frame of red")
        assert found[1:6] == ("fd09::1", "fd09::2", 64, 8472, 43)
        blue.send(frame("02:00:00:00:00:aa", b"end"))
        seen = third.until(lambda one: b"end" in one, "a later frame for everyone")
        assert not any(b"red" in one for one in seen)
    told = {
        (place.mac, place.end)
        for place in forwarding(lab["r1"].pid, Hosts.of(lab.description))
        if place.interface == "eth2" and place.end
    }
    unknown = "00:00:00:00:00:00"
    assert told == {
        (macs["r2"], "fd09::2"), (macs["r3"], "fd09::3"), (unknown, "fd09::2"), (unknown, "fd09::3")
    }  # fmt: skip


def test_a_plain_users_lab_has_them_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("here: not root, so every other test is a plain user's")
    python, path = plain_users_python()
    directory = Path("/tmp") / f"hostlab-tunnels-{os.getpid()}"
    directory.mkdir(mode=0o755)
    os.chown(directory, NOBODY, NOBODY)
    user = Hostlab(directory / "run", NOBODY, python=python, path=path)
    try:
        name = user.up("tunnels", OVER_6.format(ttl=10))
        user("exec", f"{name}/r1", "--", "ping", "-c1", "-W60", "192.168.99.3")
        said = "segments: {out: {subnets: 192.0.2.0/24, macvlan: eno2}}\nnodes: [a]"
        refused = user("up", "-", status=3, stdin=f"name: {name}-out\n{said}")
        assert "only root can put a node on a machine's device" in refused.stderr
    finally:
        user.end()
        wait_until(lambda: not any(directory.glob("run/*")), "nothing of the lab is left")
        for left in (directory / "run", directory):
            if left.exists():
                left.rmdir()
