"""fnmatch(3) with no flags: what Upstart compares an operand's value with.

Not Python's fnmatch: that one has no backslash, no `[[:digit:]]` and no `[^…]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

MAX_CACHED = 4096
_SPECIAL = frozenset("*?[\\")
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}
_NEVER = re.compile(r"(?!)")


def is_literal(pattern: str) -> bool:
    """Whether a pattern matches itself and nothing else."""
    return _SPECIAL.isdisjoint(pattern)


def matches(pattern: str, value: str) -> bool:
    """Whether fnmatch(pattern, value, 0) is 0."""
    if is_literal(pattern):
        return pattern == value
    return _compile(pattern).fullmatch(value) is not None


def matcher(pattern: str) -> Callable[[str], bool]:
    """`matches` of one pattern."""
    if is_literal(pattern):
        return pattern.__eq__
    fullmatch = _compile(pattern).fullmatch
    return lambda value: fullmatch(value) is not None


@lru_cache(MAX_CACHED)
def _compile(pattern: str) -> re.Pattern[str]:
    """A regular expression that takes linear time for each star.

    What stands between two stars has a fixed length, so the first place where it fits is as good
    as any: an atomic group keeps the matcher from trying the others.
    """
    runs: list[list[str]] = [[]]
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            runs.append([])
        elif char == "?":
            runs[-1].append(".")
        elif char == "\\":
            if position == len(pattern):
                return _NEVER
            runs[-1].append(re.escape(pattern[position]))
            position += 1
        elif char == "[" and (bracket := _bracket(pattern, position)):
            text, position = bracket
            runs[-1].append(text)
        else:
            runs[-1].append(re.escape(char))
    first, *middle = ["".join(run) for run in runs]
    if not middle:
        return re.compile(first, re.DOTALL)
    last = middle.pop()
    between = "".join(f"(?>.*?{run})" for run in middle if run)
    return re.compile(f"{first}{between}.*{last}", re.DOTALL)


def _bracket(pattern: str, position: int) -> tuple[str, int] | None:
    """A bracket expression as a regular one and where it ends; None when it never does."""
    negated = pattern[position : position + 1] in ("!", "^")
    position += negated
    items: list[str] = []
    first = True
    while True:
        if position >= len(pattern):
            return None
        if pattern[position] == "]" and not first:
            break
        first = False
        if named := re.compile(r"\[:([a-z]+):\]").match(pattern, position):
            items.append(_CLASSES.get(named[1], ""))
            position = named.end()
            continue
        low, position = _character(pattern, position)
        if pattern[position : position + 1] == "-" and pattern[position + 1 : position + 2] not in (
            "",
            "]",
        ):
            high, position = _character(pattern, position + 1)
            if low <= high:
                items.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            items.append(re.escape(low))
    inside = "".join(items)
    if not inside:
        return (".", position + 1) if negated else ("(?!)", position + 1)
    return f"[{'^' if negated else ''}{inside}]", position + 1


def _character(pattern: str, position: int) -> tuple[str, int]:
    """One character of a bracket expression, without the backslash before it."""
    if pattern[position] == "\\" and position + 1 < len(pattern):
        position += 1
    return pattern[position], position + 1
