"""Every test of labs gets a place of its own for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab.lab_site import Site, site


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Where a test stages its lab."""
    with site(tmp_path, monkeypatch) as found:
        yield found
