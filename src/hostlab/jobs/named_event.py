"""Operands that say what a source is to look for, and have a name by it: `timer …` and `path …`.

    start on timer CALENDAR="Mon..Fri 03:00" DELAY=30m PERSISTENT=1
    start on timer CRON="*/5 * * * *" or timer EVERY=90s or timer AFTER=15m
    start on path NOT_EMPTY=/var/spool/in

Expressions of time and of files are full of stars, so these operands are compared as they stand,
not as glob patterns; and one must not be started by another's that says the same and more. So an
operand that says what it looks for, and has no NAME, is given its own words as one; the event has
it too. An operand that has nothing but a NAME listens to what somebody else looks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hostlab.spec.job import Match
from hostlab.spec.sockets import CLOSED

TIMER: Final = "timer"
PATH: Final = "path"
PATH_LIMIT: Final = "path-limit"
"""A path has triggered too often."""
NAME: Final = "NAME"
JOB: Final = "JOB"
WHEN: Final = ("CALENDAR", "CRON", "EVERY", "AFTER", "IN", "SINCE_START", "SINCE_END", "ON")
"""What a timer comes by."""
WHAT: Final = ("EXISTS", "EXISTS_GLOB", "CHANGED", "MODIFIED", "NOT_EMPTY")
"""What of a path is looked for: systemd.path(5)'s five."""
SAYS: Final[Mapping[str, tuple[str, ...]]] = {TIMER: WHEN, PATH: WHAT}
"""By event: the variables of which an operand that looks for something has one."""


def arguments(match: Match) -> tuple[str, ...]:
    """An operand's arguments with the name that it has."""
    words = match.arguments
    keys = {word.partition("=")[0] for word in words}
    if NAME in keys or keys.isdisjoint(SAYS[match.name]):
        return words
    return (*words, f"{NAME}={' '.join(words)}")


def environment(words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The variables of the event that such an operand waits for."""
    return tuple((key, value) for key, _, value in (word.partition("=") for word in words))


def says(match: Match) -> bool:
    """Whether an operand says what is to be looked for, and does not only listen to a name."""
    keys = {word.partition("=")[0] for word in match.arguments}
    return match.name in SAYS and not keys.isdisjoint(SAYS[match.name])


def only_listens(match: Match) -> bool:
    """Whether an operand asks for nothing to be looked for: others say what it is."""
    return match.name in (PATH_LIMIT, CLOSED) or (match.name in SAYS and not says(match))
