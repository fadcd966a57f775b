"""What the importers share: a foreign YAML file read field by field, and a description written.

An import is honest when everything in the foreign file is either in the description or in a note.
So a mapping is read through `Fields`, which knows what was asked for; whatever nobody asked for
becomes a note with the reason that a table gives, or with none when the key is not known at all.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec
import yaml

from hostlab.errors import Place
from hostlab.spec.source import START, Mark, Source, quoted
from hostlab.spec.tree import Mapping as Tree_Mapping
from hostlab.spec.tree import Scalar, Sequence, Tree, kind
from hostlab.spec.yaml_text import compose

Description: TypeAlias = dict[str, Any]
"""A description in its written form: what YAML can hold."""

MAX_FLOW: Final = 72
"""Characters up to which a list or mapping of words is written in one line."""

_VARIABLE: Final = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-?+])?(?P<rest>[^{}]*)\})"
)
_NOT_LABEL: Final = re.compile(r"[^A-Za-z0-9-]+")
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NOT_INTERFACE: Final = re.compile(r"[\s/:.%]+")
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_SECONDS: Final[Mapping[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_TRUE: Final = frozenset(("true", "True", "TRUE", "yes", "on"))


class Note(msgspec.Struct, frozen=True):
    """Something of the foreign file that the description does not say."""

    where: Place
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class Imported(msgspec.Struct, frozen=True):
    """A description made from a foreign file, and everything that it leaves out."""

    text: str
    """The description, as YAML."""
    notes: tuple[Note, ...]
    """In the order of their places."""


class Notes:
    """What an import has to say about a foreign file, once for each place."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._notes: dict[tuple[int, int, str], Note] = {}

    def note(self, at: Mark, message: str) -> None:
        """Note something, once for each place."""
        key = (at.line, at.column, message)
        self._notes.setdefault(key, Note(self.source.place(at), message))

    def done(self, description: str, *, kind_of_file: str) -> Imported:
        """The description's text, with the notes; SpecErrors when anything was wrong."""
        self.source.raise_errors()
        notes = tuple(note for _, note in sorted(self._notes.items(), key=lambda item: item[0]))
        return Imported(f"# Imported from {kind_of_file}.\n" + description, notes)


class Import(Notes):
    """One import of YAML: the foreign file, its variables, and the notes so far."""

    def __init__(self, text: str, *, file: str, variables: Mapping[str, str]) -> None:
        """Parse; SpecErrors when the text is not YAML or not a mapping."""
        super().__init__(Source(text, file))
        self.variables = variables
        root = compose(self.source)
        if root is not None and not isinstance(root, Tree_Mapping):
            self.source.report("import", f"a mapping belongs here, not {kind(root)}", root.at)
        self.source.raise_errors()
        if not isinstance(root, Tree_Mapping):
            self.source.report("import", "the file is empty", START)
            self.source.raise_errors()
            raise AssertionError("an error was reported")
        self.root = Fields(self, root)

    def expand(self, text: str, at: Mark) -> str:
        """Put variables in, as a shell would: `$A`, `${A}`, `${A:-default}`, `$$`."""

        def replace(found: re.Match[str]) -> str:
            if found["escaped"]:
                return "$"
            name, operator = found["bare"] or found["name"], found["operator"] or ""
            value = self.variables.get(name)
            is_set = value is not None and (value != "" or not operator.startswith(":"))
            if operator.endswith("+"):
                return found["rest"] if is_set else ""
            if is_set and value is not None:
                return value
            if operator.endswith("-"):
                return found["rest"]
            self.note(at, f"the variable {quoted(name)} is not set, taken as empty")
            return ""

        return _VARIABLE.sub(replace, text)


class Fields:
    """A mapping of the foreign file, and which of its keys have been asked for."""

    def __init__(self, parent: Import, tree: Tree_Mapping, *, at: Mark | None = None) -> None:
        """`at` is the key that the mapping stands under, where that tells more."""
        self.parent = parent
        self.at = at or tree.at
        self._trees: dict[str, Tree] = {key.value: value for key, value in tree.pairs}
        self._keys: dict[str, Mark] = {key.value: key.at for key, _ in tree.pairs}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        tree = self._trees.get(key)
        return tree is not None and not (isinstance(tree, Scalar) and tree.null)

    def __iter__(self) -> Iterator[str]:
        return iter(self._trees)

    def key_at(self, key: str) -> Mark:
        """Where a key stands; the mapping when it is not there."""
        return self._keys.get(key, self.at)

    def note(self, key: str, message: str) -> None:
        """Note something about a key."""
        self.parent.note(self.key_at(key), f"`{key}` {message}")

    def tree(self, key: str) -> Tree | None:
        """What stands under a key, now asked for; None when nothing does."""
        self._read.add(key)
        return self._trees[key] if key in self else None

    def word(self, key: str) -> str | None:
        """A scalar, its variables put in; what is none is noted."""
        tree = self.tree(key)
        return None if tree is None else self._scalar(key, tree)

    def _scalar(self, key: str, tree: Tree) -> str | None:
        if isinstance(tree, Scalar):
            return self.parent.expand(tree.value, tree.at)
        self.parent.note(tree.at, f"`{key}` was not understood: a text belongs here")
        return None

    def flag(self, key: str) -> bool:
        """True when it says so in one of YAML's words."""
        return self.word(key) in _TRUE

    def words(self, key: str) -> list[tuple[str, Mark]]:
        """A list of scalars, or one; each with its mark."""
        tree = self.tree(key)
        items = tree.items if isinstance(tree, Sequence) else [] if tree is None else [tree]
        found = ((self._scalar(key, item), item.at) for item in items)
        return [(word, at) for word, at in found if word is not None]

    def trees(self, key: str) -> list[Tree]:
        """A list of anything; what is none is noted."""
        tree = self.tree(key)
        if isinstance(tree, Sequence):
            return tree.items
        if tree is not None:
            self.parent.note(tree.at, f"`{key}` was not understood: a list belongs here")
        return []

    def child(self, key: str) -> Fields:
        """A mapping; an empty one when there is none, noted if there is something else."""
        tree = self.tree(key)
        if tree is not None and not isinstance(tree, Tree_Mapping):
            self.parent.note(tree.at, f"`{key}` was not understood: a mapping belongs here")
        if not isinstance(tree, Tree_Mapping):
            tree = Tree_Mapping(self.key_at(key))
        return Fields(self.parent, tree, at=self.key_at(key))

    def children(self, key: str) -> Iterator[tuple[str, Fields]]:
        """A mapping of mappings; `~` is an empty one."""
        outer = self.child(key)
        for name in outer:
            yield name, outer.child(name)

    def pairs(self, key: str, separators: str = "=") -> list[tuple[str, str | None, Mark]]:
        """A mapping of scalars, or a list of `NAME=value`; None is a name without a value."""
        tree = self.tree(key)
        if isinstance(tree, Tree_Mapping):
            inner = Fields(self.parent, tree)
            return [(name, inner.word(name), inner.key_at(name)) for name in inner]
        found: list[tuple[str, str | None, Mark]] = []
        for word, at in self.words(key):
            cut = min((word.find(s) for s in separators if s in word), default=len(word))
            found.append((word[:cut], word[cut + 1 :] if cut < len(word) else None, at))
        return found

    def skip(self, *keys: str) -> None:
        """These are understood to change nothing."""
        self._read.update(keys)

    def rest(self, reasons: Mapping[str, str]) -> None:
        """Note every key that says something and that nobody asked for."""
        for key in self._trees:
            if key in self._read or key.startswith("x-") or not self._says_something(key):
                continue
            if key in reasons:
                self.note(key, reasons[key])
            else:
                near = self.parent.source.suggest(key, [*self._read, *reasons])
                self.note(key, "was not understood" + (f"; {near}" if near else ""))

    def _says_something(self, key: str) -> bool:
        tree = self._trees[key]
        if isinstance(tree, Scalar):
            return not tree.null and tree.value not in ("", "false")
        return bool(tree.items if isinstance(tree, Sequence) else tree.pairs)


class Names:
    """Foreign names made fit for a description, each its own."""

    def __init__(self, parent: Import, what: str, unfit: re.Pattern[str], most: int) -> None:
        self._parent = parent
        self._what = what
        self._unfit = unfit
        self._most = most
        self._taken: dict[str, str] = {}

    def add(self, foreign: str, at: Mark) -> str:
        """The name in the description; one that had to be changed is noted."""
        if foreign in self._taken:
            return self._taken[foreign]
        base = self._unfit.sub("-", foreign).strip("-_.")[: self._most].strip("-_.") or self._what
        name, number = base, 1
        while name in self._taken.values():
            number += 1
            tail = f"-{number}"
            name = base[: self._most - len(tail)] + tail
        self._taken[foreign] = name
        if name != foreign:
            self._parent.note(at, f"the {self._what} {quoted(foreign)} is called `{name}`")
        return name

    def get(self, foreign: str) -> str | None:
        """The name that a foreign one was given, if it was."""
        return self._taken.get(foreign)


def node_names(parent: Import) -> Names:
    """Names of nodes: a label of RFC 1123."""
    return Names(parent, "node", _NOT_LABEL, 63)


def segment_names(parent: Import) -> Names:
    """Names of segments and labs."""
    return Names(parent, "segment", _NOT_NAME, 63)


def interface_names(parent: Import) -> Names:
    """Names of one node's interfaces: 15 characters (IFNAMSIZ) without `/`, `:`, `.` and space."""
    return Names(parent, "interface", _NOT_INTERFACE, 15)


def volume_text(word: str, at: Mark, parent: Import, anonymous: str) -> str | None:
    """Docker's `[SOURCE:]TARGET[:MODE,…]` as ours; `anonymous` names one without a source."""
    parts = word.split(":")
    source, target, *modes = parts if len(parts) > 1 else (anonymous, parts[0])
    if len(modes) > 1 or not target.startswith("/"):
        parent.note(at, f"the volume {quoted(word)} was not understood")
        return None
    said = [mode for mode in ",".join(modes).split(",") if mode]
    for mode in said:
        if mode not in ("ro", "rw"):
            parent.note(at, f"`{mode}` of the volume {quoted(word)} is left out")
    return volume(source, target, at, parent, read_only="ro" in said)


def volume(source: str, target: str, at: Mark, parent: Import, *, read_only: bool) -> str:
    """One volume in our form; a home directory, which only a shell knows, is noted."""
    if source.startswith("~"):
        parent.note(at, f"the volume's source {quoted(source)} needs its whole path")
    if "/" in source and not source.startswith(("/", "./", "../")):
        source = f"./{source}"
    if source in (".", ".."):
        source += "/"
    if source.startswith("../"):
        source = f"./{source}"
    return f"{source}:{target}" + (":ro" if read_only else "")


def publish_texts(word: str, at: Mark, parent: Import) -> list[str]:
    """Docker's `[[ADDRESS:][PORT]:]INNER[/PROTOCOL]`, ports or equally long ranges, as ours."""
    head, _, protocol = word.partition("/")
    rest, _, inner = head.rpartition(":")
    address, _, outer = rest.rpartition(":")
    if not outer:
        parent.note(at, f"{quoted(word)} names no port of the machine, and none is chosen; "
                        f"for example `{inner}:{inner}`")  # fmt: skip
        return []
    return published(address, outer, inner, protocol or "tcp", at, parent)


def published(
    address: str, outer: str, inner: str, protocol: str, at: Mark, parent: Import
) -> list[str]:
    """Each port of two equally long ranges in our form."""
    outside, inside = _range(outer), _range(inner)
    if outside is None or inside is None or protocol not in ("tcp", "udp"):
        parent.note(at, f"`{outer}:{inner}/{protocol}` cannot be published")
        return []
    if len(outside) > 1 and len(inside) == 1:
        parent.note(at, f"no free port is chosen from {outer}, it is the first")
        outside = outside[:1]
    if len(outside) != len(inside):
        parent.note(at, f"{outer} and {inner} are not equally many ports")
        return []
    prefix = f"{address}:" if address else ""
    tail = "/udp" if protocol == "udp" else ""
    pairs = zip(outside, inside, strict=True)
    return [f"{prefix}{port}:{inner_port}{tail}" for port, inner_port in pairs]


def _range(text: str) -> range | None:
    first, dash, last = text.partition("-")
    low, high = _port(first), _port(last if dash else first)
    return range(low, high + 1) if low is not None and high is not None and low <= high else None


def _port(text: str) -> int | None:
    fits = text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535
    return int(text) if fits else None


def size(word: str) -> str | None:
    """Docker's `512m`, `1gb`, `1GiB`, bytes: all powers of 1024; None when it is no size."""
    found = _SIZE.fullmatch(word.strip())
    if not found or len(word) > 24:
        return None
    size_bytes = int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
    for letter, power in (("G", 30), ("M", 20), ("K", 10)):
        if size_bytes and size_bytes % (1 << power) == 0:
            return f"{size_bytes >> power}{letter}"
    return str(size_bytes) if size_bytes else None


def whole(word: str | None) -> int:
    """A whole number of at most 18 digits; 0 when it is none."""
    text = (word or "").strip()
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else 0


def seconds(word: str) -> float | None:
    """Docker's durations, `1m30s`; a bare number is seconds."""
    if word.isascii() and word.isdigit() and len(word) <= 9:
        return float(word)
    parts = _DURATION.findall(word)
    if not parts or len(word) > 40 or "".join(n + unit for n, unit in parts) != word:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def arguments(tree: Tree | None, fields: Fields, key: str) -> list[str]:
    """A command as Docker has it: a list is the arguments, a text is split as a shell's words."""
    if not isinstance(tree, Scalar):
        return [word for word, _ in fields.words(key)]
    text = fields.word(key) or ""
    try:
        return shlex.split(text)
    except ValueError:
        fields.note(key, f"was not understood: {quoted(text)} has an open quotation")
        return []


def number(value: float) -> float | int:
    """A number as people write it: without `.0`."""
    return int(value) if value == int(value) else round(value, 6)


def without_nothing(fields: Description) -> Description:
    """The same without the keys that say nothing."""
    return {key: value for key, value in fields.items() if value not in (None, {}, [], "", False)}


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as people do, and knows no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002
        super().increase_indent(flow, False)  # noqa: FBT003

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else None
    if not text.replace("\n", "").isprintable():
        # Only between double quotes does PyYAML escape every line break that YAML 1.1 knows.
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _short(node: yaml.Node) -> bool:
    """Whether a collection holds words only, and few."""
    if isinstance(node, yaml.ScalarNode):
        return False
    flat = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    # Nothing, written as nothing, would be taken for a missing value between braces.
    is_flat = all(
        isinstance(part, yaml.ScalarNode) and part.style != "|" and not part.tag.endswith(":null")
        for part in flat
    )
    return is_flat and sum(len(part.value) + 4 for part in flat) <= MAX_FLOW


def _mapping(dumper: yaml.SafeDumper, value: Mapping[str, Any]) -> yaml.MappingNode:
    node = dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=False)
    for _, item in node.value:
        if _short(item):
            item.flow_style = True
    return node


def _sequence(dumper: yaml.SafeDumper, value: Iterable[Any]) -> yaml.SequenceNode:
    node = dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=False)
    for item in node.value:
        if _short(item):
            item.flow_style = True
    return node


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
)


def emit(description: Description) -> str:
    """A description as YAML that people like to read: short things in a line, nodes set apart."""
    parts: list[str] = []
    for key, value in description.items():
        text = yaml.dump(
            {key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
        )
        if key == "nodes" and not isinstance(value, str):
            head, _, rest = text.partition("\n")
            text = head + "\n" + re.sub(r"\n(?=  [^\s])", "\n\n", rest)
        parts.append(text)
    return "\n".join(parts)
