"""Command lines as Upstart's programs read them (libnih's nih/option.c and nih/command.c).

Options stand anywhere before `--`; short ones may be joined; a long one is written out in full. A
wrong one is told of in the program's name, with the advice to try `--help`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec


class Refusal(Exception):
    """A command that is not carried out; its text goes to standard error, its status is 1."""

    def __init__(self, text: str, *, advise: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.advise = advise
        """Whether the advice to try `--help` follows."""


class Option(msgspec.Struct, frozen=True):
    """One option; its name is its long form, or its letter where it has only that."""

    letter: str = ""
    long: str = ""
    argument: str = ""
    """What stands in its argument's place in `--help`; empty when it takes none."""
    text: str = ""
    """What `--help` says of it; empty for one that is accepted and ignored."""

    @property
    def name(self) -> str:
        return self.long or self.letter


class Line(msgspec.Struct):
    """A command line that was read."""

    options: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """By name, in the order in which they were given, with their arguments."""
    arguments: list[str] = msgspec.field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.options


COMMON: Final = (
    Option("q", "quiet", text="reduce output to errors only"),
    Option("v", "verbose", text="increase output to include informational messages"),
    Option("", "debug"),
    Option("", "help", text="display this help and exit"),
    Option("", "version", text="output version information and exit"),
)
"""What each of Upstart's programs takes."""


def read_line(
    words: Sequence[str], options: Sequence[Option], *, until_argument: bool = False
) -> Line:
    """Read a command line; Refusal for an option that there is not, or that is used wrongly.

    With `until_argument` everything from the first argument on is an argument.
    """
    by_letter = {each.letter: each for each in options if each.letter}
    by_long = {each.long: each for each in options if each.long}
    line = Line()
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            line.arguments += reversed(rest)
            return line
        if word.startswith("--"):
            _long(word, by_long, rest, line)
        elif word.startswith("-") and word != "-":
            _short(word, by_letter, rest, line)
        else:
            line.arguments.append(word)
            if until_argument:
                line.arguments += reversed(rest)
                return line
    return line


def _long(word: str, known: Mapping[str, Option], rest: list[str], line: Line) -> None:
    name, equals, value = word[2:].partition("=")
    option = known.get(name)
    if option is None:
        raise Refusal(f"invalid option: --{name}", advise=True)
    if equals and not option.argument:
        raise Refusal(f"unexpected argument: {word}", advise=True)
    if option.argument and not equals:
        value = _argument(word, rest)
    line.options.setdefault(option.name, []).append(value)


def _short(word: str, known: Mapping[str, Option], rest: list[str], line: Line) -> None:
    for position, letter in enumerate(word[1:], start=1):
        option = known.get(letter)
        if option is None:
            raise Refusal(f"invalid option: -{letter}", advise=True)
        values = line.options.setdefault(option.name, [])
        if option.argument:
            values.append(word[position + 1 :] or _argument(word, rest))
            return
        values.append("")


def _argument(word: str, rest: list[str]) -> str:
    if not rest:
        raise Refusal(f"missing argument: {word}", advise=True)
    return rest.pop()


def help_text(program: str, usage: str, what: str, options: Sequence[Option]) -> str:
    """What `--help` prints."""
    lines = [f"Usage: {program} {usage}".rstrip(), what, "", "Options:"]
    for option in options:
        if not option.text:
            continue
        short = f"-{option.letter}" if option.letter else ""
        long = f"--{option.long}" if option.long else ""
        argument = ("=" if long else " ") + option.argument if option.argument else ""
        left = ", ".join(word for word in (short or "  ", long) if word) + argument
        lines.append(f"  {left.replace('  , ', '    '):<28}{option.text}")
    return "".join(line + "\n" for line in lines)
