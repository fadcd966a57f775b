"""Random jobs, events and processes: what must hold whatever happens.

The model plays processes as the machine would: each `Spawn` is a process that is told to run, to
become ready, to stop or to end, in any order that a kernel could produce, and now and then in one
that it could not: twice, too late, about another process. A twin, rebuilt from the stored state
at random moments, is told the same facts and must want the same. Supervisors die, also between
storing a fact and carrying out its effects: then only what `restored` says is done.

`HOSTLAB_MODEL` is the number of runs; `make model` has a long one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from hostlab.jobs.effects import Effect
from hostlab.jobs.engine import Engine
from hostlab.jobs.events import Blocker, BlockerKind
from hostlab.jobs.expression import Environment, Progress
from hostlab.jobs.instance import Instance
from hostlab.jobs.journal import AnyFact, encode_entry, replay
from hostlab.jobs.restored import unsent, unspawned
from hostlab.jobs.snapshot import Snapshot, capture, decode, encode, restore
from hostlab.jobs.states import Goal, State
from hostlab.jobs.waits import Party, circle, event_name, waits
from hostlab.spec.job import Job, KillMode, Step
from tests.unit.jobs.model_jobs import ENDINGS, JOBS, NAMES, VARIABLES, jobs
from tests.unit.jobs.model_machine import Processes

pytestmark = pytest.mark.unit

RUNS = int(os.environ.get("HOSTLAB_MODEL", "20"))
STEPS = 40
MAX_SETTLING = 400
MAX_TRIES = 5
EVENTS_AT_ONCE = 60
"""Jobs that start and stop each other make events for ever; few a call keep the model quick."""


@pytest.fixture(autouse=True, scope="module")
def few_events_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hostlab.jobs.engine.MAX_EVENTS_AT_ONCE", EVENTS_AT_ONCE)
        yield


class Model(RuleBasedStateMachine):
    """An engine, its processes, and its twin."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(environment={"PATH": "/bin"}, apparmor=True)
        self.twin: Engine | None = None
        self.now = 0.0
        self.machine = Processes()
        self.requests = 0
        self.open: set[str] = set()
        self.stored = encode(capture(self.engine))
        self.journal = b""
        self.dies_next = False
        self.tries = 0
        self.excuses = 0

    # What is told, and what comes of it.

    def tell(self, fact: AnyFact) -> None:
        before = capture(self.engine)
        self.journal += encode_entry(fact, self.now)
        try:
            wanted = self.engine.handle(fact, self.now)
        except UsageError as error:
            self._refused(fact, error, before)
            return
        if self.twin is not None:
            assert self.twin.handle(fact, self.now) == wanted
        if self.dies_next:
            self.dies_next = False
            self._next_supervisor(wanted)
        else:
            for effect in wanted:
                self.carry_out(effect)

    def _refused(self, fact: AnyFact, error: UsageError, before: Snapshot) -> None:
        after = capture(self.engine)
        after.now = before.now
        assert after == before, "a refused request changes nothing"
        if self.twin is not None:
            with pytest.raises(UsageError, match=re.escape(error.message)):
                self.twin.handle(fact, self.now)
        self.open.discard(getattr(fact, "request", None) or "")

    def carry_out(self, effect: Effect) -> None:
        self.machine.carry_out(effect)
        match effect:
            case effects.Reply():
                assert effect.request in self.open, "a request is answered once"
                self.open.remove(effect.request)
            case effects.StateChanged(state=State.KILLED):
                instance = self.engine.instance(effect.job, effect.instance)
                if instance is None or instance.job.kill.mode is KillMode.NONE:
                    self.machine.abandon(effect.job, effect.instance)
            case _:
                pass

    def _next_supervisor(self, wanted: tuple[Effect, ...]) -> None:
        """It stored the fact and died before it did anything."""
        self._rebuild()
        for effect in wanted:
            if not isinstance(effect, effects.Spawn | effects.Kill):
                self.carry_out(effect)
        started = [each for each in wanted if isinstance(each, effects.Spawn)]
        undone = {each.spawn: each for each in unspawned(self.engine)}
        assert sorted(undone) == sorted([*self.machine.unknown, *(each.spawn for each in started)])
        for spawn in started:
            assert undone[spawn.spawn] == spawn
            self.carry_out(undone[spawn.spawn])
        for kill in unsent(self.engine):
            self.carry_out(kill)

    def _rebuild(self) -> None:
        state = capture(self.engine)
        self.engine = restore(decode(self.stored))
        replay(self.engine, self.journal)
        assert capture(self.engine) == state

    def request(self) -> str:
        self.requests += 1
        self.open.add(str(self.requests))
        return str(self.requests)

    def instances(self) -> list[Instance]:
        return [
            instance
            for each in self.engine.classes.values()
            for instance in each.instances.values()
        ]

    # What people and programs ask for.

    @initialize(first=st.lists(jobs(), min_size=1, max_size=JOBS))
    def begin(self, first: list[Job]) -> None:
        for job in first:
            self.tell(facts.Load(job=job))

    @rule(job=jobs())
    def load(self, job: Job) -> None:
        self.tell(facts.Load(job=job))

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.tell(facts.Unload(name=name))

    @rule(
        name=st.sampled_from(["a", "b", "c", "d", "", "a/failed", "stopped"]),
        variables=VARIABLES,
        waits=st.booleans(),
        timeout=st.sampled_from([None, 2.0, 0.0]),
        fds=st.sampled_from([(), (5,), (5, 7)]),
    )
    def emit(
        self,
        name: str,
        variables: Environment,
        waits: bool,
        timeout: float | None,
        fds: tuple[int, ...],
    ) -> None:
        request = self.request() if waits else None
        self.tell(
            facts.Emit(
                name=name, environment=variables, request=request, timeout_s=timeout, fds=fds
            )
        )

    @rule(
        kind=st.sampled_from([facts.Start, facts.Start, facts.Stop, facts.Restart, facts.Reload]),
        name=NAMES,
        env=VARIABLES,
        instance=st.sampled_from([None, None, "", "0"]),
    )
    def ask(
        self,
        kind: type[facts.Start | facts.Stop | facts.Restart | facts.Reload],
        name: str,
        env: Environment,
        instance: str | None,
    ) -> None:
        request = self.request()
        self.tell(kind(job=name, environment=env, instance=instance, request=request))

    @rule(name=st.sampled_from("IX"), value=st.sampled_from([None, "0", "1"]))
    def set_variable(self, name: str, value: str | None) -> None:
        self.tell(facts.SetVariable(name=name, value=value))

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 10.0]))
    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.tell(facts.Elapsed())

    # What processes do.

    @precondition(lambda self: self.machine.alive)
    @rule(data=st.data())
    def play(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(sorted(self.machine.alive)))
        if spawn in self.machine.known:
            self._act(spawn, data.draw(st.sampled_from(ACTS)))
        elif data.draw(st.integers(0, 4)):
            self._spawned(spawn)
        else:
            self.machine.end(spawn)
            self.tell(facts.SpawnFailed(spawn=spawn, step="chdir", errno=2))

    def _act(self, spawn: int, act: str) -> None:
        match act:
            case "exit" | "fail":
                self.machine.end(spawn)
                self.tell(facts.Exited(spawn=spawn, status=int(act == "fail")))
            case "signal":
                self.machine.end(spawn)
                self.tell(facts.Signalled(spawn=spawn, signal=9))
            case "stop":
                if spawn in self.machine.killed:
                    return  # Nothing stops a process any more that SIGKILL was sent to.
                # Nobody ends a script that stands still: Upstart gives scripts no time limit.
                if self.machine.alive[spawn].step is Step.MAIN:
                    self.machine.frozen.add(spawn)
                self.tell(facts.Stopped(spawn=spawn))
            case "ready" | "main pid":
                pid = self.machine.known[spawn] + 1000
                if self.machine.alive[spawn].step is Step.MAIN:
                    self.machine.known[spawn] = pid
                kind = facts.Ready if act == "ready" else facts.MainPid
                self.tell(kind(spawn=spawn, pid=pid))
            case _:
                self.tell(facts.ExtendDeadline(spawn=spawn, seconds=1.0))

    def _spawned(self, spawn: int) -> None:
        self.machine.run(spawn, spawn + 1000)
        self.tell(facts.Spawned(spawn=spawn, pid=spawn + 1000))

    @precondition(lambda self: self.machine.unknown)
    @rule(data=st.data())
    def end_before_it_was_told_to_run(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(self.machine.unknown))
        self.machine.end(spawn)
        self.tell(facts.Exited(spawn=spawn, status=data.draw(st.integers(0, 1))))

    @precondition(lambda self: self.machine.groups)
    @rule(data=st.data())
    def empty(self, data: st.DataObject) -> None:
        self._emptied(data.draw(st.sampled_from(sorted(self.machine.groups))))

    def _emptied(self, spawn: int) -> None:
        self.machine.groups.discard(spawn)
        self.tell(facts.Emptied(spawn=spawn))

    @precondition(lambda self: self.machine.gone)
    @rule(data=st.data())
    def tell_too_late(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from([*self.machine.gone, 10_000]))
        if spawn in self.machine.groups:
            return
        fact = data.draw(st.sampled_from(LATE))
        state = capture(self.engine)
        state.now = self.now
        due = self.engine.next_deadline()
        idle = due is None or due > self.now
        self.tell(fact(spawn))
        assert not idle or capture(self.engine) == state, "it changes nothing"

    @precondition(lambda self: self.machine.known)
    @rule(data=st.data())
    def tell_what_is_not_so(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(sorted(self.machine.known)))
        pid = self.machine.known[spawn]
        match data.draw(st.sampled_from(["spawned", "failed", "emptied", "ready", "past"])):
            case "spawned":
                self.tell(facts.Spawned(spawn=spawn, pid=pid))
            case "failed":
                self.machine.end(spawn)
                self.tell(facts.SpawnFailed(spawn=spawn, step="execve", errno=13))
            case "emptied":
                self.machine.emptied.add(spawn)
                self.tell(facts.Emptied(spawn=spawn))
            case "ready":
                self.tell(facts.Ready(spawn=spawn))
            case _:
                self.tell(facts.ExtendDeadline(spawn=spawn, seconds=-5.0))

    # What supervisors do.

    @rule()
    def make_twin(self) -> None:
        self.twin = restore(decode(encode(capture(self.engine))))

    @rule()
    def store(self) -> None:
        self.stored = encode(capture(self.engine))
        self.journal = b""

    @rule()
    def supervisor_dies(self) -> None:
        self._rebuild()
        for kill in unsent(self.engine):
            self.carry_out(kill)

    @rule()
    def supervisor_dies_before_the_next_effects(self) -> None:
        self.dies_next = True

    # What always holds.

    @invariant()
    def nothing_is_left_to_do(self) -> None:
        """Nor is a deadline in the past left."""
        at = self.engine.next_deadline()
        assert at is None or at >= self.now
        assert self.engine.queue.idle or at == self.now

    @invariant()
    def no_event_is_finished_while_something_blocks_it(self) -> None:
        """Whoever holds an event finds it, and the event knows exactly these holders."""
        holders: Counter[tuple[int, Blocker]] = Counter()
        for each in self.engine.classes.values():
            start = Blocker(BlockerKind.START_ON, each.job.name)
            holders.update((serial, start) for serial in _held(each.start_on))
            for instance in each.instances.values():
                stop = Blocker(BlockerKind.STOP_ON, each.job.name, instance.name)
                holders.update((serial, stop) for serial in _held(instance.stop_on))
                job = Blocker(BlockerKind.JOB, each.job.name, instance.name)
                holders.update((held, job) for held in instance.blocking if isinstance(held, int))
        told = {
            (event.serial, blocker): count
            for event in self.engine.queue.events.values()
            for blocker, count in event.blockers.items()
        }
        assert dict(holders) == told

    @invariant()
    def every_blocked_event_has_a_named_blocker(self) -> None:
        named = {wait.name for wait in waits(self.engine) if wait.who is Party.EVENT}
        idle = self.engine.queue.idle
        events = self.engine.queue.events.values()
        assert named == {event_name(event) for event in events if idle or event.blockers}

    @invariant()
    def every_instance_is_at_rest_or_waits_for_something_named(self) -> None:
        waiting = {wait.name for wait in waits(self.engine) if wait.who is Party.JOB}
        for instance in self.instances():
            assert instance.state == "running" or str(instance) in waiting

    @invariant()
    def every_open_request_waits_for_something_named(self) -> None:
        waiting = {wait.name for wait in waits(self.engine) if wait.who is Party.REQUEST}
        assert waiting == self.open

    @invariant()
    def state_equals_what_is_rebuilt_from_its_serialised_form(self) -> None:
        state = capture(self.engine)
        assert capture(restore(decode(encode(state)))) == state

    @invariant()
    def facts_reach_living_processes_only(self) -> None:
        assert set(self.engine.spawns) <= set(self.machine.alive) | self.machine.groups
        assert {each.spawn for each in unspawned(self.engine)} == set(self.machine.unknown)

    # The end.

    def teardown(self) -> None:
        """Goal stop ends in waiting, when its processes do what they are told.

        Unless jobs wait for each other in a circle, as they can in Upstart, or the event that a
        condition waits for starts the job again.
        """
        self.twin = None
        self.dies_next = False
        for count in range(MAX_SETTLING):
            if not self.instances() or self.tries > MAX_TRIES:
                break
            if count == MAX_SETTLING // 4:
                self._quieten()
            acted = self._stop_everything() + self._play_everything()
            if not self.engine.queue.idle:
                self._quieten()
                self.tell(facts.Elapsed())
            elif not acted:
                self._wait_or_set_free()
        if self.instances():
            assert self.tries > MAX_TRIES, waits(self.engine)
            assert self.excuses == self.tries, waits(self.engine)
            return
        assert not self.machine.alive
        assert not self.engine.spawns

    def _stop_everything(self) -> int:
        going = [each for each in self.instances() if each.goal is not Goal.STOP]
        for each in going:
            if self.engine.instance(each.job.name, each.name) is each:
                self.tell(facts.Stop(job=each.job.name, instance=each.name))
        return len(going)

    def _play_everything(self) -> int:
        acted = 0
        for spawn in sorted(self.machine.alive):
            if spawn not in self.machine.alive or spawn in self.machine.frozen:
                continue
            if spawn not in self.machine.known:
                self._spawned(spawn)
            elif self.machine.alive[spawn].step is not Step.MAIN:
                self._act(spawn, "exit")
            elif spawn in self.machine.doomed:
                self._act(spawn, "signal")
            else:
                continue
            acted += 1
        for spawn in sorted(self.machine.groups & self.machine.swept):
            self._emptied(spawn)
            acted += 1
        return acted

    def _wait_or_set_free(self) -> None:
        """Nothing moves by itself: time must pass, or an event must come."""
        at = self.engine.next_deadline()
        if at is not None:
            self.now = at
            self.tell(facts.Elapsed())
            return
        self.tries += 1
        found = waits(self.engine)
        held = any(each.on is Party.CONDITION for each in found)
        self.excuses += held or bool(circle(found))
        self._quieten()
        for name, environment in ENDINGS:
            self.tell(facts.Emit(name=name, environment=environment))

    def _quieten(self) -> None:
        """When their last instance has gone, jobs start on nothing."""
        for name in list(self.engine.classes):
            self.tell(facts.Load(job=Job(name=name)))


ACTS = ("exit", "fail", "signal", "stop", "ready", "main pid", "extend")
LATE = (
    lambda spawn: facts.Exited(spawn=spawn, status=1),
    lambda spawn: facts.Signalled(spawn=spawn, signal=11),
    lambda spawn: facts.Spawned(spawn=spawn, pid=7),
    lambda spawn: facts.SpawnFailed(spawn=spawn, step="execve", errno=2),
    lambda spawn: facts.Ready(spawn=spawn, pid=7),
    lambda spawn: facts.MainPid(spawn=spawn, pid=7),
    lambda spawn: facts.Stopped(spawn=spawn),
    lambda spawn: facts.Emptied(spawn=spawn),
    lambda spawn: facts.ExtendDeadline(spawn=spawn, seconds=9.0),
)


def _held(progress: Progress[int] | None) -> list[int]:
    return list(progress.events.values()) if progress is not None else []


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
