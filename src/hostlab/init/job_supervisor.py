"""A supervisor with jobs: what a node's init and a stand-alone one have in common.

It puts the parts together: the engine with hands, the job files, the boot, what clients ask. All
of it is made when there is a job to run or when somebody asks for one, so that a node that only
serves commands pays for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab.errors import DecodeError, Failed, Problem, Unsupported, UsageError
from hostlab.init import boot, job_runs, shutdown, store, timer_listing
from hostlab.init.bus_presence import BusPresence
from hostlab.init.cron_tables import CronTables
from hostlab.init.described_jobs import DescribedJobs
from hostlab.init.holder import Inheritance
from hostlab.init.initctl.files import session_of
from hostlab.init.initctl.install import install, install_programs
from hostlab.init.initctl.server import InitctlServer, Program
from hostlab.init.initctl.supervisor import SupervisorInit
from hostlab.init.initctl.surroundings import Down
from hostlab.init.job_directories import JobDirectories
from hostlab.init.jobs import KEY, Jobs
from hostlab.init.lasting import Lasting
from hostlab.init.logs.pipes import Logs
from hostlab.init.protocol import OWN_LOG
from hostlab.init.service import JobService
from hostlab.init.socket_programs import socket_programs
from hostlab.init.sources import Sources, Surroundings, operands
from hostlab.init.sources.given import SourcedSockets
from hostlab.init.spawning.cgroups import JobCgroups
from hostlab.init.spawning.launch import Launcher
from hostlab.init.spawning.process import ProcessSetup
from hostlab.init.supervisor import Request, Supervisor
from hostlab.init.watches import Watches
from hostlab.jobs.boot import HALT, REBOOT, Emission
from hostlab.jobs.effects import Level
from hostlab.jobs.expression import Environment
from hostlab.jobs.snapshot import LATER_VERSION
from hostlab.linux import procfs
from hostlab.spec.job import Console, Job
from hostlab.spec.systemd.unit_names import is_unit_name
from hostlab.version import __version__

if TYPE_CHECKING:
    from hostlab.init.resume import Resumption
    from hostlab.init.units.units import Units
    from hostlab.spec.model import Units as Wanted

MAX_LINE_BYTES: Final = 4 << 20
"""Of one command; the longest have an environment, which execve(2) bounds at 2 MiB."""
OWN_LOG_BYTES: Final = 1 << 20
"""Above this it is renamed to `init.log.1`."""
ASKER_WITHIN_S: Final = 10.0
"""For the client's command that asked for the end to end itself, so that its client hears how."""
SHELL_WITHIN_S: Final = 1.0
"""The same on a terminal, where it may be a shell, which goes on after what it ran."""
GOES_DOWN: Final = "goes-down"
"""In the engine's state: how this init is leaving."""
LISTINGS: Final = frozenset({"jobs", "waits", "configuration", "settled"})
"""What is asked of an init that may have no jobs, and does not begin to have any for that."""
UNIT_JOBS: Final = "unit-jobs"
"""Names of the jobs that are units, there too."""
UNIT_FILES_JOB: Final = "unit-files"
UNIT_GENERATORS_JOB: Final = "unit-generators"
"""What is done before units start is jobs, too, that come from no file."""


class Place(msgspec.Struct, frozen=True):
    """Where an init's jobs live."""

    state_dir: int
    """Descriptor of the directory with init's own log."""
    log_dir: int
    """Descriptor of the directory with the jobs' logs."""
    run_directory: str
    """Where the jobs find init: its sockets, FIFOs and the names of initctl."""
    environment: Mapping[str, str]
    cgroup: int | None = None
    v1: Mapping[str, int] = msgspec.field(default_factory=dict)
    directories: Sequence[str] = ()
    """Of job files."""
    crontabs: Sequence[str] = ()
    """Tables of cron, and directories of them."""
    emissions: Callable[[], Sequence[Emission]] = tuple
    """The events of the boot."""
    console: int = 2
    job_environment: Mapping[str, str] | None = None
    """What every job gets before anybody changes it; None: of `environment`, PATH and TERM."""
    default_console: Console = Console.LOG
    """Of the jobs of files that say none."""
    logs: bool = True
    """False: what a job would log goes nowhere."""
    home: str | None = None
    """Where relative paths in conditions begin, in a user's session."""
    lasting: str | None = None
    """Directory for what outlives this init; None: `state_dir`, which does not."""
    stamps: str | None = None
    """Directory in which systemd has noted when its timers came last."""
    units: Wanted | None = None
    """What is said of systemd's units; None: nothing."""
    is_user: bool = False
    """A user's session, not a host."""
    is_on_bus: bool = False
    """Answer as com.ubuntu.Upstart also where no job is a bus."""
    also: str | None = "/sbin"
    """Where Upstart's names are made as well, if they are not there."""

    @property
    def bin(self) -> str:
        """Where Upstart's names are; PATH begins with it."""
        return f"{self.run_directory}/bin"

    @property
    def requests(self) -> str:
        """Where these programs find init."""
        return f"{self.run_directory}/initctl"


class JobSupervisor(Supervisor):
    """Runs jobs, and serves what is asked of them."""

    max_line_bytes = MAX_LINE_BYTES

    def __init__(self, inheritance: Inheritance, place: Place) -> None:
        super().__init__(inheritance)
        self.place = place
        self.booted = asyncio.Event()
        self._running: dict[int, int] = {}
        self._ended: list[tuple[int, int, int]] = []
        self._stopped: list[int] = []
        self._has_begun = False
        self.has_taken_up = False
        """Whether it goes on with the jobs of an earlier supervisor."""
        self.goes_down = False
        self._unreadable: Unsupported | None = None
        self.is_resumed = False
        """Whether this program has followed another one in place (`resume`)."""
        self.handlers["reexec"] = self.serve_reexec
        self.handlers["timers"] = partial(timer_listing.serve, self)
        for name in ("jobs", "status", "job", "emit", "waits", "monitor", "configuration",
                     "settled", "reload-configuration", "set-variable"):  # fmt: skip
            self.handlers[name] = self._serve_jobs

    async def run(self) -> None:
        """As any supervisor; one that cannot go on says why, before the holder starts the next."""
        try:
            await super().run()
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            self.log(Level.WARNING, f"the supervisor ends: {error!r} ({at.filename}:{at.lineno})")
            raise

    # What a place adds.

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        """A process with everything that the place prescribes, and these changes."""
        raise NotImplementedError

    def described_jobs(self) -> Sequence[Job]:
        """The jobs that come from no job file."""
        return ()

    def namespaces_of(self, job: Job) -> tuple[int, ...]:
        """Descriptors of the namespaces that a job joins."""
        return ()

    def network_of(self, job: Job) -> int | None:
        """Descriptor of the network namespace of a job that is in another than init's."""
        return None

    def resumption(self) -> Resumption:
        """What this init's next program is told."""
        raise NotImplementedError

    @property
    def has_begun(self) -> bool:
        """Whether it has taken up its jobs."""
        return self._has_begun

    # The parts.

    @cached_property
    def jobs(self) -> Jobs:
        """The engine with hands."""
        place = self.place
        cgroups = JobCgroups(place.cgroup, place.v1)
        return Jobs(
            launcher=Launcher(self, cgroups, temporary=f"{place.run_directory}/private"),
            cgroups=cgroups,
            logs=Logs(
                place.log_dir,
                keep=self.keep,
                drop=self.drop,
                warn=lambda text: self.log(Level.WARNING, text),
            ),
            keep=self.keep,
            drop=self.drop,
            adopt=self.adopt,
            log=self.log,
            environment=place.environment,
            job_environment=place.job_environment,
            console=place.console,
            has_logs=place.logs,
            network=self.network_of,
            notify_directory=f"{place.run_directory}/notify",
        )

    @cached_property
    def described(self) -> DescribedJobs:
        """The description's jobs."""
        warn = partial(self.log, Level.WARNING)
        return DescribedJobs(self.jobs, self.described_jobs, warn)

    @cached_property
    def directories(self) -> JobDirectories:
        """The job files."""
        return JobDirectories(
            self.place.directories,
            tell=self.jobs.tell,
            warn=lambda text: self.log(Level.WARNING, text),
            taken=lambda: [job.name for job in self.described_jobs()],
            console=self.place.default_console,
            watches=self.watches,
        )

    @cached_property
    def crontabs(self) -> CronTables:
        """The tables of cron."""
        return CronTables(self)

    @cached_property
    def watches(self) -> Watches:
        """What is told of changed files."""
        return Watches(lambda text: self.log(Level.WARNING, text))

    @cached_property
    def sources(self) -> Sources:
        """What turns the world outside into events."""
        place = self.place
        surroundings = Surroundings(
            tell=self.jobs.tell,
            warn=lambda text: self.log(Level.WARNING, text),
            keep=self.keep,
            drop=self.drop,
            kept=self.kept,
            lasting=Lasting(self.place.lasting or self.place.state_dir),
            stamps=self.place.stamps,
            home=self.place.home,
            host=os.uname().nodename,
            started=int(procfs.start_time(os.getppid()) or 0) / os.sysconf("SC_CLK_TCK"),
            leaves=lambda: self.goes_down,
            jobs=self.jobs,
            boot_events=self.place.emissions,
            boots=lambda: not self.booted.is_set(),
            runs=partial(job_runs.runs, self.jobs),
            watch_jobs=partial(job_runs.watch_jobs, self.jobs),
            watches=self.watches,
            variables=self.variables,
            is_user=place.is_user,
        )
        return Sources(surroundings, lambda: operands(self.jobs.engine.classes.values()))

    @cached_property
    def units(self) -> Units | None:
        """systemd's units, where something is said of them; nobody else pays for their code."""
        if self.place.units is None:
            return None
        units: Units | None = self._supervised().units_of(self)
        return units

    def _supervised(self) -> ModuleType:
        """What runs units; Unsupported where it is not loaded and there are no files of it."""
        try:
            from hostlab.init.units import supervised
        except ImportError as error:
            text = f"what runs units is not loaded, and not among this node's files: {error}"
            hint = "`hostlab down`, then `up`: a node with units from its start has it loaded"
            raise Unsupported("units", text, hint=hint) from None
        return supervised

    @cached_property
    def bus(self) -> BusPresence:
        """The init on a message bus."""
        return BusPresence(self)

    @cached_property
    def initctl_init(self) -> SupervisorInit:
        """This init as Upstart's programs and clients see it."""
        return SupervisorInit(self)

    def variables(self) -> Mapping[str, str]:
        """Init's environment, and behind it what the jobs are given now."""
        notified = self.bus.notified
        told = {} if notified is None else {"DBUS_SESSION_BUS_ADDRESS": notified}
        return {**os.environ, **self.place.environment, **self.jobs.engine.environment, **told}

    def notify_bus_address(self, address: str) -> None:
        """A session is told where its bus is; UsageError where init is no session's."""
        if not self.place.is_user:
            raise UsageError("not-permitted", "Not permissible to notify D-Bus address for PID 1")
        self.bus.notify_address(address)

    def end_session(self) -> None:
        """End a user's session; an init of a host does not (control_end_session())."""
        if self.place.is_user:
            self.go_down(Down.HALT)

    @cached_property
    def service(self) -> JobService:
        """What clients ask."""
        return JobService(self.jobs, booted=self.booted, reread=self.reread, load=self._load_unit)

    def reread(self) -> None:
        """Read job files and units again."""
        self.directories.read()
        self.crontabs.read()
        if self.units is not None:
            self.units.reload()

    def _load_unit(self, name: str) -> str:
        """Load a unit that is no job yet; its own name. A name that is none stays unknown."""
        if self.units is None or not is_unit_name(name) or self.units.find(name) is None:
            return name
        self.units.load([name])
        return self.units.library.resolve(name)

    async def _serve_jobs(self, request: Request) -> object:
        op = request.message["op"]
        if op in LISTINGS and not (self._has_begun or self._has_jobs):
            return []
        self.begin()
        return await self.service.handlers[op](request)

    # Life.

    async def started(self) -> None:
        """Go on with the jobs of before, or boot; without any job, wait until one is asked for."""
        if self._has_jobs:
            with contextlib.suppress(Unsupported):
                self.begin()

    @property
    def _has_jobs(self) -> bool:
        """Whether there may be jobs, from before or from now on."""
        place = self.place
        has_files = bool(place.directories or place.crontabs) or place.units is not None
        return bool(store.NAME in self.kept or self.described_jobs() or has_files)

    def begin(self) -> None:
        """Take up the jobs; once. Unsupported when only a later version can."""
        if self._has_begun:
            return
        if self._unreadable is not None:
            raise self._unreadable
        self.jobs.sockets = SourcedSockets(self.sources)
        self.jobs.readiness.files.watches = self.watches
        try:
            had_jobs = self.jobs.restore(self.kept, self._running, self._ended, self.carried_tokens)
        except DecodeError as error:
            self._unreadable = self._other_program(error)
            raise self._unreadable from None
        self._has_begun = True
        self.install_names()
        self.has_taken_up = had_jobs
        if had_jobs:
            self._take_up()
        else:
            self.described.load()
            self.directories.read()
            if self.units is not None:
                self.units.begin()
            self.crontabs.read()
        for spawn in self._stopped:
            self.jobs.stopped(spawn)
        for spawn, pid, _ in self._ended:
            if spawn not in self.jobs.postponed:
                self.acknowledge(f"{KEY}{spawn}", pid)
        self.jobs.on_settled = lambda spawn, pid: self.acknowledge(f"{KEY}{spawn}", pid)
        self.directories.watch()
        self.crontabs.watch()
        self._serve_initctl()
        self.jobs.on_descriptions = self._described
        self.jobs.on_bus_variable = self.buses_changed
        self.jobs.on_listening = self.sources.look
        self._described()
        self.spawn_task(self._boot())

    def buses_changed(self) -> None:
        """A bus may be somewhere else now; looked at when what goes on is done."""
        loop = asyncio.get_running_loop()
        loop.call_soon(self.sources.surroundings_changed)
        loop.call_soon(self.bus.look)

    def _described(self) -> None:
        self.sources.changed()
        self.bus.described()

    def _other_program(self, error: DecodeError) -> Unsupported:
        """Become the later version that has written the state; why not, if that cannot be.

        The holder starts supervisors of the version that it is itself. What it keeps stays as it
        is until a program comes that can read it.
        """
        text = f"{error.message}, and this program cannot read it"
        if not self.is_resumed:
            self.log(Level.WARNING, f"{text}; the one that is installed is tried")
            self._execute()
        hint = "install that version again, then `hostlab job reexec`; the jobs go on meanwhile"
        self.log(Level.WARNING, f"{text}: {hint}")
        return Unsupported(LATER_VERSION, text, hint=hint)

    def install_names(self) -> None:
        """Upstart's names for the jobs' scripts; without them a job is only not found by these."""
        place = self.place
        try:
            install(place.bin, place.also, requests=place.requests)
            install_programs(place.bin, socket_programs())
            if self.units is not None:
                self.units.install(place.bin, place.also)
        except OSError as error:
            self.log(Level.WARNING, f"no initctl here: {error}")

    def _serve_initctl(self) -> None:
        place = self.place
        server = InitctlServer(
            self.initctl_init,
            keep=self.keep,
            kept=self.kept,
            holder=os.getppid(),
            directory=place.requests,
            log=lambda text: self.log(Level.WARNING, text),
            programs=self._program,
        )
        try:
            server.start()
        except OSError as error:
            self.log(Level.WARNING, f"no initctl here: {error}")

    def _program(self, name: str) -> Program | None:
        """What serves a program that is none of Upstart's."""
        if self.place.units is None:
            return None
        found: Program | None = self._supervised().programs(self).get(name)
        return found

    def _take_up(self) -> None:
        """Compare the jobs that an earlier supervisor had with what there is now."""
        engine = self.jobs.engine
        described = set(self.described.names)
        elsewhere = described | {UNIT_FILES_JOB, UNIT_GENERATORS_JOB}
        elsewhere |= self.crontabs.names | set(engine.extra.get(UNIT_JOBS, ()))
        from_files = [
            found.successor or found.job
            for name, found in engine.classes.items()
            if name not in elsewhere and not found.deleted
        ]
        self.directories.read(from_files)
        self.crontabs.take_up()
        if self.units is not None:
            self.units.take_up()
        # One that was killed amid a `reload` has not done all of it.
        self.spawn_task(self.described.change(frozenset()))
        if (down := engine.extra.get(GOES_DOWN)) is not None:
            self.go_down(Down(down))

    async def _boot(self) -> None:
        await boot.emit(self.jobs, self.place.emissions)
        if self.units is not None:
            await self.units.boot()
        self.booted.set()

    def go_down(
        self, down: Down, environment: Environment = (), *, force: bool = False, token: str = ""
    ) -> None:
        """Leave, or start anew; without `force` every job is stopped first.

        `environment` goes behind RUNLEVEL and PREVLEVEL of the event; `token` is that of the
        program that asks. What is on its way down goes on so: only force is new. The next
        supervisor knows it too.
        """
        if self.goes_down and not force:
            return
        self.goes_down = True
        self.jobs.remember(GOES_DOWN, str(down))
        asker = self.request_of(session_of(token))
        self.spawn_task(self._go_down(down, environment, force=force, asker=asker))

    async def _go_down(
        self, down: Down, environment: Environment, *, force: bool, asker: Request | None
    ) -> None:
        if not force:
            level = REBOOT if down is Down.REBOOT else HALT
            left = await self.wind_up(level, environment)
            if left:
                self.log(Level.WARNING, f"would not stop: {', '.join(left)}")
            if asker is not None:
                within_s = SHELL_WITHIN_S if asker.message.get("tty") else ASKER_WITHIN_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asker.served.wait(), within_s)
        if down is Down.REBOOT:
            # Without a state the next supervisor boots.
            self.sources.close()
            self.bus.close()
            for name in tuple(self.kept):
                self.drop(name)
            self.drop(store.NAME)
            os._exit(0)
        await self.leave()

    async def leave(self) -> None:
        """End, and the holder with it."""
        self.post("x")

    async def wind_up(self, level: str, environment: Environment) -> tuple[str, ...]:
        """What comes before the end; the jobs that would not stop."""
        return await shutdown.go_down(self.jobs, level, environment)

    async def serve_reexec(self, request: Request) -> dict[str, Any]:
        """Become the program that is installed now; that one answers."""
        if "reexec" in request.carried:
            return {"pid": os.getpid(), "version": __version__}
        await self._check_next()
        request.carried["reexec"] = True
        failed = asyncio.get_running_loop().create_future()
        self._leave_for_next(failed)
        raise Failed("reexec", str(await failed))

    def reexec(self) -> None:
        """Become the program that is installed now; a failure is logged (`telinit u`)."""
        self.spawn_task(self._reexec())

    async def _reexec(self) -> None:
        try:
            await self._check_next()
        except Problem as problem:
            self.log(Level.WARNING, f"it stays as it is: {problem.message}")
            return
        self._leave_for_next()

    async def _check_next(self) -> None:
        from hostlab.init import resume

        fd = self.jobs.state_fd if self._has_begun else self.kept.get(store.NAME, -1)
        await resume.check(self, fd)

    def _leave_for_next(self, failed: asyncio.Future[str] | None = None) -> None:
        """Once everything is done that the holder has told.

        Who waits for a process' end is woken in the loop's next round, this comes after it; from
        now on the holder is not listened to, and tells the next program.
        """
        self.leave_holder()

        def leave() -> None:
            reason = self._execute()
            self.hear_holder()
            if failed is not None:
                failed.set_result(reason)

        asyncio.get_running_loop().call_soon(leave)

    def _execute(self) -> str:
        """Become it; returns, with the reason, only when that cannot be."""
        from hostlab.init import resume

        try:
            resume.execute(self.resumption(), self.carry())
        except OSError as error:
            reason = f"cannot become another program: {error}"
            self.log(Level.WARNING, reason)
            return reason

    async def change_units(self, wanted: Wanted | None) -> None:
        """Something else is said of systemd's units: start what is new, stop what is gone."""
        if wanted != self.place.units:
            await self._supervised().change(self, wanted)

    def refused(self, uid: int) -> None:
        self.log(Level.WARNING, f"a client of user {uid} was refused: it is not theirs to ask")

    # What the holder tells.

    def found_running(self, key: str, pid: int) -> None:
        if key.startswith(KEY):
            self._running[int(key.removeprefix(KEY))] = pid

    def found_ended(self, key: str, pid: int, status: int) -> None:
        if not key.startswith(KEY):
            return
        spawn = int(key.removeprefix(KEY))
        if self._has_begun:
            self.jobs.ended(spawn, pid, status)
        else:
            # A daemon's first process may have ended, while the daemon runs.
            if self._running.get(spawn) == pid:
                del self._running[spawn]
            if (spawn, pid, status) not in self._ended:
                # A program that follows another in place hears some of it twice.
                self._ended.append((spawn, pid, status))

    def found_stopped(self, key: str, pid: int) -> None:
        if not key.startswith(KEY):
            return
        spawn = int(key.removeprefix(KEY))
        if self._has_begun:
            self.jobs.stopped(spawn)
        else:
            self._stopped.append(spawn)

    def is_settled(self, key: str) -> bool:
        """What came before the state was read is acknowledged when it has been written down, and
        what is postponed when that is over."""
        if not key.startswith(KEY):
            return True
        return self._has_begun and int(key.removeprefix(KEY)) not in self.jobs.postponed

    def log(self, level: Level, message: str) -> None:
        """Write down what a person may want to read; a full disk costs the line only."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        place = self.place.state_dir
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(OWN_LOG, flags, 0o600, dir_fd=place)
        except OSError:
            return
        try:
            os.write(fd, f"{stamp} {level}: {message}\n".encode(errors="replace"))
            if os.fstat(fd).st_size > OWN_LOG_BYTES:
                os.rename(OWN_LOG, f"{OWN_LOG}.1", src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            return
        finally:
            os.close(fd)
