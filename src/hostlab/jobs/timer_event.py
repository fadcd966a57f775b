"""`timer …` in an event expression, and how one is told from all others.

    start on timer CALENDAR="Mon..Fri 03:00" DELAY=30m PERSISTENT=1
    start on timer CRON="*/5 * * * *" or timer EVERY=90s or timer AFTER=15m

Expressions of time are full of stars, so these operands are compared as they stand, not as glob
patterns; and one must not be started by another's timer that says the same and more. So an operand
that says when it comes, and has no NAME, is given its own words as one; the event has it too.
An operand that has nothing but a NAME listens to a timer that somebody else says.
"""

from __future__ import annotations

from typing import Final

from hostlab.spec.job import Match

EVENT: Final = "timer"
NAME: Final = "NAME"
WHEN: Final = ("CALENDAR", "CRON", "EVERY", "AFTER")


def arguments(match: Match) -> tuple[str, ...]:
    """An operand's arguments with the name that it has."""
    words = match.arguments
    keys = {word.partition("=")[0] for word in words}
    if NAME in keys or keys.isdisjoint(WHEN):
        return words
    return (*words, f"{NAME}={' '.join(words)}")


def environment(words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The variables of the event that such an operand waits for."""
    return tuple((key, value) for key, _, value in (word.partition("=") for word in words))


def says_when(match: Match) -> bool:
    """Whether an operand is a timer of its own, and not a listener to one."""
    keys = {word.partition("=")[0] for word in match.arguments}
    return match.name == EVENT and not keys.isdisjoint(WHEN)
