"""The unit files of a machine: directories in systemd's order, single files with their drop-ins.

As with job files, one that cannot be read never hides another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from hostlab.errors import SpecError
from hostlab.init.job_files import MAX_FILES, JobFile, read_content
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.kinds import PathUnit, TimerUnit
from hostlab.spec.systemd.loading import LoadedUnit, LoadedUnits, load_unit, load_units
from hostlab.spec.systemd.selection import DEV_NULL, Directory, Selection
from hostlab.spec.systemd.specifiers import Machine
from hostlab.spec.systemd.unit import Unit, read_unit
from hostlab.spec.systemd.unit_names import is_unit_name

_FOLDERS = (".d", ".wants", ".requires")


def is_unit_file(path: str) -> bool:
    """Whether a file is a unit's, by its name."""
    return is_unit_name(os.path.basename(path))


def list_directory(path: str) -> Directory:
    """What one directory of a search path holds; one that is not there holds nothing."""
    files: dict[str, str | None] = {}
    for entry in _entries(path):
        if entry.name.endswith(_FOLDERS) and entry.is_dir():
            for inner in _entries(entry.path):
                files[f"{entry.name}/{inner.name}"] = _link(inner)
        elif is_unit_name(entry.name):
            files[entry.name] = _link(entry)
    return Directory(path, files)


def read_units(
    directories: Sequence[str], *, machine: Machine | None = None
) -> tuple[LoadedUnits, tuple[SpecError, ...]]:
    """Every unit of a search path, linked, templates too; and what could not be read."""
    selection = Selection([list_directory(each) for each in directories])
    units: list[Unit] = []
    errors: list[SpecError] = []
    for name in (*selection.names(), *selection.templates()):
        found = selection.select(name)
        texts = []
        for path in found.files:
            try:
                texts.append((read_content(path), path))
            except SpecError as error:
                errors.append(error)
        units.append(
            read_unit(
                found.name,
                texts,
                aliases=found.aliases,
                wants=found.wants,
                requires=found.requires,
                masked=found.masked or not found.found,
            )
        )
    return load_units(units, machine), tuple(errors)


def read_unit_directories(directories: Sequence[str]) -> tuple[JobFile, ...]:
    """The units of directories as job files; a circle in their order is a warning of its first."""
    loaded, errors = read_units(directories)
    if not loaded.units and not errors:
        return ()
    jobs = {job.name: job for job in loaded.jobs}
    found = [_job_file(each) for each in loaded.units]
    result = []
    for each in found:
        circles = tuple(
            SpecError("cycle", str(cycle)) for cycle in loaded.cycles if cycle.units[0] == each.name
        )
        remarks = (*each.remarks, *circles)
        result.append(msgspec.structs.replace(each, job=jobs.get(each.name), remarks=remarks))
    unread = [JobFile(name="?", texts={}, job=None, errors=(error,)) for error in errors]
    return (*result, *unread)


def read_unit_file(path: str) -> JobFile:
    """The unit of one file with the drop-ins beside it, by itself."""
    name = os.path.basename(path)
    folder = f"{path}.d"
    paths = [path]
    if os.path.isdir(folder):
        names = sorted(each for each in os.listdir(folder) if each.endswith(".conf"))
        paths += (os.path.join(folder, each) for each in names)
    try:
        unit = read_unit(name, [(read_content(each), each) for each in paths])
    except SpecError as error:
        return JobFile(name=name, texts={}, job=None, errors=(error,))
    except Wrong as wrong:
        no_name = SpecError("unit-name", wrong.message, hint=wrong.hint)
        return JobFile(name=name, texts={}, job=None, errors=(no_name,))
    return _job_file(load_unit(unit))


def _mistakes(loaded: LoadedUnit) -> Iterator[SpecError]:
    """What a timer or path says and nobody can mean, where it says so."""
    if loaded.job is None or not isinstance(loaded.kind, TimerUnit | PathUnit):
        return
    from hostlab.jobs.operand_mistakes import listening_mistakes

    for match, error in listening_mistakes(loaded.job):
        values = {word.partition("=")[2] for word in match.arguments}
        place = next((each.place for each in loaded.unit.entries if each.value in values), None)
        yield SpecError(error.code, error.message, where=place, hint=error.hint)


def _job_file(loaded: LoadedUnit) -> JobFile:
    return JobFile(
        name=loaded.unit.name.name,
        texts=dict.fromkeys(loaded.unit.files, ""),
        job=loaded.job,
        errors=() if loaded.error is None else (loaded.error,),
        remarks=(*loaded.warnings, *_mistakes(loaded)),
        unit=loaded.unit,
    )


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_FILES:
                    return
                yield entry
    except OSError:
        return


def _link(entry: os.DirEntry[str]) -> str | None:
    """Where a symbolic link leads; an empty file masks as /dev/null does."""
    try:
        if entry.is_symlink():
            return os.readlink(entry.path)
        return DEV_NULL if entry.stat().st_size == 0 else None
    except OSError:
        return None
