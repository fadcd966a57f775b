"""What a value of a description may look like, as data.

A `Shape` reads a tree, says what it is in JSON Schema, and says it in words for the documentation.
The tables of keys (`tables.py`) are made of shapes, and the reader, the schema and the page on the
description all walk them, so that the three cannot differ.

What was read is `Said`: the value and where it stands. A mapping becomes `Fields`, a list a list,
and different ways to write the same thing the same `Fields`. `merge` lays one over another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hostlab.spec.source import Mark, Source, Wrong, quoted
from hostlab.spec.tree import Mapping, Scalar, Sequence, Tree, kind

Json = dict[str, Any]


class Said(NamedTuple):
    """Something that was said, and where."""

    value: Any
    at: Mark
    key: Mark
    """Where the key of a mapping's entry stands; `at` elsewhere."""


class Fields(dict[str, Said]):
    """A mapping as read: each key's canonical name, and what was said."""

    flawed: bool = False
    """An error was reported in it, so what is missing may only be misspelt."""
    table: Table | None = None

    def value(self, key: str, default: Any = None) -> Any:
        """What was said under a key, or the default."""
        said = self.get(key)
        return default if said is None else said.value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """A yes or no that was said under a key."""
        found: bool = self.value(key, default)
        return found


class Shape:
    """Something that a value may look like."""

    words: str = "anything"

    def read(self, source: Source, tree: Tree) -> Said | None:
        """The value; None when it is none, which is reported."""
        raise NotImplementedError

    def schema(self) -> Json:
        """JSON Schema, draft 2020-12; tables are referred to by name."""
        raise NotImplementedError

    def parts(self) -> Iterable[Shape]:
        """The shapes this one is made of."""
        return ()


class Text(Shape):
    """A scalar that a parser understands."""

    def __init__(
        self,
        words: str,
        parse: Callable[[str], Any],
        schema: Json | None = None,
        known: Iterable[str] = (),
    ) -> None:
        self.words = words
        self.parse = parse
        self._schema = schema if schema is not None else {"type": ["string", "number", "boolean"]}
        self.known = tuple(known)

    def read(self, source: Source, tree: Tree) -> Said | None:
        if not isinstance(tree, Scalar) or tree.null:
            source.report("type", f"{self.words} belongs here, not {kind(tree)}", tree.at)
            return None
        try:
            return Said(self.parse(tree.value), tree.at, tree.at)
        except Wrong as wrong:
            hint = wrong.hint
            if hint is None and self.known:
                hint = source.suggest(tree.value, self.known)
            source.report("value", wrong.message, tree.at, hint)
            return None

    def schema(self) -> Json:
        return dict(self._schema)


def choice(words: str, known: tuple[str, ...]) -> Text:
    """One of a few words."""

    def parse(word: str) -> str:
        if word not in known:
            raise Wrong(f"{quoted(word)} is none of {', '.join(known)}")
        return word

    return Text(words, parse, {"enum": list(known)}, known)


class ListOf(Shape):
    """A list; one item alone may stand for a list of one."""

    def __init__(self, item: Shape, *, alone: bool = True) -> None:
        self.item = item
        self.alone = alone
        self.words = f"{item.words} or a list of them" if alone else f"a list of {item.words}"

    def read(self, source: Source, tree: Tree) -> Said | None:
        if isinstance(tree, Sequence):
            items = [self.item.read(source, item) for item in tree.items]
            return Said([item for item in items if item is not None], tree.at, tree.at)
        if not self.alone:
            source.report("type", f"{self.words} belongs here, not {kind(tree)}", tree.at)
            return None
        item = self.item.read(source, tree)
        return None if item is None else Said([item], tree.at, tree.at)

    def schema(self) -> Json:
        array = {"type": "array", "items": self.item.schema()}
        return {"anyOf": [array, self.item.schema()]} if self.alone else array

    def parts(self) -> Iterable[Shape]:
        return (self.item,)


class MapOf(Shape):
    """A mapping whose keys are the user's own names."""

    def __init__(self, name: Text, item: Shape) -> None:
        self.name = name
        self.item = item
        self.words = f"a mapping from {name.words} to {item.words}"

    def read(self, source: Source, tree: Tree) -> Said | None:
        if not isinstance(tree, Mapping):
            source.report("type", f"{self.words} belongs here, not {kind(tree)}", tree.at)
            return None
        fields = Fields()
        for key, value in tree.pairs:
            name = self.name.read(source, key)
            said = self.item.read(source, value)
            if name is None or said is None:
                fields.flawed = True
            if name is not None:
                # A name whose value is no good still is a name that others may refer to.
                entry = said.value if said is not None else _flawed()
                fields[name.value] = Said(entry, value.at, key.at)
        return Said(fields, tree.at, tree.at)

    def schema(self) -> Json:
        result: Json = {"type": "object", "additionalProperties": self.item.schema()}
        if "pattern" in self.name.schema():
            result["propertyNames"] = {"pattern": self.name.schema()["pattern"]}
        return result

    def parts(self) -> Iterable[Shape]:
        return (self.name, self.item)


def _flawed() -> Fields:
    fields = Fields()
    fields.flawed = True
    return fields


class Key(NamedTuple):
    """One key of a table."""

    name: str
    shape: Shape
    doc: str
    example: str
    """YAML of a value."""
    default: str = ""
    aliases: tuple[str, ...] = ()
    """Other words for the same key, as the singular of a list."""
    merge: bool = True
    """Whether a role's value goes into the node's."""


class Table(Shape):
    """A mapping with known keys."""

    def __init__(
        self,
        name: str,
        doc: str,
        keys: tuple[Key, ...],
        *,
        required: tuple[str, ...] = (),
        exclusive: tuple[tuple[str, ...], ...] = (),
        meant: dict[str, str] | None = None,
        known: str = "",
    ) -> None:
        """`meant`: hints for words that are guessed; `known`: for one that is near to no key."""
        self.meant = meant or {}
        self.known = known
        self.name = name
        self.doc = doc
        self.keys = keys
        self.required = required
        self.exclusive = exclusive
        self.words = f"a mapping ({name})"
        self.by_word = {word: key for key in keys for word in (key.name, *key.aliases)}

    def read(self, source: Source, tree: Tree) -> Said | None:
        if not isinstance(tree, Mapping):
            source.report("type", f"{self.words} belongs here, not {kind(tree)}", tree.at)
            return None
        fields = Fields()
        fields.table = self
        for word, value in tree.pairs:
            self._read_key(source, fields, word, value)
        if not fields.flawed:
            self._check(source, fields, tree.at)
        return Said(fields, tree.at, tree.at)

    def _one(self) -> str:
        """Its name with an article, if it is not a plural."""
        article = "" if self.name[-1] == "s" else "an " if self.name[0] in "aeiou" else "a "
        return article + self.name

    def _read_key(self, source: Source, fields: Fields, word: Scalar, value: Tree) -> None:
        key = self.by_word.get(word.value)
        if key is None:
            hint = self._hint(source, word.value)
            message = f"unknown key {quoted(word.value)} in {self._one()}"
            source.report("unknown-key", message, word.at, hint)
            fields.flawed = True
            return
        if isinstance(value, Scalar) and value.null:
            return
        said = key.shape.read(source, value)
        if said is None:
            fields.flawed = True
        elif key.name in fields:
            message = f"`{word.value}` says the same as a key before it"
            source.report("duplicate-key", message, word.at, f"put all of it under `{key.name}`")
        else:
            fields[key.name] = said._replace(key=word.at)

    def _hint(self, source: Source, word: str) -> str | None:
        if word in self.meant:
            return self.meant[word]
        names = [key.name for key in self.keys]
        if not self.known:
            return source.suggest_or_list(word, names)
        return source.suggest(word, names) or self.known

    def _check(self, source: Source, fields: Fields, at: Mark) -> None:
        for name in self.required:
            if name not in fields:
                source.report("missing", f"`{name}` is missing in {self._one()}", at)
                fields.flawed = True
        for group in self.exclusive:
            present = [fields[name].key for name in group if name in fields]
            if len(present) > 1:
                message = (
                    "only one of " + ", ".join(f"`{name}`" for name in group) + " can be meant"
                )
                source.report("clash", message, max(present, key=lambda m: (m.line, m.column)))

    def schema(self) -> Json:
        return {"$ref": f"#/$defs/{self.name.replace(' ', '-')}"}

    def definition(self) -> Json:
        """The schema itself, for `$defs`."""
        properties = {}
        for word, key in self.by_word.items():
            entry = key.shape.schema()
            entry = {"anyOf": [entry, {"type": "null"}], "description": key.doc}
            properties[word] = entry
        result: Json = {
            "type": "object",
            "description": self.doc,
            "properties": properties,
            "additionalProperties": False,
        }
        if self.required:
            result["required"] = list(self.required)
        return result

    def parts(self) -> Iterable[Shape]:
        return tuple(key.shape for key in self.keys)


Convert = Callable[[Source, Said], Any]


class Forms(Shape):
    """Several ways to write the same: by what stands there, a shape and a way to the usual form."""

    def __init__(
        self,
        *,
        scalar: tuple[Shape, Convert | None] | None = None,
        sequence: tuple[Shape, Convert | None] | None = None,
        mapping: tuple[Shape, Convert | None] | None = None,
        null: Callable[[], Any] | None = None,
        words: str | None = None,
    ) -> None:
        self._by_kind = {Scalar: scalar, Sequence: sequence, Mapping: mapping}
        self._null = null
        self.words = words or ", or ".join(shape.words for shape, _ in self._forms())

    def _forms(self) -> Iterator[tuple[Shape, Convert | None]]:
        for form in self._by_kind.values():
            if form is not None:
                yield form

    def read(self, source: Source, tree: Tree) -> Said | None:
        if isinstance(tree, Scalar) and tree.null and self._null is not None:
            return Said(self._null(), tree.at, tree.at)
        form = self._by_kind[type(tree)]
        if form is None or (isinstance(tree, Scalar) and tree.null):
            source.report("type", f"{self.words} belongs here, not {kind(tree)}", tree.at)
            return None
        shape, convert = form
        said = shape.read(source, tree)
        if said is None or convert is None:
            return said
        return said._replace(value=convert(source, said))

    def schema(self) -> Json:
        options = [shape.schema() for shape, _ in self._forms()]
        if self._null is not None:
            options.append({"type": "null"})
        return {"anyOf": options} if len(options) > 1 else options[0]

    def parts(self) -> Iterable[Shape]:
        return tuple(shape for shape, _ in self._forms())


def under(key: str) -> Convert:
    """A value alone stands for the mapping that has it under this key."""

    def convert(_source: Source, said: Said) -> Fields:
        return Fields({key: said})

    return convert


def names_only(_source: Source, said: Said) -> Fields:
    """A list of names stands for a mapping from each to nothing; twice the same is an error."""
    fields = Fields()
    for name in said.value:
        if name.value in fields:
            first = _source.place(fields[name.value].at)
            _source.report(
                "clash", f"{quoted(name.value)} is here twice, first at {first}", name.at
            )
        else:
            fields[name.value] = Said(Fields(), name.at, name.at)
    return fields


def merge(base: Said, over: Said) -> Said:
    """What was said later laid over what was said before: mappings by key, lists appended."""
    if isinstance(base.value, Fields) and isinstance(over.value, Fields):
        return over._replace(value=merge_fields(base.value, over.value))
    if isinstance(base.value, list) and isinstance(over.value, list):
        return over._replace(value=[*base.value, *over.value])
    return over


def merge_fields(base: Fields, over: Fields) -> Fields:
    """`merge` of two mappings; of keys that exclude each other, the later one stays."""
    table = over.table or base.table
    merged = Fields(base)
    merged.table = table
    merged.flawed = base.flawed or over.flawed
    for group in table.exclusive if table else ():
        if any(name in over for name in group):
            for name in group:
                merged.pop(name, None)
    for name, said in over.items():
        merged[name] = merge(merged[name], said) if name in merged else said
    return merged
