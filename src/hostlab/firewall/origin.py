"""Which line made which rule: the commands that ran, replayed on lists of places; pure.

Only positions are replayed, not rules: `-A` puts a place at a chain's end, `-I` at its start or a
number, `-D` takes one away. A chain's places hold only where as many came out as the kernel has
rules, and each command agrees with its rule in what both must name (`-j`, `-i`, `-o`, `-p`, or
nft's verdict). Of a chain that somebody else changed, or that a command changed in a way that is
not followed, nothing is told.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from hostlab.errors import Place
from hostlab.firewall import nft_file
from hostlab.firewall.listing import Chain
from hostlab.firewall.nft_file import Act, ReadFile
from hostlab.firewall.trace import Call, Texts


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule was written."""

    family: str
    """ip, ip6, inet, arp, bridge, netdev."""
    table: str
    chain: str
    number: int
    """The rule's place in its chain, from 1."""
    place: Place
    is_legacy: bool = False


class _Key(NamedTuple):
    """A chain; a table where it names none, a family where it names no table."""

    family: str = ""
    table: str = ""
    chain: str = ""
    is_legacy: bool = False
    is_nft: bool = False


class _Entry(NamedTuple):
    place: Place
    rule: str | tuple[str, ...]
    """As the command has it: its words, or the text of a line that has no quotes."""

    @property
    def words(self) -> tuple[str, ...]:
        """Of the rule."""
        return tuple(self.rule.split()) if isinstance(self.rule, str) else self.rule


_TOOL: Final = re.compile(r"ip(6?)tables(?:-(legacy|nft))?(-restore)?")
_COMMANDS: Final = {
    **{"-A": "A", "--append": "A", "-I": "I", "--insert": "I", "-D": "D", "--delete": "D"},
    **{"-R": "R", "--replace": "R", "-F": "F", "--flush": "F", "-X": "X"},
    **{"--delete-chain": "X", "-E": "E", "--rename-chain": "E"},
}
_PASSIVE: Final = frozenset(
    {
        *("-N", "--new-chain", "-P", "--policy", "-L", "--list", "-S", "--list-rules", "-C"),
        *("--check", "-Z", "--zero", "-V", "--version", "-h", "--help"),
    }
)
_NUMBERED: Final = frozenset(
    {"-w", "--wait", "-W", "--wait-interval", "-c", "--set-counters"},
)
"""Options that may have a number, and are no part of a rule."""
_ELSEWHERE: Final = _NUMBERED | {"-t", "--table"}
_SIDES: Final = frozenset({"-s", "--source", "--src", "-d", "--destination", "--dst"})
_NAMES: Final = {
    **{"-j": "-j", "--jump": "-j", "-g": "-g", "--goto": "-g", "-i": "-i", "-o": "-o"},
    **{"--in-interface": "-i", "--out-interface": "-o", "-p": "-p", "--protocol": "-p"},
    "--proto": "-p",
}
_QUOTES: Final = re.compile(r"['\"\\]")
_APPENDED: Final = re.compile(r"-A ([^\s'\"\\-][^\s'\"\\]*) ([-!][^'\",\\\t\r\f\v]*)")
"""A line that makes one rule, as iptables-save prints most: what is as long as the ruleset is not
taken apart where that can be helped."""
_OPTION: Final = re.compile(r" -(?:[twWc](?: |$)|-(?:table|wait|set-counters))")
"""What stands in such a line and is no part of the rule."""
_COUNTED: Final = re.compile(r"\[\d+:\d+\]\s*")
MOST_RULES: Final = 1_000
"""That one command makes: `-s a,b,c -d d,e`."""


def origins(
    calls: Iterable[Call],
    held: Iterable[Chain],
    texts: Texts,
    *,
    iptables_is_legacy: bool,
    read: ReadFile,
) -> tuple[Origin, ...]:
    """The places of rules, in every chain where they are sure."""
    replay = _Replay(texts, read, iptables_is_legacy=iptables_is_legacy)
    for call in calls:
        replay.follow(call)
    return tuple(
        Origin(
            family=chain.family,
            table=chain.table,
            chain=chain.name,
            number=number,
            place=entry.place,
            is_legacy=chain.is_legacy,
        )
        for chain in held
        for number, entry in enumerate(_agreed(chain, replay), 1)
    )


class _Replay:
    """What every chain is made of, by the commands so far."""

    def __init__(self, texts: Texts, read: ReadFile, *, iptables_is_legacy: bool) -> None:
        self.texts = texts
        self.read = read
        self.iptables_is_legacy = iptables_is_legacy
        self.chains: dict[_Key, list[_Entry]] = {}
        self.unknown: set[_Key] = set()
        """Chains, tables, families and kinds (no family) that are not followed any more."""

    def entries(self, key: _Key) -> Sequence[_Entry]:
        """A chain's; none where it is not known."""
        table, family = key._replace(chain=""), key._replace(chain="", table="")
        whole = (key, table, family, family._replace(family=""))
        return () if self.unknown.intersection(whole) else self.chains.get(key, ())

    def follow(self, call: Call) -> None:
        """One command; a failed one did nothing."""
        if call.place is None or not call.words or (call.status not in (0, None)):
            return
        if call.name == "nft":
            self._nft(call)
        elif found := _TOOL.fullmatch(call.name):
            is_legacy = found[2] == "legacy" or (not found[2] and self.iptables_is_legacy)
            family = _Key(family=f"ip{found[1]}", is_legacy=is_legacy)
            if found[3]:
                self._restore(call, family)
            else:
                self._iptables(call.words[1:], call.place, family)

    def _iptables(
        self, words: Sequence[str], place: Place, family: _Key, table: str = "filter"
    ) -> None:
        table, verb, chain, rest = _parsed(words, table)
        key = _Key(family.family, table, chain, family.is_legacy)
        if verb == "F":
            self._clear(key)
        elif verb == "X":
            for one in self._matching(key):
                self.chains.pop(one)
        elif verb in ("A", "I", "D", "R"):
            self._change(verb, key, rest, place)
        elif verb == "E" and rest:
            self.chains[key._replace(chain=rest[0])] = self.chains.pop(key, [])
        elif verb:
            self.unknown.add(key)

    def _change(self, verb: str, key: _Key, rest: Sequence[str], place: Place) -> None:
        entries = self.chains.setdefault(key, [])
        number = int(rest[0]) if rest and rest[0].isdecimal() else 0
        spec = rest[1:] if number else rest
        made = [_Entry(place, tuple(spec))] * _count(spec)
        at = max(number - 1, 0)
        if verb == "A":
            entries += made
        elif verb == "I":
            entries[at:at] = made
        elif number:
            entries[at : at + 1] = made if verb == "R" else []
        else:
            wanted = sorted(spec)
            found = next((n for n, one in enumerate(entries) if sorted(one.words) == wanted), None)
            if found is None or len(made) > 1:
                self.unknown.add(key)
            else:
                del entries[found]

    def _matching(self, key: _Key) -> list[_Key]:
        """A chain, or all of a table, or of a family."""
        return [
            one
            for one in self.chains
            if (one.family, *one[3:]) == (key.family, *key[3:])
            and key.table in ("", one.table)
            and key.chain in ("", one.chain)
        ]

    def _clear(self, key: _Key) -> None:
        for one in self._matching(key):
            self.chains[one] = []

    def _restore(self, call: Call, family: _Key) -> None:
        given = _given(call, self.texts)
        if given is None:
            self.unknown.add(family)
            return
        keeps = bool({"-n", "--noflush"}.intersection(call.words))
        table = ""
        for line, place in given:
            said = line.strip()
            if said.startswith("*"):
                table = said[1:].strip()
                if not keeps:
                    self._clear(family._replace(table=table))
            elif (found := _APPENDED.fullmatch(said)) and not _OPTION.search(said):
                key = _Key(family.family, table, found[1], family.is_legacy)
                self.chains.setdefault(key, []).append(_Entry(place, found[2]))
            elif said.startswith(("-", "[")):
                if said[0] == "[":
                    said = _COUNTED.sub("", said, count=1)
                self._iptables(_line_words(said), place, family, table)

    def _nft(self, call: Call) -> None:
        for each in self._statements(call):
            key = _Key(each.family, each.table, each.chain, is_nft=True)
            match each.act:
                case Act.APPEND:
                    self.chains.setdefault(key, []).append(self._entry(each, call))
                case Act.INSERT:
                    self.chains.setdefault(key, []).insert(0, self._entry(each, call))
                case Act.CLEAR:
                    self._clear_nft(key)
                case Act.DELETE_CHAIN:
                    for one in self._matching(key):
                        self.chains.pop(one)
                case Act.UNKNOWN:
                    self.unknown.add(key)

    def _clear_nft(self, key: _Key) -> None:
        """`flush ruleset` ends the tables of iptables-nft too."""
        for one in list(self.chains):
            is_one = key.family in ("", one.family) and key.table in ("", one.table)
            if not one.is_legacy and is_one and key.chain in ("", one.chain):
                self.chains[one] = []

    def _entry(self, each: nft_file.Statement, call: Call) -> _Entry:
        assert call.place is not None
        if not each.file:
            return _Entry(call.place, tuple(each.text.split()))
        return _Entry(self.texts.place(each.file, each.line), tuple(each.text.split()))

    def _statements(self, call: Call) -> Iterator[nft_file.Statement]:
        options = [word for word in call.words[1:] if word.startswith("-")]
        if {"-c", "--check"}.intersection(options):
            return
        if {"-f", "--file"}.intersection(options):
            given = _given(call, self.texts)
            if given is None:
                yield nft_file.Statement(Act.UNKNOWN)
                return
            lines = list(given)
            if lines:
                text = "\n".join(line for line, _ in lines)
                first = lines[0][1]
                yield from nft_file.statements(
                    text, file=first.file, line=first.line, read=self.read
                )
            return
        text = " ".join(word for word in call.words[1:] if not word.startswith("-"))
        yield from nft_file.statements(text, file="", read=self.read)


def _line_words(line: str) -> list[str]:
    if not _QUOTES.search(line):
        return line.split()
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _parsed(words: Sequence[str], table: str) -> tuple[str, str, str, Sequence[str]]:
    """(table, command, chain, what follows it); no command: nothing is changed.

    `table` is the one that is meant where the words name none.
    """
    if _is_simple(words):
        return table, _COMMANDS[words[0]], words[1], words[2:]
    verb, chain = "", ""
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else ""
        if word in ("-t", "--table"):
            table = following
            at += 1
        elif word.startswith("--table="):
            table = word.partition("=")[2]
        elif word in _NUMBERED:
            at += following.isdecimal()
        elif not verb and word in _COMMANDS:
            verb = _COMMANDS[word]
            if following and not following.startswith("-"):
                chain = following
                at += 1
        elif not verb and word in _PASSIVE:
            return table, "", "", []
        elif not verb and word.startswith("-t") and len(word) > 2:
            table = word[2:]
        else:
            rest.append(word)
        at += 1
    return table, verb, chain, rest


def _is_simple(words: Sequence[str]) -> bool:
    """Whether a command and its chain stand in front, and all the rest is the rule."""
    if len(words) < 2 or words[0] not in _COMMANDS or words[1][:1] in ("", "-"):
        return False
    return _ELSEWHERE.isdisjoint(words) and "--table=" not in " ".join(words)


def _count(spec: Sequence[str]) -> int:
    """How many rules a command makes: one for each pair of listed addresses."""
    count = 1
    if "," not in " ".join(spec):
        return count
    for word, following in pairwise(spec):
        if word in _SIDES:
            count *= following.count(",") + 1
    return min(count, MOST_RULES)


def _given(call: Call, texts: Texts) -> Iterable[tuple[str, Place]] | None:
    """The lines that a -restore or `nft -f` took, with their places; None where unknown."""
    if call.part is not None:
        part = call.part
        first = part.first_line
        lines = part.text.split("\n")
        return [(line, Place(part.path, first + n, 1, line)) for n, line in enumerate(lines)]
    if call.place is None:
        return None
    written = call.written
    if written is not None and written.here[0]:
        first, last = written.here
        file = call.place.file
        return [(texts.line(file, n), texts.place(file, n)) for n in range(first, last + 1)]
    named = [word for word in call.words[1:] if not word.startswith("-") and word != "-"]
    file = (written.reads if written is not None else "") or (named[-1] if named else "")
    if not file or texts.text(file) is None:
        return None
    return [(line, texts.place(file, n)) for n, line in enumerate(texts.lines(file), 1)]


def _agreed(chain: Chain, replay: _Replay) -> Sequence[_Entry]:
    key = _Key(
        chain.family, chain.table, chain.name, is_legacy=chain.is_legacy, is_nft=chain.is_nft
    )
    entries = replay.entries(key)
    if len(entries) != len(chain.rules):
        return ()
    agree = _nft_agrees if chain.is_nft else _iptables_agrees
    return entries if all(map(agree, entries, chain.rules)) else ()


def _named(words: Sequence[str]) -> Mapping[str, str]:
    return {_NAMES[word]: following for word, following in pairwise(words) if word in _NAMES}


_SAME: Final = {"icmpv6": "ipv6-icmp", "icmp6": "ipv6-icmp", "1": "icmp", "6": "tcp", "17": "udp"}


def _iptables_agrees(entry: _Entry, rule: str) -> bool:
    """Whether a command and a rule name the same target, interfaces and protocol."""
    if entry.rule == rule:
        return True
    words = _line_words(rule)
    if entry.rule == tuple(words):
        return True
    said, held = _named(entry.words), _named(words)
    for name in ("-j", "-g", "-i", "-o", "-p"):
        mine, theirs = said.get(name, ""), held.get(name, "")
        if "$" in mine or mine in ("all", "+"):
            continue
        if _SAME.get(mine, mine).lower() != _SAME.get(theirs, theirs).lower():
            return False
    return True


_VERDICTS: Final = re.compile(
    r"\b(accept|drop|reject|return|jump|goto|masquerade|queue|continue)\b"
)


def _nft_agrees(entry: _Entry, rule: str) -> bool:
    text = " ".join(entry.words)
    if "$" in text:
        return True
    return set(_VERDICTS.findall(text)) == set(_VERDICTS.findall(rule))
