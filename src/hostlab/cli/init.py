"""The command that is an init."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hostlab.lab.paths import LabDirectory
    from hostlab.spec.model import Units


@click.command("init", epilog="Example: hostlab init --confdir ./jobs --logdir ./log")
@click.option("--user", "--session", "is_user", is_flag=True, help="A user's session.")
@click.option(
    "--confdir",
    "confdirs",
    multiple=True,
    metavar="DIR",
    help="Job files are here instead of in /etc/init or the user's directories; repeatable.",
)
@click.option("--prepend-confdir", "before", multiple=True, metavar="DIR", help="Here first.")
@click.option("--append-confdir", "behind", multiple=True, metavar="DIR", help="Here last.")
@click.option("--units", "enabled", is_flag=True, help="Run the systemd units that are enabled.")
@click.option(
    "--unit",
    "starts",
    multiple=True,
    metavar="UNIT",
    help="Run this systemd unit, with what it pulls in; repeatable.",
)
@click.option(
    "--unit-dir",
    "unit_dirs",
    multiple=True,
    metavar="DIR",
    help="Units are here instead of in systemd's own places; repeatable.",
)
@click.option(
    "--crontab",
    "crontabs",
    multiple=True,
    metavar="PATH",
    help="Run the lines of this table of cron, or of those in this directory; repeatable.",
)
@click.option(
    "--logdir",
    metavar="DIR",
    help="Where the jobs' logs go. [default: /var/log/upstart, of a user ~/.cache/upstart]",
)
@click.option(
    "--default-console",
    type=click.Choice(["log", "none", "output", "owner"]),
    default="log",
    show_default=True,
    help="Of jobs that say no `console`.",
)
@click.option("--no-log", is_flag=True, help="`console log` is `console none`.")
@click.option("--startup-event", default="startup", help="The first event.", show_default=True)
@click.option("--no-startup-event", is_flag=True, help="Emit nothing at the start.")
@click.option(
    "--inherit-env/--no-inherit-env",
    "inherits",
    default=None,
    help="Jobs have init's own environment. [default: of a user, and as PID 1]",
)
@click.option(
    "--bus",
    "is_on_bus",
    is_flag=True,
    help="Answer as com.ubuntu.Upstart on the system's bus, or the session's; done without this"
    " option where a job is named dbus.",
)
@click.option("--clear", is_flag=True, help="Remove what an init that was killed left, and exit.")
def init_command(
    *,
    is_user: bool,
    confdirs: tuple[str, ...],
    before: tuple[str, ...],
    behind: tuple[str, ...],
    enabled: bool,
    starts: tuple[str, ...],
    unit_dirs: tuple[str, ...],
    crontabs: tuple[str, ...],
    logdir: str | None,
    default_console: str,
    no_log: bool,
    startup_event: str,
    no_startup_event: bool,
    inherits: bool | None,
    is_on_bus: bool,
    clear: bool,
) -> None:
    """Run Upstart jobs here: as PID 1 of a container, in a session, or beside another init.

    Stays in the foreground. Jobs start and stop on events; `hostlab job --init` and `initctl`
    ask it. SIGTERM stops every job, then the init. SIGHUP reads the job files again.
    """
    import os

    from hostlab.init.standalone import start as standalone
    from hostlab.lab.paths import INIT, LabDirectory
    from hostlab.spec.job import Console

    place = LabDirectory.of(INIT)
    if clear:
        _clear(place)
        return
    standalone.run(
        standalone.options(
            run_directory=place.path,
            mark=place.mark,
            is_user=is_user,
            confdirs=confdirs,
            before=before,
            behind=behind,
            crontabs=tuple(map(os.path.abspath, crontabs)),
            log_directory=logdir,
            units=_units(starts, unit_dirs, enabled=enabled),
            startup_event=None if no_startup_event else startup_event,
            console=Console(default_console),
            logs=not no_log,
            inherits=inherits,
            is_on_bus=is_on_bus,
        )
    )


def _units(starts: tuple[str, ...], directories: tuple[str, ...], *, enabled: bool) -> Units | None:
    """What is said of systemd's units; UsageError for what is none."""
    import os

    from hostlab.errors import UsageError
    from hostlab.spec.job_forms import unit
    from hostlab.spec.model import Units
    from hostlab.spec.source import Wrong

    if not (enabled or starts or directories):
        return None
    try:
        names = tuple(map(unit, starts))
    except Wrong as wrong:
        raise UsageError("unit", f"--unit: {wrong.message}", hint=wrong.hint) from None
    paths = tuple(map(os.path.abspath, directories))
    return Units(start=names, enabled=enabled, directories=paths)


def _clear(place: LabDirectory) -> None:
    """End what is left of an init; UsageError while it runs."""
    import os

    from hostlab.init.standalone.place import claim
    from hostlab.lab import remains

    fd = claim(place.path)
    try:
        remains.clear(place)
    finally:
        os.close(fd)
