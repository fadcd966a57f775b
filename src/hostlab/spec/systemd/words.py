"""Quoting: how a value is split into words, and the C escapes in them (systemd.syntax(7)).

As systemd's src/basic/extract-word.c has it rather than as its man page says: a quote may stand
within a word too, `a"b c"d` is one word.
"""

from __future__ import annotations

import re

from hostlab.spec.source import Wrong, quoted

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
           "\\": "\\", '"': '"', "'": "'", "s": " "}  # fmt: skip
_NUMBERED = re.compile(
    r"x(?P<hex>[0-9a-fA-F]{2})|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-7]{3})"
)
_BLANKS = " \t\n\r"
_SEMICOLON = re.compile(r"\\;(?=\s|$)")
MAX_WORDS = 100_000


def split_words(text: str, *, escapes: bool = True, keep_unknown: bool = False) -> tuple[str, ...]:
    """The words of a value, unquoted; Wrong for an open quote or an escape that is none.

    With `keep_unknown` an escape that is none stays as it stands, for values that are read with
    EXTRACT_CUNESCAPE_RELAX.
    """
    scanner = _Words(text, escapes=escapes, keep_unknown=keep_unknown)
    words = []
    while (word := scanner.next()) is not None:
        words.append(word[0])
        if len(words) > MAX_WORDS:
            raise Wrong(f"more than {MAX_WORDS} words")
    return tuple(words)


def split_command_words(text: str, *, keep_unknown: bool = False) -> tuple[tuple[str, bool], ...]:
    """The words of an Exec line, and of each whether it was written bare, without any quoting.

    A bare `;` ends a command; the word `\\;` is a semicolon, there alone that escape exists.
    """
    scanner = _Words(text, escapes=True, keep_unknown=keep_unknown, semicolon=True)
    words = []
    while (word := scanner.next()) is not None:
        words.append(word)
    return tuple(words)


class _Words:
    """A position in a value."""

    def __init__(
        self, text: str, *, escapes: bool, keep_unknown: bool, semicolon: bool = False
    ) -> None:
        self.text = text
        self.position = 0
        self.escapes = escapes
        self.keep_unknown = keep_unknown
        self.semicolon = semicolon

    def next(self) -> tuple[str, bool] | None:
        """The next word and whether it was bare; None at the end."""
        text = self.text
        while self.position < len(text) and text[self.position] in _BLANKS:
            self.position += 1
        if self.position == len(text):
            return None
        if self.semicolon and _SEMICOLON.match(text, self.position):
            self.position += 2
            return ";", False
        out: list[str] = []
        quote = ""
        bare = True
        while self.position < len(text):
            char = text[self.position]
            if not quote and char in _BLANKS:
                break
            self.position += 1
            if char == "\\" and self.escapes:
                bare = False
                out.append(self._escape())
            elif quote:
                if char == quote:
                    quote = ""
                else:
                    out.append(char)
            elif char in "\"'":
                quote, bare = char, False
            else:
                out.append(char)
        if quote:
            raise Wrong(f"the quote {quote} is not closed")
        return "".join(out), bare

    def _escape(self) -> str:
        """What stands behind a backslash."""
        rest = self.text[self.position : self.position + 9]
        if not rest:
            if self.keep_unknown:
                return "\\"
            raise Wrong("a backslash at the end")
        if rest[0] in _SIMPLE:
            self.position += 1
            return _SIMPLE[rest[0]]
        if found := _NUMBERED.match(rest):
            self.position += found.end()
            return _character(found)
        if self.keep_unknown:
            return "\\"
        hint = r"a backslash itself is `\\`"
        raise Wrong(f"{quoted(chr(92) + rest[0])} is no escape", hint)


def _character(found: re.Match[str]) -> str:
    digits = found["hex"] or found["short"] or found["long"]
    number = int(digits, 16) if digits else int(found["octal"], 8)
    if number == 0:
        raise Wrong("a NUL character cannot be part of this")
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF or (found["octal"] and number > 255):
        raise Wrong(f"{quoted(found[0])} is no character")
    return chr(number)
