"""What a timer or a path unit says, as operands: what its job listens to while it runs.

`x.timer` with `OnCalendar=daily` listens to `timer NAME=x.timer CALENDAR=daily JOB=x.service`, and
`x.service` starts on `timer NAME=x.timer`. Each line of the unit is an operand of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hostlab.spec.job import Expression, Match
from hostlab.spec.systemd.kinds import PathUnit, Repeated, TimerUnit
from hostlab.spec.systemd.unit_names import UnitType

_SINCE: Final = {
    "OnBootSec": ("AFTER", "LATE=1"),
    "OnStartupSec": ("AFTER", "LATE=1"),
    "OnActiveSec": ("IN",),
    "OnUnitActiveSec": ("SINCE_START", "AGAIN=1"),
    "OnUnitInactiveSec": ("SINCE_END", "AGAIN=1"),
}
"""In a container the machine's boot is the start of its init (systemd.timer(5), OnBootSec=)."""
_WATCHED: Final = {
    "PathExists": "EXISTS",
    "PathExistsGlob": "EXISTS_GLOB",
    "PathChanged": "CHANGED",
    "PathModified": "MODIFIED",
    "DirectoryNotEmpty": "NOT_EMPTY",
}
_EVENTS: Final = {UnitType.TIMER: "timer", UnitType.PATH: "path", UnitType.SOCKET: "socket"}
SHORTEST_S: Final = 0.1
"""A timer of hostlab's is no faster."""


def trigger(name: str) -> Match | None:
    """What the unit that a socket, timer or path triggers starts on; None for other types."""
    event = _EVENTS.get(UnitType(name.rpartition(".")[2]))
    return None if event is None else Match(event, (f"NAME={name}",))


def timer_operands(name: str, unit: TimerUnit) -> tuple[Match, ...]:
    """The operands of a timer of this name."""
    return tuple(
        Match("timer", (f"NAME={name}", *words, *_options(unit), f"JOB={unit.unit}"))
        for words in _times(unit)
    )


def timer_stop(name: str, unit: TimerUnit) -> Expression | None:
    """On what a timer stops by itself: with RemainAfterElapse=no, when it never comes again."""
    if unit.remain_after_elapse:
        return None
    return Expression((Match("timer", (f"NAME={name}", "LAST=1")),))


def path_operands(name: str, unit: PathUnit) -> tuple[Match, ...]:
    """The operands of a path unit of this name."""
    options = [f"JOB={unit.unit}"]
    if unit.trigger_limit_burst and unit.trigger_limit_interval_s:
        span = _seconds(unit.trigger_limit_interval_s)
        options.append(f"LIMIT={unit.trigger_limit_burst}/{span}")
    if unit.make_directory:
        options.append(f"MAKE={unit.directory_mode:04o}")
    return tuple(
        Match("path", (f"NAME={name}", f"{_WATCHED[each.kind]}={each.path}", *options))
        for each in unit.watched
    )


def path_stop(name: str) -> Expression:
    """On what a path unit stops by itself: it has triggered too often."""
    return Expression((Match("path-limit", (f"NAME={_escaped(name)}",)),))


def _times(unit: TimerUnit) -> Iterator[tuple[str, ...]]:
    persistent = ("PERSISTENT=1",) if unit.persistent else ()
    for text in unit.calendar:
        yield f"CALENDAR={text}", *persistent
    for each in unit.repeated:
        yield _repeated(each)
    if unit.on_clock_change:
        yield ("ON=clock-change",)
    if unit.on_timezone_change:
        yield ("ON=zone-change",)


def _repeated(each: Repeated) -> tuple[str, ...]:
    key, *options = _SINCE[each.since]
    seconds = max(each.seconds, SHORTEST_S) if "AGAIN=1" in options else each.seconds
    return (f"{key}={_seconds(seconds)}", *options)


def _options(unit: TimerUnit) -> Iterator[str]:
    if unit.randomized_delay_s:
        yield f"DELAY={_seconds(unit.randomized_delay_s)}"
        if unit.fixed_random_delay:
            yield "FIXED=1"


def _seconds(seconds: float) -> str:
    return f"{f'{seconds:.3f}'.rstrip('0').rstrip('.')}s"


def _escaped(name: str) -> str:
    return name.translate({ord(char): f"\\{char}" for char in "*?[\\"})
