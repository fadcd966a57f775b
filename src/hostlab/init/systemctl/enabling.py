"""enable, disable, mask and their kin: links below /etc/systemd/system, or below /run.

What is printed is what systemctl 252 prints (tests compare the two).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hostlab.init.systemctl.line import Refused
from hostlab.init.systemctl.unit_files import UnitFiles
from hostlab.spec.systemd.dependencies import Install
from hostlab.spec.systemd.selection import DEV_NULL
from hostlab.spec.systemd.unit_names import is_unit_name, unit_name

SYSTEM: Final = "/etc/systemd/system"
RUNTIME: Final = "/run/systemd/system"
FOLDERS: Final = (".wants", ".requires")
MAX_ALSO: Final = 256
"""Units that one `enable` follows through `Also=`."""
NOTHING_TO_ENABLE: Final = (
    "The unit files have no installation config (WantedBy=, RequiredBy=, Also=,\n"
    "Alias= settings in the [Install] section, and DefaultInstance= for template\n"
    "units). This means they are not meant to be enabled using systemctl.\n"
    " \n"
    "Possible reasons for having this kind of units are:\n"
    "• A unit may be statically enabled by being symlinked from another unit's\n"
    "  .wants/ or .requires/ directory.\n"
    "• A unit's purpose may be to act as a helper for some other unit which has\n"
    "  a requirement dependency on it.\n"
    "• A unit may be started when needed via activation (socket, path, timer,\n"
    "  D-Bus, udev, scripted systemctl call, ...).\n"
    "• In case of template units, the unit is meant to be enabled with some\n"
    "  instance name specified."
)


@dataclass
class Enabling:
    """Changes of links in one directory; what was done is in `said`."""

    files: UnitFiles
    directory: str = SYSTEM
    force: bool = False
    said: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    """Those that were meant, without what `Also=` brought."""

    def enable(self, names: Iterable[str]) -> None:
        """Make the links that the units' [Install] asks for."""
        wanted = [self._named(name, "enable") for name in names]
        carries = False
        for name in self._with_also(wanted):
            install = self._install(name)
            carries = carries or _carries(install)
            source = self.files.source(name)
            if source is not None:
                self._enable(name, source, install)
        if not carries:
            self.said.append(NOTHING_TO_ENABLE)
        self.units += wanted

    def disable(self, names: Iterable[str]) -> None:
        """Take away every link to them."""
        wanted = [self._named(name, "disable") for name in names]
        gone = set(self._with_also(wanted))
        aliases = {alias for name in gone for alias in self._install(name).alias}
        for path in _links_below(self.directory):
            if self._leads_to(path, gone, aliases):
                self._remove(path)
        self.units += wanted

    def _leads_to(self, path: str, names: set[str], aliases: set[str]) -> bool:
        """Whether a link enables one of these, or is another name of one."""
        file, target = os.path.basename(path), os.path.basename(os.readlink(path))
        if os.path.dirname(path) == self.directory:
            return target in names and (file != target or file in names or file in aliases)
        return file in names or any(_is_instance_of(file, name) for name in names)

    def reenable(self, names: Iterable[str]) -> None:
        """Links as they are wanted now."""
        listed = list(names)
        self.disable(listed)
        self.files.library.forget()
        self.units.clear()
        self.enable(listed)

    def preset(self, names: Iterable[str], *, mode: str = "full") -> None:
        """Enable or disable, as the distribution wants it."""
        for name in names:
            wants = self.files.preset(name)
            if wants and mode != "disable-only":
                self.enable([name])
            elif not wants and mode != "enable-only":
                self.disable([name])
            self.files.library.forget()

    def mask(self, names: Iterable[str]) -> None:
        """Let a name lead nowhere."""
        for name in names:
            path = f"{self.directory}/{name}"
            if os.path.islink(path) and os.readlink(path) == DEV_NULL:
                continue
            if os.path.lexists(path) and not (self.force and os.path.islink(path)):
                raise Refused(f"Failed to mask unit: File {path} already exists.")
            self._link(path, DEV_NULL)
            self.units.append(name)

    def unmask(self, names: Iterable[str]) -> None:
        """Undo that."""
        for name in names:
            path = f"{self.directory}/{name}"
            if os.path.islink(path) and os.readlink(path) == DEV_NULL:
                self._remove(path)
                self.units.append(name)

    def add(self, target: str, names: Iterable[str], folder: str) -> None:
        """`add-wants` and `add-requires`."""
        if self.files.source(target) is None:
            raise Refused(f"Failed to add dependency: Unit file {target} does not exist.")
        for name in names:
            named = self._named(name, "add dependency")
            source = self.files.source(named)
            assert source is not None
            self._link(f"{self.directory}/{target}{folder}/{named}", source)

    def set_default(self, name: str) -> None:
        """What the boot starts."""
        source = self.files.source(name)
        if source is None:
            raise Refused(f"Failed to set default target: Unit file {name} does not exist.")
        path = f"{self.directory}/default.target"
        if os.path.islink(path):
            self._remove(path)
        self._link(path, source)

    # How.

    def _named(self, name: str, what: str) -> str:
        """The unit file that is meant, by its name or its path; Refused when there is none."""
        if name.startswith("/"):
            file = os.path.basename(name)
            if not os.path.isfile(name) or not is_unit_name(file):
                raise Refused(f"Failed to {what} unit: File {name}: No such file or directory")
            if self.files.source(file) is None and what == "enable":
                self._link(f"{self.directory}/{file}", name)
                self.files.library.forget()
            return file
        found = self.files.fragment(name)
        if found is not None and found[1] == DEV_NULL:
            raise Refused(f"Failed to {what} unit: Unit file {found[0]} is masked.")
        if self.files.source(name) is None:
            raise Refused(f"Failed to {what} unit: Unit file {name} does not exist.")
        if found is not None and found[1] is not None and what == "enable":
            target = os.path.basename(found[1])
            if target != name and self.files.source(target) is not None:
                return target
        return name

    def _install(self, name: str) -> Install:
        unit = self.files.library.unit(name)
        return unit.install if unit is not None else Install()

    def _with_also(self, names: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        waiting = list(names)
        while waiting and len(found) < MAX_ALSO:
            name = waiting.pop(0)
            if name not in found:
                found[name] = None
                waiting += self._install(name).also
        return list(found)

    def _enable(self, name: str, source: str, install: Install) -> None:
        unit = unit_name(name)
        for alias in install.alias:
            self._link(f"{self.directory}/{alias}", source)
        link = name
        if unit.is_template:
            if not install.default_instance:
                return
            link = unit.instantiate(install.default_instance)
        for folder, targets in ((".wants", install.wanted_by), (".requires", install.required_by)):
            for target in targets:
                named = unit_name(target)
                if named.is_template and unit.instance:
                    target = named.instantiate(unit.instance)
                self._link(f"{self.directory}/{target}{folder}/{link}", source)

    def _link(self, path: str, target: str) -> None:
        if os.path.islink(path):
            if os.readlink(path) == target:
                return
            if not self.force and os.path.basename(os.readlink(path)) != os.path.basename(target):
                raise Refused(f"Failed to enable unit: File {path} already exists.")
            os.unlink(path)
        elif os.path.lexists(path):
            raise Refused(f"Failed to enable unit: File {path} already exists.")
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.symlink(target, path)
        except OSError as error:
            raise Refused(f"Failed to enable unit: {path}: {error.strerror}") from None
        self.said.append(f"Created symlink {path} → {target}.")

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            self.said.append(f'Removed "{path}".')
        with contextlib.suppress(OSError):
            if os.path.dirname(path) != self.directory:
                os.rmdir(os.path.dirname(path))


def _carries(install: Install) -> bool:
    return bool(
        install.wanted_by
        or install.required_by
        or install.alias
        or install.also
        or install.default_instance
    )


def _links_below(directory: str) -> list[str]:
    """Every link in a directory and in its `.wants` and `.requires`."""
    found = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                found.append(entry.path)
            elif entry.name.endswith(FOLDERS) and entry.is_dir():
                found += [inner.path for inner in os.scandir(entry.path) if inner.is_symlink()]
    return sorted(found)


def _is_instance_of(file: str, name: str) -> bool:
    return is_unit_name(file) and unit_name(file).template == name
