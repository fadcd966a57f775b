"""From YAML text to a tree with places, in one bounded pass.

The tree is built here from libyaml's events and not by PyYAML's `compose`, for three reasons: that
one recurses in C, so that a file of a hundred thousand `[` ends the process; it takes the second of
two equal keys in silence; and it resolves plain words by YAML 1.1's rules (`no` is false, `1:30`
is ninety), which a reader that knows what it expects has no use for. A scalar stays the text that
was written; only "nothing" (`~`, `null`, empty) is told apart.
"""

from __future__ import annotations

import re

import yaml

from hostlab.spec.source import START, Mark, Source, Spot, quoted
from hostlab.spec.tree import Mapping, Scalar, Sequence, Tree, kind

MAX_CHARACTERS = 16 * 2**20
MAX_DEPTH = 64
MAX_ALIASED = 500_000
"""Nodes that aliases may stand for together: what bounds a "billion laughs"."""

SECRET = "!secret"
"""The tag of a text that is masked in every output of checks."""
SHORTEST_SECRET = 4

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def _start(event: yaml.Event) -> Mark:
    """Where an event begins; only events that a program made have no mark."""
    assert event.start_mark is not None
    return event.start_mark


class _Stop(Exception):
    """The rest of the file cannot be read; the reason is reported."""


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "children", "node", "start")

    def __init__(self, node: Sequence | Mapping, anchor: str | None, start: int) -> None:
        self.node = node
        self.anchor = anchor
        self.start = start
        self.children: list[Tree] = []


class _Composer:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Tree, int]] = {}
        self.open_anchors: set[str] = set()
        self.count = 0
        self.aliased = 0
        self.root: Tree | None = None

    def run(self) -> None:
        documents = 0
        for event in yaml.parse(self.source.text, Loader=yaml.CSafeLoader):
            match event:
                case yaml.ScalarEvent():
                    self.scalar(event)
                case yaml.AliasEvent():
                    self.alias(event)
                case yaml.MappingStartEvent():
                    self.open(Mapping(_start(event)), event)
                case yaml.SequenceStartEvent():
                    self.open(Sequence(_start(event)), event)
                case yaml.CollectionEndEvent():
                    self.close()
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self.stop("a second document; a description is one", _start(event))

    def stop(self, message: str, at: Mark, hint: str | None = None) -> None:
        self.source.report("yaml", message, at, hint)
        raise _Stop

    def check_tag(self, tag: str | None, at: Mark) -> None:
        if tag is not None and tag != "!" and tag not in _TAGS:
            self.source.report(
                "yaml", f"the tag {quoted(tag)} means nothing here", at, "leave it out"
            )

    def scalar(self, event: yaml.ScalarEvent) -> None:
        if event.tag == SECRET:
            self.secret(event.value, _start(event))
        else:
            self.check_tag(event.tag, _start(event))
        self.count += 1
        plain = event.style is None or event.style == ""
        null = plain and event.value in _NULLS and (event.tag is None or event.tag[-4:] == "null")
        node = Scalar(event.value, _start(event), plain=plain, null=null)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, 1)
        self.add(node)

    def secret(self, value: str, at: Mark) -> None:
        """A text that nobody is to be told."""
        if len(value) < SHORTEST_SECRET:
            message = f"a secret has at least {SHORTEST_SECRET} characters"
            self.source.report("value", message, at, "shorter ones would be masked everywhere")
        else:
            self.source.secrets[value] = None

    def alias(self, event: yaml.AliasEvent) -> None:
        assert event.anchor is not None
        if event.anchor in self.open_anchors:
            self.stop(f"`*{event.anchor}` stands inside what it repeats", _start(event))
        if event.anchor not in self.anchors:
            hint = self.source.suggest(event.anchor, self.anchors)
            self.stop(f"nothing is anchored as {quoted('&' + event.anchor)}", _start(event), hint)
        node, size = self.anchors[event.anchor]
        self.aliased += size
        self.count += size
        if self.aliased > MAX_ALIASED:
            self.stop(f"aliases repeat more than {MAX_ALIASED:,} values", _start(event))
        self.add(node)

    def open(self, node: Sequence | Mapping, event: yaml.CollectionStartEvent) -> None:
        self.check_tag(event.tag, _start(event))
        if len(self.stack) >= MAX_DEPTH:
            self.stop(f"nested deeper than {MAX_DEPTH} levels", _start(event))
        if event.anchor is not None:
            self.open_anchors.add(event.anchor)
        self.stack.append(_Open(node, event.anchor, self.count))
        self.count += 1

    def close(self) -> None:
        done = self.stack.pop()
        if isinstance(done.node, Sequence):
            done.node.items = done.children
        else:
            self.pair(done.node, done.children)
        if done.anchor is not None:
            self.open_anchors.discard(done.anchor)
            self.anchors[done.anchor] = (done.node, self.count - done.start)
        self.add(done.node)

    def add(self, node: Tree) -> None:
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.root = node

    def pair(self, mapping: Mapping, children: list[Tree]) -> None:
        seen: dict[str, Scalar] = {}
        merges: list[Tree] = []
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.source.report("yaml", f"{kind(key)} cannot be a key", key.at)
            elif key.plain and key.value == "<<":
                merges.append(value)
            elif key.value in seen:
                first = self.source.place(seen[key.value].at)
                message = f"the key {quoted(key.value)} is here twice, first at {first}"
                self.source.report("duplicate-key", message, key.at, "keep one of them")
            else:
                seen[key.value] = key
                mapping.pairs.append((key, value))
        for merge in merges:
            self.merge(mapping, seen, merge)

    def merge(self, mapping: Mapping, seen: dict[str, Scalar], merge: Tree) -> None:
        """YAML 1.1's `<<`: what is said already wins, and among several the earlier one."""
        for part in merge.items if isinstance(merge, Sequence) else [merge]:
            if not isinstance(part, Mapping):
                self.source.report("yaml", f"`<<` merges mappings, not {kind(part)}", part.at)
                continue
            for key, value in part.pairs:
                if key.value not in seen:
                    seen[key.value] = key
                    mapping.pairs.append((key, value))


def _report_yaml_error(source: Source, error: yaml.YAMLError) -> None:
    if not isinstance(error, yaml.MarkedYAMLError):
        source.report("yaml", str(error).splitlines()[0], START)
        return
    at: Mark = error.problem_mark or error.context_mark or START
    message = error.problem or error.context or "this is not YAML"
    if error.problem and error.context:
        message = f"{error.problem} {error.context}"
    hint = None
    line = source.lines[min(at.line, len(source.lines) - 1)]
    if "\t" in line[: at.column + 1]:
        hint = "indent with spaces: YAML does not allow tabs"
    elif "mapping values are not allowed" in message:
        hint = 'a text with `: ` in it needs quotes: "…"'
    source.report("yaml", message, at, hint)


def compose(source: Source) -> Tree | None:
    """The one document of a file; None when it is empty or cannot be read, which is reported."""
    if len(source.text) > MAX_CHARACTERS:
        source.report("yaml", f"longer than {MAX_CHARACTERS:,} characters", START)
        return None
    if bad := _FORBIDDEN.search(source.text):
        before = Source(source.text[: bad.start()] + "x", source.file).lines
        at = Spot(len(before) - 1, len(before[-1]) - 1)
        source.report("yaml", f"the character U+{ord(bad[0]):04X} is not allowed in YAML", at)
        return None
    composer = _Composer(source)
    try:
        composer.run()
    except _Stop:
        return None
    except yaml.YAMLError as error:
        _report_yaml_error(source, error)
        return None
    return composer.root
