"""Files that a description names and that are not as they should be."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec import File, load
from hostlab.spec.files import MAX_LISTED, Listed

pytestmark = pytest.mark.unit

FILES = {
    "bad.in": b"good\n  $nobody here\nand $ 5\n",
    "latin.in": b"\xe9\n",
    "list.json": b"[]",
    "cut.json": b'{"defaultAction"',
    "jobs/a.conf": b"exec a",
    "jobs/net/b": b"#!/bin/sh",
    "more/a.conf": b"exec more",
}
DIRECTORIES = {
    "jobs/": (Listed("a.conf"), Listed("net/b", executable=True)),
    "more": (Listed("a.conf"),),
    "empty": (),
    "gone": (Listed("gone"),),
    "many": (Listed("a.conf"),) * (MAX_LISTED + 1),
}


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory", path) from None


def list_files(path: str) -> tuple[Listed, ...] | None:
    if path == "secret":
        raise PermissionError(13, "Permission denied", path)
    return DIRECTORIES.get(path)


def files_of(keys: str) -> dict[str, File]:
    text = f"nodes: {{a: {{files: {keys}}}}}\n"
    lab = load(text, file="lab.yaml", read=read, list_files=list_files)
    return {file.path: file for file in lab.nodes[0].files}


def errors_of(keys: str) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        load(f"nodes: {{a: {keys}}}\n", file="lab.yaml", read=read, list_files=list_files)
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
        ("{files: {/m: {copy: empty}}}", 32, "has no files"),
        ("{files: {/m: {copy: gone}}}", 32, "`gone/gone`: No such file"),
        ("{files: {/m: {copy: secret}}}", 32, "`secret`: Permission denied"),
        ("{files: {/m: {copy: many}}}", 32, "more than 10,000 files"),
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


def test_a_directory_is_copied_with_all_that_is_in_it() -> None:
    assert files_of("{/etc/init: {copy: jobs/}}") == {
        "/etc/init/a.conf": File(path="/etc/init/a.conf", content=b"exec a"),
        "/etc/init/net/b": File(path="/etc/init/net/b", content=b"#!/bin/sh", mode=0o755),
    }


def test_what_is_said_of_a_directory_holds_for_every_file_of_it() -> None:
    files = files_of("{/x: {copy: jobs/, mode: '0600', owner: 'u:g'}}")
    assert {(f.mode, f.owner, f.group) for f in files.values()} == {(0o600, "u", "g")}


def test_a_file_that_is_named_stands_before_one_of_a_copied_directory() -> None:
    for keys in (
        "{/x/a.conf: own, /x: {copy: jobs/}}",
        "{/x: {copy: jobs/}, /x/a.conf: own}",
    ):
        assert files_of(keys)["/x/a.conf"].content == b"own"
    below = files_of("{/x/net: {copy: more}, /x: {copy: jobs/}}")
    assert set(below) == {"/x/net/a.conf", "/x/a.conf", "/x/net/b"}
