"""Where the rules of an nft file are written; pure, and no nft.

A rule's text is not looked at: only the braces of tables and chains, and the commands `add rule`
and the like, which say in which chain it is and at which end. Whatever is not understood
makes the chain, the table or everything unknown, and never a wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

FAMILIES: Final = frozenset({"ip", "ip6", "inet", "arp", "bridge", "netdev"})
DEPTH: Final = 16
"""Files that include one another."""


class Act(StrEnum):
    """What a statement does to rules."""

    APPEND = "append"
    INSERT = "insert"
    CLEAR = "clear"
    DELETE_CHAIN = "delete"
    UNKNOWN = "unknown"
    """Something that this reading does not follow."""


class Statement(NamedTuple):
    """One of a file, in its order; an empty name stands for all."""

    act: Act
    family: str = ""
    table: str = ""
    chain: str = ""
    file: str = ""
    line: int = 0
    text: str = ""


ReadFile = Callable[[str, str], tuple[str, str] | None]
"""(what an include names, the file it stands in) -> (path, text); None where it is not found."""


def statements(text: str, *, file: str, line: int = 1, read: ReadFile) -> Iterator[Statement]:
    """Every statement about rules."""
    yield from _File(file, line, read, 0).run(text)


_TOKEN: Final = re.compile(
    r"(?P<comment>#[^\n]*)|(?P<quoted>\"[^\"\n]*\")|(?P<open>\{)|(?P<close>\})"
    r"|(?P<end>[;\n])|(?P<joined>\\\n)|(?P<blank>[ \t\r]+)"
    r"|(?P<words>[^\s{};#\"\\][^\n{};#\"\\]*|\\|\")"
)
"""Words that follow one another are one token: a set has a hundred thousand."""


class _File:
    def __init__(self, file: str, line: int, read: ReadFile, depth: int) -> None:
        self.file = file
        self.line = line
        self.read = read
        self.depth = depth
        self.words: list[str] = []
        self.started = line
        self.braces = 0
        """Open ones of the present statement: a set's elements, a map's."""
        self.family = self.table = self.chain = ""
        self.blocks: list[str] = []
        """The blocks that are open: `table`, `chain`, or another."""

    def run(self, text: str) -> Iterator[Statement]:
        for token in _TOKEN.finditer(text):
            kind, said = token.lastgroup, token[0]
            if kind == "open":
                self._open()
            elif kind == "close":
                yield from self._close()
            elif kind == "end":
                if not self.braces:
                    yield from self._end()
            elif kind in ("words", "quoted"):
                if not self.words:
                    self.started = self.line
                self.words += said.split() if kind == "words" else (said,)
            if kind in ("end", "joined") and said != ";":
                self.line += 1
        yield from self._end()

    def _open(self) -> None:
        words = [word for word in self.words if word not in ("add", "create")]
        inside = self.blocks[-1] if self.blocks else ""
        if not self.braces and not inside and words[:1] == ["table"] and len(words) > 1:
            self.family = words[1] if len(words) > 2 else "ip"
            self.table = words[-1]
            self._block("table")
        elif not self.braces and inside == "table":
            self.chain = words[-1] if words else ""
            self._block("chain" if words[:1] == ["chain"] else "other")
        else:
            self._brace("{")

    def _block(self, kind: str) -> None:
        self.blocks.append(kind)
        self.words = []

    def _brace(self, char: str) -> None:
        self.braces += 1 if char == "{" else -1
        self.words.append(char)

    def _close(self) -> Iterator[Statement]:
        if self.braces:
            self._brace("}")
            return
        yield from self._end()
        if self.blocks:
            self.blocks.pop()

    def _end(self) -> Iterator[Statement]:
        words, self.words, self.braces = self.words, [], 0
        if not words:
            return
        inside = self.blocks[-1] if self.blocks else ""
        if words[0] == "include":
            yield from self._include(words[-1].strip('"'))
        elif inside == "chain":
            if words[0] not in ("type", "policy", "comment", "flags", "device", "devices"):
                yield self._statement(Act.APPEND, self.family, self.table, self.chain, words)
        elif not inside:
            yield from self._command(words)

    def _include(self, name: str) -> Iterator[Statement]:
        found = self.read(name, self.file) if self.depth < DEPTH else None
        if found is None:
            yield Statement(Act.UNKNOWN)
            return
        path, text = found
        inner = _File(path, 1, self.read, self.depth + 1)
        inner.family, inner.table, inner.chain = self.family, self.table, self.chain
        inner.blocks = list(self.blocks)
        yield from inner.run(text)

    def _statement(
        self, act: Act, family: str, table: str, chain: str, words: list[str]
    ) -> Statement:
        return Statement(act, family, table, chain, self.file, self.started, " ".join(words))

    def _command(self, words: list[str]) -> Iterator[Statement]:
        verb, *rest = words
        if rest[:1] == ["ruleset"] or (verb in ("define", "list", "undefine", "redefine")):
            if verb == "flush":
                yield Statement(Act.CLEAR, rest[1] if rest[1:2] else "")
            return
        what = rest.pop(0) if rest else ""
        if verb == "rule":  # `rule ip filter input …` is `add rule`
            rest, what, verb = [what, *rest], "rule", "add"
        family = rest.pop(0) if rest and rest[0] in FAMILIES else "ip"
        table = rest.pop(0) if rest else ""
        chain = rest.pop(0) if rest else ""
        if what == "rule":
            yield from self._rule(verb, family, table, chain, rest)
        elif what == "table" and verb in ("delete", "destroy", "flush"):
            yield Statement(Act.CLEAR if verb == "flush" else Act.DELETE_CHAIN, family, table)
        elif what == "chain" and verb in ("delete", "destroy", "flush"):
            act = Act.CLEAR if verb == "flush" else Act.DELETE_CHAIN
            yield Statement(act, family, table, chain)
        elif what == "chain" and verb == "rename":
            yield Statement(Act.UNKNOWN, family, table)

    def _rule(
        self, verb: str, family: str, table: str, chain: str, rest: list[str]
    ) -> Iterator[Statement]:
        if verb in ("add", "insert") and rest[:1] not in (["index"], ["position"], ["handle"]):
            act = Act.APPEND if verb == "add" else Act.INSERT
            yield self._statement(act, family, table, chain, rest)
        else:
            yield Statement(Act.UNKNOWN, family, table, chain)
