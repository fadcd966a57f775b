"""What moves an instance through the table of `states.py`.

The machine is told of a changed goal, of a process's birth, readiness and end, and that a timer
has run out. It knows nothing of classes, of other instances, of who is interested in its events:
for these it asks its surroundings, which the engine provides.
"""

from __future__ import annotations

from typing import Protocol, assert_never

from hostlab.jobs import effects
from hostlab.jobs.effects import Effect, Level
from hostlab.jobs.expression import Environment
from hostlab.jobs.instance import GROUP_MODES, Instance, Running
from hostlab.jobs.states import TABLE, Action, Goal, State, next_state
from hostlab.spec.job import Expect, KillMode, Step
from hostlab.spec.signals import signal_name

SIGKILL = 9
SIGCONT = 18


class Surroundings(Protocol):
    """What the machine needs from whoever holds the instances."""

    now: float
    """Seconds of the monotonic clock."""
    apparmor: bool
    """The kernel has AppArmor, so the security step is more than nothing."""

    def effect(self, effect: Effect) -> None:
        """Have something done."""

    def emit_for(
        self, instance: Instance, name: str, environment: Environment, *, blocks: bool
    ) -> int:
        """Emit an instance's event, its serial number; with `blocks` the instance waits for it."""
        ...

    def new_spawn(self, instance: Instance, step: Step) -> int:
        """A number for a process that is about to be started."""
        ...

    def forget_spawn(self, spawn: int) -> None:
        """No fact about this process matters any more."""

    def finished(self, instance: Instance, *, failed: bool) -> None:
        """Let go of every event and request that waits for the instance."""

    def reloaded(self, instance: Instance, *, ok: bool) -> None:
        """Let go of every request that waits for its reload."""

    def waits_for_no_turn(self, instance: Instance) -> None:
        """It is not to start any more: let its event go on from those it is ordered behind."""

    def left(self, instance: Instance) -> None:
        """The instance is waiting, and gone."""

    def deadline(self, instance: Instance, field: str, at: float) -> None:
        """Set a time at which `Machine.expired` must be called."""


class Machine:
    """The transitions of instances."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.around = surroundings

    def change_goal(self, instance: Instance, goal: Goal) -> None:
        """Give an instance another goal; it moves when what goes on would not end by itself."""
        if instance.goal is goal:
            return
        instance.goal = goal
        self.around.effect(
            effects.GoalChanged(job=instance.job.name, instance=instance.name, goal=goal)
        )
        if goal is Goal.STOP:
            instance.delay_s = 0.0
            if instance.state is State.STARTING:
                self.around.waits_for_no_turn(instance)
        if TABLE[instance.state].induced_by is goal:
            if instance.state is not State.SPAWNED or self._main_runs(instance):
                self.advance(instance)
        elif instance.hold_at is not None:
            self._release_hold(instance)

    def advance(self, instance: Instance) -> None:
        """What the instance's state does is over: go on to the next."""
        self._change_state(instance, self._next(instance))

    def spawned(self, instance: Instance, step: Step, pid: int) -> None:
        """A process of it runs its program; told once more, it is nothing new."""
        if instance.processes[step].pid is not None:
            return
        instance.processes[step].pid = pid
        if step is not Step.MAIN:
            return
        readiness = instance.job.readiness
        instance.main_since = self.around.now
        if instance.job.kill.mode in GROUP_MODES:
            instance.group = instance.processes[step].spawn
        if instance.state is not State.SPAWNED:
            return
        if readiness.kind is Expect.NONE or instance.goal is Goal.STOP:
            self.advance(instance)
        elif readiness.deadline_s is not None:
            self._set(instance, "ready_at", readiness.deadline_s)

    def spawn_failed(self, instance: Instance, step: Step) -> None:
        """There is no such process, its set-up failed."""
        self._forget(instance, step)
        if step is Step.RELOAD:
            self.around.reloaded(instance, ok=False)
        if step not in (Step.POST_START, Step.PRE_STOP, Step.RELOAD):
            self._fail(instance, step, None)
            moved = instance.state
            self.change_goal(instance, Goal.STOP)
            if instance.state is not moved:
                return
        if TABLE[instance.state].step is step:
            self.advance(instance)

    def skipped(self, instance: Instance, step: Step) -> None:
        """A condition of it does not hold: it stops again, nothing has failed."""
        self._forget(instance, step)
        instance.skipped = True
        self.change_goal(instance, Goal.STOP)
        if TABLE[instance.state].step is step:
            self.advance(instance)

    def stopped(self, instance: Instance, step: Step) -> None:
        """SIGSTOP stopped a process: the way `expect stop` says ready."""
        kind = instance.job.readiness.kind
        if step is Step.MAIN and kind is Expect.STOP and instance.state is State.SPAWNED:
            self._kill(instance, SIGCONT, KillMode.PROCESS)
            self.ready(instance, None)

    def ready(self, instance: Instance, pid: int | None) -> None:
        """The main process is ready; perhaps it is another one now."""
        main = instance.main
        if main is None:
            return
        if pid is not None:
            main.pid = pid
        if instance.state is State.SPAWNED:
            self.advance(instance)

    def extend(self, instance: Instance, seconds: float) -> None:
        """The main process asks for time: move the deadline that is running."""
        if instance.ready_at is not None:
            self._set(instance, "ready_at", seconds)
        elif instance.kill_at is not None:
            self._set(instance, "kill_at", seconds)

    def emptied(self, instance: Instance) -> None:
        """Nothing is left in its main process's cgroup."""
        instance.group = None
        if instance.state is State.KILLED and instance.main is None:
            instance.kill_at = None
            self.advance(instance)

    def ended(self, instance: Instance, step: Step, status: int) -> None:
        """A process ended; `status` is its exit status, or its signal << 8."""
        self._forget(instance, step)
        match step:
            case Step.MAIN:
                instance.main_status = status
                self._main_ended(instance, status)
                return
            case Step.PRE_START | Step.POST_STOP:
                if status:
                    self._fail(instance, step, status)
                    self.change_goal(instance, Goal.STOP)
            case Step.RELOAD:
                self.around.reloaded(instance, ok=status == 0)
            case Step.SECURITY | Step.POST_START | Step.PRE_STOP:
                # Upstart ignores these: little can be done about a post-start or pre-stop that
                # fails, and a profile that does not load has never kept a job from starting.
                pass
            case _:
                assert_never(step)
        if TABLE[instance.state].step is step:
            self.advance(instance)

    def expired(self, instance: Instance, field: str) -> None:
        """One of its times has come."""
        setattr(instance, field, None)
        match field:
            case "kill_at":
                self._kill(instance, SIGKILL, kill_scope(instance.job.kill.mode, last=True))
            case "hold_at":
                self.advance(instance)
            case _:
                self._not_ready(instance)

    def refuse(self, instance: Instance, why: str) -> None:
        """What it requires has failed: its start has failed before anything of it ran."""
        instance.trouble = why
        self._log(Level.WARNING, f"{instance} is not started: {why}")
        self._fail(instance, Step.PRE_START, None)
        self.change_goal(instance, Goal.STOP)

    def give_up(self, instance: Instance, why: str) -> None:
        """It has failed, whatever it is doing: what it needs cannot be had."""
        instance.trouble = why
        self._fail(instance, Step.MAIN, None)
        self.change_goal(instance, Goal.STOP)

    def reload(self, instance: Instance) -> None:
        """Run what the job reloads with; one that still runs from the last time is left alone."""
        if Step.RELOAD not in instance.processes:
            self._spawn(instance, Step.RELOAD)

    def skip_hold(self, instance: Instance) -> None:
        """Do not wait for a delayed respawn any longer."""
        if instance.hold_at is not None:
            self._release_hold(instance)

    def _release_hold(self, instance: Instance) -> None:
        instance.hold_at = None
        instance.delay_s = 0.0
        self.advance(instance)

    def _next(self, instance: Instance) -> State:
        state = next_state(instance.state, instance.goal, has_main=instance.main is not None)
        if instance.goal is Goal.RESPAWN:
            self.change_goal(instance, Goal.START)
        if instance.state is State.POST_STOP and state is State.STARTING and instance.delay_s:
            self._set(instance, "hold_at", instance.delay_s)
            instance.delay_s = 0.0
            return State.POST_STOP
        return state

    def _change_state(self, instance: Instance, state: State) -> None:
        while instance.state is not state and instance.blocker is None:
            old = instance.state
            instance.state = state
            if old is State.SPAWNED:
                instance.ready_at = None
            self.around.effect(
                effects.StateChanged(job=instance.job.name, instance=instance.name, state=state)
            )
            if self._enter(instance, old):
                state = self._next(instance)

    def _enter(self, instance: Instance, old: State) -> bool:
        """Do what the state does; True when that is over at once."""
        row = TABLE[instance.state]
        match row.action:
            case Action.EMIT_AND_WAIT:
                if instance.state is State.STARTING:
                    self._begin(instance)
                instance.blocker = self._emit(instance, blocks=True)
                return False
            case Action.SPAWN:
                assert row.step is not None
                self._spawn(instance, row.step)
                return True
            case Action.AWAIT_END | Action.AWAIT_READY:
                return row.step not in instance.processes
            case Action.REST:
                self._rest(instance, old)
                return False
            case Action.KILL:
                return not self._stop_main(instance)
            case Action.LEAVE:
                self._emit(instance, blocks=False)
                self.around.finished(instance, failed=False)
                self.around.left(instance)
                return False
        assert_never(row.action)

    def _begin(self, instance: Instance) -> None:
        """A start begins: take up what was given for it, forget what was before."""
        if instance.start_environment is not None:
            instance.environment = instance.start_environment
            instance.start_environment = None
        instance.stop_environment = None
        instance.failed = False
        instance.skipped = False
        instance.failed_step = None
        instance.exit_status = None
        instance.main_status = None
        instance.trouble = ""

    def _rest(self, instance: Instance, old: State) -> None:
        if old is State.PRE_STOP:
            # A start inside pre-stop has cancelled the stop; it never stopped running.
            instance.stop_environment = None
            self.around.finished(instance, failed=False)
            return
        self._emit(instance, blocks=False)
        if not instance.job.task:
            self.around.finished(instance, failed=False)

    def _emit(self, instance: Instance, *, blocks: bool) -> int:
        event = TABLE[instance.state].event
        assert event is not None
        stop = instance.state in (State.STOPPING, State.WAITING)
        environment = instance.event_environment(stop=stop)
        return self.around.emit_for(instance, event, environment, blocks=blocks)

    def _spawn(self, instance: Instance, step: Step) -> None:
        process = instance.job.process(step)
        if process is None or (step is Step.SECURITY and not self.around.apparmor):
            return
        if step is Step.POST_STOP and instance.skipped:
            # Nothing of it ran that there was to clean up after.
            return
        spawn = self.around.new_spawn(instance, step)
        instance.processes[step] = Running(spawn)
        self.around.effect(
            effects.Spawn(
                spawn=spawn,
                job=instance.job,
                instance=instance.name,
                step=step,
                process=process,
                environment=instance.process_environment(step),
                fds=instance.fds,
                beside=instance.main.spawn if step is Step.RELOAD and instance.main else None,
            )
        )

    def _main_ended(self, instance: Instance, status: int) -> None:
        state = instance.state
        if state is State.KILLED:
            self._killed(instance)
            return
        if state is State.STOPPING:
            # It waits for its own `stopping` event, which may yet start it again; that it died
            # meanwhile is no failure, so that `stopping` and `stopped` tell the same result.
            return
        if instance.goal is Goal.RESPAWN:
            # A restart waits for pre-stop to end; it goes on whether main lives or not.
            return
        # A script that still runs ends first.
        scripted = state in (State.POST_START, State.PRE_STOP) and (
            TABLE[state].step in instance.processes
        )
        if instance.goal is Goal.START and self._is_failure(instance, status):
            respawn = instance.job.respawn
            again = respawn.enabled and status not in respawn.never_on
            if again and not self._runs_away(instance):
                self._respawn(instance, scripted=scripted)
                return
            if not again:
                self._fail(instance, Step.MAIN, status)
        self.change_goal(instance, Goal.STOP)
        if instance.state is state and state is not State.RUNNING and not scripted:
            self.advance(instance)

    def _is_failure(self, instance: Instance, status: int) -> bool:
        """A service that is to be respawned must not even end well, unless it says so."""
        service = instance.job.respawn.enabled and not instance.job.task
        return bool(status or service) and status not in instance.job.normal_exit

    def _respawn(self, instance: Instance, *, scripted: bool) -> None:
        self._log(Level.WARNING, f"{instance} main process ended, respawning")
        self._choose_delay(instance)
        if scripted or instance.state is State.SPAWNED:
            self.change_goal(instance, Goal.RESPAWN)
        if not scripted:
            self.advance(instance)

    def _choose_delay(self, instance: Instance) -> None:
        """The back-off: doubled each time, and forgotten after a run longer than the interval."""
        respawn = instance.job.respawn
        if not respawn.delay_min_s:
            return
        since = instance.main_since
        lived_s = self.around.now - since if since is not None else 0.0
        if instance.last_delay_s and lived_s < max(respawn.interval_s, instance.last_delay_s):
            delay_s = instance.last_delay_s * 2
        else:
            delay_s = respawn.delay_min_s
        instance.last_delay_s = min(delay_s, respawn.delay_max_s)
        instance.delay_s = instance.last_delay_s

    def _runs_away(self, instance: Instance) -> bool:
        """Count a respawn; True, and failed, when there were too many within the interval."""
        respawn = instance.job.respawn
        if not (respawn.limit and respawn.interval_s):
            return False
        now, since = self.around.now, instance.respawn_since
        if since is None or now - since >= respawn.interval_s:
            instance.respawn_since = now
            instance.respawn_count = 1
            return False
        instance.respawn_count += 1
        if instance.respawn_count <= respawn.limit:
            return False
        self._log(Level.WARNING, f"{instance} respawning too fast, stopped")
        self._fail(instance, None, None)
        return True

    def _not_ready(self, instance: Instance) -> None:
        """The main process did not become ready in time."""
        if instance.state is not State.SPAWNED:
            return
        deadline_s = instance.job.readiness.deadline_s
        self._log(Level.WARNING, f"{instance} main process was not ready within {deadline_s:g} s")
        if instance.job.respawn.enabled and instance.goal is Goal.START:
            if not self._runs_away(instance):
                self._respawn(instance, scripted=False)
                return
        else:
            self._fail(instance, Step.MAIN, None)
        self.change_goal(instance, Goal.STOP)

    def _stop_main(self, instance: Instance) -> bool:
        """Signal what is left of the main process; False when nothing is."""
        mode = instance.job.kill.mode
        if mode is KillMode.NONE:
            self._forget(instance, Step.MAIN)
            return False
        if instance.main is None and instance.group is None:
            return False
        if instance.main is None and mode is KillMode.MIXED:
            self._kill(instance, SIGKILL, KillMode.CONTROL_GROUP)
            return True
        self._kill(instance, instance.job.kill.signal, kill_scope(mode, last=False))
        self._set(instance, "kill_at", instance.job.kill.timeout_s)
        return True

    def _killed(self, instance: Instance) -> None:
        """The main process ended after it was told to; its cgroup may hold more."""
        if instance.group is not None:
            if instance.job.kill.mode is KillMode.MIXED:
                self._kill(instance, SIGKILL, KillMode.CONTROL_GROUP)
            return
        instance.kill_at = None
        self.advance(instance)

    def _kill(self, instance: Instance, signal: int, scope: KillMode) -> None:
        main = instance.main
        spawn = main.spawn if main else instance.group
        if spawn is None:
            return
        pid = main.pid if main else None
        if pid is not None:
            text = f"Sending {signal_name(signal)} signal to {instance} main process ({pid})"
            self._log(Level.INFO, text)
        self.around.effect(effects.Kill(spawn=spawn, pid=pid, signal=signal, scope=scope))

    def _fail(self, instance: Instance, step: Step | None, status: int | None) -> None:
        if instance.failed:
            return
        instance.failed = True
        instance.failed_step = step
        instance.exit_status = status
        self.around.effect(
            effects.InstanceFailed(
                job=instance.job.name, instance=instance.name, step=step, status=status
            )
        )
        self.around.finished(instance, failed=True)

    def _forget(self, instance: Instance, step: Step) -> None:
        running = instance.processes.pop(step, None)
        if running is not None and running.spawn != instance.group:
            self.around.forget_spawn(running.spawn)

    def _main_runs(self, instance: Instance) -> bool:
        return instance.main is not None and instance.main.pid is not None

    def _set(self, instance: Instance, field: str, seconds: float) -> None:
        at = self.around.now + seconds
        setattr(instance, field, at)
        self.around.deadline(instance, field, at)

    def _log(self, level: Level, message: str) -> None:
        self.around.effect(effects.Log(level=level, message=message))


def kill_scope(mode: KillMode, *, last: bool) -> KillMode:
    """Whom a stop's signal reaches: the first one, or the `last` one, which is SIGKILL."""
    if mode is KillMode.MIXED:
        return KillMode.CONTROL_GROUP if last else KillMode.PROCESS
    return mode
