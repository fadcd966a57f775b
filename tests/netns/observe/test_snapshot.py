"""What `audit --save` writes down, as far as the caller may see it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from hostlab.observe import snapshot
from hostlab.observe.finding import tried

pytestmark = pytest.mark.netns


def test_what_may_not_be_read_or_has_just_gone_costs_the_rest_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's /run/hostlab is closed to others, and goes with its last lab."""
    with tempfile.TemporaryDirectory() as closed:
        os.chmod(closed, 0)
        monkeypatch.setattr(snapshot, "PLACES", (closed, str(tmp_path / "gone"), "/usr"))
        outcome = tried(lambda: list(snapshot._files()), as_nobody=True)
    assert outcome.is_ok, outcome.error
    assert "/usr/bin" in outcome.value
    assert {str(Path(path).parent) for path in outcome.value} == {"/usr"}
