"""What a traced shell did, read from its standard error: which command, where, what it said; pure.

`set -x` costs a line a command and no process. Each line begins with a mark that nobody else
writes (`PS4`), so all between two marks is what commands said on standard error, and belongs to
the command in front of it. bash and zsh tell file and line in the mark. Debian's `sh` has no
LINENO; there `-v` writes each line as it is read, so the place of what runs at the outermost level
is the lines read last, and within them, and within functions read before, the command is found by
its text (`shell_lines.py`).

The mark holds `$?` too: the status of the command before. In a pipeline that is another's, so a
tool's own words count for more.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from hostlab.errors import Place
from hostlab.firewall.shell_lines import Command, commands
from hostlab.firewall.source import Part

FIELD: Final = "\x1e"
"""Between the parts of a mark; no shell and no tool writes it."""
MOST: Final = 100_000
"""Commands of a trace that are looked at; of a longer one the first ones and the last."""
LAST: Final = 1_000
LONGEST: Final = 1 << 16
"""Characters of a traced command that are looked at."""
LOOKED_BACK: Final = 20
"""Commands between a wrapper's call and what it runs."""
STARTUP_FILES: Final = ("/etc/zsh", "/etc/zprofile")
"""What zsh reads before the script."""
OPENERS: Final = frozenset({".", "source"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ran."""

    text: str
    """As the shell traced it."""
    words: tuple[str, ...]
    place: Place | None = None
    written: Command | None = None
    """What it is in the script's text, where that was found."""
    status: int | None = None
    """None: nothing ran after it in the same shell that would tell."""
    said: str = ""
    """On standard error."""
    part: Part | None = None
    """The file that it loads, where that is one the user named."""

    @property
    def name(self) -> str:
        """The program's name without its directory."""
        return self.words[0].rpartition("/")[2] if self.words else ""


def mark(nonce: str, shell: str) -> str:
    """`PS4` for a shell; its first character is repeated in subshells by bash."""
    inside = {
        "bash": "${BASH_SOURCE-}" + FIELD + "${LINENO-}" + FIELD + "$?",
        "zsh": "%x" + FIELD + "%I" + FIELD + "%?",
    }.get(shell, FIELD + FIELD + "$?")
    return f"+{nonce}{FIELD}{inside}{FIELD}"


class Texts:
    """The files of a script, read when they are first asked for."""

    def __init__(self, read: Callable[[str], str | None], known: Mapping[str, str]) -> None:
        self._read = read
        self._texts: dict[str, str | None] = dict(known)
        self._lines: dict[str, tuple[str, ...]] = {}
        self._commands: dict[str, tuple[Command, ...]] = {}
        self._by_line: dict[str, dict[int, list[Command]]] = {}
        self._by_name: dict[str, dict[str, list[Command]]] = {}

    def text(self, file: str) -> str | None:
        """A file's text; None when it cannot be read."""
        if file not in self._texts:
            self._texts[file] = self._read(file)
        return self._texts[file]

    def lines(self, file: str) -> tuple[str, ...]:
        """Its lines, without their newlines."""
        if file not in self._lines:
            self._lines[file] = tuple((self.text(file) or "").split("\n"))
        return self._lines[file]

    def line(self, file: str, number: int) -> str:
        """One of its lines; empty when it has fewer."""
        found = self.lines(file)
        return found[number - 1] if 0 < number <= len(found) else ""

    def commands(self, file: str) -> tuple[Command, ...]:
        """What it is made of."""
        if file not in self._commands:
            self._commands[file] = commands(self.text(file) or "")
        return self._commands[file]

    def at(self, file: str, number: int) -> Sequence[Command]:
        """The commands of a line."""
        if file not in self._by_line:
            table: dict[int, list[Command]] = {}
            for each in self.commands(file):
                for line in range(each.line, each.end_line + 1):
                    table.setdefault(line, []).append(each)
            self._by_line[file] = table
        return self._by_line[file].get(number, ())

    def named(self, file: str, name: str) -> Sequence[Command]:
        """The commands that may have this name, in the order of their lines."""
        if file not in self._by_name:
            table: dict[str, list[Command]] = {}
            for each in self.commands(file):
                table.setdefault(each.first, []).append(each)
            self._by_name[file] = table
        found = self._by_name[file]
        return sorted((*found.get(name, ()), *found.get("", ())), key=lambda each: each.line)

    def place(self, file: str, number: int) -> Place:
        """A line as a place."""
        text = self.line(file, number)
        return Place(file, number, len(text) - len(text.lstrip()) + 1, text.rstrip())


def read(
    stream: str, *, nonce: str, main: str, texts: Texts, status: int | None
) -> tuple[Call, ...]:
    """Every command of a trace in its order; `status` is the script's own, None if it was killed.

    What stands before the first mark belongs to the shell itself, which is the first call then.
    """
    before, records = _records(stream, nonce)
    follower = _LineFollower(main, texts)
    found: list[Call] = []
    if said := follower.echoed(before).strip():
        found.append(Call(text="", words=(), place=_told(said, main, texts), said=said))
    for number, record in enumerate(records):
        after = records[number + 1].status if number + 1 < len(records) else status
        if record.line:
            text, rest = _command_of(record.rest)
            words = _words(text)
            file = record.file or main
            place: Place | None = texts.place(file, record.line)
            written = _best(texts.at(file, record.line), _plain(words))
            said = rest
        else:
            text, _, rest = record.rest.partition("\n")
            words = tuple(text[:LONGEST].split())  # Debian's `sh` quotes nothing in its trace
            place, written = follower.placed(text[:LONGEST])
            if len(words) > 1 and words[0] in OPENERS:
                follower.opened(words[1])
            said = follower.echoed(rest)
        call = Call(
            text=text, words=words, place=place, written=written, status=after, said=said.strip()
        )
        found.append(_called_from(call, found))
    return tuple(found)


class _Record(msgspec.Struct, frozen=True):
    """A mark, and everything up to the next one."""

    file: str
    line: int
    status: int | None
    rest: str


def _records(stream: str, nonce: str) -> tuple[str, list[_Record]]:
    end = f"([^{FIELD}]*){FIELD}"
    before, *parts = re.split(rf"\++{nonce}{FIELD}{end}{end}{end}", stream)
    found = [
        _Record(
            file=parts[at],
            line=int(parts[at + 1]) if parts[at + 1].isdecimal() else 0,
            status=int(parts[at + 2]) if parts[at + 2].isdecimal() else None,
            rest=parts[at + 3],
        )
        for at in range(0, len(parts), 4)
    ]
    if len(found) > MOST:
        found[MOST - LAST : -LAST] = []
    own = [each for each in found if not each.file.startswith(STARTUP_FILES)]
    for each in found[: len(found) - len(own)]:
        # Behind the last of them may stand what the shell thinks of the script as a whole.
        before += _command_of(each.rest)[1]
    return before, own


def _command_of(rest: str) -> tuple[str, str]:
    """The traced command, longer than a line where a quoted word is, and what was said then."""
    at = rest.find("\n")
    if at < 0:
        return rest, ""
    first = rest[:at]
    if "'" not in first or _is_closed(first):
        return first, rest[at + 1 :]
    end = rest.find("\n", at + 1)
    while 0 <= end < LONGEST:
        if _is_closed(rest[:end]):
            return rest[:end], rest[end + 1 :]
        end = rest.find("\n", end + 1)
    return first, rest[at + 1 :]


def _is_closed(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True


_QUOTES: Final = re.compile(r"['\"\\]")


def _words(text: str) -> tuple[str, ...]:
    """The words of a command that was traced with quotes."""
    if not _QUOTES.search(text):
        return tuple(text[:LONGEST].split())
    try:
        return tuple(shlex.split(text[:LONGEST]))
    except ValueError:
        return tuple(text[:LONGEST].split())


def _plain(words: tuple[str, ...]) -> str:
    return " ".join(words)


def _best(candidates: Iterable[Command], run: str) -> Command | None:
    return max(
        (each for each in candidates if each.can_be(run)),
        key=lambda each: each.literal,
        default=None,
    )


def _called_from(call: Call, before: Sequence[Call]) -> Call:
    """With the place of the call, where it ran in a wrapper: `ipt() { iptables "$@"; }`."""
    if call.written is None or not call.written.passes_on:
        return call
    for caller in reversed(before[-LOOKED_BACK:]):
        handed = caller.words[1:]
        if handed and call.words[-len(handed) :] == handed:
            return msgspec.structs.replace(call, place=caller.place, written=caller.written)
    return call


_SHELL_ERROR: Final = re.compile(r"^(\S+?):(?: line |\s?)(\d+): ", re.MULTILINE)


def _told(said: str, main: str, texts: Texts) -> Place | None:
    """Where a shell says that it stopped: `rules.sh: 12: Syntax error: …`."""
    found = _SHELL_ERROR.search(said)
    if found is None:
        return None
    return texts.place(main if found[1] in ("sh", "bash", "zsh") else found[1], int(found[2]))


class _LineFollower:
    """Knows where a shell is that writes the lines it reads (`set -v`)."""

    def __init__(self, main: str, texts: Texts) -> None:
        self.texts = texts
        self.stack = [main]
        self.read = {main: 0}
        """File -> how many of its lines have been read."""
        self.window: list[tuple[str, int]] = []
        """The lines read last: what runs now, but for functions."""
        self.last = ("", 0)

    def opened(self, file: str) -> None:
        """The shell reads another file from here on."""
        if self.texts.text(file) is not None:
            self.stack.append(file)
            self.read[file] = 0

    def echoed(self, text: str) -> str:
        """What is left of standard error without the lines of the script."""
        kept, lines = [], []
        for line in text.splitlines(keepends=True):
            last = self._unended()
            if last and line.startswith(last):
                # A file's last line may have no newline: what is said then follows it at once.
                line = line[len(last) :]
                lines.append((self.stack[-1], self.read[self.stack[-1]] + 1))
                self.read[self.stack[-1]] += 1
                kept.append(line.removeprefix("\n"))
            elif (place := self._is_next(line.rstrip("\n"))) is not None:
                lines.append(place)
            else:
                kept.append(line)
        if lines:
            self.window = lines
        return "".join(kept)

    def _unended(self) -> str:
        """The present file's last line, if that is the next one and no newline ends it."""
        file = self.stack[-1]
        lines = self.texts.lines(file)
        return lines[-1] if self.read[file] + 1 == len(lines) else ""

    def _is_next(self, line: str) -> tuple[str, int] | None:
        for depth in range(len(self.stack), 0, -1):
            file = self.stack[depth - 1]
            number = self.read[file]
            lines = self.texts.lines(file)
            if number < len(lines) and lines[number] == line:
                del self.stack[depth:]
                self.read[file] = number + 1
                return file, number + 1
            if not line.strip():
                return None
        return None

    def placed(self, run: str) -> tuple[Place | None, Command | None]:
        """The place of a command: among the lines read last, or in a function read before."""
        here = [(file, each) for file, line in self.window for each in self.texts.at(file, line)]
        chosen = self._nearest(here, run)
        if chosen is None:
            name = run.partition(" ")[0]
            chosen = self._nearest(
                [(f, c) for f in self.read for c in self.texts.named(f, name)], run
            )
        if chosen is None:
            place = self.texts.place(*self.window[0]) if self.window else None
            return place, None
        file, found = chosen
        self.last = (file, found.line)
        return self.texts.place(file, found.line), found

    def _nearest(
        self, candidates: Sequence[tuple[str, Command]], run: str
    ) -> tuple[str, Command] | None:
        """What matches best; of equals the next one behind the last command, then the first."""
        fitting = [pair for pair in candidates if pair[1].can_be(run)]
        if not fitting:
            return None
        most = max(pair[1].literal for pair in fitting)
        best = [pair for pair in fitting if pair[1].literal == most]
        file, line = self.last
        return next((p for p in best if p[0] == file and p[1].line > line), best[0])
