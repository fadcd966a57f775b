"""Tables of cron as they are: a user's crontab, /etc/crontab and the files of /etc/cron.d.

A table is read as Debian's cron reads it (crontab(5), cron's load_env() and load_entry()): a
variable counts for the lines below it; what stands behind the first `%` is the command's input.
`CRON_TZ`, which Debian's cron has not, is taken as cronie takes it: the zone of the lines below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hostlab.errors import Place, SpecError
from hostlab.jobs import cron, zones
from hostlab.spec.source import Source, Spot, quoted

DEFAULTS: Final = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
"""What every command gets (cron's entry.c); HOME and LOGNAME are of the user."""
MAX_VARIABLES: Final = 1000
ZONE: Final = "CRON_TZ"
_VARIABLE: Final = re.compile(r"""("[^"]*"|'[^']*'|[^\s="'#@*0-9][^\s="']*)[ \t]*=[ \t]*(.*)""")
_SHORTHAND: Final = re.compile(r"(@\S*)[ \t]*(.*)")
_FIELDS: Final = re.compile(r"(\S+(?:[ \t]+\S+){4})[ \t]*(.*)")
_TAKEN: Final = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A command and when it runs."""

    schedule: cron.Cron | None
    """None is `@reboot`: once, when the machine has started."""
    command: str
    """For the shell."""
    environment: tuple[tuple[str, str], ...]
    """With SHELL and PATH; without what is the user's."""
    where: Place
    user: str | None = None
    """None: the owner of the table."""
    input: str | None = None
    """What it reads; None is nothing."""

    @property
    def shell(self) -> str:
        """What runs the command, by `-c`."""
        return dict(self.environment)["SHELL"]

    @property
    def mail_to(self) -> str | None:
        """Who is sent its output; empty is nobody, None the owner."""
        return dict(self.environment).get("MAILTO")


def is_taken(name: str) -> bool:
    """Whether cron takes a file of /etc/cron.d by its name; `a.dpkg-old` is none."""
    return _TAKEN.fullmatch(name) is not None


def parse(text: str, file: str, *, has_users: bool) -> tuple[Line, ...]:
    """The lines of a table; SpecErrors with everything that is wrong.

    `has_users`: each line names its user behind the time, as in /etc/crontab and /etc/cron.d.
    """
    source = Source(text, file)
    environment = dict(DEFAULTS)
    lines = []
    for number, whole in enumerate(source.lines):
        line = whole.lstrip(" \t")
        column = len(whole) - len(line)
        if not line or line.startswith("#"):
            continue
        if variable := _VARIABLE.fullmatch(line):
            name, value = _unquoted(variable[1]), _unquoted(variable[2].rstrip(" \t"))
            if name == ZONE and value and zones.find(value) is None:
                at = Spot(number, column + variable.start(2))
                source.report("cron", f"{quoted(value)} is not a time zone", at, zones.hint(value))
            elif len(environment) < MAX_VARIABLES:
                environment[name] = value
            continue
        try:
            place = source.place(Spot(number, column))
            lines.append(_line(line, place, environment, has_users=has_users))
        except SpecError as error:
            at = Spot(number, column if error.where is None else error.where.column - 1)
            source.report(error.code, error.message, at, error.hint)
    source.raise_errors()
    return tuple(lines)


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return word[1:-1]
    return word


def _line(line: str, place: Place, environment: dict[str, str], *, has_users: bool) -> Line:
    found = (_SHORTHAND if line.startswith("@") else _FIELDS).fullmatch(line)
    time, rest = (found[1], found[2]) if found else (line, "")
    schedule = None
    if time.lower() != cron.REBOOT:
        zone = environment.get(ZONE) or None
        schedule = cron.parse(time, zone=zone, where=place)
    user = None
    if has_users:
        named = re.fullmatch(r"(\S*)[ \t]*(.*)", rest)
        assert named is not None
        user, rest = named[1], named[2]
    if not rest or rest.startswith("%"):
        where = Place(place.file, place.line, place.column + len(line), place.text)
        what = "a user and a command are" if has_users and not user else "the command is"
        hint = "in this table the user stands before the command" if has_users else None
        raise SpecError("cron", f"{what} missing behind the time", where=where, hint=hint)
    command, given = split_input(rest)
    return Line(schedule, command, tuple(environment.items()), place, user, given)


def split_input(text: str) -> tuple[str, str | None]:
    r"""A command and its standard input: what stands behind the first `%`, with `%` for newlines.

    `\%` is a percent sign. The input ends with a newline, as cron sees to (do_command.c).
    """
    parts = re.split(r"(?<!\\)%", text)
    command, *lines = (part.replace(r"\%", "%") for part in parts)
    if not lines:
        return command, None
    given = "\n".join(lines)
    return command, given if given.endswith("\n") or not given else f"{given}\n"
