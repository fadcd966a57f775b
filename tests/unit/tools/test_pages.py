"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

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


ROOT = DOCS.parent
MEASURED = "benchmarks.md"
"""Written by `make bench`, when someone has a quiet machine."""
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def _leads(path: Path) -> bool:
    return path.exists() or path.name == MEASURED


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(path: Path) -> None:
    links = LINK.findall(path.read_text())
    assert not [link for link in links if not _leads(path.parent / link)]


@pytest.mark.parametrize(
    "path", [*DOCS.rglob("*.md")], ids=lambda path: str(path.relative_to(DOCS))
)
def test_a_page_is_found_from_the_index(path: Path) -> None:
    index = DOCS / "README.md"
    listed = {index, *((DOCS / link).resolve() for link in LINK.findall(index.read_text()))}
    assert path.resolve() in listed or path.parent.resolve() in listed
