"""The anycast lab that waits for no timer of seconds: what breaks is told, and nothing is lost.

No time is measured here: that a fault is noticed at all, by whom, and that all is as before after
it. `make failovers` measures.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Final

import pytest

from hostlab.linux.entering import from_inside
from hostlab.sync import Lab
from tests.netns.routing.anycast_site import (
    SOON_S,
    bgp,
    broken,
    expect,
    expect_all,
    needs_programs,
    own,
    served,
    up,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1200)]

V6, V4 = "2001:db8:30::3", "192.0.2.3"
"""Of which w1 is the first, w3 the second."""
PREFIXES: Final = (f"{V6}/128", f"{V4}/32")
SERVERS: Final = ("rs4", "rs5")
ROUTERS: Final = ("er2", "er3", "dr6", "dr7", "dr8")
REQUEST: Final = b"GET / HTTP/1.0\r\n\r\n"
CALM: Final = {"multiplier: 7": "multiplier: 30"}
"""BFD that tells of nobody's death because the machine is busy; still before the hold time."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs_programs()
    base = tmp_path_factory.mktemp("anycast")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("HOSTLAB_RUN", str(base / "run"))
        found = Lab(own("tuned", base, {"tuned.yaml": CALM}))
        stack.callback(found.down)
        up(found)
        expect_all(found)
        yield found


def connected(lab: Lab, address: str) -> socket.socket:
    """A connection of the client's, from inside it."""

    def work() -> tuple[bytes, list[int]]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(SOON_S)
        sock.connect((address, 80))
        return b"", [sock.detach()]

    _, (fd,) = from_inside(lab["client"].pid, ("user", "net"), work)
    found = socket.socket(fileno=fd)
    found.settimeout(SOON_S)
    return found


def answer(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def moved(lab: Lab, to: str, metrics: dict[str, int | None] | None = None) -> None:
    """The address has moved in both families, everywhere."""
    expect(
        lab,
        *(bgp(lab, SERVERS, prefix, paths=metrics, next_hop=to) for prefix in PREFIXES),
        *(bgp(lab, ROUTERS, prefix, next_hop=to) for prefix in PREFIXES),
        served(V6, to),
        served(V4, to),
    )


def test_a_drained_node_keeps_what_it_has_begun(lab: Lab) -> None:
    with ExitStack() as stack:
        before = [stack.enter_context(closing(connected(lab, a))) for a in (V6, V4)]
        for sock in before:
            sock.sendall(REQUEST[:10])
        lab["w1"].succeed("touch /run/drain")
        moved(lab, "w3", {"w1": 500, "w3": 101, "w2": 102})
        # Their next packets arrive at w3, which hands them on to w1.
        for sock in before:
            sock.sendall(REQUEST[10:])
            assert answer(sock).endswith(b"\nw1\n")
        meanwhile = [stack.enter_context(closing(connected(lab, a))) for a in (V6, V4)]
        lab["w1"].succeed("rm /run/drain")
        moved(lab, "w1", {"w1": 100, "w3": 101, "w2": 102})
        for sock in meanwhile:
            sock.sendall(REQUEST)
            assert answer(sock).endswith(b"\nw3\n")


def test_init_tells_that_the_server_is_gone(lab: Lab) -> None:
    lab["w1"].succeed("kill -9 $(cat /run/nginx.pid)")
    moved(lab, "w3", {"w1": 1000, "w3": 101, "w2": 102})
    lab["w1"].succeed("initctl start nginx")
    moved(lab, "w1", {"w1": 100, "w3": 101, "w2": 102})


def test_exabgp_comes_when_the_server_has_come_before_it(lab: Lab) -> None:
    """Who tells of the server before there is a pipe does not make a file in its place."""
    lab["w2"].succeed("initctl stop exabgp && rm /run/health && initctl start came")
    lab["w2"].succeed("initctl start exabgp")
    metrics = {"w1": 100, "w3": 101, "w2": 102}
    expect(lab, *(bgp(lab, SERVERS, prefix, paths=metrics) for prefix in PREFIXES))


@pytest.mark.parametrize("fault", ["node-frozen w1", "link-down w1:eth0"])
def test_who_is_not_heard_is_replaced(lab: Lab, fault: str) -> None:
    with broken(lab, *fault.split()):
        moved(lab, "w3", {"w3": 101, "w2": 102})
    moved(lab, "w1", {"w1": 100, "w3": 101, "w2": 102})


def test_a_route_server_and_a_router_that_die_are_not_missed(lab: Lab) -> None:
    """The last one: who was staged anew meanwhile is no longer the lab of the module."""
    some = ("dr7", "dr8")
    with broken(lab, "node-killed", "rs4"):
        expect(
            lab,
            *(bgp(lab, some, prefix, paths={"rs5": 100}, next_hop="w1") for prefix in PREFIXES),
            served(V6, "w1"),
            served(V4, "w1"),
        )
    expect(
        lab,
        *(bgp(lab, some, prefix, paths={"rs4": 100, "rs5": 100}) for prefix in PREFIXES),
    )
    with broken(lab, "node-killed", "dr6"):
        expect(
            lab,
            *(bgp(lab, SERVERS, p, paths={"w3": 101, "w2": 102}) for p in PREFIXES),
            *(bgp(lab, some, p, paths={"rs4": 101, "rs5": 101}, next_hop="w3") for p in PREFIXES),
            served(V6, "w3"),
            served(V4, "w3"),
        )
    moved(lab, "w1", {"w1": 100, "w3": 101, "w2": 102})
    lab.down()
