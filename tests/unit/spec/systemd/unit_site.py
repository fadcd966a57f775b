"""Units as texts, and the jobs that they are."""

from __future__ import annotations

from pathlib import Path

from hostlab.spec.job import Job
from hostlab.spec.systemd.loading import LoadedUnit, load_unit, load_units
from hostlab.spec.systemd.specifiers import Machine
from hostlab.spec.systemd.unit import read_unit

DATA = Path(__file__).parents[3] / "data" / "units"


def loaded(text: str, name: str = "x.service", machine: Machine | None = None) -> LoadedUnit:
    """What a unit's text means."""
    return load_unit(read_unit(name, [(text, name)]), machine)


def service(body: str, name: str = "x.service", machine: Machine | None = None) -> Job:
    """The job of a `[Service]` section; it must be one."""
    found = loaded(f"[Service]\n{body}\n", name, machine)
    assert found.error is None
    assert found.job is not None
    return found.job


def warnings(text: str, name: str = "x.service") -> list[str]:
    """The places and messages of what is wrong with a unit."""
    found = loaded(text, name)
    return [f"{each.where}: {each.message}" for each in found.warnings]


def linked(**texts: str) -> dict[str, Job]:
    """Jobs that know of each other; `a_service` is `a.service`, its text without a section the
    `[Unit]` of a service that runs `/bin/NAME`."""
    units = []
    for key, text in texts.items():
        name = key.replace("_", ".")
        if name.endswith(".service") and "[Service]" not in text:
            text = f"{text}\n[Service]\nExecStart=/bin/{name.partition('.')[0]}"
        units.append(read_unit(name, [(f"[Unit]\nDefaultDependencies=no\n{text}\n", name)]))
    return {job.name: job for job in load_units(units).jobs}
