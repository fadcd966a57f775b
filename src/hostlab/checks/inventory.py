"""Which hosts there are outside of a lab, and their roles, from files that people have; pure.

| file | told by | roles |
|---|---|---|
| Ansible's inventory in YAML | `.yaml`, `.yml`, or a first line `---` or `all:` | groups |
| Ansible's inventory in INI | a line `[group]` | groups |
| ssh_config(5) | a line `Host …`; patterns are no hosts | those of the patterns below |
| names | anything else: a name a line, `PATTERN: ROLE …` | of the patterns that fit |

In a file of names and in comments `# role: PATTERN: ROLE …` of an ssh_config, a pattern is
`web-*`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec
import yaml

from hostlab.errors import Place, SpecError

MOST_HOSTS: Final = 100_000
_RANGE: Final = re.compile(r"\[([0-9]+|[a-z]):([0-9]+|[a-z])(?::([0-9]+))?\]")
_NAME: Final = re.compile(r"[A-Za-z0-9_:%][A-Za-z0-9_.:%@-]{0,252}")
_ALL: Final = ("all", "ungrouped")
_VARIABLES: Final = {
    "ansible_host": "address",
    "ansible_ssh_host": "address",
    "ansible_port": "port",
    "ansible_ssh_port": "port",
    "ansible_user": "user",
    "ansible_ssh_user": "user",
    "ansible_ssh_private_key_file": "key",
    "ansible_private_key_file": "key",
    "ansible_python_interpreter": "python",
    "ansible_connection": "connection",
}
_EXTRA: Final = ("ansible_ssh_common_args", "ansible_ssh_extra_args")


class InventoryHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host and how ssh finds it; what is not said is ssh's own business."""

    name: str
    roles: tuple[str, ...] = ()
    address: str | None = None
    port: int | None = None
    user: str | None = None
    key: str | None = None
    """The file of a private key."""
    python: str = "python3"
    arguments: tuple[str, ...] = ()
    """More for ssh's command line."""
    is_local: bool = False
    """It is this machine: `ansible_connection=local`."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts of a file, in its order."""

    hosts: tuple[InventoryHost, ...]
    is_ssh_config: bool = False
    """The file is one that `ssh -F` reads."""


def parse(text: str, file: str) -> Inventory:
    """An inventory of any of these kinds; `SpecError` with the place of what is wrong."""
    lines = text.splitlines()
    said = [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#;"]
    is_ssh = any(re.match(r"(?i)Host[\s=]", line) for line in said)
    if is_ssh:
        hosts = _ssh_config(lines, file)
    elif any(re.fullmatch(r"\[[^]]+\].*", line) and not _RANGE.search(line) for line in said):
        hosts = _ini(lines, file)
    elif file.endswith((".yaml", ".yml")) or (said and said[0] in ("---", "all:")):
        hosts = _yaml(text, file)
    else:
        hosts = _names(lines, file)
    if not hosts:
        raise SpecError("inventory", f"{file} names no host", hint="a name a line is enough")
    return Inventory(hosts=tuple(hosts), is_ssh_config=is_ssh)


def _wrong(file: str, number: int, line: str, message: str, hint: str | None = None) -> SpecError:
    place = Place(file, number, len(line) - len(line.lstrip()) + 1, line)
    return SpecError("inventory", message, where=place, hint=hint)


def _names(lines: list[str], file: str) -> list[InventoryHost]:
    names: dict[str, None] = {}
    patterns: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        pattern, colon, roles = text.partition(": ")
        if colon:
            patterns.append((pattern.strip(), roles.replace(",", " ").split()))
        elif not _NAME.fullmatch(text):
            hint = "a host's name, or `PATTERN: ROLE …`"
            raise _wrong(file, number, line, f"{text!r} is no host's name", hint)
        else:
            names[text] = None
    return [InventoryHost(name=name, roles=_roles(name, patterns)) for name in names]


def _roles(name: str, patterns: list[tuple[str, list[str]]]) -> tuple[str, ...]:
    fits = (roles for pattern, roles in patterns if fnmatchcase(name, pattern))
    return tuple(dict.fromkeys(role for roles in fits for role in roles))


def _ssh_config(lines: list[str], file: str) -> list[InventoryHost]:
    names: dict[str, None] = {}
    patterns: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        if found := re.match(r"\s*#\s*role:\s*(\S+):\s+(.+)", line):
            patterns.append((found[1], found[2].replace(",", " ").split()))
        elif found := re.match(r"(?i)\s*Host(?:\s+|\s*=\s*)(.+)", line):
            for word in found[1].split():
                word = word.strip('"')
                if any(sign in word for sign in "*?!"):
                    continue
                if not _NAME.fullmatch(word):
                    raise _wrong(file, number, line, f"{word!r} is no host's name")
                names[word] = None
    return [InventoryHost(name=name, roles=_roles(name, patterns)) for name in names]


class _Groups:
    """Ansible's groups as they are read."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, Any]] = {}
        self.members: dict[str, dict[str, None]] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.variables: dict[str, dict[str, Any]] = {}

    def add(self, group: str, name: str, variables: Mapping[str, Any]) -> None:
        self.hosts.setdefault(name, {}).update(variables)
        self.members.setdefault(group, {})[name] = None

    def made(self) -> Iterator[InventoryHost]:
        for name, own in self.hosts.items():
            groups = list(dict.fromkeys(self._groups_of(name)))
            found: dict[str, Any] = dict(self.variables.get("all", {}))
            for group in reversed(groups):  # those nearest to the host last
                found |= self.variables.get(group, {})
            roles = tuple(group for group in groups if group not in _ALL)
            yield _host(name, roles, found | own)

    def _groups_of(self, name: str) -> Iterator[str]:
        waiting = [group for group, members in self.members.items() if name in members]
        seen: set[str] = set()
        while waiting:
            group = waiting.pop(0)
            if group not in seen:
                seen.add(group)
                yield group
                waiting += [each for each, below in self.children.items() if group in below]


def _host(name: str, roles: tuple[str, ...], variables: Mapping[str, Any]) -> InventoryHost:
    said: dict[str, Any] = {}
    for variable, field in _VARIABLES.items():
        if variables.get(variable) not in (None, ""):
            said[field] = str(variables[variable])
    local = said.pop("connection", "") == "local"
    if said.get("python", "").startswith("auto"):
        del said["python"]  # Ansible finds one: `auto`, `auto_silent`, `auto_legacy`
    extra = tuple(word for key in _EXTRA for word in _split(name, key, variables.get(key)))
    if "port" in said:
        if not said["port"].isdecimal():
            raise SpecError("inventory", f"{name}: {said['port']!r} is not a port")
        said["port"] = int(said["port"])
    return InventoryHost(name=name, roles=roles, arguments=extra, is_local=local, **said)


def _split(host: str, key: str, value: Any) -> list[str]:
    """The words of ssh's arguments, of which one may be a whole ProxyCommand."""
    try:
        return shlex.split(str(value or ""))
    except ValueError as error:
        raise SpecError("inventory", f"{host}: {key}: {error}") from None


def _ini(lines: list[str], file: str) -> list[InventoryHost]:
    groups = _Groups()
    group, kind = "ungrouped", ""
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)[#;].*", "", line).strip()
        if not text:
            continue
        if text.startswith("[") and text.endswith("]") and not _RANGE.fullmatch(text):
            group, _, kind = text[1:-1].partition(":")
            if kind not in ("", "vars", "children"):
                raise _wrong(file, number, line, f"{kind!r} is neither `vars` nor `children`")
            groups.members.setdefault(group, {})
        elif kind == "vars":
            key, _, value = text.partition("=")
            groups.variables.setdefault(group, {})[key.strip()] = _unquoted(value.strip())
        elif kind == "children":
            groups.children.setdefault(group, {})[text] = None
        else:
            try:
                name, *rest = shlex.split(text)
            except ValueError as error:
                raise _wrong(file, number, line, str(error)) from None
            variables = dict(word.partition("=")[::2] for word in rest)
            for each in _expanded(name, file, number, line):
                groups.add(group, each, variables)
    return list(groups.made())


def _unquoted(value: str) -> str:
    """What is between two quotes; those inside are kept."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value


def _expanded(name: str, file: str, number: int, line: str) -> list[str]:
    """`web[01:50].example` as the names it stands for."""
    found = _RANGE.search(name)
    if found is None:
        if not _NAME.fullmatch(name):
            raise _wrong(file, number, line, f"{name!r} is no host's name")
        return [name]
    first, last, step = found[1], found[2], int(found[3] or 1)
    if first.isdecimal() != last.isdecimal() or step < 1:
        raise _wrong(file, number, line, f"{found[0]!r} is no range", "as `[01:50]` or `[a:f]`")
    if first.isdecimal():
        numbers = range(int(first), int(last) + 1, step)
        if len(numbers) > MOST_HOSTS:
            raise _wrong(file, number, line, f"more than {MOST_HOSTS} hosts")
        parts = [str(each).zfill(len(first)) for each in numbers]
    else:
        parts = [chr(each) for each in range(ord(first), ord(last) + 1, step)]
    head, tail = name[: found.start()], name[found.end() :]
    return [each for part in parts for each in _expanded(head + part + tail, file, number, line)]


def _yaml(text: str, file: str) -> list[InventoryHost]:
    try:
        found = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else None
        raise SpecError("inventory", error.problem or "this is not YAML", where=place) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError("inventory", f"{file}: {error}") from None
    groups = _Groups()
    for name, said in _mapping(found, file, "the file").items():
        _yaml_group(groups, str(name), said, file, depth=0)
    return list(groups.made())


def _yaml_group(groups: _Groups, name: str, said: Any, file: str, *, depth: int) -> None:
    if depth > 32:
        raise SpecError("inventory", f"{file}: groups are nested deeper than 32")
    group = _mapping(said, file, name)
    groups.members.setdefault(name, {})
    groups.variables.setdefault(name, {}).update(_mapping(group.get("vars"), file, f"{name}.vars"))
    for host, variables in _mapping(group.get("hosts"), file, f"{name}.hosts").items():
        for each in _expanded(str(host), file, 1, str(host)):
            groups.add(name, each, _mapping(variables, file, each))
    for child, below in _mapping(group.get("children"), file, f"{name}.children").items():
        groups.children.setdefault(name, {})[str(child)] = None
        _yaml_group(groups, str(child), below, file, depth=depth + 1)


def _mapping(said: Any, file: str, what: str) -> dict[Any, Any]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise SpecError("inventory", f"{file}: {what} is a {type(said).__name__}, not a mapping")
    return said
