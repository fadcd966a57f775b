"""Calendar expressions in systemd's normal form (systemd.time(7); calendar_spec_to_string())."""

from __future__ import annotations

from typing import Final

from hostlab.jobs.calendar import EVERY_DAY, SECOND, Calendar, Component, Part

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def show(calendar: Calendar) -> str:
    """The expression in systemd's normal form."""
    days = [] if calendar.weekdays == EVERY_DAY else [_show_weekdays(calendar.weekdays)]
    date = f"{_show(calendar.year, 4)}-{_show(calendar.month, 2)}"
    date += "~" if calendar.is_from_end else "-"
    date += _show(calendar.day, 2)
    time = f"{_show(calendar.hour, 2)}:{_show(calendar.minute, 2)}:"
    time += "*" if _is_every_second(calendar.second) else _show(calendar.second, 2, SECOND)
    return " ".join([*days, date, time, *([calendar.zone] if calendar.zone else [])])


def _is_every_second(component: Component) -> bool:
    return Part(0, None, SECOND) in (component or ()) and all(
        not part.start % SECOND and not part.step % SECOND for part in component or ()
    )


def _show_weekdays(bits: int) -> str:
    runs: list[list[str]] = [[]]
    for number, name in enumerate(_DAYS):
        if bits >> number & 1:
            runs[-1].append(name)
        else:
            runs.append([])
    return ",".join(
        f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs if run
    )


def _show(component: Component, width: int, unit: int = 1) -> str:
    if component is None:
        return "*"
    return ",".join(_show_part(part, width, unit) for part in component)


def _show_part(part: Part, width: int, unit: int) -> str:
    text = _show_number(part.start, width, unit)
    if part.stop is not None:
        text += f"..{_show_number(part.stop, width, unit)}"
    if part.step and not (part.stop is not None and part.step == unit):
        text += f"/{_show_number(part.step, 1, unit)}"
    return text


def _show_number(value: int, width: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    return f"{whole:0{width}}" + (f".{fraction:06}" if fraction else "")
