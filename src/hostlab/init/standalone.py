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

from hostlab.errors import UsageError
from hostlab.init import boot, shutdown
from hostlab.init.holder import Holder, Inheritance
from hostlab.init.initctl_client import SESSION_PREFIX
from hostlab.init.initctl_init import Down
from hostlab.init.job_supervisor import JobSupervisor, Place
from hostlab.init.process import DEFAULT_PATH, ProcessSetup
from hostlab.init.protocol import CONTROL, LOGS, connect, listen
from hostlab.init.sessions import Sessions
from hostlab.jobs import facts
from hostlab.jobs.boot import Boot, Emission, boot_events
from hostlab.jobs.expression import Environment
from hostlab.spec.search import SYSTEM_DIRECTORIES, user_directories

if TYPE_CHECKING:
    from hostlab.init.resume import Resumption


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
    is_user: bool = False
    """A user's session: its jobs do not change to `/`, and have `UPSTART_SESSION`."""
    startup_event: str | None = "startup"
    """None emits nothing."""
    boots: bool = False
    """Emit what a host's boot does, as a node's init does; else `startup_event` alone."""


def options(
    *,
    run_directory: str,
    is_user: bool,
    confdirs: tuple[str, ...] = (),
    log_directory: str | None = None,
    startup_event: str | None = "startup",
    environment: Mapping[str, str] | None = None,
) -> Options:
    """What people usually want, where they said nothing else."""
    own = os.environ if environment is None else environment
    if log_directory is None and is_user:
        cache = own.get("XDG_CACHE_HOME") or f"{own.get('HOME', '/')}/.cache"
        log_directory = f"{cache}/upstart"
    return Options(
        run_directory=run_directory,
        log_directory=log_directory or "/var/log/upstart",
        directories=confdirs or (user_directories(own) if is_user else SYSTEM_DIRECTORIES),
        is_user=is_user,
        startup_event=startup_event,
        boots=os.getpid() == 1,
    )


def run(chosen: Options) -> NoReturn:
    """Be the init; never returns. UsageError when one runs there already."""
    os.makedirs(chosen.run_directory, mode=0o700, exist_ok=True)
    os.makedirs(chosen.log_directory, mode=0o755, exist_ok=True)
    try:
        connect(chosen.run_directory, CONTROL).close()
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    else:
        message = f"an init runs already in {chosen.run_directory}"
        raise UsageError("init-runs", message, hint="`hostlab job list --init` asks it")
    _link(chosen.log_directory, f"{chosen.run_directory}/{LOGS}")
    fd = os.open(chosen.run_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    control = listen(fd, CONTROL)

    def supervise(inheritance: Inheritance) -> None:
        asyncio.run(_supervise(chosen, fd, inheritance))

    gc.collect()
    gc.freeze()
    Holder(control, supervise, eager=True, dies_with_holder=True, passes_on=tuple(SIGNALS)).hold()


async def _supervise(chosen: Options, state_dir: int, inheritance: Inheritance) -> None:
    await StandaloneSupervisor(chosen, state_dir, inheritance).run()


class StandaloneSupervisor(JobSupervisor):
    """Serves jobs, and commands in their surroundings."""

    def __init__(self, chosen: Options, state_dir: int, inheritance: Inheritance) -> None:
        self.options = chosen
        self.inheritance = inheritance
        self.environment = _environment(chosen)
        logs = os.open(chosen.log_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        place = Place(
            state_dir=state_dir,
            log_dir=logs,
            run_directory=chosen.run_directory,
            environment=self.environment,
            directories=chosen.directories,
            emissions=self._emissions,
            also="/sbin" if chosen.boots else None,
        )
        super().__init__(inheritance, place)
        self.sessions = Sessions(self)
        self.handlers |= self.sessions.handlers

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        values: dict[str, Any] = {"argv": argv, "environment": self.environment | dict(extra)}
        return ProcessSetup(**(values | changes))

    def resumption(self) -> Resumption:
        from hostlab.init import resume

        return resume.of_standalone(self.options, self.place.state_dir, self.inheritance)

    def signalled(self, number: int) -> None:
        """The end, the job files again, or an event; at a terminal ^C is the end too."""
        self.begin()
        event = SIGNALS.get(signal.Signals(number))
        if number == signal.SIGHUP:
            self.directories.read()
        elif event is None or (number == signal.SIGINT and not self.options.boots):
            self.go_down(Down.HALT)
        elif event != "keyboard-request" or self.options.boots:
            self.jobs.tell(facts.Emit(name=event))

    async def wind_up(self, level: str, environment: Environment) -> tuple[str, ...]:
        if not self.options.is_user:
            return await super().wind_up(level, environment)
        await shutdown.emit_all(self.jobs, [Emission(event="session-end", waits=True)])
        return await shutdown.stop_all(self.jobs)

    def _emissions(self) -> tuple[Emission, ...]:
        if self.options.startup_event is None:
            return ()
        if not self.options.boots:
            return (Emission(event=self.options.startup_event),)
        interfaces = sorted(os.listdir("/sys/class/net"), key=lambda name: (name != "lo", name))
        container = os.environ.get("container", "oci")  # noqa: SIM112 (its name)
        return boot_events(
            Boot(mounts=boot.mounts(), interfaces=tuple(interfaces), container=container)
        )


def _link(target: str, path: str) -> None:
    """Whoever asks this init finds the logs where those of a node are."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(os.path.abspath(target), path)


def _environment(chosen: Options) -> dict[str, str]:
    """A session's jobs have the user's environment, a system's a small one (job_process.c)."""
    if chosen.is_user:
        path = f"{chosen.run_directory}/bin:{os.environ.get('PATH', DEFAULT_PATH)}"
        session = f"{SESSION_PREFIX}{chosen.run_directory}/initctl"
        return {**os.environ, "PATH": path, "UPSTART_SESSION": session}
    path = f"{chosen.run_directory}/bin:{DEFAULT_PATH}"
    return {"PATH": path, "TERM": os.environ.get("TERM", "linux"), "HOME": "/root"}
