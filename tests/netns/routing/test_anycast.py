"""The anycast lab of the notebook: its tables, what its health check does, what is refused.

What is expected is read from the routers, not from who announces it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hostlab.sync import Lab
from tests.netns.routing.anycast_site import (
    bgp,
    expect,
    expect_all,
    needs_programs,
    own,
    served,
    session,
    up,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1200)]

ONE, TWO, THREE = (f"2001:db8:30::{n}" for n in (1, 2, 3))
SERVERS = ("rs4", "rs5")
ROUTERS = ("er2", "er3", "dr6", "dr7", "dr8")
COUNTED = {
    "command = curl -sf --max-time 4 http://[::1]/": "command = curl -sf --max-time 30 http://[::1]/"
    " || { echo >>/run/failures; false; }\ndown-execute = wc -l </run/failures >/run/down-after",
    "timeout = 5": "timeout = 40",
}
"""Each failure leaves a line, and their number is written down when the service is given up."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs_programs()
    base = tmp_path_factory.mktemp("anycast")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("HOSTLAB_RUN", str(base / "run"))
        found = Lab(own("anycast", base, {"healthcheck.conf": COUNTED}))
        stack.callback(found.down)
        up(found)
        yield found


def announce(lab: Lab, node: str, *routes: str) -> None:
    for route in routes:
        lab[node].succeed(f"exabgpcli announce route {route} next-hop self med 900")


def withdraw(lab: Lab, node: str, *routes: str) -> None:
    for route in routes:
        lab[node].succeed(f"exabgpcli withdraw route {route} next-hop self")


def test_the_tables_of_the_notebook(lab: Lab) -> None:
    expect_all(lab)


def test_a_prefix_of_somebody_else_is_refused(lab: Lab) -> None:
    foreign, last = "2001:db8:1::/64", "2001:db8:30::77/128"
    # The session tells one after the other: what came before the last one has come.
    announce(lab, "w2", foreign, last)
    expect(lab, bgp(lab, SERVERS, last, paths={"w2": 900}))
    expect(lab, bgp(lab, SERVERS, foreign, paths={}, within_s=5.0))
    expect(lab, bgp(lab, ROUTERS, last, next_hop="w2"))
    withdraw(lab, "w2", foreign, last)
    expect(lab, bgp(lab, (*SERVERS, *ROUTERS), last, paths={}))


def test_a_server_that_does_not_answer_is_given_up_after_three_tries(lab: Lab) -> None:
    lab["w1"].succeed("initctl stop nginx")
    expect(
        lab,
        bgp(lab, SERVERS, f"{THREE}/128", paths={"w1": 1000, "w3": 101, "w2": 102}, next_hop="w3"),
        bgp(lab, SERVERS, f"{TWO}/128", paths={"w1": 1001, "w2": 100, "w3": 102}, next_hop="w2"),
        bgp(lab, SERVERS, f"{ONE}/128", paths={"w1": 1002, "w2": 101, "w3": 100}, next_hop="w3"),
        bgp(lab, ROUTERS, f"{THREE}/128", next_hop="w3"),
        served(THREE, "w3"),
    )
    assert lab["w1"].succeed("cat /run/down-after").strip() == "3"
    lab["w1"].succeed("initctl start nginx")
    expect(lab, bgp(lab, ROUTERS, f"{THREE}/128", next_hop="w1"), served(THREE, "w1"))


def test_who_announces_too_many_routes_is_cut_off(lab: Lab) -> None:
    # Three of its own and seven more are ten, which is the limit.
    many = [f"2001:db8:30::{n}/128" for n in range(101, 110)]
    announce(lab, "w2", *many[:7])
    expect(lab, bgp(lab, SERVERS, many[6], paths={"w2": 900}), session(lab, "rs4", "w2", "up"))
    announce(lab, "w2", many[7])
    expect(lab, session(lab, "rs4", "w2", "down"))
    # Debian 12's FRR counts one less.
    announce(lab, "w2", many[8])
    expect(
        lab,
        session(lab, "rs5", "w2", "down"),
        bgp(lab, SERVERS, f"{TWO}/128", paths={"w1": 101, "w3": 102}, next_hop="w1"),
        bgp(lab, ROUTERS, f"{TWO}/128", next_hop="w1"),
        served(TWO, "w1"),
    )
