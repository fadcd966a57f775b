"""A world for the engine: jobs as `.conf` texts, and processes that do what the test says.

No process runs. The world remembers each `Spawn` and tells the engine what the test decides about
it, with the clock in the test's hand.
"""

from __future__ import annotations

from hostlab.jobs import effects, facts
from hostlab.jobs.effects import Effect
from hostlab.jobs.engine import Engine
from hostlab.jobs.facts import Fact
from hostlab.jobs.instance import Instance
from hostlab.spec.job import Step
from hostlab.spec.upstart import load_conf


class World:
    """An engine and everything that it has wanted so far."""

    def __init__(self, *, apparmor: bool = False, **confs: str) -> None:
        self.engine = Engine(
            environment={"PATH": "/bin"}, own_environment={"LANG": "C"}, apparmor=apparmor
        )
        self.now = 100.0
        self.effects: list[Effect] = []
        self.pid = 1000
        for name, text in confs.items():
            self.load(name, text)

    def load(self, name: str, text: str) -> None:
        job = load_conf(text, file=f"{name}.conf", name=name)
        self.tell(facts.Load(job=job))

    def tell(self, fact: Fact) -> tuple[Effect, ...]:
        new = self.engine.handle(fact, self.now)
        self.effects += new
        return new

    def emit(self, event: str, request: str | None = None, **environment: str) -> None:
        pairs = tuple(environment.items())
        self.tell(facts.Emit(name=event, environment=pairs, request=request))

    def start(self, job: str, request: str | None = None, **environment: str) -> None:
        pairs = tuple(environment.items())
        self.tell(facts.Start(job=job, environment=pairs, request=request))

    def stop(self, job: str, request: str | None = None, **environment: str) -> None:
        pairs = tuple(environment.items())
        self.tell(facts.Stop(job=job, environment=pairs, request=request))

    def restart(self, job: str, request: str | None = None, **environment: str) -> None:
        pairs = tuple(environment.items())
        self.tell(facts.Restart(job=job, environment=pairs, request=request))

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.tell(facts.Elapsed())

    def instance(self, job: str, name: str = "") -> Instance:
        found = self.engine.instance(job, name)
        assert found is not None, f"no instance of {job} named {name!r}"
        return found

    def status(self, job: str, name: str = "") -> str:
        """Goal and state as `initctl status` prints them."""
        found = self.engine.instance(job, name)
        return f"{found.goal}/{found.state}" if found else "stop/waiting"

    def spawn_number(self, job: str, step: Step = Step.MAIN, name: str = "") -> int:
        return self.instance(job, name).processes[step].spawn

    def runs(self, job: str, step: Step = Step.MAIN, name: str = "") -> None:
        """The process's program has started."""
        self.pid += 1
        spawn = self.spawn_number(job, step, name)
        self.tell(facts.Spawned(spawn=spawn, pid=self.pid))

    def exits(self, job: str, step: Step = Step.MAIN, name: str = "", *, status: int = 0) -> None:
        self.tell(facts.Exited(spawn=self.spawn_number(job, step, name), status=status))

    def killed(self, job: str, step: Step = Step.MAIN, name: str = "", *, signal: int = 15) -> None:
        self.tell(facts.Signalled(spawn=self.spawn_number(job, step, name), signal=signal))

    def does(self, job: str, step: Step, *, status: int = 0) -> None:
        """A script runs and ends."""
        self.runs(job, step)
        self.exits(job, step, status=status)

    def running(self, job: str, name: str = "") -> None:
        """Start a job of one main process, up to `running`."""
        self.start(job)
        self.runs(job, Step.MAIN, name)
        assert self.status(job, name) == "start/running"

    def finished(self) -> list[str]:
        """The names of the events that are finished, in order."""
        return [each.name for each in self.effects if isinstance(each, effects.EventFinished)]

    def event(self, name: str, nth: int = -1) -> dict[str, str]:
        """The environment of an event of this name that was handled."""
        found = [
            dict(each.environment)
            for each in self.effects
            if isinstance(each, effects.EventHandled) and each.name == name
        ]
        return found[nth]

    def blocked(self) -> list[str]:
        """The names of the events that something holds."""
        return [event.name for event in self.engine.queue.events.values()]

    def replies(self) -> dict[str, bool]:
        return {each.request: each.ok for each in self.effects if isinstance(each, effects.Reply)}

    def spawns(self) -> list[effects.Spawn]:
        return [each for each in self.effects if isinstance(each, effects.Spawn)]

    def kills(self) -> list[tuple[int, str]]:
        """Signals sent and whom they reach."""
        return [
            (each.signal, each.scope.value)
            for each in self.effects
            if isinstance(each, effects.Kill)
        ]

    def states(self, job: str) -> list[str]:
        """Every state that instances of a job have entered."""
        return [
            each.state.value
            for each in self.effects
            if isinstance(each, effects.StateChanged) and each.job == job
        ]

    def logged(self, text: str) -> bool:
        return any(isinstance(each, effects.Log) and text in each.message for each in self.effects)
