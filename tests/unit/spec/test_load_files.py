"""Files that a description names and that are not as they should be."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec import load

pytestmark = pytest.mark.unit

FILES = {
    "bad.in": b"good\n  $nobody here\nand $ 5\n",
    "latin.in": b"\xe9\n",
    "list.json": b"[]",
    "cut.json": b'{"defaultAction"',
}


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory", path) from None


def errors_of(keys: str) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        load(f"nodes: {{a: {keys}}}\n", file="lab.yaml", read=read)
    return caught.value.errors


def test_an_unknown_variable_has_its_place_in_the_template() -> None:
    unknown, lone = errors_of("{files: {/m: {template: bad.in}}, variables: {nobodi: x}}")
    assert unknown.where is not None
    assert str(unknown.where) == "bad.in:2:3"
    assert unknown.where.text == "  $nobody here"
    assert unknown.hint == "did you mean `nobodi`?"
    assert str(lone.where) == "bad.in:3:5"


@pytest.mark.parametrize(
    ("keys", "column", "words"),
    [
        ("{files: {/m: {copy: nowhere}}}", 32, "`nowhere`: No such file or directory"),
        ("{files: {/m: {template: latin.in}}}", 36, "is not UTF-8"),
        ("{seccomp: list.json}", 22, "is not a seccomp profile"),
        ("{seccomp: cut.json}", 22, "is not JSON"),
        ("{root: {oci: bundle}}", 25, "`bundle/config.json`: No such file"),
        ("{variables: {node: x}, files: {/m: m}}", 25, "is there already"),
    ],
)
def test_what_cannot_be_used(keys: str, column: int, words: str) -> None:
    (error,) = errors_of(keys)
    assert words in error.message
    assert error.where is not None
    assert (error.where.line, error.where.column) == (1, column)
