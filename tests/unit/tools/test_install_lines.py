"""What the pages say of installing works in the checkout: hostlab is in no index of packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINE = re.compile(r"pip install ([^`\n]*)")


def test_what_is_installed_is_of_the_checkout() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    wanted = {".", *(f"-e '.[{extra}]'" for extra in extras)}
    said = {(page.name, what) for page in PAGES for what in LINE.findall(page.read_text())}
    assert {each for each in said if each[1] not in wanted} == set()
    assert ("pytest.md", "-e '.[pytest]'") in said
