"""What every test of published ports has: a machine of its own, and nodes on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.lab.publish.publish_site import Site, a_machine, a_site


@pytest.fixture
def machine() -> Iterator[None]:
    with a_machine():
        yield


@pytest.fixture
def site() -> Iterator[Site]:
    with a_site() as site:
        yield site
