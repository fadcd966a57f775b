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


def rate(engine: Engine, fact: facts.Emit) -> float:
    """Events a second, the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        begin = time.perf_counter()
        for _ in range(EVENTS):
            engine.handle(fact, 0.0)
        found.append(EVENTS / (time.perf_counter() - begin))
    return statistics.median(found)


def rows(jobs: int) -> list[tuple[str, float, int]]:
    """What is measured: its name, events a second, and the target."""
    nobody = facts.Emit(name="tick", environment=(("N", "1"),))
    matching = ["start on tick\nexec x\n"] * 10
    literal = ["start on tick N=2\nexec x\n"] * 10
    glob = ["start on tick N=[2-9]*\nexec x\n"] * 10
    stopping = ["stop on tick N=$WANTED\nexec x\n"] * 10
    cases: list[tuple[str, int, list[str], int]] = [
        ("nobody listens", jobs, [], 100_000),
        ("nobody listens, a tenth of the jobs", jobs // 10, [], 100_000),
        ("10 listen and match", jobs, matching, 20_000),
        ("10 listen, the argument is another", jobs, literal, 50_000),
        ("10 listen, the glob does not match", jobs, glob, 50_000),
        ("10 instances listen, the variable is unknown", jobs, stopping, 50_000),
    ]
    return [
        (name, rate(engine_with(count, listeners), nobody), target)
        for name, count, listeners, target in cases
    ]


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
    for name, measured, target in rows(jobs):
        write(f"{measured:>10,.0f}  {target:>8,}  {name}")
    write(f"{starts():>10,.0f}  {'':>8}  jobs started by an event and stopped by another")


if __name__ == "__main__":
    main()
