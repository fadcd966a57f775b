"""Random jobs, events and processes: what must hold whatever happens.

The model plays processes as the machine would: each `Spawn` is a process that is told to run, to
become ready, to stop or to end, in any order that a kernel could produce. A twin, rebuilt from the
stored state at random moments, is told the same facts and must want the same.

Jobs refer in `starting` and `stopping` only to jobs before them, and `and` joins only events that
hold no job: otherwise they can wait for each other for ever, as they can in Upstart.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from hostlab.jobs.effects import Effect
from hostlab.jobs.engine import Engine
from hostlab.jobs.events import Blocker, BlockerKind
from hostlab.jobs.expression import Progress
from hostlab.jobs.instance import GROUP_MODES
from hostlab.jobs.journal import AnyFact, encode_entry, replay
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.jobs.states import Goal
from hostlab.jobs.waits import Party, event_name, waits
from hostlab.spec.job import Job, Step
from hostlab.spec.upstart import load_conf

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))
JOBS = 4
MAX_SETTLING = 300
PLAIN = ("a", "b", "c X=1", "c X!=1", "c X=$I", "d")


@st.composite
def conditions(draw: st.DrawFn, number: int) -> str:
    """A condition of the job of this number."""
    if number and draw(st.booleans()):
        other = draw(st.integers(0, number - 1))
        kind = draw(st.sampled_from(["starting", "started", "stopping", "stopped"]))
        return f"{kind} j{other}" + draw(st.sampled_from(["", " or a", " or b"]))
    operands = draw(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3))
    text = operands[0]
    for operand in operands[1:]:
        text = f"({text}) {draw(st.sampled_from(['and', 'or']))} {operand}"
    return text


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    number = draw(st.integers(0, JOBS - 1))
    lines = []
    if draw(st.booleans()):
        lines.append(f"start on {draw(conditions(number))}")
    if draw(st.booleans()):
        lines.append(f"stop on {draw(conditions(number))}")
    optional = (
        "exec x",
        "exec x",
        "task",
        "respawn",
        "respawn limit 2 5",
        "respawn delay 1 4",
        "expect stop",
        "expect fork",
        "expect notify",
        "expect timeout 3",
        "pre-start exec a",
        "post-start exec b",
        "pre-stop exec c",
        "post-stop exec d",
        "apparmor load p",
        "normal exit 1",
        "instance ${I:-}",
        "env I=0",
        "kill mode control-group",
        "kill mode mixed",
    )
    lines += draw(st.lists(st.sampled_from(optional), max_size=8))
    return load_conf("\n".join(lines) + "\n", file="model.conf", name=f"j{number}")


NAMES = st.integers(0, JOBS - 1).map(lambda number: f"j{number}")
VARIABLES = st.sampled_from([(), (("I", "0"),), (("I", "1"),)])


class Model(RuleBasedStateMachine):
    """An engine, its processes, and its twin."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(environment={"PATH": "/bin"}, apparmor=True)
        self.twin: Engine | None = None
        self.now = 0.0
        self.alive: dict[int, effects.Spawn] = {}
        self.known: set[int] = set()
        """Processes that were told to run."""
        self.groups: set[int] = set()
        self.requests = 0
        self.open: set[str] = set()
        self.stored = encode(capture(self.engine))
        self.journal = b""

    def tell(self, fact: AnyFact) -> None:
        self.journal += encode_entry(fact, self.now)
        try:
            wanted = self.engine.handle(fact, self.now)
        except UsageError as error:
            if self.twin is not None:
                with pytest.raises(UsageError, match=re.escape(error.message)):
                    self.twin.handle(fact, self.now)
            self.open.discard(getattr(fact, "request", None) or "")
            return
        if self.twin is not None:
            assert self.twin.handle(fact, self.now) == wanted
        for effect in wanted:
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, effects.Spawn):
            main = [
                other
                for other in self.alive.values()
                if (other.job.name, other.instance, other.step)
                == (effect.job.name, effect.instance, effect.step)
            ]
            assert not main, "at most one main process an instance"
            self.alive[effect.spawn] = effect
        elif isinstance(effect, effects.Reply):
            assert effect.request in self.open, "a request is answered once"
            self.open.remove(effect.request)

    def request(self) -> str:
        self.requests += 1
        self.open.add(str(self.requests))
        return str(self.requests)

    def end(self, spawn: int, fact: facts.Exited | facts.Signalled) -> None:
        gone = self.alive.pop(spawn)
        if gone.job.kill.mode in GROUP_MODES and gone.step is Step.MAIN:
            self.groups.add(spawn)
        self.known.discard(spawn)
        self.tell(fact)

    @initialize(first=jobs())
    def begin(self, first: Job) -> None:
        self.tell(facts.Load(job=first))

    @rule(job=jobs())
    def load(self, job: Job) -> None:
        self.tell(facts.Load(job=job))

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.tell(facts.Unload(name=name))

    @rule(
        name=st.sampled_from("abcd"),
        variables=st.sampled_from([(), (("X", "1"),), (("X", "2"), ("I", "1"))]),
        waits=st.booleans(),
        timeout=st.sampled_from([None, 2.0]),
    )
    def emit(
        self,
        name: str,
        variables: tuple[tuple[str, str], ...],
        waits: bool,
        timeout: float | None,
    ) -> None:
        request = self.request() if waits else None
        self.tell(facts.Emit(name=name, environment=variables, request=request, timeout_s=timeout))

    @rule(kind=st.sampled_from([facts.Start, facts.Stop, facts.Restart]), name=NAMES, env=VARIABLES)
    def ask(
        self,
        kind: type[facts.Start | facts.Stop | facts.Restart],
        name: str,
        env: tuple[tuple[str, str], ...],
    ) -> None:
        self.tell(kind(job=name, environment=env, request=self.request()))

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.tell(facts.Elapsed())

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def play(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(sorted(self.alive)))
        if spawn not in self.known:
            if data.draw(st.integers(0, 4)):
                self.known.add(spawn)
                self.tell(facts.Spawned(spawn=spawn, pid=spawn + 1000))
            else:
                del self.alive[spawn]
                self.tell(facts.SpawnFailed(spawn=spawn, step="chdir", errno=2))
            return
        match data.draw(st.sampled_from(["exit", "fail", "signal", "stop", "ready", "extend"])):
            case "exit":
                self.end(spawn, facts.Exited(spawn=spawn, status=0))
            case "fail":
                self.end(spawn, facts.Exited(spawn=spawn, status=1))
            case "signal":
                self.end(spawn, facts.Signalled(spawn=spawn, signal=9))
            case "stop":
                self.tell(facts.Stopped(spawn=spawn))
            case "ready":
                self.tell(facts.Ready(spawn=spawn, pid=spawn + 2000))
            case _:
                self.tell(facts.ExtendDeadline(spawn=spawn, seconds=1.0))

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def empty(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(sorted(self.groups)))
        self.groups.remove(spawn)
        self.tell(facts.Emptied(spawn=spawn))

    @rule()
    def make_twin(self) -> None:
        self.twin = restore(decode(encode(capture(self.engine))))

    @rule()
    def store(self) -> None:
        self.stored = encode(capture(self.engine))
        self.journal = b""

    @rule()
    def supervisor_dies(self) -> None:
        state = capture(self.engine)
        self.engine = restore(decode(self.stored))
        replay(self.engine, self.journal)
        assert capture(self.engine) == state

    @invariant()
    def nothing_is_left_to_do(self) -> None:
        assert self.engine.queue.idle

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
        assert named == {event_name(event) for event in self.engine.queue.events.values()}

    @invariant()
    def every_instance_is_at_rest_or_waits_for_something_named(self) -> None:
        waiting = {wait.name for wait in waits(self.engine) if wait.who is Party.JOB}
        for each in self.engine.classes.values():
            for instance in each.instances.values():
                assert instance.state == "running" or str(instance) in waiting

    @invariant()
    def state_equals_what_is_rebuilt_from_its_serialised_form(self) -> None:
        state = capture(self.engine)
        assert capture(restore(decode(encode(state)))) == state

    @invariant()
    def facts_reach_living_processes_only(self) -> None:
        assert set(self.engine.spawns) <= set(self.alive) | self.groups

    def teardown(self) -> None:
        """Goal stop ends in waiting, when its processes do what they are told."""
        self.twin = None
        for _ in range(MAX_SETTLING):
            instances = [
                instance
                for each in list(self.engine.classes.values())
                for instance in each.instances.values()
            ]
            if not instances:
                break
            for instance in instances:
                if instance.goal is not Goal.STOP:
                    self.tell(facts.Stop(job=instance.job.name, instance=instance.name))
            self._play_everything()
        assert not any(each.instances for each in self.engine.classes.values())
        assert not self.alive
        assert not self.engine.spawns

    def _play_everything(self) -> None:
        for spawn in sorted(self.alive):
            if spawn not in self.known:
                self.known.add(spawn)
                self.tell(facts.Spawned(spawn=spawn, pid=spawn))
            elif self.alive[spawn].step is Step.MAIN:
                self.end(spawn, facts.Signalled(spawn=spawn, signal=15))
            else:
                self.end(spawn, facts.Exited(spawn=spawn, status=0))
        for spawn in sorted(self.groups):
            self.tell(facts.Emptied(spawn=spawn))
        self.groups.clear()


def _held(progress: Progress[int] | None) -> list[int]:
    return list(progress.events.values()) if progress is not None else []


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=FUZZ, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
