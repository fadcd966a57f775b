"""What `dbus …` means: the rules that a bus is given, and the event's variables."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.jobs.dbus_event import (
    Rule,
    bounded,
    buses,
    environment,
    listens_to,
    rule_of,
    rule_text,
)
from hostlab.spec.job import Match

pytestmark = pytest.mark.unit


def operand(text: str) -> Match:
    return Match("dbus", tuple(text.split()))


def rule(text: str) -> str:
    return rule_text(rule_of(operand(text))).removeprefix("type='signal'").removeprefix(",")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("SIGNAL=SessionNew", "member='SessionNew'"),
        ("SessionNew", "member='SessionNew'"),
        ("SIGNAL=A INTERFACE=a.b OBJPATH=/a/b", "interface='a.b',member='A',path='/a/b'"),
        ("SENDER=:1.3 DESTINATION=:1.4", "destination=':1.4',sender=':1.3'"),
        ("SIGNAL!=A", ""),
        ("SIGNAL=A*", ""),
        ("OBJPATH=/a/b/*", "path_namespace='/a/b'"),
        ("OBJPATH=/a/b*", "path_namespace='/a'"),
        ("OBJPATH=/*", ""),
        ("OBJPATH=/a/$X", "path_namespace='/a'"),
        ("OBJPATH=/a/* OBJPATH=/a/b", "path='/a/b'"),
        ("ARG0=word ARG1=", "arg0='word',arg1=''"),
        ("ARG0=it's", "arg0='it'\\''s'"),
        # These may be no strings, of which alone an argN speaks.
        ("ARG0=5 ARG1=TRUE ARG2=-1.500000 ARG3=inf", ""),
        ("ARG0=/a/b", "arg0path='/a/b'"),
        ("ARG1=/a/b*", "arg1path='/a/'"),
        ("ARG0=org.a.*", "arg0namespace='org.a'"),
        ("ARG1=org.a.*", ""),
        ("ARG0=:1.*", ""),
        ("ARG63=x ARG64=x", "arg63='x'"),
        ("BUS=session UNKNOWN=x", ""),
    ],
)
def test_rules(text: str, wanted: str) -> None:
    assert rule(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SIGNAL=a-b", "SIGNAL=a-b: `a-b` cannot be a signal's name"),
        ("INTERFACE=one", "INTERFACE=one: `one` cannot be an interface"),
        ("OBJPATH=a/b", "OBJPATH=a/b: `a/b` cannot be an object's path"),
        ("SENDER=one", "SENDER=one: `one` cannot be a name on the bus"),
        (f"SIGNAL={'a' * 256}", f"SIGNAL={'a' * 256}: `{'a' * 256}` cannot be a signal's name"),
    ],
)
def test_what_can_never_come_is_said(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        rule_of(operand(text))
    assert caught.value.message == message


def test_buses() -> None:
    usual = ("system", "session")
    assert buses(operand("SIGNAL=A"), usual) == usual
    assert buses(operand("BUS=session"), ("system",)) == ("session",)
    assert buses(operand("BUS=s*m"), usual) == ("system",)
    assert buses(operand("BUS!=system"), usual) == ("session",)
    assert buses(operand("BUS=$BUS"), usual) == usual
    assert buses(operand("BUS=unix:path=/run/x"), usual) == ("unix:path=/run/x",)
    with pytest.raises(SpecError):
        buses(operand("BUS=nowhere"), usual)


def test_the_events_variables_are_upstarts() -> None:
    got = environment(
        "system", "Changed", interface="a.b", path="/a", sender=":1.2", destination=None,
        arguments=[("s", "x y"), ("b", False), ("as", ["a"]), ("d", 0.5), ("y", 3), ("x", -4)],
    )  # fmt: skip
    assert got == (
        ("SIGNAL", "Changed"),
        ("BUS", "system"),
        ("INTERFACE", "a.b"),
        ("OBJPATH", "/a"),
        ("SENDER", ":1.2"),
        ("ARG0", "x y"),
        ("ARG1", "FALSE"),
        ("ARG3", "0.500000"),
        ("ARG5", "-4"),
    )


# A rule lets through whatever its operand means: both are asked about random signals.

WORDS = st.sampled_from(["a", "b", "5", "TRUE", "org.a", "org.a.b", "/a", "/a/b", "/a/b/c", ""])
PATTERNS = st.one_of(
    WORDS, st.sampled_from(["*", "/a/*", "/a/b*", "org.a.*", "org.a*", "?", "[ab]"])
)
PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c"])
ARGUMENTS = st.one_of(st.tuples(st.just("s"), WORDS), st.tuples(st.just("o"), PATHS))


def lets_through(rule: Rule, path: str, arguments: list[tuple[str, str]]) -> bool:
    """dbus-daemon's match_rule_matches() (bus/signals.c), for what rules here say."""
    for key, value in rule:
        if key == "path" and path != value:
            return False
        if key == "path_namespace" and not (path == value or path.startswith(f"{value}/")):
            return False
        found = re.match(r"arg(\d+)(path|namespace|)\Z", key)
        if found is None:
            continue
        number = int(found[1])
        if number >= len(arguments):
            return False
        kind, text = arguments[number]
        if found[2] == "path":
            if kind not in "so" or not (
                text == value
                or (value.endswith("/") and text.startswith(value))
                or (text.endswith("/") and value.startswith(text))
            ):
                return False
        elif kind != "s":
            return False
        elif found[2] == "namespace":
            if not (text == value or text.startswith(f"{value}.")):
                return False
        elif text != value:
            return False
    return True


@given(
    st.lists(st.tuples(st.sampled_from(["ARG0", "ARG1"]), PATTERNS), max_size=3),
    st.one_of(st.none(), PATHS, st.sampled_from(["/a/*", "/a*", "/*"])),
    PATHS,
    st.lists(ARGUMENTS, max_size=2),
)
def test_a_rule_lets_through_what_its_operand_means(
    words: list[tuple[str, str]],
    asked_path: str | None,
    path: str,
    arguments: list[tuple[str, str]],
) -> None:
    texts = [f"{key}={value}" for key, value in words]
    texts += [] if asked_path is None else [f"OBJPATH={asked_path}"]
    match = Match("dbus", tuple(texts))
    variables = environment(
        "system", "M", interface="a.b", path=path, sender=":1.1", destination=None,
        arguments=arguments,
    )  # fmt: skip
    if listens_to(match, variables):
        assert lets_through(rule_of(match), path, arguments)


def test_too_many_rules() -> None:
    many = [rule_of(operand(f"SIGNAL=S{n % 3} INTERFACE=a.b ARG0=w{n}")) for n in range(50)]
    assert len(bounded(many, 50)) == 50
    assert bounded(many, 10) == {rule_of(operand(f"SIGNAL=S{n} INTERFACE=a.b")) for n in range(3)}
    assert bounded(many, 1) == {rule_of(operand("INTERFACE=a.b"))}
    assert bounded([rule_of(operand(f"INTERFACE=a.i{n}")) for n in range(9)], 2) == {frozenset()}
