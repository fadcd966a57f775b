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
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from hostlab.errors import Failed
from hostlab.init import boot, shutdown
from hostlab.init.connection import Connection
from hostlab.init.holder import Holder, Inheritance
from hostlab.init.initctl.script import SESSION_PREFIX
from hostlab.init.initctl.surroundings import Down
from hostlab.init.job_supervisor import JobSupervisor, Place
from hostlab.init.protocol import CONTROL, LOGS, listen
from hostlab.init.sessions import Sessions
from hostlab.init.spawning.process import DEFAULT_PATH, ProcessSetup
from hostlab.init.standalone.place import (
    VARIABLE,
    Grounds,
    bear,
    claim,
    end_groups,
    lasting_directory,
    make_grounds,
    remove_run_directory,
    session_file,
    stamp_directory,
    write_session,
)
from hostlab.jobs import facts
from hostlab.jobs.boot import Boot, Emission, boot_events
from hostlab.jobs.effects import Level
from hostlab.jobs.expression import Environment
from hostlab.spec.job import Console
from hostlab.spec.model import Units
from hostlab.spec.search import SYSTEM_DIRECTORIES, user_directories

if TYPE_CHECKING:
    from hostlab.init.resume import Resumption

STARTUP: Final = "startup"
SYSTEM_LOGS: Final = "/var/log/upstart"
STDERR: Final = 2
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
SIGNALS: Final = {
    signal.SIGTERM: None,
    signal.SIGINT: "control-alt-delete",
    signal.SIGPWR: "power-status-changed",
    signal.SIGWINCH: "keyboard-request",
    signal.SIGHUP: None,
}
"""What init does not leave to the kernel, and the event that it makes of it (init/main.c)."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an init is to run."""

    run_directory: str
    """Where its control socket is; made if it is not there."""
    log_directory: str
    directories: tuple[str, ...]
    """Of job files, the first that has a name's `.conf` owns it."""
    units: Units | None = None
    """systemd's units that it runs; None: none."""
    is_user: bool = False
    """A user's session: its jobs do not change to `/`, and have `UPSTART_SESSION`."""
    startup_event: str | None = "startup"
    """None emits nothing."""
    boots: bool = False
    """Emit what a host's boot does, as a node's init does; else `startup_event` alone."""
    mark: str = ""
    """Names its cgroup, and the memfd by which its processes are found; empty: neither."""
    inherits: bool = False
    """Its jobs have the environment that it was started with."""
    console: Console = Console.LOG
    """Of a job that says none."""
    logs: bool = True
    """False: `console log` is `console none`."""
    is_on_bus: bool = False
    """Answer as com.ubuntu.Upstart also where no job is a bus."""


def options(
    *,
    run_directory: str,
    is_user: bool,
    confdirs: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    behind: tuple[str, ...] = (),
    log_directory: str | None = None,
    inherits: bool | None = None,
    environment: Mapping[str, str] | None = None,
    **others: Any,
) -> Options:
    """What people usually want, where they said nothing else; `others` are Options' own.

    `confdirs` stand instead of the usual directories, `before` and `behind` beside them.
    """
    own = os.environ if environment is None else environment
    if log_directory is None and is_user:
        cache = own.get("XDG_CACHE_HOME") or f"{own.get('HOME', '/')}/.cache"
        log_directory = f"{cache}/upstart"
    usual = user_directories(own) if is_user else SYSTEM_DIRECTORIES
    boots = os.getpid() == 1
    return Options(
        run_directory=run_directory,
        log_directory=os.path.abspath(log_directory or SYSTEM_LOGS),
        directories=tuple(map(os.path.abspath, (*before, *(confdirs or usual), *behind))),
        is_user=is_user,
        boots=boots,
        inherits=is_user or boots if inherits is None else inherits,
        **others,
    )


def run(chosen: Options) -> NoReturn:
    """Be the init; never returns. UsageError when one runs there already."""
    state_dir = claim(chosen.run_directory)
    os.makedirs(chosen.log_directory, mode=0o755, exist_ok=True)
    if chosen.mark:
        bear(chosen.mark)
    grounds = make_grounds(state_dir, chosen.mark) if chosen.mark else Grounds(state_dir)
    _link(chosen.log_directory, f"{chosen.run_directory}/{LOGS}")
    control = listen(state_dir, CONTROL)

    def supervise(inheritance: Inheritance) -> None:
        asyncio.run(_supervise(chosen, grounds, inheritance))

    gc.collect()
    gc.freeze()
    Holder(control, supervise, eager=True, dies_with_holder=True, passes_on=tuple(SIGNALS)).hold()


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

        return resume.of_standalone(self.options, self.grounds, self.inheritance)

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


def _link(target: str, path: str) -> None:
    """Whoever asks this init finds the logs where those of a node are."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)


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
