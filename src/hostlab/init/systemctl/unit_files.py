"""What unit files say of themselves on disk: enabled, static, masked …; and what presets want."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from hostlab.errors import SpecError
from hostlab.init.job_files import read_content
from hostlab.init.units.library import Library
from hostlab.spec.systemd.loading import LoadedUnit
from hostlab.spec.systemd.selection import DEV_NULL, Directory, Selection
from hostlab.spec.systemd.unit_names import is_unit_name, unit_name

PRESETS: Final = tuple(
    f"{base}/systemd/system-preset" for base in ("/etc", "/run", "/usr/local/lib", "/usr/lib")
)
OF_PERSON: Final = "/etc"
"""Links below it are what `enable` makes, others are what packages bring."""
OF_BOOT: Final = "/run"
ENABLED: Final = frozenset(
    {"enabled", "enabled-runtime", "static", "alias", "indirect", "generated", "transient"}
)
"""States in which `is-enabled` ends with 0."""


class UnitFiles:
    """The states of unit files in a library's directories."""

    def __init__(self, library: Library, *, of_person: str = OF_PERSON) -> None:
        """`of_person` is the directory below which people's own units and links are."""
        self.library = library
        self.of_person = of_person
        self._indexed: Selection | None = None
        self._enabled: dict[str, str] = {}

    @property
    def _directories(self) -> tuple[Directory, ...]:
        return tuple(self.library.selection.directories)

    def fragment(self, name: str) -> tuple[str, str | None] | None:
        """The file that has a name, and where it leads when it is a link; None: nobody has."""
        for directory in self._directories:
            if name in directory.files:
                return f"{directory.path}/{name}", directory.files[name]
        return None

    def source(self, name: str) -> str | None:
        """The path of a unit's file, of its template's where it has none of its own."""
        template = unit_name(name).template
        for each in (name, template):
            found = self.fragment(each) if each is not None else None
            if found is not None and found[1] != DEV_NULL:
                return found[0]
        return None

    def state(self, name: str) -> str | None:
        """`enabled`, `disabled`, `static` …; None when there is no such file."""
        found = self.fragment(name)
        runtime = found is not None and found[0].startswith(f"{OF_BOOT}/")
        if found is not None and found[1] == DEV_NULL:
            return "masked-runtime" if runtime else "masked"
        path = self.source(name)
        if path is None:
            return None
        for folder in ("generator", "transient"):
            if path.startswith(f"{OF_BOOT}/systemd/{folder}"):
                return "generated" if folder == "generator" else folder
        if found is not None and found[1] is not None:
            target = os.path.basename(found[1])
            template = unit_name(name).template
            if target not in (name, template):
                return "alias"
        if (links := self._links(name)) is not None:
            return links
        return self._not_enabled(name, found)

    def _links(self, name: str) -> str | None:
        """Whether something below the people's directory enables it."""
        if self._indexed is not self.library.selection:
            self._indexed = self.library.selection
            self._enabled = dict(self._index())
        return self._enabled.get(name)

    def _index(self) -> Iterator[tuple[str, str]]:
        """Name, also of a template by its instances, and how it is enabled; what counts last."""
        for directory in reversed(self._directories):
            owner = directory.path
            if not owner.startswith((self.of_person, OF_BOOT)):
                continue
            word = "enabled-runtime" if owner.startswith(OF_BOOT) else "enabled"
            for path, link in directory.files.items():
                place, _, file = path.rpartition("/")
                if link is None or link == DEV_NULL:
                    continue
                if place.endswith((".wants", ".requires")):
                    yield file, word
                    template = unit_name(file).template if is_unit_name(file) else None
                    if template is not None:
                        yield template, word
                elif not place and os.path.basename(link) != file:
                    yield os.path.basename(link), word

    def _not_enabled(self, name: str, found: tuple[str, str | None] | None) -> str:
        target = found[1] if found is not None else None
        places = tuple(f"{each.path}/" for each in self._directories)
        if target is not None and os.path.isabs(target) and not target.startswith(places):
            return "linked"
        unit = self.library.unit(name)
        install = unit.install if unit is not None else None
        if install is None:
            return "static"
        if install.wanted_by or install.required_by or install.alias or install.default_instance:
            return "disabled"
        return "indirect" if install.also else "static"

    def names(self) -> list[str]:
        """Every file, by type and name."""
        names = {
            path for directory in self._directories for path in directory.files if "/" not in path
        }
        return sorted(names, key=lambda name: (unit_name(name).type.value, name))

    def listed(self) -> Iterator[tuple[str, str, str]]:
        """Every file by type and name: its name, its state, what presets say or `-`."""
        for name in self.names():
            state = self.state(name)
            if state is not None:
                yield name, state, self.preset_word(name, state)

    def preset_word(self, name: str, state: str) -> str:
        """The third column of `list-unit-files`."""
        if state in ("static", "alias", "generated", "transient"):
            return "-"
        return "enabled" if self.preset(name) else "disabled"

    def preset(self, name: str) -> bool:
        """Whether the distribution wants it enabled (systemd.preset(5)); yes if nobody says."""
        for word, pattern in self._preset_rules:
            if fnmatch.fnmatchcase(name, pattern):
                return word == "enable"
        return True

    @cached_property
    def _preset_rules(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._rules())

    def _rules(self) -> Iterator[tuple[str, str]]:
        files: dict[str, str] = {}
        for directory in PRESETS:
            try:
                found = sorted(os.listdir(directory))
            except OSError:
                continue
            for file in found:
                if file.endswith(".preset"):
                    files.setdefault(file, f"{directory}/{file}")
        for _, path in sorted(files.items()):
            try:
                text = read_content(path)
            except SpecError:
                continue
            for line in text.splitlines():
                words = line.split()
                if len(words) >= 2 and words[0] in ("enable", "disable"):
                    yield words[0], words[1]


def paths_of(unit: LoadedUnit) -> tuple[str, ...]:
    """The files of a unit that are there, in their order."""
    return tuple(path for path in unit.unit.files if path.startswith("/"))
