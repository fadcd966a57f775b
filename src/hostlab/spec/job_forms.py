"""The words and short forms of a job's keys, as `forms.py` has them for the other keys."""

from __future__ import annotations

import re
from typing import Any

from hostlab.spec import units
from hostlab.spec.job import UNLIMITED
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.signals import SIGNALS, signal_number
from hostlab.spec.source import Source, Wrong, quoted
from hostlab.spec.systemd.unit_names import unit_name

MAX_SIGNAL = 64
"""SIGRTMAX of Linux (signal(7))."""
MAX_COUNT = 2**31 - 1
ULONG_MAX = 2**64 - 1
UNLIMITED_WORD = "unlimited"


def signal(word: str) -> int:
    """A signal by name, with or without `SIG`, or by number."""
    number = signal_number(word)
    if number is None and re.fullmatch("[0-9]{1,2}", word) and 1 <= int(word) <= MAX_SIGNAL:
        number = int(word)
    if number is None:
        near = word.upper() if signal_number(word.upper()) else None
        hint = f"did you mean `{near}`?" if near else f"as {', '.join(list(SIGNALS)[:3])}, …, 64"
        raise Wrong(f"{quoted(word)} is not a signal", hint)
    return number


def end(word: str) -> int:
    """An end of the main process: an exit status, or a signal's name as number << 8."""
    if re.fullmatch("[0-9]{1,3}", word) and int(word) <= 255:
        return int(word)
    number = signal_number(word)
    if number is None:
        raise Wrong(f"{quoted(word)} is neither an exit status nor a signal's name")
    return number << 8


def umask(word: str) -> int:
    """Permission bits that new files do not get, in octal."""
    bits = units.mode(word)
    if bits > 0o777:
        raise Wrong(f"{quoted(word)} is not a umask: at most 0777")
    return bits


def count(word: str) -> int:
    """A number of respawns; `unlimited` is 0."""
    return 0 if word == UNLIMITED_WORD else units.between(0, MAX_COUNT, word)


def bound(word: str) -> int:
    """One side of a resource limit: a number, a size, or `unlimited`."""
    if word == UNLIMITED_WORD:
        return UNLIMITED
    if re.fullmatch("[0-9]{1,20}", word):
        value = int(word)
        if value >= ULONG_MAX:
            raise Wrong(f"{word} is more than a limit can be", "write `unlimited`")
        return value
    try:
        return units.size(word)
    except Wrong:
        raise Wrong(f"{quoted(word)} is not a limit", "write a number or `unlimited`") from None


def pattern(word: str) -> str:
    """An event's name, or a glob for several."""
    if not units.text(word) or re.search(r"\s", word):
        raise Wrong(f"{quoted(word)} is not an event's name")
    return word


def name_or_false(word: str) -> str | None:
    """A name, or None for `false`."""
    try:
        return word if units.flag(word) else None
    except Wrong:
        return pattern(word)


def unit(word: str) -> str:
    """A unit's name; without a suffix it is a service's."""
    name = word if "." in word else f"{word}.service"
    found = unit_name(name)
    if found.is_template:
        raise Wrong(f"{quoted(word)} is a template", f"an instance of it: `{found.prefix}@NAME`")
    return found.name


def enabled_or_unit(word: str) -> bool | str:
    """`true` is what is enabled, `false` nothing; else a unit."""
    try:
        return units.flag(word)
    except Wrong:
        return unit(word)


def units_word(_source: Source, said: Said) -> Fields:
    """One word instead of the mapping about units."""
    if isinstance(said.value, bool):
        return Fields(enabled=said)
    return Fields(start=said._replace(value=[said]))


def argv(_source: Source, said: Said) -> tuple[str, ...]:
    """The exact arguments; a tuple, since a list of a role and of a node would be joined."""
    return tuple(item.value for item in said.value)


def exec_argv(source: Source, said: Said) -> Fields:
    """A list alone is the exact arguments of `exec`."""
    return Fields(exec=said._replace(value=argv(source, said)))


def enabled_flag(_source: Source, said: Said) -> Fields:
    """`true` and `false` alone."""
    return Fields(enabled=said)


def enabled_mapping(_source: Source, said: Said) -> Fields:
    """Whoever says how means that it shall be."""
    fields: Fields = said.value
    fields["enabled"] = said._replace(value=True)
    return fields


def delay_alone(_source: Source, said: Said) -> Fields:
    """The same wait each time."""
    return Fields(min=said, max=said)


def delay_pair(source: Source, said: Said) -> Fields:
    """`[MIN, MAX]`."""
    return _pair(source, said, ("min", "max"), "a delay is `[MIN, MAX]`")


def bound_alone(_source: Source, said: Said) -> Fields:
    """Soft and hard are the same."""
    return Fields(soft=said, hard=said)


def bound_pair(source: Source, said: Said) -> Fields:
    """`[SOFT, HARD]`."""
    fields = _pair(source, said, ("soft", "hard"), "a limit is one value or `[SOFT, HARD]`")
    soft, hard = fields.value("soft", 0), fields.value("hard", UNLIMITED)
    try:
        within(soft, hard)
    except Wrong as wrong:
        source.report("value", wrong.message, said.at)
    return fields


def within(soft: int, hard: int) -> None:
    """Wrong when a soft limit is above its hard one."""
    if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
        raise Wrong("the soft limit is above the hard one")


def _pair(source: Source, said: Said, keys: tuple[str, str], message: str) -> Fields:
    items: list[Any] = said.value
    if len(items) == 2:
        return Fields(zip(keys, items, strict=True))
    source.report("value", message, said.at)
    fields = Fields()
    fields.flawed = True
    return fields
