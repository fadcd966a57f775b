"""What a lab was staged from is asked for with a stat, and an edit shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.lab.description import description_named, read_lab, read_with_origin

pytestmark = pytest.mark.unit


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "d").mkdir(parents=True)
    (tmp_path / "conf" / "d" / "one").write_text("1\n")
    (tmp_path / "motd").write_text("hello\n")
    path = tmp_path / "web.yaml"
    path.write_text("nodes: {a: {files: {/etc/motd: {copy: motd}, /etc/conf: {copy: conf}}}}\n")
    return path


def test_it_is_as_it_was_until_a_file_of_it_is_touched(lab_file: Path) -> None:
    _, origin = read_with_origin(str(lab_file))
    assert origin.path == str(lab_file)
    assert origin.is_as_it_was()
    os.utime(lab_file, (1, 1))
    assert not origin.is_as_it_was()


@pytest.mark.parametrize("name", ["motd", "conf/d/one", "conf/d/two", "conf/new"])
def test_a_file_that_it_copies_is_of_it_and_so_is_one_that_comes(lab_file: Path, name: str) -> None:
    _, origin = read_with_origin(str(lab_file))
    (lab_file.parent / name).write_text("other\n")
    assert not origin.is_as_it_was()


def test_one_that_is_gone_is_not_as_it_was(lab_file: Path) -> None:
    _, origin = read_with_origin(str(lab_file))
    lab_file.unlink()
    assert not origin.is_as_it_was()


def told(path: Path) -> tuple[str, str | None]:
    with pytest.raises(UsageError) as error:
        read_lab(str(path))
    return error.value.message, error.value.hint


def test_a_file_that_is_not_there_is_said_with_the_nearest_that_is(lab_file: Path) -> None:
    directory = lab_file.parent
    assert told(directory / "wbe.yaml") == (
        f"no such file: {directory}/wbe.yaml",
        f"did you mean {lab_file}?",
    )
    lab_file.unlink()
    assert told(lab_file) == (f"no such file: {lab_file}", None)


def test_of_a_directory_its_description_is_named(lab_file: Path) -> None:
    directory = lab_file.parent
    message, hint = told(directory)
    assert message == f"{directory} is a directory"
    assert hint == f"name the description in it: {lab_file}"
    lab_file.unlink()
    assert told(directory)[1] == "the file of a description is wanted, as `lab.yaml`"


def test_a_lab_that_is_not_up_may_have_its_file_here(
    lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab_file.parent)
    assert description_named("web") == "web.yaml"
    assert description_named("motd") is None
