"""python -m bench [NAME …] [--list] [--json] [--write] [--rounds N]; see `bench/__init__.py`."""

from __future__ import annotations

import argparse
import datetime
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine, ours, report
from bench.cases import CASES
from bench.measure import Outcome, measure

PAGE = Path(__file__).parent.parent / "docs/benchmarks.md"
PROGRESS_WIDTH = 78


def main(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 when a target that was measured is missed, 2 when it cannot be asked so."""
    options = _options(arguments)
    # Ended by force, it still takes down what it has up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.list:
        for make in CASES.values():
            benchmark = make()
            print(f"{benchmark.name:<16} {benchmark.title}")
        return 0
    ours.volatile_run_directory()
    where = machine.describe()
    before = PAGE.read_text(encoding="utf-8") if options.write and options.names else ""
    if before and not report.is_of(before, where):
        print(f"{PAGE.name} is of another machine: measure all, naming none", file=sys.stderr)
        return 2
    # What the children of this process inherit must not be walked, and so copied, by each.
    gc.freeze()
    names = [each for name in options.names for each in _named(name)]
    outcomes = _measure(names or list(CASES), options.rounds)
    if options.json:
        print(report.as_json(outcomes, where, machine.command()))
    else:
        print("\n\n".join(report.as_text(outcome) for outcome in outcomes))
        print()
        print("\n".join(f"{key}: {value}" for key, value in where.items()))
        print(f"command: {machine.command()}")
    if options.write:
        titles = [make().title for make in CASES.values()]
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        page = report.as_markdown(outcomes, where, today, titles=titles, before=before)
        PAGE.write_text(page, encoding="utf-8")
    missed = [v for outcome in outcomes for v in outcome.verdicts if v.met is False]
    return 1 if missed else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure hostlab.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="write them into docs/benchmarks.md")
    parser.add_argument("--rounds", type=int, help="instead of each benchmark's own number")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if not _named(name)]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(CASES)}")
    return options


def _named(name: str) -> list[str]:
    """The benchmarks that a name means: its own, or those that begin with it and a dash."""
    return [each for each in CASES if each == name or each.startswith(f"{name}-")]


def _measure(names: Sequence[str], rounds: int | None) -> list[Outcome]:
    outcomes = [measure(CASES[name](), rounds, _progress) for name in names]
    _progress("")
    return outcomes


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<{PROGRESS_WIDTH}}\r", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
