"""An init without a lab: PID 1 of a container, a user's session, or beside another init.

The same pair as in a node. Where it is not PID 1 the holder is a subreaper, so that whatever its
jobs leave behind comes to it (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab.errors import Failed
from hostlab.init import boot, shutdown
from hostlab.init.connection import Connection
from hostlab.init.holder import Inheritance
from hostlab.init.initctl.script import SESSION_PREFIX
from hostlab.init.initctl.surroundings import Down
from hostlab.init.job_supervisor import JobSupervisor, Place
from hostlab.init.protocol import LOGS
from hostlab.init.sessions import Sessions
from hostlab.init.spawning.process import DEFAULT_PATH, ProcessSetup
from hostlab.init.standalone.place import (
    VARIABLE,
    Grounds,
    end_groups,
    lasting_directory,
    remove_run_directory,
    session_file,
    stamp_directory,
    write_session,
)
from hostlab.init.standalone.start import Options, parts_of, told_parts
from hostlab.jobs import facts
from hostlab.jobs.boot import Boot, Emission, boot_events
from hostlab.jobs.effects import Level
from hostlab.jobs.expression import Environment

if TYPE_CHECKING:
    from hostlab.init.resume import Resumption

STARTUP: Final = "startup"
STDERR: Final = 2
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
SIGNALS: Final = {
    signal.SIGTERM: None,
    signal.SIGINT: "control-alt-delete",
    signal.SIGPWR: "power-status-changed",
    signal.SIGWINCH: "keyboard-request",
    signal.SIGHUP: None,
}
"""What the holder passes on (`program.PASSED_ON`), and the event made of it (init/main.c)."""


def supervise(told: int, inheritance: Inheritance) -> None:
    """The supervisor's whole life; `told` has what `start` has written."""
    parts = told_parts(told)
    # Whatever is loaded by now is there for good: a collector need not look at it again.
    gc.collect()
    gc.freeze()
    asyncio.run(_supervise(parts.options, parts.grounds, inheritance))


async def _supervise(chosen: Options, grounds: Grounds, inheritance: Inheritance) -> None:
    await StandaloneSupervisor(chosen, grounds, inheritance).run()


class StandaloneSupervisor(JobSupervisor):
    """Serves jobs, and commands in their surroundings."""

    def __init__(self, chosen: Options, grounds: Grounds, inheritance: Inheritance) -> None:
        self.options = chosen
        self.grounds = grounds
        self.inheritance = inheritance
        self.environment = _environment(chosen)
        self.directory = _working_directory()
        place = Place(
            state_dir=grounds.state_dir,
            log_dir=os.open(LOGS, _DIRECTORY, dir_fd=grounds.state_dir),
            run_directory=chosen.run_directory,
            environment=self.environment,
            job_environment=self.environment if chosen.inherits else None,
            cgroup=grounds.cgroup,
            v1=grounds.v1,
            directories=chosen.directories,
            crontabs=chosen.crontabs,
            units=chosen.units,
            is_user=chosen.is_user,
            emissions=self._emissions,
            also="/sbin" if chosen.boots and _has_own_root() else None,
            default_console=chosen.console,
            logs=chosen.logs,
            home=os.environ.get("HOME") if chosen.is_user else None,
            lasting=lasting_directory(chosen.run_directory, os.environ, is_user=chosen.is_user),
            stamps=stamp_directory(os.environ, is_user=chosen.is_user),
            is_on_bus=chosen.is_on_bus,
        )
        super().__init__(inheritance, place)
        self.sessions = Sessions(self)
        self.handlers |= self.sessions.handlers

    async def started(self) -> None:
        file = self._session_file()
        if file is not None:
            try:
                write_session(file, self.environment[VARIABLE])
            except OSError as error:
                self.log(Level.WARNING, f"{file}: {error.strerror}")
        await super().started()

    def _session_file(self) -> str | None:
        if not self.options.is_user:
            return None
        return session_file(os.environ.get("XDG_RUNTIME_DIR"), os.getppid())

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        values: dict[str, Any] = {
            "argv": argv,
            "environment": self.environment | dict(extra),
            "cgroup": self.jobs.cgroups.commands,
        }
        values |= changes
        if self.options.is_user and values.get("directory", "/") == "/":
            # A user's session does not change to `/` (init/job_process.c).
            values["directory"] = self.directory
        return ProcessSetup(**values)

    def disconnected(self, connection: Connection) -> None:
        self.sessions.disconnected(connection)

    def resumption(self) -> Resumption:
        from hostlab.init import resume

        return resume.of_standalone(parts_of(self.options, self.grounds), self.inheritance)

    def log(self, level: Level, message: str) -> None:
        """In init's own log, and where whoever started it looks."""
        super().log(level, message)
        with contextlib.suppress(OSError):
            os.write(STDERR, f"hostlab init: {level}: {message}\n".encode(errors="replace"))

    def signalled(self, number: int) -> None:
        """The end, the job files again, or an event; at a terminal ^C is the end too."""
        self.begin()
        event = SIGNALS.get(signal.Signals(number))
        if number == signal.SIGHUP:
            self.reread()
        elif event is None or (number == signal.SIGINT and not self.options.boots):
            self.go_down(Down.HALT)
        elif event != "keyboard-request" or self.options.boots:
            self.jobs.tell(facts.Emit(name=event))

    async def wind_up(self, level: str, environment: Environment) -> tuple[str, ...]:
        if not self.options.is_user:
            left = await super().wind_up(level, environment)
        else:
            emission = Emission(event="session-end", waits=True)
            await shutdown.emit_all(self.jobs, [emission])
            left = await shutdown.stop_all(self.jobs)
        return left

    async def leave(self) -> None:
        """Whatever still runs goes too, and so does all that init had of the machine."""
        await shutdown.end_children(os.getppid())
        try:
            end_groups(self.grounds.groups, self.grounds.unified)
        except Failed as failed:
            self.log(Level.WARNING, failed.message)
        file = self._session_file()
        if file is not None:
            with contextlib.suppress(OSError):
                os.unlink(file)
        remove_run_directory(self.options.run_directory)
        await super().leave()

    def _emissions(self) -> tuple[Emission, ...]:
        first = self.options.startup_event
        if not self.options.boots:
            return () if first is None else (Emission(event=first),)
        interfaces = sorted(os.listdir("/sys/class/net"), key=lambda name: (name != "lo", name))
        container = os.environ.get("container", "oci")  # noqa: SIM112 (its name)
        events = boot_events(
            Boot(mounts=boot.mounts(), interfaces=tuple(interfaces), container=container)
        )
        if first is None:
            return ()
        return tuple(
            msgspec.structs.replace(each, event=first) if each.event == STARTUP else each
            for each in events
        )


def _has_own_root() -> bool:
    """Whether `/` is a container's: PID 1 of a pid namespace may well see the machine's own.

    Container managers say so by a variable (systemd.io/CONTAINER_INTERFACE) or a file.
    """
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    named = bool(os.environ.get("container"))  # noqa: SIM112 (its name)
    return named or any(os.path.exists(mark) for mark in marks)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _environment(chosen: Options) -> dict[str, str]:
    """What processes start with: little, or all that init was started with (init/job_class.c)."""
    session = {VARIABLE: f"{SESSION_PREFIX}{chosen.run_directory}/initctl"}
    usual = os.environ.get("PATH") or DEFAULT_PATH
    path = f"{chosen.run_directory}/bin:{usual if chosen.inherits else DEFAULT_PATH}"
    if chosen.inherits:
        own = {**os.environ, "PATH": path}
        return own | session if chosen.is_user else {"HOME": "/root", **own}
    small = {"PATH": path, "TERM": os.environ.get("TERM", "linux")}
    if chosen.is_user:
        kept = {n: os.environ[n] for n in ("HOME", "USER", "XDG_RUNTIME_DIR") if n in os.environ}
        return small | kept | session
    return small | {"HOME": "/root"}
