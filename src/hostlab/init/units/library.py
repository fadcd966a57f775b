"""The unit files that there are: found by name, read when asked for, read again when changed.

A node shows hundreds of files of which it runs a few, so nothing is parsed that nobody names. What
was parsed is kept until one of its files is another one (inode, size, time of its last change).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from hostlab.errors import SpecError
from hostlab.init.job_files import read_content
from hostlab.init.unit_files import list_directory
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.loading import LoadedUnit, load_unit
from hostlab.spec.systemd.selection import Selected, Selection
from hostlab.spec.systemd.specifiers import Machine
from hostlab.spec.systemd.targets import standard_target
from hostlab.spec.systemd.unit import read_unit

MAX_UNITS: Final = 20_000
"""Units whose meaning is kept; more than these are read anew each time."""
GENERATED: Final = "/run/systemd/generator"
Stamp = tuple[tuple[int, int, int, int], ...]


class _Known(msgspec.Struct, frozen=True):
    selected: Selected
    stamp: Stamp
    loaded: LoadedUnit


class Library:
    """The units of a search path."""

    def __init__(
        self,
        directories: Sequence[str],
        *,
        machine: Callable[[], Machine],
    ) -> None:
        self.passed_over: Callable[[str, str], bool] = lambda folder, link: False
        """Says which link in a `.wants` or `.requires` folder does not count."""
        self.directories = tuple(directories)
        self._machine_of = machine
        self._machine: Machine | None = None
        self._known: dict[str, _Known] = {}
        self._names: dict[str, str] = {}
        self._selection: Selection | None = None
        self._links: frozenset[str] | None = None
        self.errors: tuple[SpecError, ...] = ()
        """Of files that could not be read, at their last reading."""

    @property
    def machine(self) -> Machine:
        """What specifiers stand for."""
        if self._machine is None:
            self._machine = self._machine_of()
        return self._machine

    @property
    def selection(self) -> Selection:
        """The files as they were listed last."""
        if self._selection is None:
            seen: set[tuple[int, int]] = set()
            listed = []
            for path in self.directories:
                try:
                    found = os.stat(path)
                except OSError:
                    continue
                # `/lib` is a link to `/usr/lib` nearly everywhere.
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    listed.append(list_directory(path))
            self._selection = Selection(listed)
        return self._selection

    def forget(self) -> None:
        """Files may have come, gone or changed: look again before the next answer."""
        self._selection = self._links = None
        self._names.clear()

    def resolve(self, name: str) -> str:
        """The unit's own name, of an alias or of itself."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self.selection.select(name).name
        return found

    def links(self) -> frozenset[str]:
        """The links by which people and packages enable units, as `TARGET.wants/UNIT`.

        What generators have made is none of them.
        """
        if self._links is None:
            self._links = frozenset(
                path
                for directory in self.selection.directories
                for path in directory.files
                if not directory.path.startswith(GENERATED)
                and path.partition("/")[0].endswith((".wants", ".requires"))
            )
        return self._links

    def names(self) -> tuple[str, ...]:
        """Every unit that has a file, templates too."""
        return tuple(sorted({*self.selection.names(), *self.selection.templates()}))

    def unit(self, name: str, *, further: Collection[str] = ()) -> LoadedUnit | None:
        """A unit by its name or an alias; None when nothing defines it.

        `further` are units that it wants beside what its files say.
        """
        selected = self.selection.select(self.resolve(name))
        selected = msgspec.structs.replace(
            selected,
            wants=(*self._counting(selected.name, "wants", selected.wants), *further),
            requires=self._counting(selected.name, "requires", selected.requires),
        )
        stamp = _stamp(selected.files)
        known = self._known.get(selected.name)
        if known is not None and (known.selected, known.stamp) == (selected, stamp):
            return known.loaded
        loaded = self._read(selected)
        if loaded is None:
            return None
        if len(self._known) < MAX_UNITS:
            self._known[selected.name] = _Known(selected, stamp, loaded)
        return loaded

    def _counting(self, name: str, kind: str, links: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(link for link in links if not self.passed_over(f"{name}.{kind}", link))

    def _read(self, selected: Selected) -> LoadedUnit | None:
        if not (selected.found or selected.masked):
            target = standard_target(
                selected.name, wants=selected.wants, requires=selected.requires
            )
            return None if target is None else load_unit(target, self.machine)
        texts, errors = [], []
        for path in selected.files:
            try:
                texts.append((read_content(path), path))
            except SpecError as error:
                errors.append(error)
        try:
            unit = read_unit(
                selected.name,
                texts,
                aliases=selected.aliases,
                wants=selected.wants,
                requires=selected.requires,
                masked=selected.masked,
            )
        except Wrong as wrong:
            raise AssertionError(f"a selected unit has a name: {wrong.message}") from wrong
        loaded = load_unit(unit, self.machine)
        if errors:
            loaded = msgspec.structs.replace(loaded, warnings=(*errors, *loaded.warnings))
        return loaded


def _stamp(paths: Sequence[str]) -> Stamp:
    """Which files these are, and when each was changed last."""
    stamps = []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            stamps.append((0, 0, 0, 0))
            continue
        stamps.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(stamps)
