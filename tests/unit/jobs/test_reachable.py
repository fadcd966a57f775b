"""check-config, as util/tests/test_initctl.c has it."""

from __future__ import annotations

import pytest

from hostlab.jobs.reachable import unreachable
from hostlab.spec.upstart import load_conf

pytestmark = pytest.mark.unit

DISPLAY_MANAGERS = "(stopped gdm or stopped kdm or stopped xdm or stopped lxdm)"
NESTED = "(stopped gdm or (stopped kdm or (stopped xdm or stopped lxdm)))"


def check(
    *names: str, ignored: tuple[str, ...] = (), strict: bool = False, **confs: str
) -> list[str]:
    jobs = {name: load_conf(text, file=name, name=name) for name, text in confs.items()}
    return list(unreachable(jobs, names or sorted(jobs), ignored=ignored, strict=strict))


def test_everything_known_says_nothing() -> None:
    assert check(foo="start on started bar and wibble", bar="emits wibble") == []


def test_the_example_of_the_manual() -> None:
    assert check(foo="start on starting grape\nstop on peach") == [
        "foo",
        "  start on: unknown job grape",
        "  stop on: unknown event peach",
    ]


def test_what_is_below_a_false_operator_is_told_of_last_first() -> None:
    assert check(bar="start on (A and (started B or (starting C or D)))", a="emits A") == [
        "bar",
        "  start on: unknown event D",
        "  start on: unknown job C",
        "  start on: unknown job B",
    ]


def test_one_known_side_is_enough_for_or() -> None:
    assert check(foo="start on starting bar or wibble", bar="exec true") == []


def test_or_is_not_enough_when_strict() -> None:
    found = check(foo="start on starting bar or wibble", bar="exec true", strict=True)
    assert found == ["foo", "  start on: unknown event wibble"]


def test_an_unsatisfiable_part_of_a_satisfiable_whole_is_told_of() -> None:
    plymouth = f"start on (starting mountall or (hello and {DISPLAY_MANAGERS}))"
    assert check(plymouth=plymouth, mountall="emits hello") == [
        "plymouth",
        *(f"  start on: unknown job {name}" for name in ("lxdm", "xdm", "kdm", "gdm")),
    ]


def test_only_what_is_below_the_first_false_operator_is_told_of() -> None:
    plymouth = f"start on (starting mountall or (hello and {NESTED}))"
    found = check(plymouth=plymouth, mountall="emits hello", lxdm="exec true", strict=True)
    assert found == [
        "plymouth",
        *(f"  start on: unknown job {name}" for name in ("xdm", "kdm", "gdm")),
    ]


def test_an_inner_or_that_cannot_be_true() -> None:
    stop = "stop on (stopping portmap or (wibble or starting beano))"
    assert check(plymouth=stop, portmap="exec true") == [
        "plymouth",
        "  stop on: unknown job beano",
        "  stop on: unknown event wibble",
    ]


def test_emits_may_be_globs() -> None:
    assert check(foo="start on net-device-added", bridge="emits *-device-*") == []


def test_ignored_events_and_init_s_own_are_known() -> None:
    assert check(foo="start on startup and runlevel [2345] and x", ignored=("x",)) == []


def test_a_variable_in_place_of_a_job_is_no_error() -> None:
    assert check(wait="stop on started $WAIT_FOR or stopped $WAIT_FOR") == []


def test_only_the_jobs_that_are_asked_about() -> None:
    assert check("foo", foo="start on a", bar="start on b") == [
        "foo",
        "  start on: unknown event a",
    ]


def test_a_deep_condition() -> None:
    depth = 10_000
    text = "start on " + "(a or " * depth + "b" + ")" * depth
    assert len(check(foo=text)) == depth + 2
