"""Loading systemd's units, from files to jobs of an engine, beside a `configparser` of them.

The units are this machine's own, those that are services and no templates, as often as it takes.
"""

from __future__ import annotations

import configparser
import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab.init.units.library import Library
from hostlab.init.units.machine import this_machine
from hostlab.jobs import facts
from hostlab.jobs.engine import Engine
from hostlab.spec.systemd.loading import link_units

UNITS: Final = 500
PLACE: Final = "/usr/lib/systemd/system"


def units_case(units: int = UNITS) -> Benchmark:
    """Load many units at once."""
    return Benchmark(
        name="units",
        title=f"load {units} of systemd's units: read, link, tell the engine",
        contenders=(
            Contender("hostlab", lambda: _load(units), _missing),
            Contender("configparser, reading only", lambda: _parse(units), _missing),
        ),
        targets=(Target("load_ms", 300.0),),
    )


def _missing() -> str | None:
    return None if _sources() else f"no units in {PLACE}: `apt-get install systemd` brings some"


def _sources() -> list[str]:
    found = sorted(glob.glob(f"{PLACE}/*.service"))
    return [path for path in found if "@" not in path and os.path.isfile(path)
            and not os.path.islink(path) and os.path.getsize(path)]  # fmt: skip


@contextlib.contextmanager
def _copies(units: int) -> Iterator[str]:
    texts = []
    for path in _sources():
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    with tempfile.TemporaryDirectory() as directory:
        for number in range(units):
            with open(f"{directory}/u{number}.service", "w", encoding="utf-8") as file:
                file.write(texts[number % len(texts)])
        yield directory


def _load(units: int) -> Metrics:
    with _copies(units) as directory:
        begin = time.perf_counter()
        library = Library([directory], machine=lambda: this_machine({}))
        found = [library.unit(f"u{number}.service") for number in range(units)]
        linked = link_units(unit for unit in found if unit is not None)
        engine = Engine()
        for job in linked.jobs:
            engine.handle(facts.Load(job=job), 0.0)
        elapsed = time.perf_counter() - begin
    assert len(engine.classes) == units
    return {"load_ms": elapsed * 1000}


def _parse(units: int) -> Metrics:
    with _copies(units) as directory:
        begin = time.perf_counter()
        for number in range(units):
            parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
            parser.read(f"{directory}/u{number}.service")
        return {"load_ms": (time.perf_counter() - begin) * 1000}
