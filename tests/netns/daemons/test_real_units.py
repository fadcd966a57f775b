"""Every unit of a hundred Debian packages is read, as the packages ship it: none is rejected."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from hostlab.init.unit_files import read_units
from hostlab.spec.systemd.loading import LoadedUnit, LoadedUnits
from tests.packages import cache, downloaded

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]
"""The packages may have to be downloaded first."""

LIST = Path(__file__).parents[2] / "data/unit-packages.txt"
DIRECTORIES = ("etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system")
LEAST = 300
"""Units of these packages, and a good many more by now."""
KNOWN = {"degraded"}
"""Warnings that a shipped unit may have: what hostlab does in part, each with what is left out."""


def extracted(package: Path) -> Path:
    """The unit files of a package, in a folder that is made once."""
    place = cache("units") / package.stem
    if place.exists():
        return place
    made = place.with_name(f".{package.stem}.{os.getpid()}")
    data = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True, timeout=60
    ).stdout
    made.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name.startswith(DIRECTORIES) and ".." not in name.split("/"):
                _extract(archive, member, made / name)
    made.rename(place)
    return place


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None and not member.issym():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if file is None:
        path.symlink_to(member.linkname)
    else:
        path.write_bytes(file.read())


@pytest.fixture(scope="module")
def loaded() -> tuple[LoadedUnits, ...]:
    """Each package's units, linked with one another."""
    found = []
    for package in downloaded(LIST.read_text().split()):
        place = extracted(package)
        units, errors = read_units([str(place / each) for each in DIRECTORIES])
        assert errors == (), package.name
        found.append(units)
    return tuple(found)


def every(loaded: tuple[LoadedUnits, ...]) -> list[LoadedUnit]:
    return [unit for units in loaded for unit in units.units]


def test_none_is_rejected(loaded: tuple[LoadedUnits, ...]) -> None:
    units = every(loaded)
    assert len(units) >= LEAST
    assert [str(unit.error) for unit in units if unit.error is not None] == []


def test_nothing_in_them_is_unknown(loaded: tuple[LoadedUnits, ...]) -> None:
    """No key that nobody knows, no value that cannot be meant."""
    told = Counter(warning.code for unit in every(loaded) for warning in unit.warnings)
    strange = [
        str(warning)
        for unit in every(loaded)
        for warning in unit.warnings
        if warning.code not in KNOWN
    ]
    assert strange == []
    assert set(told) == KNOWN


def test_what_runs_something_is_a_job(loaded: tuple[LoadedUnits, ...]) -> None:
    """And a target, a socket, a timer, a path is a state; templates become jobs by an instance."""
    without = [
        unit.unit.name.name
        for unit in every(loaded)
        if unit.job is None
        and not unit.unit.masked
        and not unit.unit.name.is_template
        and unit.unit.name.type.value in ("service", "target", "socket", "timer", "path")
    ]
    assert without == []


def test_there_are_no_circles(loaded: tuple[LoadedUnits, ...]) -> None:
    assert [str(cycle) for units in loaded for cycle in units.cycles] == []
