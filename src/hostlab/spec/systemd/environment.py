"""Variables: `Environment=`, environment files, and their places in Exec lines.

The expansion is systemd.service(5)'s, not the shell's: `${X}` anywhere is X exactly, `$X` as a word
of its own is X split into words at blanks with quotes respected, anything else with a dollar sign
stays, `$$` is one dollar sign, and an unknown variable is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostlab.errors import Place, SpecError
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.words import split_words

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALONE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_REFERENCE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")
MAX_LINES = 100_000


def assignments(value: str) -> tuple[tuple[str, str], ...]:
    """The variables of one `Environment=`; Wrong when a word of it is no assignment."""
    found = []
    for word in split_words(value):
        name, equals, text = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise Wrong(f"{quoted(word)} is no assignment", "write NAME=VALUE")
        found.append((name, text))
    return tuple(found)


def expand_word(word: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What one word of an Exec line becomes: any number of arguments, mostly one."""
    if "$" not in word:
        return (word,)
    alone = _ALONE.fullmatch(word)
    if alone:
        value = environment.get(alone[1], "")
        try:
            return split_words(value, escapes=False)
        except Wrong:
            # systemd takes what it has when a value's quotes are odd; blanks still part it.
            return tuple(value.split())
    return (_REFERENCE.sub(lambda m: "$" if m[1] is None else environment.get(m[1], ""), word),)


def variables_of(word: str) -> frozenset[str]:
    """The variables that a word of an Exec line takes the values of."""
    alone = _ALONE.fullmatch(word)
    if alone:
        return frozenset({alone[1]})
    return frozenset(name for name in _REFERENCE.findall(word) if name)


class EnvironmentFile:
    """What an `EnvironmentFile=` holds."""

    def __init__(self, variables: tuple[tuple[str, str], ...], warnings: tuple[SpecError, ...]):
        self.variables = variables
        self.warnings = warnings


def parse_environment_file(text: str, *, file: str) -> EnvironmentFile:
    """Variables as src/basic/env-file.c reads them; a line that is none is a warning.

    Comments begin with `#` or `;`; a value may have parts in double or single quotes that span
    lines; a backslash outside of quotes takes the next character as it is, at a line's end it
    joins the next line. Nothing is expanded.
    """
    scanner = _File(text, file)
    variables: dict[str, str] = {}
    for _ in range(MAX_LINES):
        found = scanner.next()
        if found is None:
            break
        name, value = found
        variables[name] = value
    return EnvironmentFile(tuple(variables.items()), tuple(scanner.warnings))


class _File:
    def __init__(self, text: str, file: str) -> None:
        self.text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self.file = file
        self.position = 0
        self.warnings: list[SpecError] = []

    def next(self) -> tuple[str, str] | None:
        """The next variable; None at the end."""
        text = self.text
        while self.position < len(text):
            start = self.position
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
            line = text[start:end]
            bare = line.strip()
            if not bare or bare[0] in "#;":
                self.position = end + 1
                continue
            name, equals, _ = line.partition("=")
            # systemd says `export` is no part of a name; shells' files have it all the same.
            if not equals or not _NAME.fullmatch(name.strip()):
                self._warn(start, line)
                self.position = end + 1
                continue
            self.position = start + len(name) + 1
            return name.strip(), self._value()
        return None

    def _value(self) -> str:
        text = self.text
        while self.position < len(text) and text[self.position] in " \t":
            self.position += 1
        out: list[str] = []
        kept = 0
        """How much of it trailing blanks may not be taken from."""
        while self.position < len(text) and text[self.position] != "\n":
            char = text[self.position]
            self.position += 1
            if char in "\"'":
                out.append(self._quoted(char))
                kept = len(out)
            elif char == "\\" and self.position < len(text):
                following = text[self.position]
                self.position += 1
                if following != "\n":
                    out.append(following)
                    kept = len(out)
            else:
                out.append(char)
        self.position += 1
        return "".join(out[:kept]) + "".join(out[kept:]).rstrip()

    def _quoted(self, quote: str) -> str:
        text = self.text
        out: list[str] = []
        while self.position < len(text):
            char = text[self.position]
            self.position += 1
            if char == quote:
                break
            if char == "\\" and quote == '"' and self.position < len(text):
                following = text[self.position]
                self.position += 1
                if following not in '"\\`$\n':
                    out.append("\\")
                if following != "\n":
                    out.append(following)
                continue
            out.append(char)
        return "".join(out)

    def _warn(self, start: int, line: str) -> None:
        number = self.text.count("\n", 0, start) + 1
        place = Place(self.file, number, 1, line[:200])
        message = f"{quoted(line.strip())} is no assignment"
        self.warnings.append(SpecError("environment", message, where=place))
