"""Events a second through the engine, beside the targets of the design.

    PYTHONPATH=src python bench/jobs_engine.py [--jobs N]

Each row is measured with that many jobs, and nobody-listens again with ten times fewer: the cost of
an event must not depend on the jobs that do not listen to it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hostlab.jobs import effects, facts
from hostlab.jobs.engine import Engine
from hostlab.spec.upstart import load_conf

ROUNDS = 5
EVENTS = 20_000


def engine_with(jobs: int, listeners: list[str]) -> Engine:
    """An engine with this many jobs that listen elsewhere, and these listeners that run."""
    engine = Engine()
    texts = [f"start on other{number}\nstop on stopping other{number}\nexec x\n"
             for number in range(jobs - len(listeners))]  # fmt: skip
    for number, text in enumerate(texts + listeners):
        job = load_conf(text, file=f"{number}.conf", name=f"job{number}")
        engine.handle(facts.Load(job=job), 0.0)
    for number in range(len(texts), jobs):
        for effect in engine.handle(facts.Start(job=f"job{number}"), 0.0):
            if isinstance(effect, effects.Spawn):
                engine.handle(facts.Spawned(spawn=effect.spawn, pid=number + 2), 0.0)
    return engine


def rate(engine: Engine, fact: facts.Emit, rounds: int) -> float:
    """Events a second, the median of some rounds."""
    found = []
    for _ in range(rounds):
        gc.collect()
        begin = time.perf_counter()
        for _ in range(EVENTS):
            engine.handle(fact, 0.0)
        found.append(EVENTS / (time.perf_counter() - begin))
    return statistics.median(found)


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: some listeners among many jobs that do not listen, and what to reach."""

    key: str
    name: str
    target: int
    listener: str | None = None
    share: int = 1
    """This part of the jobs is there."""


TICK: Final = facts.Emit(name="tick", environment=(("N", "1"),))
LISTENERS: Final = 10
CASES: Final = (
    Case("nobody", "nobody listens", 100_000),
    Case("nobody_tenth", "nobody listens, a tenth of the jobs", 100_000, share=10),
    Case("match", "10 listen and match", 20_000, "start on tick\nexec x\n"),
    Case("literal", "10 listen, the argument is another", 50_000, "start on tick N=2\nexec x\n"),
    Case("glob", "10 listen, the glob does not match", 50_000, "start on tick N=[2-9]*\nexec x\n"),
    Case(
        "unknown",
        "10 instances listen, the variable is unknown",
        50_000,
        "stop on tick N=$WANTED\nexec x\n",
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What came out."""

    key: str
    name: str
    rate: float
    """Events a second."""
    target: int


def rows(jobs: int, rounds: int = ROUNDS) -> list[Row]:
    """Every case, measured."""
    found = []
    for case in CASES:
        listeners = [] if case.listener is None else [case.listener] * LISTENERS
        measured = rate(engine_with(jobs // case.share, listeners), TICK, rounds)
        found.append(Row(case.key, case.name, measured, case.target))
    return found


def starts() -> float:
    """Jobs started and stopped a second, with their processes played."""
    engine = engine_with(1000, ["start on go\nstop on halt\nexec x\n"])
    turns = 2000

    def play(fact: facts.Fact) -> None:
        for effect in engine.handle(fact, 0.0):
            if isinstance(effect, effects.Spawn):
                play(facts.Spawned(spawn=effect.spawn, pid=2))
            elif isinstance(effect, effects.Kill):
                play(facts.Signalled(spawn=effect.spawn, signal=effect.signal))

    play(facts.Emit(name="halt"))
    begin = time.perf_counter()
    for _ in range(turns):
        play(facts.Emit(name="go"))
        play(facts.Emit(name="halt"))
    return turns / (time.perf_counter() - begin)


def main(write: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    write(f"{'events/s':>10}  {'target':>8}  with {jobs} jobs")
    for row in rows(jobs):
        write(f"{row.rate:>10,.0f}  {row.target:>8,}  {row.name}")
    write(f"{starts():>10,.0f}  {'':>8}  jobs started by an event and stopped by another")


if __name__ == "__main__":
    main()
