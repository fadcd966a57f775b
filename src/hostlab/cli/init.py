"""The command that is an init."""

from __future__ import annotations

import click


@click.command("init", epilog="Example: hostlab init --confdir ./jobs --logdir ./log")
@click.option("--user", "is_user", is_flag=True, help="A user's session, with his directories.")
@click.option(
    "--confdir",
    "confdirs",
    multiple=True,
    metavar="DIR",
    help="Directory of job files; may be given repeatedly. [default: /etc/init, or the user's]",
)
@click.option("--logdir", metavar="DIR", help="Where the jobs' logs go. [/var/log/upstart]")
@click.option("--startup-event", default="startup", help="The first event.", show_default=True)
@click.option("--no-startup-event", is_flag=True, help="Emit nothing at the start.")
def init_command(
    *,
    is_user: bool,
    confdirs: tuple[str, ...],
    logdir: str | None,
    startup_event: str,
    no_startup_event: bool,
) -> None:
    """Run Upstart jobs here: as PID 1 of a container, in a session, or beside another init.

    Stays in the foreground. Jobs start and stop on events; `hostlab job --init` and `initctl`
    ask it. SIGTERM stops every job, then the init.
    """
    from hostlab.init import standalone
    from hostlab.lab.paths import init_directory

    standalone.run(
        standalone.options(
            run_directory=init_directory(),
            is_user=is_user,
            confdirs=confdirs,
            log_directory=logdir,
            startup_event=None if no_startup_event else startup_event,
        )
    )
