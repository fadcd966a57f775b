"""Exec lines: prefixes, several commands in one, words (systemd.service(5), "Command lines")."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hostlab.spec.job import Command
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.environment import variables_of
from hostlab.spec.systemd.words import split_command_words

_PREFIXES = "@-:+!|"


class ExecLine(msgspec.Struct, frozen=True, kw_only=True):
    """One command of an Exec line."""

    path: str
    argv: tuple[str, ...]
    """With `@` its first word is another than the path."""
    expand: bool
    """Variables in it are replaced: there are any, and no `:` says that they stay."""
    ignore_failure: bool = False
    privileged: bool = False
    """`+`: as root, outside of the sandbox."""
    keeps_identity: str = ""
    """`!` or `!!`: as root with the rest of the sandbox."""

    @property
    def command(self) -> Command:
        """The same as a job has it. What a program finds as its own name is its path."""
        words = (self.path, *self.argv[1:])
        if not self.expand:
            # `$$` is one dollar sign wherever variables would be replaced.
            return Command(argv=words, ignore_failure=self.ignore_failure)
        return Command(argv=words, expand=True, ignore_failure=self.ignore_failure)


def exec_lines(value: str, specify: Callable[[str], str]) -> tuple[tuple[ExecLine, ...], str]:
    """The commands of one assignment, and what must be said of it (empty: nothing).

    `specify` replaces the specifiers of a word. Wrong when there is no command in it.
    """
    said = ""
    try:
        words = split_command_words(value)
    except Wrong as wrong:
        # systemd reads it once more and leaves unknown escapes as they are.
        words = split_command_words(value, keep_unknown=True)
        said = wrong.message
    found: list[ExecLine] = []
    current: list[str] = []
    for word, is_bare in [*words, (";", True)]:
        if not (word == ";" and is_bare):
            current.append(word)
        elif current:
            found.append(_line(current, specify))
            current = []
    if not found:
        raise Wrong("there is no command in it")
    return tuple(found), said


def _line(words: list[str], specify: Callable[[str], str]) -> ExecLine:
    first = words[0]
    flags = ""
    while first[:1] and first[0] in _PREFIXES:
        flags += first[0]
        first = first[1:]
    rest = [specify(word) for word in words[1:]]
    if not first:
        raise Wrong("there is no program behind the prefix")
    path = specify(first)
    if "/" in path and not path.startswith("/"):
        raise Wrong(f"{quoted(path)} is neither a name nor an absolute path")
    if path.endswith("/"):
        raise Wrong(f"{quoted(path)} is a directory's path")
    argv = [path, *rest]
    if "@" in flags:
        if not rest:
            raise Wrong("`@` needs the program's name behind its path")
        argv = rest
    expands = ":" not in flags and any("$" in word for word in rest)
    return ExecLine(
        path=path,
        argv=tuple(argv),
        expand=expands,
        ignore_failure="-" in flags,
        privileged="+" in flags,
        keeps_identity="!!" if "!!" in flags else "!" if "!" in flags else "",
    )


def variables(line: ExecLine) -> frozenset[str]:
    """The variables that a command takes the values of."""
    if not line.expand:
        return frozenset()
    return frozenset().union(*(variables_of(word) for word in line.argv))
