"""The tokens of a `.conf` file, as libnih's nih/config.c reads them.

A token is text up to a delimiter, and three things can hide a delimiter: a backslash, double
quotes, single quotes (both kinds mean the same). A line ends at a newline or at an unhidden `#`
anywhere, even glued to a word. A hidden newline, with the blanks round it, becomes one space.
A `script` block is the exception: raw text up to a line that says `end script`.

Positions are offsets; only an error, or a place that is asked for, turns one into line and column.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import takewhile

from hostlab.errors import Place, SpecError

BLANKS = " \t\r"
LINE_END = "#\n"
WORD_END = BLANKS + LINE_END
NUL = "a NUL character, which no argument, variable or path can hold"
MAX_QUOTED = 200
"""Characters of an offending line that an error repeats; an error behind them repeats none."""


class Scanner:
    """A position in a file's text and the ways to move it on."""

    def __init__(self, text: str, file: str, position: int = 0) -> None:
        self.text = text
        self.file = file
        self.position = position
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line(self, position: int) -> int:
        """The line of an offset, from 1."""
        return bisect_right(self._line_starts, position)

    def place(self, position: int) -> Place:
        """File, line and column of an offset, with its line's text."""
        line = self.line(position)
        start = self._line_starts[line - 1]
        column = position - start + 1
        text = self.text[start : start + MAX_QUOTED].partition("\n")[0].rstrip("\r")
        return Place(self.file, line, column, text if column <= MAX_QUOTED else "")

    def offset(self, place: Place) -> int:
        """The offset of a place in this text."""
        return self._line_starts[place.line - 1] + place.column - 1

    def error(self, reason: str, position: int, *, hint: str | None = None) -> SpecError:
        """An error at an offset, to be raised."""
        return SpecError("conf", reason, where=self.place(position), hint=hint)

    def at_end(self) -> bool:
        """Nothing of the file is left."""
        return self.position >= len(self.text)

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.position : self.position + 1]

    def has_token(self) -> bool:
        """Whether the line goes on with something that is no comment."""
        return not self.at_end() and self.text[self.position] not in LINE_END

    def skip_blanks(self) -> None:
        """Past blanks and escaped newlines."""
        text = self.text
        while self.position < len(text):
            if text[self.position] in BLANKS:
                self.position += 1
            elif text.startswith("\\\n", self.position):
                self.position += 2
            else:
                break

    def next_line(self) -> None:
        """Past the rest of the line, whatever it holds."""
        newline = self.text.find("\n", self.position)
        self.position = len(self.text) if newline < 0 else newline + 1

    def end_line(self) -> None:
        """Past the end of a stanza; SpecError when the line holds more than a comment."""
        if self.has_token():
            word = self.text[self.position :].split(None, 1)[0]
            raise self.error(f"unexpected token {word!r}", self.position)
        self.next_line()

    def word(self, *, keep_quotes: bool = False, delimiters: str = WORD_END) -> str:
        """The next token and past the blanks behind it; SpecError when there is none.

        `""` is a token, and empty; libnih says that a token is missing there.
        """
        start = self.position
        token = self._token(delimiters, keep_quotes=keep_quotes)
        if self.position == start:
            raise self.error("expected token", start)
        self.skip_blanks()
        return token

    def words(self) -> tuple[str, ...]:
        """Every token up to the line's end, at least one, and past that end."""
        found = [self.word()]
        while self.has_token():
            found.append(self.word())
        self.next_line()
        return tuple(found)

    def command(self) -> str:
        """The rest of the line with its quotes, for a shell, and past its end."""
        if not self.has_token():
            raise self.error("expected token", self.position)
        command = self._token(LINE_END, keep_quotes=True)
        self.next_line()
        return command

    def block(self, kind: str, opened: int) -> str:
        """Raw lines up to `end KIND`, less the blanks that all of them start with.

        `opened` is the offset that an error of a block without an end is reported at.
        """
        end = re.compile(rf"[{BLANKS}]*end[{BLANKS}]+{kind}[{BLANKS}]*(#[^\n]*)?(\n|\Z)")
        lines: list[str] = []
        while not (closing := end.match(self.text, self.position)):
            start = self.position
            self.next_line()
            lines.append(self.text[start : self.position])
            if self.at_end():
                raise self.error(f"unterminated block: no line says 'end {kind}'", opened)
            if "\0" in lines[-1]:
                raise self.error(NUL, start + lines[-1].index("\0"))
        self.position = closing.end()
        indent = common_blanks(lines)
        return "".join(line[indent:] for line in lines)

    def _token(self, delimiters: str, *, keep_quotes: bool) -> str:
        """Text up to a delimiter; see the top of the file for what hides one."""
        text = self.text
        out: list[str] = []
        blanks = ""
        quote = ""
        newline = False
        opened = self.position
        position = self.position
        while position < len(text):
            char = text[position]
            piece = char
            if char == "\\":
                if position + 1 == len(text):
                    raise self.error("trailing slash", position)
                escaped = text[position + 1]
                position += 1
                if escaped == "\n":
                    newline = True
                    position += 1
                    continue
                hides = escaped == "\\" or escaped in BLANKS
                piece = escaped if hides and not keep_quotes else "\\" + escaped
            elif quote and char == "\n":
                newline = True
                position += 1
                continue
            elif char in BLANKS and (quote or char not in delimiters):
                blanks += char
                position += 1
                continue
            elif char == quote or (not quote and char in "\"'"):
                quote = "" if quote else char
                opened = position
                piece = char if keep_quotes else ""
            elif not quote and char in delimiters:
                break
            out.append((" " if newline else blanks) + piece)
            blanks = ""
            newline = False
            position += 1
        if (zero := text.find("\0", self.position, position)) >= 0:
            raise self.error(NUL, zero)
        self.position = position
        if quote:
            raise self.error("unterminated quoted string", opened)
        return "".join(out)


def common_blanks(lines: list[str]) -> int:
    """How many leading blanks all lines share; an empty line has none, so then it is 0."""
    if not lines:
        return 0
    common = "".join(takewhile(BLANKS.__contains__, lines[0]))
    for line in lines[1:]:
        pairs = zip(common, line, strict=False)
        common = common[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]
    return len(common)
