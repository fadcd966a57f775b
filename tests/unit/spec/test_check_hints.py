"""A key that no check has: what was meant is said, or what there is."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.check_tables import CHECK, KINDS, MEANT

pytestmark = pytest.mark.unit


def hint(check: str) -> str:
    with pytest.raises(SpecErrors) as error:
        load(f"nodes: [a]\nchecks: [{{on: a, {check}}}]\n", file="web.yaml")
    (only,) = error.value.errors
    assert only.code == "unknown-key"
    assert only.hint is not None
    return only.hint


@pytest.mark.parametrize(
    ("check", "part"),
    [
        ('url: "http://a/"', "did you mean `http`?"),
        ("port: 80", "`listens: 80`"),
        ('http: "http://a/", status: 404', "`http: {url: http://web1/, status: 404}`"),
        ('http: "http://a/", body: x', "`http: {url: http://web1/, body: …}`"),
        ("run: id", "did you mean `command`?"),
        ("listens: 80, timeout: 3s", "did you mean `within`?"),
        ("listens: 80, eventually: 3s", "did you mean `within`?"),
        ("listens: 80, for: 3s", "did you mean `always`?"),
        ("repaches: a", "did you mean `reaches`?"),
    ],
)
def test_a_guess_is_answered_with_what_was_meant(check: str, part: str) -> None:
    assert part in hint(check)


def test_else_the_kinds_are_listed_sorted_and_the_other_keys_apart() -> None:
    kinds, others, page = hint("xyzzyx: 1").split("; ")
    assert kinds == f"kinds: {', '.join(sorted(KINDS))}"
    assert others == "beside one: always, if, name, never, on, within"
    assert page == "see docs/checks.md"


def test_a_condition_has_kinds_only() -> None:
    assert "beside" not in hint("listens: 80, if: {xyzzyx: 1}")
    assert "within" not in hint("listens: 80, if: {timeout: 1}")


def test_no_key_is_called_a_guess() -> None:
    assert not MEANT.keys() & CHECK.by_word.keys()
