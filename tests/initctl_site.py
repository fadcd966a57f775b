"""A small init for tests of initctl: the real engine, a journal, and processes that are told of.

`Site` is what a supervisor is without its processes: it writes each fact down before the world
sees an effect, and one that is made from the same file goes on where the last one stood. With
`obeys`, every process that is spawned runs, and ends when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hostlab.init.initctl.programs import Initctl
from hostlab.init.initctl.requests import Requests
from hostlab.init.initctl.surroundings import Answer, Command, Down, LogPriority
from hostlab.jobs import effects, facts
from hostlab.jobs.effects import Effect, Reply
from hostlab.jobs.engine import Engine
from hostlab.jobs.expression import Environment
from hostlab.jobs.facts import Fact
from hostlab.jobs.journal import AnyFact, decode_entries, encode_entry
from hostlab.jobs.states import State
from hostlab.spec.job import Step
from hostlab.spec.upstart import load_conf

DEFAULTS = {"PATH": "/bin", "TERM": "linux"}
TURNS = 100
"""Of the event loop, within which a call is taken."""


class Site:
    """An init (`hostlab.init.initctl.surroundings.Init`) for one test."""

    def __init__(
        self,
        confs: Mapping[str, str] | None = None,
        *,
        journal: Path | None = None,
        obeys: bool = False,
        slow: frozenset[str] = frozenset(),
    ) -> None:
        """Processes of the `slow` jobs run when `hurry` is called."""
        self.engine = Engine(environment=DEFAULTS)
        self.book = Requests()
        self.log_priority = LogPriority.MESSAGE
        self.runlevel: tuple[str, str] | None = ("N", "2")
        self.done: list[tuple[object, ...]] = []
        """What was asked of init itself, in order."""
        self.effects: list[Effect] = []
        self.running_sessions: list[tuple[int, str]] = []
        self.pid = 1000
        self.obeys = obeys
        self.slow = slow
        self._journal = -1
        if journal is not None:
            self._restore(journal)
        for name, text in (confs or {}).items():
            if name not in self.engine.classes:
                self.load(name, text)

    @property
    def default_environment(self) -> Mapping[str, str]:
        return DEFAULTS

    def load(self, name: str, text: str) -> None:
        self.tell(facts.Load(job=load_conf(text, file=f"{name}.conf", name=name)))

    def _restore(self, path: Path) -> None:
        data = path.read_bytes() if path.exists() else b""
        for entry in decode_entries(data):
            self._take(entry.fact, entry.now)
            self.pid += isinstance(entry.fact, facts.Spawned)
        self._journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        if data and not data.endswith(b"\n"):
            os.write(self._journal, b"\n")

    def tell(self, fact: Fact) -> None:
        now = time.monotonic()
        # Refused facts are not written: nothing has changed.
        new = self._take(fact, now)
        if self._journal >= 0:
            assert isinstance(fact, AnyFact)
            os.write(self._journal, encode_entry(fact, now))
        if self.obeys:
            for effect in new:
                self._obey(effect)

    def _take(self, fact: Fact, now: float) -> Sequence[Effect]:
        new = self.engine.handle(fact, now)
        self.book.took(getattr(fact, "request", None))
        for effect in new:
            if isinstance(effect, Reply):
                self.book.answered(effect)
        self.effects += new
        return new

    def _obey(self, effect: Effect) -> None:
        match effect:
            case effects.Spawn() if effect.job.name not in self.slow:
                self.pid += 1
                self.tell(facts.Spawned(spawn=effect.spawn, pid=self.pid))
            case effects.Kill():
                asyncio.get_running_loop().call_soon(
                    self.tell, facts.Signalled(spawn=effect.spawn, signal=effect.signal)
                )

    def hurry(self) -> None:
        """Nothing is slow any more."""
        self.slow = frozenset()
        self.go_on()

    def go_on(self) -> None:
        """Do what an earlier init of this journal had not done when it died."""
        for spawn, (instance, step) in list(self.engine.spawns.items()):
            running = instance.processes.get(step)
            if running is None or instance.job.name in self.slow:
                continue
            if running.pid is None:
                self.pid += 1
                self.tell(facts.Spawned(spawn=spawn, pid=self.pid))
            elif instance.state is State.KILLED:
                self.tell(facts.Signalled(spawn=spawn, signal=instance.job.kill.signal))

    async def request(self, token: str, fact: Fact, *, wait: bool) -> Reply:
        if not self.book.knows(token):
            self.tell(fact)
        if not wait:
            return Reply(request=token, ok=True)
        return await self.book.answer(token)

    def spawn_number(self, job: str, step: Step = Step.MAIN, name: str = "") -> int:
        instance = self.engine.instance(job, name)
        assert instance is not None, f"no instance of {job} named {name!r}"
        return instance.processes[step].spawn

    def runs(self, job: str, step: Step = Step.MAIN, name: str = "", *, pid: int = 1234) -> None:
        """The process's program has started."""
        self.tell(facts.Spawned(spawn=self.spawn_number(job, step, name), pid=pid))

    def exits(self, job: str, step: Step = Step.MAIN, name: str = "", *, status: int = 0) -> None:
        self.tell(facts.Exited(spawn=self.spawn_number(job, step, name), status=status))

    def knows(self, token: str) -> bool:
        return self.book.knows(token)

    def forget(self, token: str) -> None:
        self.book.forget(token)

    def forget_others(self, prefix: str, tokens: frozenset[str]) -> None:
        self.book.forget_others(prefix, tokens)

    def notify_bus_address(self, address: str) -> None:
        self.done.append(("bus address", address))

    def reload_configuration(self) -> None:
        self.done.append(("reload",))

    def reexec(self) -> None:
        self.done.append(("reexec",))

    def change_runlevel(self, level: str, environment: Environment, *, token: str) -> None:
        self.done.append(("runlevel", level, environment))
        if not self.knows(token):
            pairs = (("RUNLEVEL", level), *environment)
            self.tell(facts.Emit(name="runlevel", environment=pairs, request=token))

    def go_down(self, down: Down, environment: Environment, *, force: bool, token: str) -> None:
        self.done.append((down, environment, force))
        if not self.knows(token):
            self.tell(facts.Emit(name="runlevel", environment=environment, request=token))

    def broadcast(self, text: str) -> None:
        self.done.append(("broadcast", text))

    def sessions(self) -> Sequence[tuple[int, str]]:
        return self.running_sessions


class Caller:
    """Calls programs of Upstart, each with a token of its own."""

    def __init__(self, site: Site, initctl: Initctl | None = None) -> None:
        self.site = site
        self.initctl = initctl or Initctl(site)
        self.calls = 0

    def command(self, *words: str, **environment: str) -> Command:
        self.calls += 1
        program, *arguments = words
        return Command(program, tuple(arguments), f"test/{self.calls}", time.time(), environment)

    def __call__(self, *words: str, **environment: str) -> Answer:
        """Call one that does not wait, and give its answer."""
        return asyncio.run(self._call(self.command(*words, **environment)))

    def again(self, command: Command) -> Answer:
        """A call that a supervisor before this one may have taken."""
        return asyncio.run(self._call(command))

    def while_waiting(self, command: Command, then: Callable[[], None]) -> Answer:
        """Call one that waits; do something when init has taken it, and give its answer."""
        return asyncio.run(self._while_waiting(command, then))

    async def _while_waiting(self, command: Command, then: Callable[[], None]) -> Answer:
        call = asyncio.ensure_future(self._call(command))
        for _ in range(TURNS):
            if self.site.knows(command.token):
                break
            await asyncio.sleep(0)
        assert not call.done(), f"it did not wait: {call.result()}"
        then()
        return await call

    async def _call(self, command: Command) -> Answer:
        answer = await asyncio.wait_for(self.initctl.run(command), 60)
        self.site.forget(command.token)
        return answer
