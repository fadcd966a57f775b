"""The command line of systemctl and journalctl: options as data, in GNU's way (getopt_long(3))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final


class Refused(Exception):
    """It cannot be carried out: a text for standard error, and the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    long: str
    letter: str = ""
    argument: bool = False
    optional: bool = False
    """It may have an argument, with `=` only."""
    text: str = ""
    """What it does; empty: it is taken, and means nothing here."""


@dataclass(slots=True)
class Line:
    """What was said."""

    options: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.options

    def last(self, name: str, default: str = "") -> str:
        """The argument that counts of an option that has one."""
        return self.options[name][-1] if self.options.get(name) else default

    def listed(self, name: str) -> tuple[str, ...]:
        """The arguments of an option that may be repeated, or has a list with commas."""
        return tuple(
            word for value in self.options.get(name, ()) for word in value.split(",") if word
        )


SYSTEMCTL: Final = (
    Option("type", "t", argument=True, text="only units of these types"),
    Option("state", argument=True, text="only units in these states"),
    Option("all", "a", text="also what is not loaded or empty"),
    Option("property", "p", argument=True, text="only these properties"),
    Option("value", text="values without names"),
    Option("quiet", "q", text="print nothing that is not asked for"),
    Option("no-block", text="do not wait until it is done"),
    Option("now", text="start or stop as well"),
    Option("runtime", text="until the next boot only"),
    Option("force", "f", text="replace links that are there; no waiting on the way down"),
    Option("signal", "s", argument=True, text="which signal; TERM if none is said"),
    Option("kill-whom", argument=True, text="`main`, `control` or `all` processes"),
    Option("kill-who", argument=True, text="the same, its old name"),
    Option("no-legend", text="no headings and no sums"),
    Option("legend", argument=True, text="`false`: the same"),
    Option("plain", text="a list without marks"),
    Option("full", "l", text="nothing is cut here anyway"),
    Option("lines", "n", argument=True, text="lines of the log in `status`"),
    Option("no-reload", text="do not read the units anew after enable and disable"),
    Option("failed", text="only units that have failed"),
    Option("preset-mode", argument=True, text="`full`, `enable-only` or `disable-only`"),
    Option("what", argument=True, text="which directories `clean` takes away"),
    Option("root", argument=True, text="`/` only"),
    Option("output", "o", argument=True),
    Option("system"),
    Option("user"),
    Option("global"),
    Option("no-pager"),
    Option("no-wall"),
    Option("no-ask-password"),
    Option("show-types"),
    Option("no-warn"),
    Option("wait"),
    Option("ignore-dependencies"),
    Option("fail"),
    Option("job-mode", argument=True),
    Option("machine", "M", argument=True),
    Option("host", "H", argument=True),
    Option("reverse", text="who wants it instead of what it wants"),
    Option("after"),
    Option("before"),
    Option("recursive", "r"),
    Option("version"),
    Option("help", "h"),
)
JOURNALCTL: Final = (
    Option("unit", "u", argument=True, text="the log of this unit; a glob; repeatable"),
    Option("lines", "n", argument=True, optional=True, text="the last lines: a number, or `all`"),
    Option("output", "o", argument=True, text="`short`, `cat` or `json`, and their kin"),
    Option("since", "S", argument=True, text="only files of the log written to since"),
    Option("reverse", "r", text="the newest line first"),
    Option("grep", "g", argument=True, text="only lines that match"),
    Option("quiet", "q"),
    Option("follow", "f", text="go on with what is written from now on"),
    Option("identifier", "t", argument=True, text="the same as a unit's name"),
    Option("until", "U", argument=True),
    Option("boot", "b", optional=True),
    Option("priority", "p", argument=True),
    Option("pager-end", "e"),
    Option("catalog", "x"),
    Option("all", "a"),
    Option("full", "l"),
    Option("no-full"),
    Option("no-pager"),
    Option("no-hostname"),
    Option("no-tail"),
    Option("utc"),
    Option("system"),
    Option("user"),
    Option("dmesg", "k"),
    Option("sync"),
    Option("flush"),
    Option("rotate"),
    Option("version"),
    Option("help", "h"),
)


def read_line(program: str, words: Sequence[str], options: Sequence[Option]) -> Line:
    """Read it; Refused for an option that there is not, or that lacks its argument."""
    by_letter = {each.letter: each for each in options if each.letter}
    by_long = {each.long: each for each in options}
    line = Line()
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            line.words += reversed(rest)
            break
        if word.startswith("--"):
            _long(program, word, by_long, rest, line)
        elif word.startswith("-") and word != "-":
            _short(program, word, by_letter, rest, line)
        else:
            line.words.append(word)
    return line


def _long(program: str, word: str, known: dict[str, Option], rest: list[str], line: Line) -> None:
    name, equals, value = word[2:].partition("=")
    option = known.get(name)
    if option is None:
        close = [each for each in known if each.startswith(name)]
        if len(close) != 1 or not name:
            what = "ambiguous" if len(close) > 1 and name else "unrecognized"
            raise Refused(f"{program}: {what} option '--{name}'")
        option = known[close[0]]
    if equals and not (option.argument or option.optional):
        raise Refused(f"{program}: option '--{option.long}' doesn't allow an argument")
    if option.argument and not option.optional and not equals:
        if not rest:
            raise Refused(f"{program}: option '--{option.long}' requires an argument")
        value = rest.pop()
    line.options.setdefault(option.long, []).append(value)


def _short(program: str, word: str, known: dict[str, Option], rest: list[str], line: Line) -> None:
    for position, letter in enumerate(word[1:], start=1):
        option = known.get(letter)
        if option is None:
            raise Refused(f"{program}: invalid option -- '{letter}'")
        values = line.options.setdefault(option.long, [])
        behind = word[position + 1 :]
        if not (option.argument or option.optional):
            values.append("")
            continue
        if not behind and option.argument and (not option.optional or _is_count(rest)):
            if not rest:
                raise Refused(f"{program}: option requires an argument -- '{letter}'")
            behind = rest.pop()
        values.append(behind)
        return


def _is_count(rest: list[str]) -> bool:
    """Whether the next word is what `-n` takes: it may also stand without."""
    return bool(rest) and (rest[-1].isdigit() or rest[-1] == "all")
