"""Unit files on disk: one file with its drop-ins, a search path, what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.init.unit_files import (
    is_unit_file,
    read_unit_directories,
    read_unit_file,
    read_units,
)

pytestmark = pytest.mark.unit


def write(place: Path, name: str, text: str = "[Service]\nExecStart=/bin/a\n") -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_file_with_the_drop_ins_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "a.service")
    write(tmp_path, "a.service.d/2.conf", "[Service]\nNice=2\n")
    write(tmp_path, "a.service.d/1.conf", "[Service]\nNice=1\n")
    write(tmp_path, "a.service.d/3.txt", "[Service]\nNice=3\n")
    found = read_unit_file(str(tmp_path / "a.service"))
    assert found.job is not None
    assert (found.name, found.job.nice) == ("a.service", 2)
    assert len(found.texts) == 3


def test_a_file_that_is_not_there_or_has_no_units_name_is_an_error(tmp_path: Path) -> None:
    assert read_unit_file(str(tmp_path / "a.service")).errors
    write(tmp_path, "a b.service")
    assert read_unit_file(str(tmp_path / "a b.service")).errors[0].code == "unit-name"
    assert is_unit_file("/x/a.socket")
    assert not is_unit_file("/x/a.conf")


def test_a_search_path_with_masks_aliases_and_instances(tmp_path: Path) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for name in ("a.service", "b.service", "c.service", "d.service", "g@.service"):
        write(lib, name)
    write(etc, "a.service", "")
    (etc / "b.service").symlink_to("/dev/null")
    (etc / "x.service").symlink_to(lib / "c.service")
    write(etc, "m.target", "[Unit]\nDefaultDependencies=no\n")
    wants = etc / "m.target.wants"
    wants.mkdir()
    (wants / "d.service").symlink_to(lib / "d.service")
    (wants / "g@1.service").symlink_to(lib / "g@.service")
    found, errors = read_units([str(etc), str(lib), str(tmp_path / "none")])
    assert errors == ()
    assert {job.name for job in found.jobs} == {
        "c.service", "d.service", "g@1.service", "m.target",
    }  # fmt: skip
    jobs = {job.name: job for job in found.jobs}
    assert jobs["d.service"].start_on is not None
    assert jobs["g@1.service"].start_on == jobs["d.service"].start_on
    masked = {each.unit.name.name for each in found.units if each.unit.masked}
    assert masked == {"a.service", "b.service"}


def test_a_circle_is_a_warning_of_one_of_its_units(tmp_path: Path) -> None:
    write(tmp_path, "a.service", "[Unit]\nAfter=b.service\n[Service]\nExecStart=/a\n")
    write(tmp_path, "b.service", "[Unit]\nAfter=a.service\n[Service]\nExecStart=/b\n")
    found = read_unit_directories([str(tmp_path)])
    assert [each.message for one in found for each in one.remarks] == [
        "ordering cycle: a.service after b.service after a.service; "
        "`b.service after a.service` is ignored"
    ]
    assert all(each.errors == () for each in found)


def test_what_cannot_be_read_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.service")
    write(tmp_path, "b.service", "[Service]\n")
    (tmp_path / "c.service").mkdir()
    found = {each.name: each for each in read_unit_directories([str(tmp_path)])}
    assert found["a.service"].job is not None
    assert found["b.service"].errors[0].code == "no-command"
    assert found["?"].errors
