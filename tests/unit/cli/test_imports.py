"""`hostlab import` of networks and `hostlab generate`: what goes where, and which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostlab.cli.main import run

pytestmark = pytest.mark.unit


def test_the_description_and_the_notes_go_their_own_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.dot"
    path.write_text("graph n { a -- b -- a [colour=red] }")
    assert not run(["import", "dot", str(path)])
    out, err = capsys.readouterr()
    assert out.startswith("# Imported from a graph of Graphviz.\n\nname: n\n")
    assert err == (
        f"{path}:1:1: 2 links join a and b; each is a segment of its own\n"
        f"{path}:1:1: left out of links: `colour`\n"
    )
    assert not run(["import", "dot", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["description"] == out
    assert [note["where"] for note in found["notes"]] == [f"{path}:1:1"] * 2


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (("import", "graphml"), b"<!DOCTYPE x><graphml/>", "a document type is refused"),
        (("import", "graphml"), b"\xff\xfe<", "not UTF-8"),
        (("import", "edges"), b"a b c", "`c` is neither"),
        (("import", "edges"), None, "No such file"),
    ],
)
def test_a_wrong_file_has_exit_status_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    content: bytes | None,
    message: str,
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert run([*arguments, str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("ring 5", "name: ring-5"),
        ("grid 2 3", "name: grid-2x3"),
        ("random-regular 8 3 --seed 2", "name: random-regular-8-3-2"),
        ("clos --spines 1 --leaves 2 --hosts 0", "name: clos-1x2"),
        ("fat-tree 2", "name: fat-tree-2"),
    ],
)
def test_what_is_generated_is_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    assert not run(["generate", *arguments.split()])
    text = capsys.readouterr().out
    assert line in text.splitlines()
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    assert run(["validate", str(path)]) == 0
    assert run(["generate", "ring", "2"]) == 2
