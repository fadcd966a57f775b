"""Rounds, medians and targets: pure but for calling what is measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Metrics = Mapping[str, float]
"""Metric name (its unit at its end) -> value."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing a piece of work."""

    name: str
    run: Callable[[], Metrics]
    """Does the work once and measures it."""
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot be measured here, with the way to mend it."""
    max_rounds: int = 1000
    """For one that takes minutes: fewer rounds than the others."""


@dataclass(frozen=True, slots=True)
class Target:
    """What issue or document promises of a metric, against another contender or absolutely."""

    metric: str
    limit: float
    against: str | None = None
    """A contender; None: the limit is a value in the metric's own unit."""
    against_metric: str | None = None
    """The metric of the other contender, where it has another name."""
    at_least: bool = False
    """The ratio is other ÷ own, or the value itself, and must reach the limit.

    Otherwise it is own ÷ other, or the value itself, and must not exceed it.
    """
    own: str = "hostlab"

    @property
    def text(self) -> str:
        """The promise in words."""
        if self.against is None:
            return f"{'≥' if self.at_least else '≤'} {self.limit:g}"
        if self.at_least:
            return f"≥ {self.limit:g} × faster than {self.against}"
        metric = f"'s {self.against_metric}" if self.against_metric else ""
        return f"≤ {self.limit:g} × {self.against}{metric}"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One piece of work, who does it, and what was promised."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    rounds: int = 5
    notes: Callable[[], str] = lambda: ""
    """More to say in the report, made after the rounds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured of one metric of one contender."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what came out; `ratio` is None when one side was not measured."""

    target: Target
    ratio: float | None

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None when nobody knows."""
        if self.ratio is None:
            return None
        if self.target.at_least:
            return self.ratio >= self.target.limit
        return self.ratio <= self.target.limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that came out of one benchmark."""

    benchmark: Benchmark
    samples: Mapping[str, Mapping[str, Sample]]
    """Contender -> metric -> sample."""
    absent: Mapping[str, str]
    """Contender -> why it was not measured."""
    notes: str = ""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every target, judged."""
        return tuple(Verdict(target, self._ratio(target)) for target in self.benchmark.targets)

    def _ratio(self, target: Target) -> float | None:
        own = self.samples.get(target.own, {}).get(target.metric)
        if own is None:
            return None
        if target.against is None:
            return own.median
        metric = target.against_metric or target.metric
        other = self.samples.get(target.against, {}).get(metric)
        if other is None:
            return None
        if target.at_least:
            return other.median / own.median
        return own.median / other.median


@dataclass(slots=True)
class _Tally:
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, contender: str, metrics: Metrics) -> None:
        own = self.values.setdefault(contender, {})
        for metric, value in metrics.items():
            own.setdefault(metric, []).append(value)


def measure(benchmark: Benchmark, rounds: int | None, progress: Callable[[str], None]) -> Outcome:
    """Every contender once a round, in turn; every other round the other way about.

    One that fails is left out from then on, and its error is the reason given.
    """
    tally = _Tally()
    for contender in benchmark.contenders:
        if (reason := contender.missing()) is not None:
            tally.absent[contender.name] = reason
    count = rounds or benchmark.rounds
    for number in range(count):
        step = -1 if number % 2 else 1
        for contender in benchmark.contenders[::step]:
            if contender.name not in tally.absent and number < contender.max_rounds:
                progress(f"{benchmark.name}: round {number + 1} of {count}, {contender.name}")
                _run(contender, tally)
    samples = {
        name: {metric: Sample(tuple(values)) for metric, values in metrics.items()}
        for name, metrics in tally.values.items()
    }
    return Outcome(benchmark, samples, tally.absent, benchmark.notes())


def _run(contender: Contender, tally: _Tally) -> None:
    try:
        tally.add(contender.name, contender.run())
    except Exception as error:
        # One contender's failure must not cost the numbers of the others; it is reported.
        tally.absent[contender.name] = f"failed: {type(error).__name__}: {error}"


def ordered(names: Sequence[str], benchmark: Benchmark) -> tuple[str, ...]:
    """Contenders in the order in which the benchmark lists them."""
    return tuple(c.name for c in benchmark.contenders if c.name in names)
