"""The units of a supervisor, put together: the library over its search path, and what is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from hostlab.init.initctl.server import Program
from hostlab.init.spawning.process import DEFAULT_PATH
from hostlab.init.systemctl import journal, program
from hostlab.init.units.library import Library
from hostlab.init.units.machine import this_machine
from hostlab.init.units.setup import Setup
from hostlab.init.units.units import Units
from hostlab.spec.model import Units as Wanted
from hostlab.spec.systemd.selection import SYSTEM_DIRECTORIES, user_directories

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor


def _setup(supervisor: JobSupervisor) -> Setup | None:
    """None beside another init, whose root it is."""
    if supervisor.place.also is None or supervisor.place.is_user:
        return None
    path = supervisor.place.environment.get("PATH", DEFAULT_PATH)
    return Setup(supervisor.jobs, supervisor.log, path=path)


def units_of(supervisor: JobSupervisor) -> Units | None:
    """The units of an init; None where nobody said anything of units."""
    place = supervisor.place
    wanted = place.units
    if wanted is None:
        return None
    usual = user_directories(place.environment) if place.is_user else SYSTEM_DIRECTORIES
    library = Library(
        wanted.directories or usual,
        machine=lambda: this_machine(place.environment, is_user=place.is_user),
    )
    units = Units(
        wanted,
        library,
        supervisor.jobs,
        state_dir=place.state_dir,
        log=supervisor.log,
        watches=supervisor.watches,
        setup=_setup(supervisor),
    )
    library.passed_over = units.passes_over
    return units


def programs(supervisor: JobSupervisor) -> Mapping[str, Program]:
    """What is served beside Upstart's programs."""
    return {
        program.PROGRAM: program.Systemctl(supervisor).run,
        journal.PROGRAM: journal.Journalctl(supervisor).run,
    }


async def change(supervisor: JobSupervisor, wanted: Wanted | None) -> None:
    """Have an init that is up run other units: what is gone stops, what is new starts."""
    before = supervisor.place.units
    if supervisor.units is not None:
        await supervisor.units.stop_all_but(wanted)
        supervisor.units.close()
    supervisor.place = msgspec.structs.replace(supervisor.place, units=wanted)
    del supervisor.units
    if supervisor.units is None:
        return
    supervisor.install_names()
    if before is None:
        await supervisor.units.boot()
    else:
        await supervisor.units.start_beside(before)
