"""systemd.syntax(7): sections, assignments, continued lines, comments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec.systemd.loading import load_unit
from hostlab.spec.systemd.syntax import parse_unit
from hostlab.spec.systemd.unit import read_unit
from tests.unit.spec.systemd.unit_site import loaded, warnings

pytestmark = pytest.mark.unit


def assigned(text: str) -> list[tuple[str, str, str]]:
    """(section, key, value) of each assignment."""
    return [(each.section, each.key, each.value) for each in parse_unit(text, file="u").entries]


def test_the_man_pages_example() -> None:
    text = (
        "[Section A]\nKeyOne=value 1\nKeyTwo=value 2\n\n# a comment\n\n[Section B]\n"
        'Setting="something" "some thing" "…"\nKeyTwo=value 2 \\\n       value 2 continued\n\n'
        "[Section C]\nKeyThree=value 3\\\n# this line is ignored\n; this line is ignored too\n"
        "       value 3 continued\n"
    )
    assert assigned(text) == [
        ("Section A", "KeyOne", "value 1"),
        ("Section A", "KeyTwo", "value 2"),
        ("Section B", "Setting", '"something" "some thing" "…"'),
        ("Section B", "KeyTwo", "value 2         value 2 continued"),
        ("Section C", "KeyThree", "value 3        value 3 continued"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[S]\n K  =  v  \n", "v"),
        ("[S]\r\nK=v\r\n", "v"),
        ("\ufeff[S]\nK=v", "v"),
        ("[S]\nK=a=b", "a=b"),
        ("[S]\nK=v # no comment", "v # no comment"),
        ("[S]\nK=a\\\\\n", "a\\\\"),
        ("[S]\nK=a\\\n\n", "a"),
        ("[S]\nK=a\\", "a"),
        ("[S]\nK=", ""),
    ],
)
def test_a_value_is(text: str, value: str) -> None:
    assert assigned(text) == [("S", "K", value)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("K=v\n", "u:1:1: an assignment before the first section"),
        ("[S]\nword\n", "u:2:1: no `=` in `word`"),
        ("[S]\n  =v\n", "u:2:3: no key before `=`"),
        ("[S\nK=v\n", "u:1:1: `[S` is no section"),
    ],
)
def test_what_is_no_line_of_a_unit_is_told_and_left_out(text: str, message: str) -> None:
    found = parse_unit(text, file="u")
    assert f"{found.warnings[0].where}: {found.warnings[0].message}" == message
    assert found.entries == ()


def test_a_place_is_that_of_the_value() -> None:
    entry = parse_unit("[S]\n\n  Key =   value", file="u").entries[0]
    assert (str(entry.place), str(entry.key_place)) == ("u:3:11", "u:3:3")


def test_an_unknown_key_has_a_place_and_a_suggestion_and_rejects_nothing() -> None:
    text = "[Unit]\nAfther=b.target\nExecStart=/x\n[Service]\nexecstart=/bin/a\nExecStart=/bin/b\n"
    found = loaded(text)
    assert found.error is None
    assert [(str(each.where), each.hint) for each in found.warnings] == [
        ("x.service:2:1", "did you mean `After`?"),
        ("x.service:3:1", "it belongs in [Service]"),
        ("x.service:5:1", "did you mean `ExecStart`?"),
    ]


def test_sections_of_other_types_and_unknown_ones_are_told() -> None:
    text = "[Timer]\nOnBootSec=1\n[Servise]\nA=b\n[X-Mine]\nC=d\n[Service]\nX-Key=1\nExecStart=/a\n"
    assert warnings(text) == [
        "x.service:1:1: section `Timer` does not go with this type of unit",
        "x.service:3:1: section `Servise` is unknown",
    ]


def test_an_empty_assignment_takes_back_also_what_an_earlier_file_said() -> None:
    files = [
        ("[Service]\nExecStart=/a\nExecStartPre=/p\nNice=3\n", "x.service"),
        ("[Service]\nExecStart=\nExecStart=/b\nNice=\n", "x.service.d/1.conf"),
    ]
    job = load_unit(read_unit("x.service", files)).job
    assert job is not None
    assert (job.commands[0].argv, job.nice) == (("/b",), None)
    assert job.pre_start is not None


@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    found = loaded(f"[Service]\nExecStart=/a\n{text}")
    assert found.error is None or found.job is None


@given(st.sampled_from(["ExecStart", "Environment", "RestartSec", "After", "User", "LimitNOFILE",
                        "CapabilityBoundingSet", "RuntimeDirectory", "SuccessExitStatus"]),
       st.text(max_size=40))  # fmt: skip
def test_no_value_makes_it_raise(key: str, value: str) -> None:
    section = "Unit" if key == "After" else "Service"
    loaded(f"[Service]\nExecStart=/a\n[{section}]\n{key}={value}")
