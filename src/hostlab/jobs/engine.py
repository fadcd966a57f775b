"""The engine: facts in, effects out.

It holds the classes, their instances and the events. `handle` takes one fact and the time, and
returns what must be done; `next_deadline` says when it wants to be called although nothing has
happened. There is no other input and no other output, so a run can be written down and played
again, and a state that was stored goes on where it stood.

For each event, class by class: first the `stop on` of every instance, then `start on`. So an event
that is in both restarts the job (init/event.c, event_pending_handle_jobs()).
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from hostlab.jobs.classes import JobClass, Last
from hostlab.jobs.effects import Effect, Level
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.jobs.events import Blocker, BlockerKind, Event, Queue
from hostlab.jobs.expression import NO_ENVIRONMENT, Environment, Leaf, Progress
from hostlab.jobs.facts import Fact
from hostlab.jobs.instance import Instance
from hostlab.jobs.listeners import Index, Listener
from hostlab.jobs.machine import Machine
from hostlab.jobs.ordering import Ordering
from hostlab.jobs.relating import relate
from hostlab.jobs.states import Goal, State
from hostlab.jobs.variables import set_variable
from hostlab.spec import sockets
from hostlab.spec.job import Job, KillMode, Step
from hostlab.spec.signals import signal_name

MAX_EVENTS_AT_ONCE = 10_000
"""Events visited in one call. Two jobs that start and stop each other make events for ever;
Upstart never comes back from them, this engine asks to be called again."""
FAILED = "/failed"

Owner = JobClass | Instance
_Timer = tuple[float, bool, int, str, int, Instance | Event, str]
"""When, what decides among those of one time, whose, and which of its times."""


class Engine:
    """All jobs of one init."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        own_environment: Mapping[str, str] | None = None,
        apparmor: bool = False,
    ) -> None:
        """`environment` is what every job gets, `own_environment` what `env KEY` takes from."""
        self.now = 0.0
        self.apparmor = apparmor
        self.environment = dict(environment or {})
        self.own_environment = dict(own_environment or {})
        self.classes: dict[str, JobClass] = {}
        self.queue = Queue()
        self.spawns: dict[int, tuple[Instance, Step]] = {}
        """The processes that facts can still be about, by spawn number."""
        self.next_spawn = 1
        self.next_class = 1
        self.next_instance = 1
        self.index: Index[Owner] = Index()
        self.extra: dict[str, Any] = {}
        """What a later version's state said and this one does not know."""
        self._machine = Machine(self)
        self._ordering = Ordering(self.classes)
        self._effects: list[Effect] = []
        self._timers: list[_Timer] = []
        self._timer_serial = 0

    def handle(self, fact: Fact, now: float) -> tuple[Effect, ...]:
        """Take one fact at a time of the monotonic clock; what must be done, in order.

        UsageError when a request names what does not exist or asks for what is already so;
        nothing has changed then.
        """
        self.now = max(self.now, now)
        self._effects = []
        self._take(fact)
        self._expire()
        self._poll()
        return tuple(self._effects)

    def next_deadline(self) -> float | None:
        """When to call with `Elapsed` at the latest; None when only a fact can change anything."""
        if not self.queue.idle:
            return self.now
        while self._timers:
            at, *_, target, field = self._timers[0]
            if getattr(target, field) == at:
                return at
            heappop(self._timers)
        return None

    def instance(self, job: str, name: str = "") -> Instance | None:
        """A live instance; None when there is none of this name."""
        found = self.classes.get(job)
        return found.instances.get(name) if found else None

    def adopt_event(self, event: Event) -> None:
        """Take up an event that another engine held."""
        self.queue.events[event.serial] = event
        if not (event.handled and event.blockers):
            self.queue.wake(event)
        if event.timeout_at is not None:
            self.deadline(event, "timeout_at", event.timeout_at)

    def adopt_class(self, found: JobClass) -> None:
        """Take up a class with its instances, after the events that they hold."""
        self._ordering.forget()
        self.classes[found.job.name] = found
        self._listen(found)
        for instance in found.instances.values():
            if instance.stop_on is not None:
                self.index.add(found.stop_order(instance), instance.stop_on.tree, instance)
            for step, running in instance.processes.items():
                self.spawns[running.spawn] = (instance, step)
            if instance.group is not None:
                self.spawns[instance.group] = (instance, Step.MAIN)
            for field in ("kill_at", "ready_at", "hold_at"):
                at = getattr(instance, field)
                if at is not None:
                    self.deadline(instance, field, at)

    # What the machine asks for.

    def effect(self, effect: Effect) -> None:
        """Have something done."""
        self._effects.append(effect)

    def emit_for(
        self, instance: Instance, name: str, environment: Environment, *, blocks: bool
    ) -> int:
        """Emit an instance's event; with `blocks` the instance goes on when it is finished."""
        event = self.queue.add(name, environment)
        if blocks:
            event.holds = (instance.job.name, instance.name)
        return event.serial

    def new_spawn(self, instance: Instance, step: Step) -> int:
        """A number for a process that is about to be started."""
        spawn = self.next_spawn
        self.next_spawn = spawn + 1
        self.spawns[spawn] = (instance, step)
        return spawn

    def forget_spawn(self, spawn: int) -> None:
        """No fact about this process matters any more."""
        self.spawns.pop(spawn, None)

    def finished(self, instance: Instance, *, failed: bool) -> None:
        """Let go of every event and request that waits for an instance."""
        if not instance.blocking:
            return
        blocking, instance.blocking = instance.blocking, []
        blocker = Blocker(BlockerKind.JOB, instance.job.name, instance.name)
        for held in blocking:
            if isinstance(held, int):
                if failed:
                    self.queue.events[held].failed = True
                self.queue.unblock(held, blocker)
                continue
            request, verb = held
            self.effect(
                effects.Reply(
                    request=request,
                    ok=not failed,
                    message=f"Job failed {_DOING[verb]}" if failed else "",
                    job=instance.job.name,
                    instance=instance.name,
                )
            )

    def reloaded(self, instance: Instance, *, ok: bool) -> None:
        """Answer those who asked for an instance's reload."""
        why, job, name = "" if ok else "Job failed to reload", instance.job.name, instance.name
        for asked in instance.reloading:
            self.effect(effects.Reply(request=asked, ok=ok, message=why, job=job, instance=name))
        instance.reloading = ()

    def left(self, instance: Instance) -> None:
        """An instance has stopped: take it away, and perhaps its class or its description."""
        self.reloaded(instance, ok=False)
        found = self.classes[instance.job.name]
        if instance.stop_on is not None:
            self.index.remove(found.stop_order(instance), instance.stop_on.tree)
            self._reset(instance, instance.stop_on)
        del found.instances[instance.name]
        if closed := sockets.closed(instance.job, instance.environment):
            self.queue.add(sockets.CLOSED, closed)
        found.last = Last(
            instance=instance.name,
            failed=instance.failed,
            failed_step=instance.failed_step,
            exit_status=instance.exit_status,
            main_status=instance.main_status,
            trouble=instance.trouble,
        )
        for running in instance.processes.values():
            self.forget_spawn(running.spawn)
        if instance.group is not None:
            self.forget_spawn(instance.group)
        self.effect(effects.InstanceRemoved(job=instance.job.name, instance=instance.name))
        if not found.instances:
            self._settle(found)

    def deadline(self, instance: Instance | Event, field: str, at: float) -> None:
        """Remember a time; whoever owns it clears or moves it by changing the field."""
        # What is due at the same time is done in an order that a restored engine keeps too.
        self._timer_serial += 1
        is_event = isinstance(instance, Event)
        entry = (at, is_event, instance.serial, field, self._timer_serial, instance, field)
        heappush(self._timers, entry)

    # Facts.

    def _take(self, fact: Fact) -> None:
        match fact:
            case facts.Emit():
                self._emit(fact)
            case facts.ProcessFact():
                self._process(fact)
            case facts.JobRequest():
                self._request(fact)
            case facts.Load():
                self._load(fact)
            case facts.Unload():
                self._unload(fact.name)
            case facts.SetVariable():
                set_variable(self, fact)
            case facts.Forget() if fact.name in self.classes:
                self.classes[fact.name].last = None
            case facts.Elapsed() | facts.Forget():
                pass
            case _:
                raise AssertionError(f"no such fact: {fact}")

    def _emit(self, fact: facts.Emit) -> None:
        if not fact.name:
            raise UsageError("event-name", "Name may not be empty string")
        event = self.queue.add(fact.name, fact.environment)
        event.fds = fact.fds
        event.request = fact.request
        if fact.request is not None and fact.timeout_s is not None:
            event.timeout_at = self.now + fact.timeout_s
            self.deadline(event, "timeout_at", event.timeout_at)

    def _process(self, fact: facts.ProcessFact) -> None:
        known = self.spawns.get(fact.spawn)
        if known is None:
            return
        instance, step = known
        running = instance.processes.get(step)
        if isinstance(fact, facts.Emptied):
            if instance.group == fact.spawn:
                if running is None or running.spawn != fact.spawn:
                    self.forget_spawn(fact.spawn)
                self._machine.emptied(instance)
            return
        if running is None or running.spawn != fact.spawn:
            return
        self._running(fact, instance, step)

    def _running(self, fact: facts.ProcessFact, instance: Instance, step: Step) -> None:
        """A fact about a process that its instance still counts on."""
        machine = self._machine
        match fact:
            case facts.Spawned():
                machine.spawned(instance, step, fact.pid)
            case facts.SpawnFailed():
                why = f": {fact.reason}" if fact.reason else ""
                text = f"Failed to spawn {instance} {step} process: unable to {fact.step}{why}"
                self._log(Level.WARNING, text)
                instance.trouble = f"{fact.step}{why}"
                machine.spawn_failed(instance, step)
            case facts.Skipped():
                self._log(Level.INFO, f"{instance} is skipped: {fact.reason}")
                instance.trouble = fact.reason
                machine.skipped(instance, step)
            case facts.Exited():
                if fact.status:
                    self._ended(
                        instance, step, fact.status, f"terminated with status {fact.status}"
                    )
                machine.ended(instance, step, fact.status)
            case facts.Signalled():
                how = f"killed by {signal_name(fact.signal)} signal"
                self._ended(instance, step, fact.signal << 8, how)
                machine.ended(instance, step, fact.signal << 8)
            case facts.Stopped():
                machine.stopped(instance, step)
            case facts.Ready() if step is Step.MAIN:
                machine.ready(instance, fact.pid)
            case facts.MainPid() if step is Step.MAIN:
                instance.processes[step].pid = fact.pid
            case facts.ExtendDeadline() if step is Step.MAIN:
                machine.extend(instance, fact.seconds)
            case _:
                pass

    def _ended(self, instance: Instance, step: Step, status: int, how: str) -> None:
        """Say that a process did not end well, louder when that was not to be expected."""
        normal = status in instance.job.normal_exit
        level = Level.INFO if normal else Level.WARNING
        pid = instance.processes[step].pid
        self._log(level, f"{instance} {step} process ({pid}) {how}")

    # Descriptions.

    def _load(self, fact: facts.Load) -> None:
        self._ordering.forget()
        job = fact.job
        found = self.classes.get(job.name)
        if found is None:
            found = JobClass(job, self.next_class)
            self.next_class += 1
            self.classes[job.name] = found
            self._listen(found)
        elif found.instances:
            found.deleted = False
            if fact.related:
                relate(found, job, self.index, self._reset)
            found.successor = job if job != found.job else None
        elif job != found.job:
            self._replace(found, job)

    def _unload(self, name: str) -> None:
        found = self.classes.get(name)
        if found is None:
            raise UsageError("unknown-job", f"Unknown job: {name}")
        found.deleted = True
        found.successor = None
        if not found.instances:
            self._settle(found)

    def _settle(self, found: JobClass) -> None:
        """The last instance has gone: what waited for that happens now."""
        if found.deleted:
            self._ordering.forget()
            self._deafen(found)
            del self.classes[found.job.name]
        elif found.successor is not None:
            self._replace(found, found.successor)

    def _replace(self, found: JobClass, job: Job) -> None:
        """Give a class another description, and that one the events that the old one held."""
        self._ordering.forget()
        old = found.start_on
        if old is not None:
            self.index.remove(found.start_order, old.tree)
        found.describe(job)
        self._listen(found)
        new = found.start_on
        blocker = Blocker(BlockerKind.START_ON, job.name)
        held = old.reset() if old is not None else []
        for serial in dict.fromkeys(held) if new is not None else ():
            event = self.queue.events[serial]
            assert new is not None
            for leaf in new.tree.leaves:
                if leaf.accepts(event.name, event.environment) and new.take(leaf, serial):
                    self.queue.block(event, blocker)
        for serial in held:
            self.queue.unblock(serial, blocker)
        # A condition that is true at once is no event: nothing has happened now.
        if new is not None and new.satisfied:
            self._reset(found, new)

    def _listen(self, found: JobClass) -> None:
        if found.start_on is not None:
            self.index.add(found.start_order, found.start_on.tree, found)

    def _deafen(self, found: JobClass) -> None:
        if found.start_on is not None:
            self.index.remove(found.start_order, found.start_on.tree)
            self._reset(found, found.start_on)

    # Requests.

    def _request(self, fact: facts.JobRequest) -> None:
        found = self.classes.get(fact.job)
        if isinstance(fact, facts.Stop) and fact.failure is not None:
            if found is not None:
                found.cannot_work(fact.failure, self._machine.give_up)
            return
        if found is None:
            raise UsageError("unknown-job", f"Unknown job: {fact.job}")
        environment = self.class_environment(found.job)
        environment.update(fact.environment)
        name = fact.instance
        if name is None:
            try:
                name = expand(found.job.instance, environment)
            except ExpansionError as error:
                usage = found.job.usage if isinstance(fact, facts.Start) else None
                hint = f"Usage: {usage}" if usage else None
                raise UsageError("instance", error.message, hint=hint) from None
        instance = found.instances.get(name)
        match fact:
            case facts.Start():
                self._start(fact, found, name, instance, environment)
            case facts.Stop():
                self._stop(fact, self._existing(found, name, instance))
            case facts.Restart():
                self._restart(fact, self._existing(found, name, instance), environment)
            case facts.Reload():
                self._reload(fact, self._existing(found, name, instance, stopped=True))
            case _:
                raise AssertionError(f"no such request: {fact}")

    def _existing(
        self, found: JobClass, name: str, instance: Instance | None, *, stopped: bool = False
    ) -> Instance:
        """The instance that a request is about; UsageError when it is none or stops already."""
        if instance is None:
            message = f"Unknown instance: {name}" if name else f"Unknown instance: {found.job.name}"
            raise UsageError("unknown-instance", message)
        if instance.goal is Goal.STOP and not stopped:
            raise UsageError("already-stopped", f"Job has already been stopped: {instance}")
        return instance

    def _start(
        self,
        fact: facts.Start,
        found: JobClass,
        name: str,
        instance: Instance | None,
        environment: dict[str, str],
    ) -> None:
        if instance is not None and instance.goal is not Goal.STOP:
            raise UsageError("already-started", f"Job is already running: {instance}")
        if instance is None:
            if fact.instance is not None:
                raise UsageError("unknown-instance", f"Unknown instance: {name}")
            instance = self._new_instance(found, name)
        instance.start_environment = environment if fact.instance is None else None
        self._wait_for(instance, fact.request, "start")
        self._machine.change_goal(instance, Goal.START)

    def _stop(self, fact: facts.Stop, instance: Instance) -> None:
        instance.stop_environment = dict(fact.environment) if fact.instance is None else None
        self._wait_for(instance, fact.request, "stop")
        self._machine.change_goal(instance, Goal.STOP)

    def _restart(
        self, fact: facts.Restart, instance: Instance, environment: dict[str, str]
    ) -> None:
        instance.start_environment = environment if fact.instance is None else None
        instance.stop_environment = None
        self._wait_for(instance, fact.request, "restart")
        if instance.hold_at is not None:
            self._machine.skip_hold(instance)
            return
        self._machine.change_goal(instance, Goal.STOP)
        # A start inside pre-stop would cancel the stop; respawn goes on to it and starts again.
        scripted = instance.state is State.PRE_STOP
        self._machine.change_goal(instance, Goal.RESPAWN if scripted else Goal.START)

    def _reload(self, fact: facts.Reload, instance: Instance) -> None:
        main = instance.main
        stays = instance.job.reload is not None and instance.state is State.RUNNING
        if not stays and (main is None or main.pid is None):
            raise UsageError("not-running", f"Job is not running: {instance}")
        instance.reloading += (fact.request,) if fact.request else ()
        if instance.job.reload is not None:
            self._machine.reload(instance)
        elif main is not None:
            scope, number = KillMode.PROCESS, instance.job.reload_signal
            self.effect(effects.Kill(spawn=main.spawn, pid=main.pid, signal=number, scope=scope))
            self.reloaded(instance, ok=True)

    def _wait_for(self, instance: Instance, request: str | None, verb: str) -> None:
        """Whoever waited for the instance's last change has waited long enough."""
        self.finished(instance, failed=False)
        if request is not None:
            instance.blocking.append((request, verb))

    def class_environment(self, job: Job) -> dict[str, str]:
        """What a new instance starts from: every job's variables, then the job's own."""
        environment = dict(self.environment)
        for name in job.inherit:
            value = self.own_environment.get(name)
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        environment.update(job.environment)
        return environment

    def _new_instance(self, found: JobClass, name: str) -> Instance:
        instance = Instance(found.job, name, self.next_instance, found.stop_tree)
        self.next_instance += 1
        found.instances[name] = instance
        if instance.stop_on is not None:
            self.index.add(found.stop_order(instance), instance.stop_on.tree, instance)
        self.effect(effects.InstanceAdded(job=found.job.name, instance=name))
        return instance

    # Events.

    def _poll(self) -> None:
        """Move events on until only blocked ones are left."""
        queue = self.queue
        for _ in range(MAX_EVENTS_AT_ONCE):
            event = queue.pop()
            if event is None:
                return
            if not event.handled:
                event.handled = True
                if event.holds is not None:
                    self._keep_order(event, *event.holds)
                listeners = self.index.find(event.name, event.environment)
                if listeners:
                    self._offer(event, listeners)
                self.effect(
                    effects.EventHandled(
                        serial=event.serial, name=event.name, environment=event.environment
                    )
                )
            if not event.blockers:
                self._finish(event)
        queue.begin_pass()

    def _keep_order(self, event: Event, job: str, name: str) -> None:
        """An instance's `starting` or `stopping` waits for those that it is ordered behind."""
        instance = self.instance(job, name)
        if instance is None or instance.blocker != event.serial:
            return
        for other in self._ordering.before(instance):
            if not self._waits_for(other, instance):
                self._hold(other, [event])

    def waits_for_no_turn(self, instance: Instance) -> None:
        """Its `starting` goes on from those it is ordered behind: it is not to start any more."""
        self._ordering.let_go(instance, self.queue)

    def _waits_for(self, instance: Instance, other: Instance) -> bool:
        """Whether an instance's own event is held by another, which then cannot wait for it."""
        event = self.queue.events.get(instance.blocker or 0)
        blocker = Blocker(BlockerKind.JOB, other.job.name, other.name)
        return event is not None and blocker in event.blockers

    def _offer(self, event: Event, listeners: list[Listener[Owner]]) -> None:
        """Show an event to everyone whose condition it may match.

        An owner's operands stand together, because listeners come in order.
        """
        name, environment = event.name, event.environment
        matched: dict[tuple[int, int, int], tuple[Owner, list[Leaf]]] = {}
        for order, leaf, owner in listeners:
            own = owner.environment if isinstance(owner, Instance) else NO_ENVIRONMENT
            if leaf.accepts(name, environment, own):
                matched.setdefault(order, (owner, []))[1].append(leaf)
        for owner, leaves in matched.values():
            if isinstance(owner, Instance):
                if owner.stop_on is not None:
                    self._offer_stop(event, owner, owner.stop_on, leaves)
            elif owner.start_on is not None:
                self._offer_start(event, owner, owner.start_on, leaves)

    def _offer_stop(
        self, event: Event, instance: Instance, progress: Progress[int], leaves: list[Leaf]
    ) -> None:
        blocker = Blocker(BlockerKind.STOP_ON, instance.job.name, instance.name)
        if not self._match(event, progress, leaves, blocker):
            return
        if instance.goal is not Goal.STOP:
            events = [self.queue.events[serial] for serial in progress.active()]
            stop: dict[str, str] = {}
            for active in events:
                stop.update(active.environment)
            stop["UPSTART_STOP_EVENTS"] = " ".join(active.name for active in events)
            instance.stop_environment = stop
            self.finished(instance, failed=False)
            self._hold(instance, events)
            self._machine.change_goal(instance, Goal.STOP)
        self._reset(instance, progress)

    def _offer_start(
        self, event: Event, found: JobClass, progress: Progress[int], leaves: list[Leaf]
    ) -> None:
        blocker = Blocker(BlockerKind.START_ON, found.job.name)
        if not self._match(event, progress, leaves, blocker):
            return
        if not found.job.instance:
            single = found.instances.get("")
            if single is not None and single.goal is not Goal.STOP:
                # It runs already, which is what most events find.
                self._reset(found, progress)
                return
        events = [self.queue.events[serial] for serial in progress.active()]
        environment = self.class_environment(found.job)
        for active in events:
            environment.update(active.environment)
        environment["UPSTART_EVENTS"] = " ".join(active.name for active in events)
        try:
            name = expand(found.job.instance, environment)
        except ExpansionError as error:
            text = f"Failed to obtain {found.job.name} instance: {error.message}"
            self._log(Level.WARNING, text)
            self._reset(found, progress)
            return
        instance = found.instances.get(name) or self._new_instance(found, name)
        if instance.goal is Goal.STOP:
            instance.fds = tuple(fd for active in events for fd in active.fds)
            if instance.fds:
                environment["UPSTART_FDS"] = " ".join(map(str, instance.fds))
            instance.start_environment = environment
            self.finished(instance, failed=False)
            self._hold(instance, events)
            self._machine.change_goal(instance, Goal.START)
        self._reset(found, progress)

    def _match(
        self, event: Event, progress: Progress[int], leaves: list[Leaf], blocker: Blocker
    ) -> bool:
        """Let an event make operands true; whether the whole condition is true because of it."""
        matched = False
        for leaf in leaves:
            if progress.take(leaf, event.serial):
                self.queue.block(event, blocker)
                matched = True
        return matched and progress.satisfied

    def _hold(self, instance: Instance, events: list[Event]) -> None:
        """Events wait until the instance has done what they made it do."""
        blocker = Blocker(BlockerKind.JOB, instance.job.name, instance.name)
        for event in events:
            self.queue.block(event, blocker)
            instance.blocking.append(event.serial)

    def _reset(self, owner: Owner, progress: Progress[int]) -> None:
        """Start a condition afresh and let go of its events."""
        if isinstance(owner, Instance):
            blocker = Blocker(BlockerKind.STOP_ON, owner.job.name, owner.name)
        else:
            blocker = Blocker(BlockerKind.START_ON, owner.job.name)
        for serial in progress.reset():
            self.queue.unblock(serial, blocker)

    def _finish(self, event: Event) -> None:
        """Nothing blocks an event: let what waits for it go on."""
        self.queue.remove(event)
        if event.holds is not None:
            instance = self.instance(*event.holds)
            if instance is not None and instance.blocker == event.serial:
                instance.blocker = None
                why = self._ordering.unmet(instance)
                if why is not None:
                    self._machine.refuse(instance, why)
                self._machine.advance(instance)
        self._answer(event, ok=not event.failed, message="Event failed" if event.failed else "")
        if event.failed and not event.name.endswith(FAILED):
            self.queue.add(event.name + FAILED, event.environment)
        self.effect(
            effects.EventFinished(
                serial=event.serial,
                name=event.name,
                environment=event.environment,
                failed=event.failed,
            )
        )

    def _answer(self, event: Event, *, ok: bool, message: str) -> None:
        event.timeout_at = None
        if event.request is not None:
            self.effect(effects.Reply(request=event.request, ok=ok, message=message))
            event.request = None

    def _expire(self) -> None:
        """Whatever time has come."""
        while self._timers and self._timers[0][0] <= self.now:
            at, *_, target, field = heappop(self._timers)
            if getattr(target, field) != at:
                continue
            if isinstance(target, Event):
                self._answer(target, ok=False, message=f"Event {target.name} is still blocked")
            else:
                self._machine.expired(target, field)

    def _log(self, level: Level, message: str) -> None:
        self.effect(effects.Log(level=level, message=message))


_DOING = {"start": "to start", "stop": "while stopping", "restart": "to restart"}
