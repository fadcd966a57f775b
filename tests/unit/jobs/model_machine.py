"""The processes that the model plays, as the machine would have them.

A process that was wanted runs sooner or later, or its set-up fails. One that is stopped does
nothing until SIGCONT or SIGKILL. A main process that behaves ends only when it is told to, and
its cgroup is empty only when that was told to end.
"""

from __future__ import annotations

from hostlab.jobs import effects
from hostlab.jobs.effects import Effect
from hostlab.jobs.instance import GROUP_MODES
from hostlab.jobs.machine import SIGCONT, SIGKILL
from hostlab.spec.job import KillMode, Step


class Processes:
    """What runs, by spawn number."""

    def __init__(self) -> None:
        self.alive: dict[int, effects.Spawn] = {}
        self.known: dict[int, int] = {}
        """Processes that were told to run, with the pid that the engine knows."""
        self.frozen: set[int] = set()
        self.doomed: set[int] = set()
        self.killed: set[int] = set()
        """Told to end."""
        self.groups: set[int] = set()
        """Whose main process has ended while there is something left in its cgroup."""
        self.swept: set[int] = set()
        """Whose whole cgroup was told to end."""
        self.emptied: set[int] = set()
        """Whose cgroup was told to be empty, true or not."""
        self.gone: list[int] = []

    def carry_out(self, effect: Effect) -> None:
        """Do what the engine wants; what it wants must be possible."""
        match effect:
            case effects.Spawn():
                self._start(effect)
            case effects.Kill():
                self._signal(effect)
            case _:
                pass

    def _start(self, effect: effects.Spawn) -> None:
        for spawn, other in self.alive.items():
            same = (other.job.name, other.instance, other.step)
            assert same != (effect.job.name, effect.instance, effect.step), (
                f"at most one {effect.step} process an instance: {spawn} and {effect.spawn}"
            )
        assert effect.spawn not in self.gone, "a number is used once"
        self.alive[effect.spawn] = effect

    def _signal(self, effect: effects.Kill) -> None:
        spawn = effect.spawn
        assert spawn in self.alive or spawn in self.groups, "effects name live processes only"
        assert effect.pid == self.known.get(spawn), "a signal goes to the pid that was told"
        assert effect.pid is not None or spawn in self.groups
        if effect.signal in (SIGCONT, SIGKILL):
            self.frozen.discard(spawn)
        if effect.signal == SIGKILL:
            self.killed.add(spawn)
        if effect.signal == SIGCONT:
            return
        if effect.signal != self._reload(spawn) or effect.scope is not KillMode.PROCESS:
            self.doomed.add(spawn)
        if effect.scope is KillMode.CONTROL_GROUP:
            self.swept.add(spawn)

    def _reload(self, spawn: int) -> int | None:
        found = self.alive.get(spawn)
        return found.job.reload_signal if found is not None else None

    def run(self, spawn: int, pid: int) -> None:
        """Its program runs."""
        self.known[spawn] = pid

    def end(self, spawn: int) -> None:
        """It is gone, whatever the reason."""
        gone = self.alive.pop(spawn)
        grouped = gone.job.kill.mode in GROUP_MODES and gone.step is Step.MAIN
        if grouped and spawn in self.known and spawn not in self.emptied:
            self.groups.add(spawn)
        self.known.pop(spawn, None)
        self.frozen.discard(spawn)
        self.gone.append(spawn)

    def abandon(self, job: str, instance: str) -> None:
        """A kill mode `none` lets the main process live; nobody counts on it any more."""
        for spawn, each in list(self.alive.items()):
            if (each.job.name, each.instance, each.step) == (job, instance, Step.MAIN):
                self.end(spawn)

    @property
    def unknown(self) -> list[int]:
        """Processes that were not yet told to run."""
        return [spawn for spawn in sorted(self.alive) if spawn not in self.known]
