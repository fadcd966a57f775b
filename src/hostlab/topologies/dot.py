"""The DOT language of Graphviz (graphviz.org/doc/info/lang.html), as far as it tells a graph.

Nodes, edges, chains of them, subgraphs, and attributes with their defaults; ports are passed over,
and so is everything that only tells how to draw.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.spec.importing import Notes
from hostlab.spec.source import Mark, Source, Spot, quoted
from hostlab.topologies.attributes import Attributes, Reading
from hostlab.topologies.network import Draft, Network

MAX_DEPTH: Final = 50
"""Of subgraphs in each other."""
MAX_EDGES: Final = 100_000
"""Two groups of a thousand nodes make a million edges of one line."""
_TOKEN: Final = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/|\#[^\n]*)"
    r'|(?P<quoted>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*|-?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?))"
    r"|(?P<arrow>--|->)|(?P<mark>[{}\[\];,=:+])",
    re.DOTALL,
)
_LETTERS: Final = re.compile(r"-?[0-9.]+[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*")
"""A number with letters behind it."""
_DRAWING_WORDS: Final = """
    color colorscheme fillcolor fontcolor fontname fontsize shape style width height penwidth pos
    rankdir rank nodesep ranksep splines overlap bgcolor margin fixedsize arrowhead arrowtail dir
    constraint group image lp size ratio layout model headlabel taillabel len minlen xlabel
    tooltip url href id class comment
    """
_DRAWING: Final = frozenset(_DRAWING_WORDS.split())
"""Attributes that only tell how to draw."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: Spot


class _Wrong(Exception):
    """Reading has ended; the source knows why."""


def read(source: Source, notes: Notes) -> Network:
    """The network of a file; what is wrong is reported to the source."""
    try:
        return _Reader(source, notes, list(_tokens(source))).graph()
    except _Wrong:
        return Network()


def _tokens(source: Source) -> Iterator[_Token]:
    text, offset, line, begin = source.text, 0, 0, 0
    while offset < len(text):
        at = Spot(line, offset - begin)
        found = _TOKEN.match(text, offset)
        if found:
            kind, word = str(found.lastgroup), found[0]
        elif text[offset] == "<":
            kind, word = "html", _html(source, text, offset, at)
        else:
            source.report("dot", f"{quoted(text[offset : offset + 20])} is not understood", at)
            raise _Wrong
        if kind == "word" and word[-1] in "0123456789." and (tail := _LETTERS.match(text, offset)):
            # Graphviz warns, and reads `10Mbps` as `10 Mbps`, which no one means.
            message = f"{quoted(tail[0])} is a number and a name"
            source.report("dot", message, at, "write it between quotation marks")
            raise _Wrong
        if kind != "space":
            yield _Token(kind, word, at)
        offset += len(word)
        if "\n" in word:
            line += word.count("\n")
            begin = offset - len(word) + word.rindex("\n") + 1
    yield _Token("end", "", Spot(line, offset - begin))


def _html(source: Source, text: str, offset: int, at: Spot) -> str:
    """A label in HTML, between angle brackets that match."""
    depth = 0
    for end in range(offset, len(text)):
        depth += {"<": 1, ">": -1}.get(text[end], 0)
        if depth == 0:
            return text[offset : end + 1]
    source.report("dot", "a `<` is not closed", at)
    raise _Wrong


class _Reader:
    """A reader by descent; `self.next` is the token that is looked at."""

    def __init__(self, source: Source, notes: Notes, tokens: list[_Token]) -> None:
        self.source = source
        self.reading = Reading(notes)
        self.notes = notes
        self.tokens = tokens
        self.index = 0
        self.draft = Draft()
        self.said: dict[str, dict[str, str]] = {}

    @property
    def next(self) -> _Token:
        return self.tokens[self.index]

    def take(self, *texts: str) -> _Token | None:
        """The next token, if it is a mark or a bare word of these."""
        token = self.next
        if token.kind in ("quoted", "html", "end") or token.text.lower() not in texts:
            return None
        self.index += 1
        return token

    def need(self, *texts: str) -> _Token:
        return self.take(*texts) or self.fail("`" + "` or `".join(texts) + "`")

    def fail(self, wanted: str) -> _Token:
        found = quoted(self.next.text) if self.next.text else "the end of the file"
        self.source.report("dot", f"{wanted} belongs here, not {found}", self.next.at)
        raise _Wrong

    def word(self) -> str:
        """A name or a value; quoted ones may be put together with `+`."""
        token = self.next
        if token.kind not in ("word", "quoted", "html"):
            self.fail("a name")
        self.index += 1
        if token.kind != "quoted":
            return token.text[1:-1] if token.kind == "html" else token.text
        text = _unquoted(token.text)
        while self.take("+"):
            text += _unquoted(self.next.text)
            self.index += 1
        return text

    def graph(self) -> Network:
        self.take("strict")
        kind = self.need("graph", "digraph")
        if self.next.text != "{":
            self.draft.name = self.word()
        self.statements({}, {}, depth=0)
        if self.next.kind != "end":
            self.notes.note(self.next.at, "what follows the first graph is left out")
        for name, said in self.said.items():
            at = self.draft.vertices[name].at
            vertex = self.reading.vertex(name, self.attributes(said, at), is_labelled=False)
            self.draft.vertices[name] = vertex
        if kind.text.lower() == "digraph":
            self.reading.merge_opposites(self.draft, kind.at)
        self.reading.done()
        return self.draft.done()

    def attributes(self, said: dict[str, str], at: Mark) -> Attributes:
        kept = {key: text for key, text in said.items() if key.lower() not in _DRAWING}
        if kept.get("label", "").strip() in ("\\N", "\\G", "\\E"):
            del kept["label"]  # Graphviz puts the name itself there.
        return Attributes(self.reading, kept, at)

    def statements(self, node: dict[str, str], edge: dict[str, str], *, depth: int) -> list[str]:
        """What stands between braces, with the defaults that hold there; the nodes in it."""
        if depth > MAX_DEPTH:
            self.source.report("dot", f"more than {MAX_DEPTH} groups in each other", self.next.at)
            raise _Wrong
        defaults = {"node": dict(node), "edge": dict(edge), "graph": {}}
        self.need("{")
        inside: dict[str, None] = {}
        while not self.take("}"):
            if self.take(";"):
                continue
            found = self.take("node", "edge", "graph")
            if found:
                defaults[found.text.lower()].update(self.attribute_list())
            else:
                inside.update(dict.fromkeys(self.statement(defaults, depth)))
        return list(inside)

    def statement(self, defaults: dict[str, dict[str, str]], depth: int) -> list[str]:
        """A node, a subgraph, a chain of edges between them, or `name = value`."""
        at = self.next.at
        group, is_node = self.operand(defaults, depth)
        if is_node and self.take("="):
            self.word()
            return []
        if is_node:
            self.mention(group[0], at, defaults["node"])
        chain = [group]
        while self.take("--", "->"):
            where = self.next.at
            group, is_name = self.operand(defaults, depth)
            if is_name:
                self.mention(group[0], where, defaults["node"])
            chain.append(group)
        said = self.attribute_list()
        if len(chain) == 1:
            if is_node:
                self.said[group[0]].update(said)
            return chain[0]
        for left, right in itertools.pairwise(chain):
            self.join(left, right, {**defaults["edge"], **said}, at)
        return [name for each in chain for name in each]

    def operand(self, defaults: dict[str, dict[str, str]], depth: int) -> tuple[list[str], bool]:
        """(names, whether it is one node's): a name with its port passed over, or a subgraph."""
        is_group = self.take("subgraph") is not None
        if is_group and self.next.text != "{":
            self.word()
        if is_group or (self.next.kind == "mark" and self.next.text == "{"):
            return self.statements(defaults["node"], defaults["edge"], depth=depth + 1), False
        name = self.word()
        while self.take(":"):
            self.word()
        return [name], True

    def mention(self, name: str, at: Spot, defaults: dict[str, str]) -> None:
        self.draft.mention(name, at)
        self.said.setdefault(name, dict(defaults))

    def join(self, left: list[str], right: list[str], said: dict[str, str], at: Spot) -> None:
        if len(self.draft.edges) + len(left) * len(right) > MAX_EDGES:
            self.source.report("dot", f"more than {MAX_EDGES:,} edges", at)
            raise _Wrong
        for one in left:
            for other in right:
                edge = self.reading.edge((one, other), self.attributes(said, at))
                self.draft.edges.append(edge)

    def attribute_list(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self.take("["):
            while not self.take("]"):
                key = self.word()
                found[key] = self.word() if self.take("=") else "true"
                self.take(";", ",")
        return found


def _unquoted(text: str) -> str:
    """A quoted text: only `\\"` and a line break after a backslash are taken apart."""
    return text[1:-1].replace('\\"', '"').replace("\\\n", "")
