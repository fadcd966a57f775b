"""Which files make a unit when several directories are searched (systemd.unit(5), "Unit file load
path").

The first directory that has a name owns it. A symbolic link to another unit's file is an alias,
one to /dev/null masks the name. `NAME.d/*.conf` are laid over it in the order of their file names,
wherever they are; of several with one file name the first found counts. They are also looked for
under the template's name, under the name cut at its dashes (`a-.service.d` for `a-b.service`), and
last under the type (`service.d`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from hostlab.spec.systemd.unit_names import is_unit_name, unit_name

SYSTEM_DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
"""Where the system's units are, the first that counts first."""
DEV_NULL = "/dev/null"
MAX_ALIASES = 16
"""Links that are followed from one name to the next."""


def user_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where a user's units are, in the same order."""

    def absolute(name: str, default: str) -> str:
        value = environment.get(name, "")
        return value if value.startswith("/") else default

    home = environment.get("HOME", "/")
    config = absolute("XDG_CONFIG_HOME", f"{home}/.config")
    runtime = absolute("XDG_RUNTIME_DIR", "/run/user/0")
    data = absolute("XDG_DATA_HOME", f"{home}/.local/share")
    shared = environment.get("XDG_CONFIG_DIRS", "") or "/etc/xdg"
    return (
        f"{config}/systemd/user.control",
        f"{runtime}/systemd/user.control",
        f"{runtime}/systemd/transient",
        f"{runtime}/systemd/generator.early",
        f"{config}/systemd/user",
        *(f"{each}/systemd/user" for each in shared.split(":") if each.startswith("/")),
        "/etc/systemd/user",
        f"{runtime}/systemd/user",
        "/run/systemd/user",
        f"{runtime}/systemd/generator",
        f"{data}/systemd/user",
        "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user",
        f"{runtime}/systemd/generator.late",
    )


class Directory(msgspec.Struct, frozen=True):
    """One directory of the search path as it was listed."""

    path: str
    files: Mapping[str, str | None]
    """Path below it -> where a symbolic link leads, None for a file. An empty file counts as a
    link to /dev/null."""


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one unit."""

    name: str
    files: tuple[str, ...] = ()
    """Paths: the fragment, then the drop-ins in their order."""
    aliases: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    masked: bool = False
    found: bool = False
    """There is a fragment; drop-ins alone make a unit only of a name that something else knows."""


class Selection:
    """The units that a search path has."""

    def __init__(self, directories: Sequence[Directory]) -> None:
        self.directories = directories
        self._fragments: dict[str, tuple[str, str | None]] = {}
        for directory in directories:
            for path, link in directory.files.items():
                if "/" not in path and is_unit_name(path):
                    self._fragments.setdefault(path, (f"{directory.path}/{path}", link))
        self._folders: list[dict[str, list[tuple[str, str | None]]]] = []
        for directory in directories:
            folders: dict[str, list[tuple[str, str | None]]] = {}
            for path, link in directory.files.items():
                place, _, file = path.rpartition("/")
                folders.setdefault(place, []).append((file, link))
            self._folders.append(folders)
        self._names: dict[str, list[str]] = {}
        for name in self._fragments:
            self._names.setdefault(self.resolve(name), []).append(name)

    def names(self) -> tuple[str, ...]:
        """Every unit that is one: no alias, no template, but the instances that are linked."""
        linked = {
            each
            for directory in self.directories
            for path in directory.files
            if (each := _linked(path)) and is_unit_name(each) and unit_name(each).instance
        }
        own = {name for name in self._names if not unit_name(name).is_template}
        return tuple(sorted(own | {self._own(name) for name in linked}))

    def templates(self) -> tuple[str, ...]:
        """Every template."""
        return tuple(sorted(name for name in self._names if unit_name(name).is_template))

    def resolve(self, name: str) -> str:
        """The unit's own name, from an alias of it."""
        for _ in range(MAX_ALIASES):
            link = self._fragments.get(name, ("", None))[1]
            target = link.rpartition("/")[2] if link and link != DEV_NULL else name
            if target == name or not is_unit_name(target):
                return name
            here, there = unit_name(name), unit_name(target)
            if there.is_template and here.instance:
                target = there.instantiate(here.instance)
                # A link from an instance to its template only says that it is enabled.
                if target == name:
                    return name
            if here.type != there.type:
                return name
            name = target
        return name

    def _own(self, name: str) -> str:
        """As `resolve`, also for an instance of which there is only an alias of its template."""
        name = self.resolve(name)
        found = unit_name(name)
        if name in self._fragments or found.template is None or found.instance is None:
            return name
        return unit_name(self.resolve(found.template)).instantiate(found.instance)

    def select(self, name: str) -> Selected:
        """The files of a unit, by its name or an alias."""
        name = self._own(name)
        path, link = self._fragments.get(name, ("", None))
        template = unit_name(name).template
        if not path and template is not None:
            path, link = self._fragments.get(template, ("", None))
        masked = link == DEV_NULL
        aliases = tuple(sorted(each for each in self._names.get(name, ()) if each != name))
        names = (name, *aliases)
        files = (() if masked or not path else (path,)) + tuple(self._drop_ins(names))
        return Selected(
            name=name,
            files=() if masked else files,
            aliases=aliases,
            wants=self._linked_to(names, "wants"),
            requires=self._linked_to(names, "requires"),
            masked=masked,
            found=bool(path) and not masked,
        )

    def _drop_ins(self, names: Sequence[str]) -> list[str]:
        """Their paths in the order in which they are laid over the fragment."""
        found: dict[str, str | None] = {}
        for name in names:
            folders = tuple(_drop_in_folders(name))
            for number in range(len(self.directories)):
                for folder in folders:
                    self._take(found, number, folder)
        for number in range(len(self.directories)):
            self._take(found, number, f"{unit_name(names[0]).type}.d")
        return [path for _, path in sorted(found.items()) if path is not None]

    def _take(self, found: dict[str, str | None], number: int, folder: str) -> None:
        for file, link in self._folders[number].get(folder, ()):
            if file.endswith(".conf"):
                path = f"{self.directories[number].path}/{folder}/{file}"
                found.setdefault(file, None if link == DEV_NULL else path)

    def _linked_to(self, names: Sequence[str], kind: str) -> tuple[str, ...]:
        found: dict[str, bool] = {}
        for folders in self._folders:
            for name in names:
                for file, link in folders.get(f"{name}.{kind}", ()):
                    if is_unit_name(file):
                        found.setdefault(file, link != DEV_NULL)
        return tuple(sorted({self._own(name) for name, counts in found.items() if counts}))


def _linked(path: str) -> str:
    """The name of a link in a `.wants` or `.requires` directory, empty for other paths."""
    place, _, file = path.rpartition("/")
    return file if place.endswith((".wants", ".requires")) else ""


def _drop_in_folders(name: str) -> Iterator[str]:
    """The folders of a name, the most special first."""
    found = unit_name(name)
    yield f"{name}.d"
    stem = found.stem
    if found.instance is None:
        parts = stem.rstrip("-").split("-")
        for number in range(len(parts) - 1, 0, -1):
            yield f"{'-'.join(parts[:number])}-.{found.type}.d"
    if found.template is not None:
        yield f"{found.template}.d"
