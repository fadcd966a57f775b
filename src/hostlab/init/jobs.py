"""The engine with hands: what `hostlab.jobs` decides is carried out here, and survives a crash.

A fact is written down (`store`), told to the engine, and its effects are carried out in their
order; facts that come of them wait until that is done. A supervisor that was killed anywhere in
between is followed by one that reads the facts again, compares what they say with the processes
that the holder knows, and does what the dead one had still to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError, Failed, Problem
from hostlab.init import store
from hostlab.init.initctl.requests import Requests
from hostlab.init.logs.pipes import Logs
from hostlab.init.readiness.protocols import Readiness
from hostlab.init.spawning.cgroups import JobCgroups
from hostlab.init.spawning.given import FIRST, NOTHING, Given
from hostlab.init.spawning.launch import Launcher
from hostlab.init.spawning.process import SpawnFailed
from hostlab.init.unit_conditions import judge
from hostlab.jobs import effects, facts
from hostlab.jobs.boot import NO_RUNLEVEL
from hostlab.jobs.effects import Effect, Level, Reply
from hostlab.jobs.engine import Engine
from hostlab.jobs.instance import GROUP_MODES, Instance
from hostlab.jobs.journal import AnyFact
from hostlab.jobs.restored import unsent, unspawned
from hostlab.jobs.snapshot import LATER_VERSION
from hostlab.jobs.states import State
from hostlab.spec import sockets
from hostlab.spec.job import Console, Expect, Job, KillMode, Step

KEY: Final = "job:"
"""How the holder names the processes of jobs: with their spawn number behind it."""
REQUESTS: Final = "requests"
"""In the engine's `extra`: the requests whose askers have not heard yet."""
ASKED: Final = "ask:"
"""Begins the request of somebody who is gone when this supervisor is."""
BOOT: Final = "boot:"
"""Begins the request of an event of the boot; its number follows."""

BUS_VARIABLES: Final = frozenset({"DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS"})
_LISTENING: Final = frozenset({State.SECURITY_SPAWNING, State.STOPPING})
"""With these a job that `listens` begins and ends that."""

Watcher = Callable[[Effect, float], None]


class Sockets(Protocol):
    """Whoever listens for jobs."""

    def given(self, effect: effects.Spawn) -> Given:
        """What a main process gets; Problem when it cannot have it."""
        ...

    def accepted(self, effect: effects.Spawn, peer: str) -> None:
        """It has accepted a connection of this peer."""


class Jobs:
    """The jobs of one init."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        cgroups: JobCgroups,
        logs: Logs,
        keep: Callable[[str, int], None],
        drop: Callable[[str], None],
        adopt: Callable[[int, str], None],
        log: Callable[[Level, str], None],
        environment: Mapping[str, str],
        console: int,
        network: Callable[[Job], int | None],
        notify_directory: str,
        job_environment: Mapping[str, str] | None = None,
        has_logs: bool = True,
    ) -> None:
        """`console` is init's own output, for `console output` and `owner`.

        `job_environment` is what jobs get before anybody changes it, if not init's PATH and TERM.
        `network` gives the network namespace of a job that is in another than init's.
        """
        given = usual_environment(environment) if job_environment is None else job_environment
        self.engine = Engine(environment=dict(given), own_environment=environment)
        self.has_logs = has_logs
        self.launcher = launcher
        self.cgroups = cgroups
        self.logs = logs
        self.log = log
        self.console = console
        self.readiness = Readiness(
            tell=self.tell,
            keep=keep,
            drop=drop,
            adopt=adopt,
            members=cgroups.members,
            network=network,
            warn=lambda text: log(Level.WARNING, text),
            directory=notify_directory,
        )
        self.book = Requests()
        self.changed = asyncio.Event()
        """Set whenever the engine has been told something."""
        self._store = store.Store(keep)
        self._facts: deque[AnyFact] = deque()
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._watchers: list[Watcher] = []
        self.on_descriptions: Callable[[], None] | None = None
        """Called when a job has come, gone or changed."""
        self.on_bus_variable: Callable[[], None] | None = None
        """Called when a variable was set that tells where a message bus is."""
        self.on_listening: Callable[[], None] | None = None
        """Called when a job that `listens` begins or ends that: before who waits for it starts."""
        self.on_settled: Callable[[int, int], None] | None = None
        """Called when a process's end that was `postponed` has been dealt with."""
        self.postponed: dict[int, tuple[int, int]] = {}
        """Ends of main processes, (pid, wait status), that a reload may yet make good."""
        self.listening: dict[str, bool] = {}
        """The jobs that `listen`, in the order in which they began: it decides who gets a port."""
        self.sockets: Sockets | None = None
        """Whoever has the sockets that main processes are given."""
        self._pidfds: dict[int, int] = {}
        self._tokens = itertools.count(1)

    # What others ask.

    def tell(self, fact: AnyFact) -> None:
        """Tell the engine; UsageError when it refuses, and nothing has changed then."""
        self._facts.append(fact)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._facts:
                self._take(self._facts.popleft())
        finally:
            self._is_busy = False
            self._arm()
            self.changed.set()

    def token(self) -> str:
        """A name for a request that no other has, in any supervisor's life."""
        return f"{ASKED}{os.getpid()}.{time.monotonic_ns()}.{next(self._tokens)}"

    async def request(self, token: str, fact: AnyFact, *, wait: bool = True) -> Reply:
        """Tell a request of this token, once in all supervisors' lives, and wait for its answer.

        Without `wait` the answer is that it was told. Who has heard it says so (`book.forget`).
        """
        if not self.book.knows(token):
            self.tell(fact)
        if not wait:
            return Reply(request=token, ok=True)
        return await self.book.answer(token)

    async def ask(self, token: str, fact: AnyFact) -> Reply:
        """`request` for somebody who is gone when this supervisor is."""
        try:
            return await self.request(token, fact)
        finally:
            self.book.forget(token)

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with every effect and its wall-clock time; returns how to end that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    @property
    def boot_position(self) -> int:
        """Events of the boot that have been emitted."""
        return int(self.engine.extra.get("boot", 0))

    @property
    def runlevel(self) -> tuple[str, str]:
        """The previous runlevel and the present one, as `runlevel` prints them."""
        extra = self.engine.extra
        return str(extra.get("previous", NO_RUNLEVEL)), str(extra.get("runlevel", NO_RUNLEVEL))

    def remember(self, key: str, value: object) -> None:
        """Store something beside the engine's own state, in its `extra`."""
        self.engine.extra[key] = value
        self._begin()

    @property
    def state_fd(self) -> int:
        """Descriptor of the stored state."""
        return self._store.fd

    def _begin(self) -> None:
        """Store everything anew."""
        self.engine.extra[REQUESTS] = msgspec.to_builtins(self.book.entries)
        self._store.begin(self.engine)

    def close(self) -> None:
        """Let go of what this process has; the holder has its own."""
        if self._timer is not None:
            self._timer.cancel()
        for spawn in tuple(self._pidfds):
            self._forget(spawn)
        self.readiness.close()
        self.logs.close()
        self.cgroups.close()
        self._store.close()

    # What the holder tells.

    def ended(self, spawn: int, pid: int, status: int) -> None:
        """A process has ended; `status` is a wait status."""
        if self._reloads(spawn, pid):
            self.postponed[spawn] = (pid, status)
            return
        if self.readiness.ended(spawn, pid, status, by_reload=spawn in self.postponed):
            return
        known = self.engine.spawns.get(spawn)
        self.readiness.forget(spawn)
        self._forget(spawn)
        known = self.engine.spawns.get(spawn)
        self.tell(_end_of(spawn, status))
        self.cgroups.watch_empty(spawn, partial(self._emptied, spawn))
        if known is not None and known[1] is Step.RELOAD:
            self._look_who_is_main(known[0])

    def _reloads(self, spawn: int, pid: int) -> bool:
        """Whether a daemon's main process has ended while a reload runs, which may be starting
        another one: FRR's does."""
        known = self.engine.spawns.get(spawn)
        if known is None or known[1] is not Step.MAIN or spawn in self.postponed:
            return False
        instance = known[0]
        main = instance.main
        return (
            Step.RELOAD in instance.processes
            and instance.job.readiness.kind in (Expect.FORK, Expect.DAEMON)
            and main is not None
            and main.pid == pid
        )

    def _look_who_is_main(self, instance: Instance) -> None:
        """A reload is over: whoever it has made the main one goes on, or what had ended counts."""
        main = instance.main
        if main is None or main.spawn not in self.postponed:
            return
        pid, status = self.postponed[main.spawn]
        self.ended(main.spawn, pid, status)
        del self.postponed[main.spawn]
        if self.on_settled is not None:
            self.on_settled(main.spawn, pid)

    def stopped(self, spawn: int) -> None:
        """A process was stopped by a signal."""
        self.readiness.stopped(spawn)

    def restore(
        self,
        kept: Mapping[str, int],
        running: Mapping[int, int],
        ended: Sequence[tuple[int, int, int]],
        asking: frozenset[str] = frozenset(),
    ) -> bool:
        """Go on where the last supervisor stood; False when there was none.

        DecodeError `state-version` when it was a later version's, which this one cannot read.
        `running` is spawn -> pid, `ended` (spawn, pid, wait status), both as the holder says;
        `asking` are the requests of clients that this supervisor has taken over.
        """
        fd = kept.get(store.NAME)
        # Not a number that the holder may still tell of: what has it is not what gets it.
        self.engine.next_spawn = 1 + max((*running, *(spawn for spawn, *_ in ended)), default=0)
        if fd is None:
            self._begin()
            return False
        own = self.engine.own_environment
        try:
            self.engine = store.load(fd, self._begun, self._told)
        except DecodeError as error:
            if error.code == LATER_VERSION:
                raise
            self.log(Level.WARNING, f"the state of before is lost: {error.message}")
            self._begin()
            return False
        self.engine.own_environment = own
        self.book.forget_others(ASKED, asking)
        self._begin()
        self.logs.restore(kept)
        self._reconcile(kept, running, ended)
        return True

    def _reconcile(
        self,
        kept: Mapping[str, int],
        running: Mapping[int, int],
        ended: Sequence[tuple[int, int, int]],
    ) -> None:
        """Compare what was written down with what is, and do what was left undone."""
        engine = self.engine
        repeated = unspawned(engine)
        kills = unsent(engine)
        known = {
            spawn: (instance, step, instance.processes[step].pid)
            for spawn, (instance, step) in engine.spawns.items()
            if step in instance.processes and instance.processes[step].spawn == spawn
        }
        pids = {spawn: pid for spawn, pid, _ in reversed(ended)} | dict(running)
        lost = {effect.spawn for effect in repeated} - pids.keys()
        for effect in repeated:
            if effect.spawn in pids:
                self.tell(facts.Spawned(spawn=effect.spawn, pid=pids[effect.spawn]))
        for spawn, pid in running.items():
            self._watch(spawn, pid)
        self.readiness.restore(
            kept,
            [
                (spawn, instance.job, step, known_pid or pids[spawn])
                for spawn, (instance, step, known_pid) in known.items()
                if spawn in pids
            ],
            awaited=[
                spawn for spawn, (instance, *_) in known.items() if instance.state is State.SPAWNED
            ],
        )
        for spawn, pid, status in ended:
            self.ended(spawn, pid, status)
        for spawn, (_, _, known_pid) in known.items():
            if known_pid is not None and spawn not in pids:
                # Its end had been acknowledged, which is done after it was written down.
                self.tell(facts.Signalled(spawn=spawn, signal=signal.SIGKILL))
        for effect in repeated:
            if effect.spawn in lost:
                self._spawn(effect)
        for kill in kills:
            self._kill(kill)
        for spawn in [spawn for spawn in engine.spawns if spawn not in running]:
            self.cgroups.watch_empty(spawn, partial(self._emptied, spawn))
        self.tell(facts.Elapsed())

    # Facts and effects.

    def _take(self, fact: AnyFact) -> None:
        now = time.monotonic()
        if self._store.is_long:
            self._shorten()
        self._store.append(fact, now)
        done = self.engine.handle(fact, now)
        self._told(self.engine, fact, done)
        if isinstance(fact, facts.Ready | facts.MainPid) and fact.pid is not None:
            self._watch(fact.spawn, fact.pid)
        if self.on_descriptions is not None and isinstance(fact, facts.Load | facts.Unload):
            self.on_descriptions()
        if (
            self.on_bus_variable is not None
            and isinstance(fact, facts.SetVariable)
            and fact.name in BUS_VARIABLES
        ):
            self.on_bus_variable()
        if self.on_listening is not None:
            self._note_listening(done)
        for effect in done:
            try:
                self._carry_out(effect)
            except OSError as error:
                # What is refused to one job is no matter of the others.
                self.log(Level.WARNING, f"{_about(effect)}: {error}")
        if self._watchers:
            wall = time.time()
            for effect in done:
                for watcher in tuple(self._watchers):
                    watcher(effect, wall)

    def _note_listening(self, done: tuple[Effect, ...]) -> None:
        """Several may begin in one fact: the first of them is looked after with all of them."""
        for effect in done:
            if isinstance(effect, effects.StateChanged) and effect.state in _LISTENING:
                self.listening.pop(effect.job, None)
                found = self.engine.classes.get(effect.job)
                if effect.state is State.SECURITY_SPAWNING and found and found.job.listens:
                    self.listening[effect.job] = True

    def _shorten(self) -> None:
        """Store everything anew, or, where no descriptor is left for that, go on as it is."""
        try:
            self._begin()
        except OSError as error:
            self._store.postpone()
            self.log(Level.WARNING, f"the state grows: it cannot be stored anew: {error}")

    def _begun(self, engine: Engine) -> None:
        """Take up what stood beside the stored state of an engine."""
        stored = engine.extra.get(REQUESTS, ())
        self.book = Requests(typed.convert(stored, tuple[tuple[str, Reply | None], ...]))

    def _told(self, engine: Engine, fact: AnyFact, done: tuple[Effect, ...]) -> None:
        """What is remembered of a fact beside what the engine does; in a replay too."""
        self.book.took(getattr(fact, "request", None))
        for effect in done:
            if isinstance(effect, Reply):
                self.book.answered(effect)
        if not isinstance(fact, facts.Emit):
            return
        if fact.request is not None and fact.request.startswith(BOOT):
            engine.extra["boot"] = int(fact.request.removeprefix(BOOT)) + 1
        if fact.name == "runlevel":
            environment = dict(fact.environment)
            engine.extra["runlevel"] = environment.get("RUNLEVEL", NO_RUNLEVEL)
            engine.extra["previous"] = environment.get("PREVLEVEL", NO_RUNLEVEL)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.Spawn():
                self._spawn(effect)
            case effects.Kill():
                self._kill(effect)
            case effects.InstanceRemoved():
                self.logs.ended(effect.job, effect.instance)
                self.launcher.forget(effect.job, effect.instance)
                self.readiness.release(effect.job, effect.instance)
            case effects.StateChanged(state=state) if state in _LISTENING:
                found = self.engine.classes.get(effect.job)
                if self.on_listening and found and found.job.listens:
                    self.on_listening()
            case effects.Log():
                self.log(effect.level, effect.message)
            case _:
                pass

    def _spawn(self, effect: effects.Spawn) -> None:
        is_main = effect.step is Step.MAIN
        if not self._is_wanted(effect):
            return
        doing = "open its log and sockets"
        try:
            with contextlib.ExitStack() as stack:
                given = self._given(effect) if is_main else NOTHING
                stdio = self._stdio(effect, stack, shared=given.accepting is not None)
                prepared = self.readiness.prepare(effect, first=FIRST + given.count)
                stack.callback(prepared.close)
                doing = "fork"
                launched = self.launcher.launch(
                    effect,
                    stdio=stdio,
                    further={**given.numbered(), **prepared.descriptors},
                    environment=given.environment(prepared.environment),
                    accepting=given.accepting,
                )
        except SpawnFailed as failed:
            self._failed(effect, failed.step, failed.errno, failed.reason)
            return
        except Problem as problem:
            self._failed(effect, problem.code, 0, problem.message)
            return
        except OSError as error:
            self._failed(effect, doing, error.errno or 0, str(error.strerror or error))
            return
        for warning in launched.warnings:
            self.log(Level.WARNING, f"{effect.job.name}: {warning}")
        self._pidfds[effect.spawn] = launched.pidfd
        self.tell(facts.Spawned(spawn=effect.spawn, pid=launched.pid))
        if is_main:
            self.readiness.started(effect, launched.pid)
        if launched.peer is not None and self.sockets is not None:
            self.sockets.accepted(effect, launched.peer)

    def _given(self, effect: effects.Spawn) -> Given:
        """The sockets that a main process starts on."""
        if self.sockets is None or not sockets.of_job(effect.job):
            return NOTHING
        given = self.sockets.given(effect)
        if effect.job.readiness.fd in range(FIRST, FIRST + given.count):
            raise Failed("readiness", "`expect fd` has a number that its sockets need")
        return given

    def _is_wanted(self, effect: effects.Spawn) -> bool:
        """Whether what the job needs of its node holds, asked before the first of its processes."""
        job = effect.job
        first = Step.MAIN if job.pre_start is None else Step.PRE_START
        if not job.requirements or effect.step is not first:
            return True
        judged = judge(job.requirements)
        for warning in judged.warnings:
            self.log(Level.WARNING, f"{job.name}: {warning}")
        if judged.holds:
            return True
        if judged.asserted:
            self._failed(effect, "start", 0, judged.why)
        else:
            self.tell(facts.Skipped(spawn=effect.spawn, reason=judged.why))
        return False

    def _failed(self, effect: effects.Spawn, step: str, number: int, reason: str) -> None:
        self._say_in_log(effect, f"unable to {step}" + (f": {reason}" if reason else ""))
        self.readiness.forget(effect.spawn)
        self.cgroups.remove(effect.spawn)
        self.tell(facts.SpawnFailed(spawn=effect.spawn, step=step, errno=number, reason=reason))

    def _say_in_log(self, effect: effects.Spawn, text: str) -> None:
        """Say in a job's log why a process of it could not start: it can say nothing itself."""
        if effect.job.console is not Console.LOG or not self.has_logs:
            return
        with contextlib.suppress(OSError):  # init's own log says it, too
            log = self.logs.writer(effect.job.name, effect.instance)
            try:
                os.write(log, f"hostlab: {effect.step} process: {text}\n".encode())
            finally:
                os.close(log)
            self.logs.flush()

    def _stdio(
        self, effect: effects.Spawn, stack: contextlib.ExitStack, *, shared: bool
    ) -> tuple[int, int, int]:
        """Standard input, output and error; `console owner` is `output` with input.

        Instances of connections have one log, which is `shared`.
        """
        if effect.job.console is Console.OWNER:
            return self.console, self.console, self.console
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, null)
        match effect.job.console:
            case Console.NONE:
                return null, null, null
            case Console.LOG if not self.has_logs:
                return null, null, null
            case Console.OUTPUT:
                return null, self.console, self.console
            case _:
                log = self.logs.writer(effect.job.name, "" if shared else effect.instance)
                stack.callback(os.close, log)
                return null, log, log

    def _kill(self, effect: effects.Kill) -> None:
        known = self.engine.spawns.get(effect.spawn)
        if known is not None and known[0].state is State.KILLED:
            self.readiness.stopping(effect.spawn)
        pidfd = self._pidfds.get(effect.spawn)
        if effect.scope is KillMode.CONTROL_GROUP:
            self.cgroups.signal(effect.spawn, effect.signal, effect.scope, pid=effect.pid)
        elif pidfd is not None and effect.pid is not None:
            whole = effect.scope is KillMode.PROCESS_GROUP
            _signal(pidfd, effect.pid, effect.signal, whole_group=whole)

    def _emptied(self, spawn: int) -> None:
        """Nothing is left of a process and what it started."""
        known = self.engine.spawns.get(spawn)
        self.cgroups.remove(spawn)
        if known is not None and known[0].job.kill.mode in GROUP_MODES:
            self.tell(facts.Emptied(spawn=spawn))

    def _watch(self, spawn: int, pid: int) -> None:
        """Hold a process by its descriptor, so that no signal hits another of the same number."""
        self._forget(spawn)
        with contextlib.suppress(OSError):
            self._pidfds[spawn] = os.pidfd_open(pid)

    def _forget(self, spawn: int) -> None:
        pidfd = self._pidfds.pop(spawn, None)
        if pidfd is not None:
            os.close(pidfd)

    # Time.

    def _arm(self) -> None:
        deadline = self.engine.next_deadline()
        if deadline == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, deadline
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(deadline, self._elapsed)

    def _elapsed(self) -> None:
        self._timer = self._timer_at = None
        self.tell(facts.Elapsed())


def usual_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every job gets before anybody changes it: init's PATH and TERM (init/job_class.c)."""
    return {name: environment[name] for name in ("PATH", "TERM") if name in environment}


def _about(effect: Effect) -> str:
    """Which job an effect is about, for a person."""
    match effect:
        case effects.Spawn():
            return f"{effect.job.name}: its {effect.step} process"
        case effects.Kill():
            return f"process {effect.pid} cannot be sent signal {effect.signal}"
        case effects.InstanceRemoved():
            return f"{effect.job}: clearing away after it"
        case _:
            return type(effect).__name__


def _end_of(spawn: int, status: int) -> facts.Exited | facts.Signalled:
    if os.WIFSIGNALED(status):
        return facts.Signalled(spawn=spawn, signal=os.WTERMSIG(status))
    return facts.Exited(spawn=spawn, status=os.WEXITSTATUS(status))


def _signal(pidfd: int, pid: int, number: int, *, whole_group: bool) -> None:
    """Signal a process, or its group as Upstart's system_kill() does."""
    with contextlib.suppress(ProcessLookupError):
        # Its number is its own as long as this descriptor can be signalled.
        signal.pidfd_send_signal(pidfd, 0 if whole_group else number)
        if whole_group:
            os.killpg(os.getpgid(pid), number)
