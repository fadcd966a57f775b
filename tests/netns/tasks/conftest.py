"""Every kind of task namespace is tested alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.tasks.task_site import KINDS, TaskSite, task_site


@pytest.fixture(params=KINDS)
def tasks(request: pytest.FixtureRequest) -> Iterator[TaskSite]:
    """A namespace of each kind."""
    with task_site(request.param, "test") as site:
        yield site
