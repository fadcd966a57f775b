"""Arguments of D-Bus calls as people write them, and values as they read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dbus_fast import Message, Variant
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.observe.bus_values import argument, arguments, plain, shown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("s", "[as it, is", "[as it, is"),
        ("o", "/a/b", "/a/b"),
        ("g", "a{sv}", "a{sv}"),
        ("b", "Yes", True),
        ("b", "0", False),
        ("y", "0xff", 255),
        ("n", "-32768", -32768),
        ("t", str(2**64 - 1), 2**64 - 1),
        ("d", "1.5", 1.5),
        ("as", "[]", []),
        ("as", ' [a b, "c, d", E="x, y" ] ', ["a b", "c, d", "E=x, y"]),
        ("ay", "[1, 2]", b"\x01\x02"),
        ("aai", "[[1], [2, 3]]", [[1], [2, 3]]),
        ("(si)", "(a, 5)", ["a", 5]),
        ("a{si}", "{a: 1, b: 2}", {"a": 1, "b": 2}),
        ("a{sas}", '{"a:b": [x]}', {"a:b": ["x"]}),
        ("v", "s:hello: you", Variant("s", "hello: you")),
        ("v", "as:[a, b]", Variant("as", ["a", "b"])),
        (
            "a{sv}",
            "{a: i:5, b: v:s:x}",
            {"a": Variant("i", 5), "b": Variant("v", Variant("s", "x"))},
        ),
        ("as", r'["a\n\"b"]', ['a\n"b']),
    ],
)
def test_values(kind: str, text: str, value: Any) -> None:
    found = argument(kind, text)
    assert found == value
    # The library takes it as what it is said to be.
    Message(path="/a", member="M", interface="a.b", destination="a.b", signature=kind, body=[found])


@pytest.mark.parametrize(
    ("kind", "text", "column", "message"),
    [
        ("b", "maybe", 1, "`maybe` is not true or false"),
        ("i", "five", 1, "`five` is no whole number"),
        ("y", "256", 1, "256 is not within 0 to 255"),
        ("o", "a/b", 1, "`a/b` is not an object's path"),
        ("d", "x", 1, "`x` is not a number"),
        ("h", "3", 1, "a descriptor cannot be given here"),
        ("as", "a, b", 1, "`[` is wanted here, not a"),
        ("as", "[a, b", 6, "`,` is wanted here, not the end"),
        ("as", "[a] b", 5, "this is behind the value of type `as`"),
        ("ai", "[1, x, 3]", 5, "`x` is no whole number"),
        ("(si)", "(a)", 3, "`,` is wanted here, not )"),
        ("a{si}", "{a 1}", 5, "`:` is wanted here, not }"),
        ("a{sv}", "{a: 5}", 4, "a variant begins with its type: s:hello, i:5, as:[a, b]"),
        ("v", "ss:a", 1, "`ss` is not one type"),
        ("as", '["a]', 2, "Unterminated string starting at: line 1 column 2 (char 1)"),
    ],
)
def test_mistakes_have_their_place(kind: str, text: str, column: int, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        argument(kind, text, name="argument 2")
    error = caught.value
    assert error.message == message
    assert error.where is not None
    assert (error.where.file, error.where.column, error.where.text) == ("argument 2", column, text)


def test_a_call_has_its_arguments() -> None:
    assert arguments("sasb", ["greet", "[WHO=alice]", "true"]) == ["greet", ["WHO=alice"], True]
    with pytest.raises(SpecError, match=r"3 arguments are wanted \(s as b\), not 1"):
        arguments("sasb", ["greet"])
    for wrong in ("a", "z", "(", "s" * 256):
        with pytest.raises(SpecError, match="is no signature"):
            arguments(wrong, [])
    with pytest.raises(SpecError, match="nested more than 32 deep"):
        argument("v", "v:" * 40 + "i:5")


def test_what_is_shown() -> None:
    value = {"Device": b"/dev/sda\0", "Id": Variant("s", "x"), "Raw": bytes([255]), "N": [1, True]}
    assert shown(value) == '{"Device": "/dev/sda", "Id": "x", "Raw": [255], "N": [1, true]}'
    assert shown("bare text") == "bare text"
    assert plain({"a": Variant("ay", b"\x01"), 5: (1,)}) == {"a": [1], "5": [1]}


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(
    st.lists(TEXTS, max_size=5),
    st.dictionaries(TEXTS, st.integers(-(2**31), 2**31 - 1), max_size=5),
)
def test_what_is_written_in_quotes_is_read(texts: list[str], table: dict[str, int]) -> None:
    assert argument("as", json.dumps(texts)) == texts
    assert argument("a{si}", json.dumps(table, ensure_ascii=False)) == table


@given(st.sampled_from(["as", "a{sv}", "(sai)", "v", "aai", "b", "g", "ay"]), st.text(max_size=30))
def test_anything_is_read_or_refused(kind: str, text: str) -> None:
    try:
        value = argument(kind, text)
    except SpecError:
        return
    shown(value)
    json.dumps(plain(value))
