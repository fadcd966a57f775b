"""iptables-save's format: read, made canonical, written again; pure.

A dump is a sequence of tables. Each has chains with their policies and counters, then rules in
order, then COMMIT: iptables-save(8), iptables-restore(8). What is left of a rule here is its words
as the kernel's own tool prints them, so two rules are the same when their words are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from hostlab.errors import Place, SpecError

MAX_WORDS: Final = 1024
"""Of one rule: more than the kernel's own tools take."""
_COUNTERS: Final = re.compile(r"\[(\d+):(\d+)\]")
_PLAIN: Final = re.compile(r"[^\s\"'\\]+")
_UNTOUCHED: Final = "-"
"""In place of a policy: a chain that a user made has none."""


class SavedChain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A chain with its rules in order; each rule is its words without `-A CHAIN`."""

    name: str
    policy: str | None = None
    """ACCEPT or DROP of a built-in chain."""
    rules: tuple[tuple[str, ...], ...] = ()


class SavedTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One table; its chains are in the order of their declarations."""

    name: str
    chains: tuple[SavedChain, ...] = ()

    def chain(self, name: str) -> SavedChain | None:
        """A chain by its name."""
        return next((chain for chain in self.chains if chain.name == name), None)


def parse(text: str, *, file: str = "<ruleset>") -> tuple[SavedTable, ...]:
    """The tables of a dump, in its order; SpecError with the line that cannot be meant."""
    tables: list[SavedTable] = []
    table: _Table | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            if stripped.startswith("*"):
                if table is not None:
                    raise ValueError(f"table {table.name} has no COMMIT")
                table = _Table(stripped[1:].strip())
            elif table is None:
                raise ValueError("no table has begun: a line such as `*filter` is wanted")
            elif stripped == "COMMIT":
                tables.append(table.end())
                table = None
            elif stripped.startswith(":"):
                table.declare(stripped[1:])
            else:
                table.take(words_of(stripped))
        except ValueError as error:
            where = Place(file, number, 1 + len(line) - len(line.lstrip()), line)
            raise SpecError("iptables-save", str(error), where=where) from None
    if table is not None:
        where = Place(file, text.count("\n") + 1, 1)
        raise SpecError("iptables-save", f"table {table.name} has no COMMIT", where=where)
    return tuple(tables)


class _Table:
    """A table while its lines come."""

    def __init__(self, name: str) -> None:
        if not name:
            raise ValueError("a table has a name")
        self.name = name
        self.policies: dict[str, str | None] = {}
        self.rules: dict[str, list[tuple[str, ...]]] = {}

    def declare(self, text: str) -> None:
        words = text.split()
        if len(words) < 2 or (len(words) > 2 and not _COUNTERS.fullmatch(words[2])):
            raise ValueError("a chain is declared as `:NAME POLICY [PACKETS:BYTES]`")
        self.policies[words[0]] = None if words[1] == _UNTOUCHED else words[1]
        self.rules.setdefault(words[0], [])

    def take(self, words: tuple[str, ...]) -> None:
        if words and _COUNTERS.fullmatch(words[0]):
            words = words[1:]
        match words:
            case ("-A" | "--append", chain, *rest):
                if chain not in self.rules:
                    raise ValueError(f"chain {chain} of table {self.name} is not declared")
                self.rules[chain].append(_without_counters(rest))
            case ("-N" | "--new-chain", chain):
                self.declare(f"{chain} {_UNTOUCHED}")
            case ("-P" | "--policy", chain, policy):
                self.declare(f"{chain} {policy}")
            case (first, *_):
                raise ValueError(f"{first!r} is not read here: -A, -N and -P are")

    def end(self) -> SavedTable:
        chains = (
            SavedChain(name=name, policy=policy, rules=tuple(self.rules[name]))
            for name, policy in self.policies.items()
        )
        return SavedTable(name=self.name, chains=tuple(chains))


def words_of(line: str) -> tuple[str, ...]:
    """The words of a line, with iptables-restore's own quoting: `"` with `\\`, and nothing else.

    ValueError for a quotation that does not end.
    """
    words: list[str] = []
    at, end = 0, len(line)
    while at < end:
        if line[at].isspace():
            at += 1
            continue
        word, at = _word(line, at)
        words.append(word)
        if len(words) > MAX_WORDS:
            raise ValueError(f"more than {MAX_WORDS} words")
    return tuple(words)


def _word(line: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    quoted, begun = False, at
    while at < len(line):
        c = line[at]
        if c == '"':
            quoted = not quoted
        elif c == "\\" and quoted and at + 1 < len(line):
            at += 1
            parts.append(line[at])
        elif c.isspace() and not quoted:
            break
        else:
            parts.append(c)
        at += 1
    if quoted:
        raise ValueError(f"the quotation that begins in column {begun + 1} does not end")
    return "".join(parts), at


def quoted(word: str) -> str:
    """A word as it is written in a dump."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rule_text(words: Iterable[str]) -> str:
    """A rule's words as a line."""
    return " ".join(map(quoted, words))


def lines_of(table: SavedTable) -> Iterator[str]:
    """A table as iptables-restore takes it, without counters."""
    yield f"*{table.name}"
    for chain in table.chains:
        yield f":{chain.name} {chain.policy or _UNTOUCHED} [0:0]"
    for chain in table.chains:
        for words in chain.rules:
            yield f"-A {quoted(chain.name)} {rule_text(words)}".rstrip()
    yield "COMMIT"


def print_saved(tables: Sequence[SavedTable]) -> str:
    """A dump that iptables-restore loads."""
    return "".join(f"{line}\n" for table in tables for line in lines_of(table))


def normalised(tables: Sequence[SavedTable]) -> tuple[SavedTable, ...]:
    """Without what does not matter: the order of tables and chains, and chains as good as absent.

    A built-in chain without a rule that accepts says no more than no chain; a table of such chains
    is not there.
    """
    found = []
    for table in sorted(tables, key=lambda table: table.name):
        chains = [c for c in table.chains if c.rules or c.policy not in ("ACCEPT",)]
        chains.sort(key=lambda chain: (chain.policy is None, chain.name))
        if chains:
            found.append(SavedTable(name=table.name, chains=tuple(chains)))
    return tuple(found)


def _without_counters(words: Sequence[str]) -> tuple[str, ...]:
    """`-c PACKETS BYTES` left out."""
    found = list(words)
    for name in ("-c", "--set-counters"):
        while name in found:
            at = found.index(name)
            del found[at : at + 3]
    return tuple(found)
