"""The JSON scanner reads what Python's reads, and knows where each value stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec.json_file import JsonFile, dotted

pytestmark = pytest.mark.unit

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def scan(text: str) -> JsonFile:
    return JsonFile(text.encode(), file="f", code="json")


@given(_VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_values_come_back(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps({"a": value}, indent=indent, ensure_ascii=ascii_only)
    assert scan(text).root.raw("a") == value


@given(st.text(alphabet='{}[]":,0123456789.eE+- \n\\untrfal', max_size=20))
def test_what_python_refuses_is_refused(text: str) -> None:
    text = '{"a":' + text
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(SpecErrors):
            scan(text)
    else:
        scan(text)


def test_places_count_characters_and_lines_from_one() -> None:
    file = scan('{"é": {"b": [1,\n  "ü", true]}}')
    file.fail(("é", "b", 2), "is here")
    file.fail(("é", "b"), "is there")
    with pytest.raises(SpecErrors) as caught:
        file.finish()
    assert [str(error.where) for error in caught.value.errors] == ["f:1:8", "f:2:8"]
    assert str(caught.value).splitlines()[:3] == [
        "f:1:8: `é.b` is there",
        '    {"é": {"b": [1,',
        "           ^",
    ]


def test_dotted() -> None:
    assert dotted(("process", "rlimits", 0, "type")) == "process.rlimits[0].type"


def test_the_rest_is_noted_with_a_reason_or_a_suggestion() -> None:
    file = scan('{"known": 1, "refused": 2, "knwon": 3, "empty": [], "null": null}')
    file.root.raw("known")
    file.root.rest({"refused": "no"})
    assert file.notes == [
        "refused: no",
        "knwon: not a known property, ignored; did you mean `known`?",
    ]
