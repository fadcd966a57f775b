"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import re

import pytest

from hostlab.cli.main import COMMANDS
from tools.pages import DOCS, pages

pytestmark = pytest.mark.unit
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name], "make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_on_the_page_with_an_example(name: str) -> None:
    _, _, section = PAGES["commands.md"].partition(f"\n## {name}\n")
    section = section.partition("\n## ")[0]
    assert f"Usage: hostlab {name}" in section
    assert re.search(rf"Example: .*\bhostlab {name}\b", section)
