"""Which method an impairment takes, and what a call of `hostlab link` changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostlab.cli.link import said
from hostlab.errors import UsageError
from hostlab.lab.links import LinkChange, changed
from hostlab.lab.links.methods import Kernel, Method, method
from hostlab.plan.difference import difference
from hostlab.plan.operations import Kind, Operation
from hostlab.spec.impairments import NONE, Impairment
from hostlab.spec.model import Interface, Lab, Node, Segment

pytestmark = pytest.mark.unit

HERE = Kernel(netem=False, tbf=True, nft=True)
ELSEWHERE = Kernel(netem=True, tbf=True, nft=True)
BARE = Kernel(netem=False, tbf=False, nft=False)
SLOW = Impairment(delay_s=0.02)
CABLE = Interface(name="eth0", segment="lan", addresses=("10.0.0.1/24",), mac="02:00:00:00:00:01")
LAB = Lab(
    name="shop",
    segments=(Segment(name="lan", subnets=("10.0.0.0/24",)),),
    nodes=(
        Node(name="r", hostname="r", interfaces=(CABLE, replace(CABLE, name="eth1"))),
        Node(name="s", hostname="s", interfaces=(CABLE,)),
    ),
)


@pytest.mark.parametrize(
    ("sending", "receiving", "kernel", "expected"),
    [
        (SLOW, NONE, ELSEWHERE, Method.NETEM),
        (Impairment(loss=0.1, burst=5), SLOW, ELSEWHERE, Method.NETEM),
        (SLOW, Impairment(delay_s=1.0, seed=0), ELSEWHERE, Method.WIRE),
        (SLOW, NONE, HERE, Method.WIRE),
        (Impairment(loss=0.1), NONE, HERE, Method.KERNEL),
        (Impairment(loss=0.1), Impairment(rate=1000), HERE, Method.KERNEL),
        (Impairment(rate=1000, queue=5), Impairment(rate=1000), HERE, Method.KERNEL),
        (Impairment(loss=0.1, rate=1000), NONE, HERE, Method.KERNEL),
        (NONE, Impairment(loss=0.1), HERE, Method.WIRE),
        (Impairment(loss=0.1, burst=5), NONE, HERE, Method.WIRE),
        (Impairment(loss=0.1, seed=1), NONE, HERE, Method.WIRE),
        (Impairment(queue=5), NONE, HERE, Method.WIRE),
        (Impairment(loss=0.1), NONE, BARE, Method.WIRE),
        (Impairment(rate=1000), NONE, BARE, Method.WIRE),
        (Impairment(corrupt=0.1), NONE, HERE, Method.WIRE),
    ],
)
def test_the_simplest_method_that_does_all_of_it(
    sending: Impairment, receiving: Impairment, kernel: Kernel, expected: Method
) -> None:
    assert method(replace(CABLE, sending=sending, receiving=receiving), kernel) is expected


def of(lab: Lab, node: str = "r") -> Interface:
    return lab.node(node).interfaces[0]


def test_what_a_call_does_not_name_stays() -> None:
    first = LinkChange(node="r", interface="eth0", sending={"delay": 0.02, "loss": 0.1})
    lab, operation = changed(LAB, first)
    reason = "eth0 out delay=20ms loss=10%"
    assert operation == Operation(Kind.CHANGE_IMPAIRMENTS, "r", reason)
    second = LinkChange(node="r", interface="eth0", sending={"loss": 0.0}, receiving={"rate": 1000})
    lab, _ = changed(lab, second)
    assert (of(lab).sending, of(lab).receiving) == (SLOW, Impairment(rate=1000))
    assert lab.node("r").interfaces[1] == LAB.node("r").interfaces[1]
    lab, _ = changed(lab, LinkChange(node="r", interface="eth0", clear=("out",)))
    assert (of(lab).sending, of(lab).receiving) == (NONE, Impairment(rate=1000))
    lab, _ = changed(lab, LinkChange(node="r", interface="eth0", clear=("out", "in")))
    assert lab == LAB


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (LinkChange(node="r", interface="eth7"), "r has no interface 'eth7'", "eth0, eth1"),
        (LinkChange(node="x", interface="eth0"), "x has no interface 'eth0'", "none"),
        (
            LinkChange(node="r", interface="eth0", sending={"jitter": 1.0}),
            "out jitter: jitter is more than the delay",
            "give it a `delay`",
        ),
        (
            LinkChange(node="r", interface="eth0", receiving={"burst": 2.0}),
            "in burst: there is no loss",
            "give it a `loss`",
        ),
    ],
)
def test_what_cannot_be_so_is_not_begun(change: LinkChange, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(LAB, change)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_words_are_for_both_ways_until_one_is_named() -> None:
    found = said(["delay=20ms", "out", "loss=1%", "rate=none", "in", "loss=2%"])
    assert found == {
        "out": {"delay": 0.02, "loss": 0.01, "rate": None},
        "in": {"delay": 0.02, "loss": 0.02},
    }


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("dealy=20ms", "'dealy=20ms' is not KEY=VALUE", "did you mean `delay=`?"),
        ("delay", "'delay' is not KEY=VALUE", "did you mean `delay=`?"),
        ("20ms", "'20ms' is not KEY=VALUE", "keys: delay, jitter"),
        ("delay=20", "delay: '20' is not a delay: it has no unit", "did you mean `20ms`?"),
        ("loss=200%", "loss: '200%' is more than all", ""),
    ],
)
def test_a_word_that_means_nothing_is_told_with_what_it_could_be(
    word: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        said(["out", word])
    assert message in caught.value.message.replace("`", "'")
    assert hint in (caught.value.hint or "")


def test_an_impairment_changes_in_place_and_alone() -> None:
    lab, _ = changed(LAB, LinkChange(node="r", interface="eth0", sending={"delay": 0.02}))
    there = difference(LAB, lab).operations
    assert [o.describe() for o in there] == ["change impairments r: eth0 out delay=20ms"]
    back = difference(lab, LAB).operations
    assert [o.describe() for o in back] == ["change impairments r: eth0 out none"]
    assert there[0].inverse().kind is Kind.CHANGE_IMPAIRMENTS
    assert not difference(lab, lab)


def test_an_interface_that_comes_impaired_is_plugged_in_first() -> None:
    new = replace(CABLE, name="eth9", receiving=SLOW)
    node = LAB.node("s")
    lab = replace(LAB, nodes=(LAB.node("r"), replace(node, interfaces=(CABLE, new))))
    kinds = [operation.kind for operation in difference(LAB, lab).operations]
    assert kinds == [Kind.CHANGE_NETWORK, Kind.CHANGE_IMPAIRMENTS]
    gone = [operation.kind for operation in difference(lab, LAB).operations]
    assert gone == [Kind.CHANGE_NETWORK]
