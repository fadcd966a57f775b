"""`impair:` in a description: what it means for each direction, and what cannot be meant."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.impairment_tables import MAX_QUEUE, PARSERS
from hostlab.spec.impairments import NONE, Impairment, contradiction, made
from hostlab.spec.model import Interface

pytestmark = pytest.mark.unit


def interface(text: str) -> Interface:
    return load(text, file="lab.yaml").node("r").interfaces[0]


def of_segment(impair: str) -> str:
    return f"segments: {{lan: {{impair: {impair}}}}}\nnodes: {{r: lan, other: lan}}"


def of_interface(impair: str, segment: str = "{}") -> str:
    return (
        f"segments: {{lan: {{impair: {segment}}}}}\n"
        f"nodes: {{r: {{interfaces: {{eth0: {{segment: lan, impair: {impair}}}}}}}}}"
    )


def test_nothing_said_is_a_perfect_cable_and_costs_no_byte() -> None:
    found = interface("segments: [lan]\nnodes: {r: lan}")
    assert (found.sending, found.receiving, found.is_impaired) == (NONE, NONE, False)
    assert b"sending" not in msgspec.json.encode(found)


def test_a_segments_impairment_is_met_once_by_what_its_interfaces_send() -> None:
    lab = load(of_segment("{delay: 20ms, loss: 1%}"), file="lab.yaml")
    for node in lab.nodes:
        assert node.interfaces[0].sending == Impairment(delay_s=0.02, loss=0.01)
        assert node.interfaces[0].receiving == NONE


def test_an_interfaces_is_both_ways_but_for_what_one_way_says() -> None:
    said = "{delay: 20ms, jitter: 2ms, out: {loss: 0.5%}, in: {delay: 1s, rate: 10mbit}}"
    found = interface(of_interface(said))
    assert found.sending == Impairment(delay_s=0.02, jitter_s=0.002, loss=0.005)
    assert found.receiving == Impairment(delay_s=1.0, jitter_s=0.002, rate=10_000_000)


def test_what_an_interface_says_stands_before_its_segment_key_by_key() -> None:
    segment = "{delay: 20ms, loss: 1%, rate: 1gbit, queue: 50}"
    found = interface(of_interface("{loss: 0%, out: {rate: none}}", segment))
    assert found.sending == Impairment(delay_s=0.02, queue=50)
    assert found.receiving == NONE


def test_a_role_says_some_of_it() -> None:
    text = """
segments: [lan]
roles: {far: {interfaces: {eth0: {impair: {delay: 100ms, loss: 1%}}}}}
nodes: {r: {role: far, interfaces: {eth0: {segment: lan, impair: {loss: 2%}}}}}
"""
    assert interface(text).sending == Impairment(delay_s=0.1, loss=0.02)


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("delay", "300us", 0.0003),
        ("delay", "1.5s", 1.5),
        ("delay", "0", 0.0),
        ("loss", "0.5%", 0.005),
        ("loss", "100%", 1.0),
        ("loss", "0", 0.0),
        ("rate", "64kbit", 64_000),
        ("rate", "2.5Gbit/s", 2_500_000_000),
        ("rate", "none", None),
        ("burst", "2.5", 2.5),
        ("queue", "100", 100),
        ("seed", "0", 0),
        ("seed", "none", None),
    ],
)
def test_values_as_people_write_them(key: str, word: str, value: object) -> None:
    assert PARSERS[key](word) == value


@pytest.mark.parametrize(
    ("impair", "message", "hint"),
    [
        ("{delay: 20}", "it has no unit", "did you mean `20ms`?"),
        ("{delay: 20 ms}", "is not a delay", "write `20ms`"),
        ("{delay: 20m}", "is not a delay", "write `20ms`"),
        ("{delay: -20ms}", "is below zero", ""),
        ("{delay: 61s}", "is more than 60 s", ""),
        ("{loss: 1}", "it has no `%`", "did you mean `1%`?"),
        ("{loss: 0.01}", "it has no `%`", "did you mean `0.01%`?"),
        ("{loss: 101%}", "is more than all", ""),
        ("{loss: -1%}", "is below zero", ""),
        ("{loss: some}", "is not a share", "write `1%`"),
        ("{rate: 10mbps}", "is not a rate", "bytes to tc"),
        ("{rate: 10m}", "is not a rate", "write `10mbit`"),
        ("{rate: 10}", "is not a rate", "write `10mbit`"),
        ("{rate: -1mbit}", "is not a rate", "write `10mbit`"),
        ("{rate: 1bit}", "is not between 1kbit and 100gbit", ""),
        ("{queue: 0}", "is not between 1 and", ""),
        ("{loss: 1%, burst: 0.5}", "is not a number of packets", ""),
        ("{seed: -1}", "is not between 0 and", ""),
        ("{latency: 20ms}", "unknown key `latency`", ""),
        ("{jitter: 2ms}", "jitter is more than the delay", "give it a `delay`"),
        ("{delay: 1ms, jitter: 2ms}", "jitter is more than the delay", "give it a `delay`"),
        ("{reorder: 5%}", "nothing is overtaken", "give it a `delay`"),
        ("{burst: 5}", "no loss to come in bursts", "give it a `loss`"),
        ("{loss: 90%, burst: 2}", "in bursts of 9 or more", "write 9 or more"),
        ("20ms", "a mapping (impairment", ""),
    ],
)
@pytest.mark.parametrize("where", [of_segment, of_interface])
def test_bad_input_has_its_place_and_what_to_write(
    where: object, impair: str, message: str, hint: str
) -> None:
    assert callable(where)
    with pytest.raises(SpecErrors) as caught:
        load(where(impair), file="lab.yaml")
    (error,) = caught.value.errors
    assert message in error.message
    assert hint in (error.hint or "")
    assert error.where is not None
    assert error.where.line in (1, 2)


def test_directions_are_an_interfaces() -> None:
    with pytest.raises(SpecErrors, match="unknown key `out` in an impairment"):
        load(of_segment("{out: {delay: 1ms}}"), file="lab.yaml")


def test_what_a_direction_makes_impossible_is_said_there() -> None:
    with pytest.raises(SpecErrors) as caught:
        load(of_interface("{delay: 20ms, jitter: 5ms, in: {delay: 1ms}}"), file="lab.yaml")
    (error,) = caught.value.errors
    assert "jitter" in error.message


shares = st.integers(0, 10_000).map(lambda n: n / 10_000)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "delay": st.integers(0, 60_000_000).map(lambda n: n / 1_000_000),
            "jitter": st.integers(0, 60_000_000).map(lambda n: n / 1_000_000),
            "loss": shares,
            "burst": st.one_of(st.none(), st.integers(1, 999).map(float)),
            "duplicate": shares,
            "reorder": shares,
            "corrupt": shares,
            "rate": st.one_of(st.none(), st.integers(1000, 10**11)),
            "queue": st.one_of(st.none(), st.integers(1, MAX_QUEUE)),
            "seed": st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        },
    )
)
def test_what_it_says_of_itself_can_be_read_again(values: dict[str, object]) -> None:
    one = made(values)
    back = made({key: PARSERS[key](word) for key, word in one.words()})
    close = {name: pytest.approx(value) for name, value in msgspec.structs.asdict(one).items()}
    assert msgspec.structs.asdict(back) == close
    assert (contradiction(back) is None) is (contradiction(one) is None)
