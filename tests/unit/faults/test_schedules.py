"""Random schedules are the same from the same seed, contradict nothing, and are shrunk."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import UsageError
from hostlab.faults.schedules import NOT_DRAWN, draw, pool, shrink
from hostlab.spec import load
from hostlab.spec.fault_conflicts import contradiction
from hostlab.spec.faults import KINDS, checked

pytestmark = pytest.mark.unit

LAB = load(
    """
name: l
segments: {lan: 10.1.0.0/24, cable: 10.2.0.0/24}
nodes:
  r1:
    interfaces: [lan, cable]
    routes: [10.9.0.0/16 via 10.2.0.2]
    routing: {bgp: {as: 1, peers: [r2], networks: [10.8.0.0/16]}}
  r2: {interfaces: [lan, cable], routing: {bgp: {as: 2, peers: [r1]}}}
  a: {interfaces: [lan], jobs: {web: sleep 1}}
""",
    file="l.yaml",
)


def test_the_pool_has_every_kind_that_needs_no_word_of_the_users() -> None:
    found = pool(LAB)
    assert {fault.kind for fault in found} == set(KINDS) - set(NOT_DRAWN)
    for fault in found:
        checked(fault, LAB)


def test_the_pool_is_bounded_by_kinds_and_targets() -> None:
    found = [str(fault) for fault in pool(LAB, ("link-down", "job-killed"), ("a", "cable"))]
    assert found == ["link-down a:eth0", "link-down cable", "job-killed a/web"]
    assert [str(f) for f in pool(LAB, ("route-withdrawn",))] == [
        "route-withdrawn r1 to=10.9.0.0/16"
    ]
    of_bgp = pool(LAB, ("bgp-session-reset", "announcement-withdrawn"))
    assert [str(f) for f in of_bgp] == [
        "bgp-session-reset r1 peer=r2",
        "bgp-session-reset r2 peer=r1",
        "announcement-withdrawn r1 prefix=10.8.0.0/16",
    ]
    for kinds, on, message in (
        (("flap",), None, "no fault 'flap' is drawn"),
        (None, ("z",), "has no 'z' to break"),
        (("job-killed",), ("cable",), "no fault of these kinds"),
    ):
        with pytest.raises(UsageError, match=message):
            pool(LAB, kinds, on)


def test_what_has_no_cable_is_not_drawn_and_roles_are_their_nodes() -> None:
    lab = load(
        """
name: l
segments:
  lan: 10.1.0.0/24
  blue: {subnets: 10.2.0.0/24, vxlan: {vni: 4}}
  out: {subnets: 192.0.2.0/24, macvlan: {device: eno2}}
roles: {vtep: {interfaces: {eth0: lan, blue: blue}}}
nodes: {a: {role: vtep}, b: {role: vtep}, c: {interfaces: [lan, out]}}
""",
        file="l.yaml",
    )
    found = pool(lab, ("link-down", "partition", "node-cut-off"))
    assert [str(fault) for fault in found if fault.kind != "partition"] == [
        "link-down a:eth0",
        "link-down b:eth0",
        "link-down c:eth0",
        "link-down lan",
        "node-cut-off a",
        "node-cut-off b",
    ]
    assert {fault.on for fault in found if fault.kind == "partition"} == {"lan"}
    for fault in pool(lab):
        checked(fault, lab)
    of_role = pool(lab, ("link-down", "node-frozen"), ("vtep",))
    assert {fault.on for fault in of_role} == {"a:eth0", "b:eth0", "a", "b"}


@given(seed=st.integers(0, 1000), run=st.integers(1, 1000), most=st.integers(1, 6))
def test_a_schedule_contradicts_nothing_and_is_the_same_again(
    seed: int, run: int, most: int
) -> None:
    choices = pool(LAB)
    found = draw(seed, run, choices, LAB, most=most)
    assert 1 <= len(found) <= most
    for number, fault in enumerate(found):
        assert contradiction(found[:number], fault, LAB) is None
    assert found == draw(seed, run, choices, LAB, most=most)


def test_schedules_differ() -> None:
    choices = pool(LAB)
    assert len({draw(7, run, choices, LAB, most=4) for run in range(50)}) > 40
    assert draw(7, 1, choices, LAB, most=4) != draw(8, 1, choices, LAB, most=4)


@given(st.data())
def test_a_failure_that_needs_some_is_shrunk_to_these(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    needed = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    asked: list[tuple[int, ...]] = []

    def fails(some: Sequence[int]) -> bool:
        asked.append(tuple(some))
        return needed <= set(some)

    assert shrink(range(size), fails) == tuple(sorted(needed))
    assert len(asked) == len(set(asked)), "nothing is tried twice"
    assert () not in asked


@given(st.data())
def test_whatever_fails_none_of_what_is_left_can_be_left_out(data: st.DataObject) -> None:
    """Also where more faults may hide a failure: some subsets fail, whichever."""
    size = data.draw(st.integers(1, 8))
    salt = data.draw(st.integers(0, 10_000))

    def fails(some: Sequence[int]) -> bool:
        return len(some) == size or (sum(1 << n for n in some) * 2654435761 + salt) % 7 < 3

    found = shrink(range(size), fails)
    assert fails(found)
    for left_out in found if len(found) > 1 else ():
        assert not fails([n for n in found if n != left_out])
