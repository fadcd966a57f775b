"""Job files as they lie in directories: whose counts, what is laid over, what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.init.job_files import MAX_BYTES, JobFile, read_directories, read_file, read_text

pytestmark = pytest.mark.unit


def put(directory: Path, **files: str) -> str:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


def by_name(*directories: str) -> dict[str, JobFile]:
    return {found.name: found for found in read_directories(directories)}


def reasons(found: JobFile) -> list[str]:
    return [f"{error.where or ''}{error.message}" for error in found.errors]


def test_the_first_directory_owns_a_name_and_an_override_is_laid_over(tmp_path: Path) -> None:
    first = put(tmp_path / "1", a_conf="exec first\n", b_override="manual\n")
    second = put(tmp_path / "2", a_conf="exec second\n", b_conf="start on x\n", net__c_conf="")
    found = by_name(first, second)
    assert sorted(found) == ["a", "b", "net/c"]
    a, b = found["a"].job, found["b"].job
    assert a is not None
    assert b is not None
    assert a.exec == "first"
    assert b.manual
    assert list(found["b"].texts) == [f"{second}/b.conf", f"{first}/b.override"]


def test_a_bad_file_hides_no_other_and_a_bad_override_is_left_away(tmp_path: Path) -> None:
    place = put(
        tmp_path,
        bad_conf="exce x\nnice a\n",
        good_conf="exec good\n",
        over_conf="exec over\n",
        over_override="exec\n",
    )
    os.symlink("/nowhere", tmp_path / "gone.conf")
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "long.conf").write_text("#" * (MAX_BYTES + 1))
    found = by_name(place)
    assert found["good"].job is not None
    assert found["bad"].job is None
    assert [str(each.where) for each in found["bad"].errors] == [
        f"{place}/bad.conf:1:1",
        f"{place}/bad.conf:2:6",
    ]
    over = found["over"]
    assert over.job is not None
    assert over.job.exec == "over"
    assert str(over.errors[0].where) == f"{place}/over.override:1:5"
    assert reasons(found["gone"]) == [f"{place}/gone.conf: No such file or directory"]
    assert reasons(found["pipe"]) == [f"{place}/pipe.conf: no regular file"]
    assert reasons(found["long"]) == [f"{place}/long.conf: more than {MAX_BYTES} bytes"]


def test_what_is_no_job_file_is_none(tmp_path: Path) -> None:
    place = put(tmp_path, a_conf_dpkg="", README="")
    (tmp_path / ".conf").write_text("nonsense")
    assert read_directories([place]) == ()
    with pytest.raises(UsageError, match="no directory"):
        read_directories([str(tmp_path / "none")])


def test_a_single_file_and_a_text(tmp_path: Path) -> None:
    put(tmp_path, web_conf="exec web\n")
    (tmp_path / "web.override").write_bytes(b'description "\xff"\n')
    found = read_file(str(tmp_path / "web.conf"))
    assert found.job is not None
    assert (found.name, found.job.exec) == ("web", "web")
    override = read_file(str(tmp_path / "web.override"))
    assert override.job is not None
    assert override.job.description == "\ufffd"
    assert reasons(read_file(str(tmp_path / "x.conf"))) == [
        f"{tmp_path}/x.conf: No such file or directory"
    ]
    assert read_text("task\n", file="-", name="stdin").job is not None
