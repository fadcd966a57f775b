"""A unit as hostlab has it: its job, its dependencies, the value of its kind, every warning.

No unit is rejected for a key that nobody knows or a value that cannot be meant: those are warnings.
An error is a unit that could not mean anything: a service that runs nothing, a socket that listens
on nothing. A mount, a slice or another unit of which hostlab makes no job is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hostlab.errors import Place, SpecError
from hostlab.spec.job import Expression, Job
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.conditions import requirements_of
from hostlab.spec.systemd.dependencies import (
    STAGED,
    Dependencies,
    Install,
    dependencies_of,
    install_of,
)
from hostlab.spec.systemd.directives import Directive, directive, is_section, suggestion
from hostlab.spec.systemd.execution import SECTION
from hostlab.spec.systemd.graph import Cycle
from hostlab.spec.systemd.kinds import (
    PathUnit,
    SliceUnit,
    SocketUnit,
    TimerUnit,
    path_unit,
    slice_unit,
    socket_unit,
    timer_unit,
    triggered,
)
from hostlab.spec.systemd.linking import link
from hostlab.spec.systemd.service import service_job
from hostlab.spec.systemd.socket_operands import CONNECTION, accepting, socket_operands
from hostlab.spec.systemd.specifiers import Machine
from hostlab.spec.systemd.syntax import Entry, is_private
from hostlab.spec.systemd.triggers import (
    path_operands,
    path_stop,
    timer_operands,
    timer_stop,
    trigger,
)
from hostlab.spec.systemd.unit import Reader, Unit
from hostlab.spec.systemd.unit_names import UnitType

Kind = SocketUnit | TimerUnit | PathUnit | SliceUnit


class LoadedUnit(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit means."""

    unit: Unit
    job: Job | None
    """None of a template, a masked unit, one with an error, and of the types that are no jobs:
    mounts, devices, swaps, slices, scopes."""
    kind: Kind | None = None
    """What a socket, timer, path or slice says."""
    connected: Job | None = None
    """Of a template: the job of a connection, for a socket that accepts."""
    is_inetd: bool = False
    """It has its connection as standard input (`StandardInput=socket`)."""
    dependencies: Dependencies = Dependencies()
    install: Install = Install()
    warnings: tuple[SpecError, ...] = ()
    error: SpecError | None = None


class LoadedUnits(msgspec.Struct, frozen=True, kw_only=True):
    """Several units together."""

    units: tuple[LoadedUnit, ...]
    jobs: tuple[Job, ...]
    """With the conditions that their dependencies give them."""
    cycles: tuple[Cycle, ...] = ()


def load_unit(unit: Unit, machine: Machine | None = None) -> LoadedUnit:
    """What one unit means by itself; never raises."""
    reader = Reader(unit, machine or Machine())
    job: Job | None = None
    kind: Kind | None = None
    error: SpecError | None = None
    try:
        if not unit.masked:
            kind = _kind(reader)
            job = _job(reader, kind)
    except Wrong as wrong:
        where = Place(unit.fragment or unit.name.name, 1, 1)
        text = f"{unit.name.name}: {wrong.message}"
        error = SpecError("unit", text, where=where, hint=wrong.hint)
    except SpecError as found:
        error = found
    dependencies = Dependencies()
    if not unit.name.is_template:
        # Of a template they are names with a hole where the instance goes.
        dependencies = dependencies_of(reader, triggers=triggered(reader))
    return LoadedUnit(
        unit=unit,
        job=None if unit.name.is_template else job,
        kind=kind,
        connected=job if unit.name.is_template else None,
        is_inetd=reader.raw("Service", "StandardInput") == "socket",
        dependencies=dependencies,
        install=install_of(reader),
        warnings=(*unit.warnings, *_unknown(unit), *_distinct(reader.warnings)),
        error=error,
    )


def load_units(units: Iterable[Unit], machine: Machine | None = None) -> LoadedUnits:
    """Units that know of each other, linked; a template among them is no job."""
    return link_units(load_unit(unit, machine) for unit in units)


def link_units(units: Iterable[LoadedUnit]) -> LoadedUnits:
    """The jobs of units that were loaded, with what they say of each other."""
    loaded = tuple(units)
    linked = link((each.job, each.dependencies) for each in loaded if each.job is not None)
    jobs = {job.name: job for job in linked.jobs}
    templates = {each.unit.name.name: each for each in loaded if each.connected is not None}
    for each in loaded:
        if isinstance(each.kind, SocketUnit) and each.kind.accept and each.job is not None:
            service = templates.get(each.kind.service)
            if service is not None:
                jobs |= dict(_connected(jobs[each.job.name], service))
    return LoadedUnits(units=loaded, jobs=tuple(jobs.values()), cycles=linked.cycles)


def _connected(socket: Job, service: LoadedUnit) -> Iterator[tuple[str, Job]]:
    """A socket that accepts, and the job of its connections."""
    assert service.connected is not None
    listens = tuple(accepting(each, is_inetd=service.is_inetd) for each in socket.listens)
    start_on = Expression(tuple(each for each in (trigger(socket.name),) if each is not None))
    name = service.unit.name.name
    yield socket.name, msgspec.structs.replace(socket, listens=listens)
    yield (
        name,
        msgspec.structs.replace(
            service.connected, name=name, instance=CONNECTION, start_on=start_on
        ),
    )


def explain(unit: Unit) -> Iterator[tuple[Entry, Directive | None]]:
    """Each assignment of a unit with the row of its directive."""
    for entry in unit.entries:
        if not is_private(entry.section) and not is_private(entry.key):
            yield entry, directive(entry.section, entry.key)


def _kind(reader: Reader) -> Kind | None:
    match reader.unit.name.type:
        case UnitType.SOCKET:
            return socket_unit(reader)
        case UnitType.TIMER:
            return timer_unit(reader)
        case UnitType.PATH:
            return path_unit(reader)
        case UnitType.SLICE:
            return slice_unit(reader)
        case _:
            return None


def _job(reader: Reader, kind: Kind | None) -> Job | None:
    name = reader.unit.name
    if name.type is UnitType.SERVICE:
        return service_job(reader)
    if name.type not in STAGED:
        return None
    job = Job(
        name=name.name,
        description=reader.text("Unit", "Description"),
        requirements=requirements_of(reader),
    )
    match kind:
        case TimerUnit():
            listens, stop_on = timer_operands(job.name, kind), timer_stop(job.name, kind)
        case SocketUnit():
            listens, wrongs = socket_operands(job.name, kind)
            for line, wrong in wrongs:
                for entry, address in reader.each("Socket", (f"Listen{line.kind}",), str):
                    if reader.specify(address) == line.address:
                        reader.wrong(entry, wrong)
            return msgspec.structs.replace(job, listens=listens)
        case PathUnit():
            listens, stop_on = path_operands(job.name, kind), path_stop(job.name)
        case _:
            return job
    return msgspec.structs.replace(job, listens=listens, stop_on=stop_on)


def _unknown(unit: Unit) -> Iterator[SpecError]:
    """Sections and keys that no unit of this type has."""
    own = {"Unit", "Install", SECTION.get(unit.name.type, unit.name.type.capitalize())}
    for name, place in unit.sections:
        if name not in own and not is_private(name):
            known = is_section(name)
            hint = f"a .{unit.name.type} has {', '.join(f'[{each}]' for each in sorted(own))}"
            what = "does not go with this type of unit" if known else "is unknown"
            yield SpecError("section", f"section {quoted(name)} {what}", where=place, hint=hint)
    for entry in unit.entries:
        if entry.section not in own or is_private(entry.key):
            continue
        if directive(entry.section, entry.key) is None:
            yield SpecError(
                "unknown-key",
                f"unknown key {quoted(entry.key)} in [{entry.section}]",
                where=entry.key_place,
                hint=suggestion(entry.section, entry.key),
            )


def _distinct(warnings: Iterable[SpecError]) -> Iterator[SpecError]:
    """Each warning once: a value that is read twice is wrong twice."""
    seen: set[str] = set()
    for warning in warnings:
        text = str(warning)
        if text not in seen:
            seen.add(text)
            yield warning
