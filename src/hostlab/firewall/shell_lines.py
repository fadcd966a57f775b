"""The simple commands that a shell script is made of, with their lines; pure, and no shell.

A trace tells which command ran, expanded; in Debian's `sh` it tells no line. So each command of the
text becomes a pattern that its expansion matches, and the same reading tells what the trace leaves
out: whether its failure is expected (`if`, `||`), whether it is silenced, what it writes to. What
this reading gets wrong (an `eval`, a `case` pattern that looks like a command) matches nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

ASKING: Final = frozenset({"if", "elif", "while", "until", "!"})
"""In front of a command: its failure is an answer."""
KEYWORDS: Final = ASKING | {"then", "else", "do", "{", "}", "time", "fi", "done", "esac"}
_REDIRECTION: Final = re.compile(r"(\d*)(&>>?|<<<|<<-?|>>|>&|<&|>\||<>|>|<)[ \t]*")
_BREAKS: Final = re.compile(r";;&?|&&|\|\||\|&|[;&|()\n]")
_PLAIN: Final = re.compile(r"[\w./,:=+%@^-]+")
"""Characters that mean nothing to a shell, wherever they stand."""
_PLAIN_LINE: Final = re.compile(
    rf"[ \t]*+({_PLAIN.pattern}+(?:[ \t]++{_PLAIN.pattern}+)*+)[ \t]*+\n"
)
"""A line that is one command, of words that a shell takes as they are: most of a long script."""
_NAME: Final = re.compile(r"\w+|[@*#?$!-]")
_ANY: Final = "\0"
"""Stands for an expansion in a word that is being read."""
DEPTH: Final = 20
"""Command substitutions within one another that are followed."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A simple command as it is written."""

    line: int
    end_line: int
    parts: tuple[str, ...]
    """What is written out of it, without blanks; between two there is an expansion."""
    first: str = ""
    """Its name, where that is written out; empty where it is a variable."""
    is_guarded: bool = False
    """The script looks at its status: `if COMMAND`, `COMMAND || …`."""
    passes_on: bool = False
    """It has `$@` or `$*` among its words, as what wraps a command does."""
    is_silenced: bool = False
    """Its standard error goes to /dev/null."""
    errors_to: str = ""
    """The file that its standard error goes to; `-` is closed, `1` what it has as output."""
    writes: tuple[str, ...] = ()
    """Files it is redirected to; an expansion in a name is `*`."""
    reads: str = ""
    """The file that is its standard input."""
    here: tuple[int, int] = (0, 0)
    """First and last line of a here-document; (0, 0): none."""

    def can_be(self, run: str) -> bool:
        """Whether a traced command may be this one's expansion; in one pass, as globs are."""
        text = squeezed(run)
        first, *rest = self.parts
        if not rest:
            return text == first
        if not text.startswith(first):
            return False
        at = len(first)
        for part in rest[:-1]:
            found = text.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return text.endswith(rest[-1]) and len(text) - len(rest[-1]) >= at

    @property
    def literal(self) -> int:
        """How much of it is written out: the more, the surer a match."""
        return sum(map(len, self.parts))


def squeezed(text: str) -> str:
    """Without blanks: an expansion may be several words, or none."""
    return "".join(text.split())


def commands(text: str, *, first_line: int = 1) -> tuple[Command, ...]:
    """Every simple command, those in substitutions too, in the order of their lines."""
    reader = _Reader(text, first_line, 0)
    reader.read()
    return tuple(sorted(reader.found, key=lambda each: each.line))


class _Reader:
    """One pass over a script; what is read of the present command stands in its fields."""

    def __init__(self, text: str, first_line: int, depth: int) -> None:
        self.text = text
        self.depth = depth
        self.at = 0
        self.line = first_line
        self.found: list[Command] = []
        self.awaited: list[tuple[str, bool, int]] = []
        """Here-documents to come: their end, whether tabs are cut off, and whose they are."""
        self._begin()

    def _begin(self) -> None:
        self.words: list[str] = []
        self.word: str | None = None
        self.started = self.line
        self.is_guarded = False
        self.passes_on = False
        self.errors_to = ""
        self.output_to = ""
        self.reads = ""
        self.writes: list[str] = []

    def read(self) -> None:
        """Read it all."""
        while self.at < len(self.text):
            if not self._plain_line():
                self._step()
        self._end_command("")

    def _plain_line(self) -> bool:
        """Take a whole line at once, where a command begins and nothing in it wants more."""
        if self.words or self.word is not None or self.awaited:
            return False
        found = _PLAIN_LINE.match(self.text, self.at)
        if found is None:
            return False
        words = found[1].split()
        if words[0] in KEYWORDS:
            return False
        self.words = words
        self._end_command("\n")
        self._go(found.end())
        self.started = self.line
        return True

    def _step(self) -> None:
        text, at = self.text, self.at
        char = text[at]
        if plain := _PLAIN.match(text, at):
            self._add(plain[0])
            self.at = plain.end()
        elif char == "\\":
            self._escape()
        elif char in " \t":
            self._end_word()
            self.at += 1
        elif char == "#" and self.word is None:
            end = text.find("\n", at)
            self.at = len(text) if end < 0 else end
        elif char == "'":
            end = text.find("'", at + 1)
            end = len(text) if end < 0 else end
            self._add(text[at + 1 : end])
            self._go(end + 1)
        elif char == '"':
            self._quoted()
        elif char in "$`":
            self._expansion()
        elif self.word in (None, "&") and (found := _REDIRECTION.match(text, at)):
            self._redirect(found)
        elif self.word is not None and self.word.isdecimal() and char in "<>":
            found = _REDIRECTION.match(text, at)
            assert found is not None
            number, self.word = self.word, None
            self._redirect(found, number)
        elif char in "<>":
            self._end_word()
        elif found := _BREAKS.match(text, at):
            self._end_command(found[0])
            self._go(found.end())
            if found[0] == "\n":
                self._skip_documents()
            self.started = self.line
        else:
            self._add(_ANY if char in "*?[" else char)
            self.at += 1

    def _go(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def _add(self, part: str) -> None:
        self.word = (self.word or "") + part

    def _escape(self) -> None:
        if self.text[self.at + 1 : self.at + 2] == "\n":
            self._go(self.at + 2)
            return
        self._add(self.text[self.at + 1 : self.at + 2])
        self._go(self.at + 2)

    def _quoted(self) -> None:
        self._add("")
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\":
                self._escape()
            elif char in "$`":
                self._expansion()
            else:
                self._add(char)
                self._go(self.at + 1)
        self.at += 1

    def _expansion(self) -> None:
        text, at = self.text, self.at
        self._add(_ANY)
        if text[at] == "`":
            end = text.find("`", at + 1)
            end = len(text) if end < 0 else end
            self._inner(at + 1, end)
            self._go(end + 1)
        elif text.startswith("$(", at):
            end = _closing(text, at + 1, "(", ")")
            if not text.startswith("$((", at):
                self._inner(at + 2, end)
            self._go(end + 1)
        elif text.startswith("${", at):
            self.passes_on |= text[at + 2 : at + 3] in ("@", "*")
            self._go(_closing(text, at + 1, "{", "}") + 1)
        elif found := _NAME.match(text, at + 1):
            self.passes_on |= found[0] in ("@", "*")
            self.at = found.end()
        else:
            self.at += 1

    def _inner(self, start: int, end: int) -> None:
        if self.depth >= DEPTH:
            return
        line = self.line + self.text.count("\n", self.at, start)
        reader = _Reader(self.text[start:end], line, self.depth + 1)
        reader.read()
        self.found += reader.found

    def _redirect(self, found: re.Match[str], number: str = "") -> None:
        self._end_word()
        number, operator = number or found[1], found[2]
        self._go(found.end())
        target = self._target()
        if operator in ("<<", "<<-"):
            self.awaited.append((target, operator == "<<-", len(self.found)))
        elif operator in (">&", "<&") and (target.isdecimal() or target == "-"):
            if number == "2":
                self.errors_to = (self.output_to or "1") if target == "1" else target
        elif ">" in operator:
            name = target.replace(_ANY, "*")
            if number != "2":
                self.output_to = name
            if number == "2" or operator.startswith("&") or (operator == ">&" and not number):
                self.errors_to = name
            if name:
                self.writes.append(name)
        elif operator == "<":
            self.reads = target

    def _target(self) -> str:
        """The word after a redirection."""
        kept, self.word = self.words, None
        self.words = []
        while self.at < len(self.text) and not self.words:
            if self.text[self.at] in "<>" or _BREAKS.match(self.text, self.at):
                break
            before = self.at
            self._step()
            if self.text[before] in " \t" and self.words:
                break
        self._end_word()
        target = self.words[0] if self.words else ""
        self.words = kept
        return target

    def _end_word(self) -> None:
        if self.word is None:
            return
        if not self.words and self.word in KEYWORDS:
            self.is_guarded |= self.word in ASKING
        else:
            self.words.append(self.word)
        self.word = None

    def _end_command(self, operator: str) -> None:
        self._end_word()
        if self.words:
            first = self.words[0]
            self.found.append(
                Command(
                    line=self.started,
                    end_line=self.line,
                    parts=_parts(self.words),
                    first="" if _ANY in first else first,
                    is_guarded=self.is_guarded or operator == "||",
                    passes_on=self.passes_on,
                    is_silenced=self.errors_to in ("/dev/null", "-"),
                    errors_to=self.errors_to,
                    writes=tuple(self.writes),
                    reads="" if _ANY in self.reads else self.reads,
                )
            )
        self._begin()

    def _skip_documents(self) -> None:
        """Behind a line: the here-documents that it announced."""
        for end, cut, owner in self.awaited:
            start = self.line
            while self.at < len(self.text):
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                line = self.text[self.at : stop]
                self._go(min(stop + 1, len(self.text)))
                if (line.lstrip("\t") if cut else line) == end:
                    break
            if owner < len(self.found):
                whose = self.found[owner]
                here = (start, self.line - 2)
                self.found[owner] = msgspec.structs.replace(whose, here=here)
        self.awaited = []


def _parts(words: list[str]) -> tuple[str, ...]:
    return tuple(squeezed(part) for part in "".join(words).split(_ANY))


def _closing(text: str, at: int, opening: str, closing: str) -> int:
    """Where the bracket at `at` is closed; the text's end when it is not."""
    depth, quote = 0, ""
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char == "'" or (char == '"' and opening == "("):
            quote = char
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if not depth:
                return at
        at += 1
    return len(text)
