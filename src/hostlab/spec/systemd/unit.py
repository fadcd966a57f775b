"""A unit: what its file and its drop-ins say together, and a reader of typed values.

An assignment of nothing takes back those before it, in the same file or in an earlier one; of a
setting with one value the last counts. A value that cannot be meant is a warning and counts as not
said, as systemd has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from hostlab.errors import Place, SpecError
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.specifiers import Machine, expand_specifiers
from hostlab.spec.systemd.syntax import Entry, parse_unit
from hostlab.spec.systemd.unit_names import UnitName, unit_name
from hostlab.spec.systemd.values import boolean
from hostlab.spec.systemd.words import split_words

Read = TypeVar("Read")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One unit as its files have it."""

    name: UnitName
    entries: tuple[Entry, ...] = ()
    """Of the fragment, then of the drop-ins in their order."""
    files: tuple[str, ...] = ()
    sections: tuple[tuple[str, Place], ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names that symbolic links give it."""
    wants: tuple[str, ...] = ()
    """What its `.wants` directories hold."""
    requires: tuple[str, ...] = ()
    masked: bool = False
    warnings: tuple[SpecError, ...] = ()

    @property
    def fragment(self) -> str:
        """The path of its own file; empty when there is none."""
        return self.files[0] if self.files else ""


def read_unit(
    name: str,
    files: Iterable[tuple[str, str]],
    *,
    aliases: tuple[str, ...] = (),
    wants: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    masked: bool = False,
) -> Unit:
    """A unit from (text, path) of its file and its drop-ins; Wrong when the name is none."""
    parsed = [(path, parse_unit(text, file=path)) for text, path in files]
    return Unit(
        name=unit_name(name),
        entries=tuple(entry for _, each in parsed for entry in each.entries),
        files=tuple(path for path, _ in parsed),
        sections=tuple(section for _, each in parsed for section in each.sections),
        aliases=aliases,
        wants=wants,
        requires=requires,
        masked=masked,
        warnings=tuple(warning for _, each in parsed for warning in each.warnings),
    )


class Reader:
    """Typed values of a unit; what is wrong with them collects in `warnings`."""

    def __init__(self, unit: Unit, machine: Machine) -> None:
        self.unit = unit
        self.machine = machine
        self.warnings: list[SpecError] = []
        self._by_key: dict[tuple[str, str], list[Entry]] = {}
        for entry in unit.entries:
            found = self._by_key.setdefault((entry.section, entry.key), [])
            if entry.value:
                found.append(entry)
            else:
                found.clear()

    def entries(self, section: str, *keys: str) -> list[Entry]:
        """The assignments of these keys that count, in the order of the files."""
        if len(keys) == 1:
            return self._by_key.get((section, keys[0]), [])
        found = [entry for key in keys for entry in self._by_key.get((section, key), ())]
        if len(keys) > 1:
            found.sort(key=self.unit.entries.index)
        return found

    def last(self, section: str, *keys: str) -> Entry | None:
        """The assignment that counts of a setting that has one value."""
        found = self.entries(section, *keys)
        return found[-1] if found else None

    def raw(self, section: str, key: str) -> str:
        """The text as it stands; empty when nothing was said."""
        entry = self.last(section, key)
        return entry.value if entry else ""

    def text(self, section: str, key: str) -> str | None:
        """The text with its specifiers replaced; None when nothing was said."""
        return self.value(section, key, self.specify, None)

    def specify(self, text: str) -> str:
        """Specifiers replaced; Wrong for one that does not exist."""
        return expand_specifiers(text, self.unit.name, self.machine, fragment=self.unit.fragment)

    def value(self, section: str, key: str, parse: Callable[[str], Read], default: Read) -> Read:
        """What was last said, parsed; the default when nothing was, or nothing that is right."""
        for entry in reversed(self.entries(section, key)):
            try:
                return parse(entry.value)
            except Wrong as wrong:
                self.wrong(entry, wrong)
        return default

    def flag(self, section: str, key: str, *, default: bool = False) -> bool:
        """A yes or no."""
        for _, found in reversed(self.each(section, (key,), boolean)):
            return found
        return default

    def words(self, section: str, *keys: str) -> tuple[str, ...]:
        """The words of every assignment that counts, specifiers replaced."""
        found: list[str] = []
        for entry in self.entries(section, *keys):
            try:
                found += (self.specify(word) for word in split_words(entry.value))
            except Wrong as wrong:
                self.wrong(entry, wrong)
        return tuple(found)

    def each(
        self, section: str, keys: Iterable[str], parse: Callable[[str], Read]
    ) -> list[tuple[Entry, Read]]:
        """Every assignment that counts, parsed; those that are wrong are left out."""
        found = []
        for entry in self.entries(section, *keys):
            try:
                found.append((entry, parse(entry.value)))
            except Wrong as wrong:
                self.wrong(entry, wrong)
        return found

    def wrong(self, entry: Entry, wrong: Wrong) -> None:
        """A value that cannot be meant."""
        message = f"{entry.key}: {wrong.message}; ignored"
        self.warnings.append(SpecError("value", message, where=entry.place, hint=wrong.hint))

    def note(self, entry: Entry, message: str, hint: str | None = None) -> None:
        """Something that is meant and will not be quite so."""
        text = f"{entry.key}: {message}"
        self.warnings.append(SpecError("degraded", text, where=entry.place, hint=hint))
