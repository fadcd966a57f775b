"""The page about Upstart's semantics names tests that exist, and none of its lines is empty."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.unit

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/upstart-checklist.md"
LINES = 110
"""The checklist has about 90 lines; some are two here."""


class Line(NamedTuple):
    """One line of the checklist."""

    files: tuple[str, ...]
    """Where its section's tests are."""
    says: str
    tests: str


def lines() -> list[Line]:
    files: tuple[str, ...] = ()
    found = []
    for text in PAGE.read_text().splitlines():
        if text.startswith("## "):
            files = tuple(re.findall("`([^`]+)`", text))
        elif text.startswith("| ") and text != "| line | tests |":
            _, says, tests, _ = re.split(r"(?<!\\)\|", text)
            found.append(Line(files, says.strip(), tests.strip()))
    return found


@cache
def names_in(file: str) -> frozenset[str]:
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", (TESTS / file).read_text(), re.M))


def is_there(files: tuple[str, ...], name: str) -> bool:
    """Whether a test, or a file of tests, is."""
    file, colons, test = name.partition("::")
    if colons:
        return (TESTS / file).is_file() and test in names_in(file)
    if name.endswith(".py"):
        return (TESTS / name).is_file()
    return any(name in names_in(each) for each in files)


def test_every_test_that_the_page_names_exists() -> None:
    missing = [
        (line.says, name)
        for line in lines()
        for name in re.findall(r"`([^`]*test_\w+(?:\.py)?[^`]*)`", line.tests)
        if not is_there(line.files, name)
    ]
    assert not missing


def test_every_line_has_a_test_or_says_why_it_has_none() -> None:
    found = lines()
    empty = [
        line.says
        for line in found
        if not re.match("`|no test: .{20}", line.tests)
        or not re.search(r"test_|no test", line.tests)
    ]
    assert not empty
    assert len(found) >= LINES
    assert len({(line.files, line.says) for line in found}) == len(found)
