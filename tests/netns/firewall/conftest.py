"""A node that plays the machine is staged once for a module."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.netns.firewall.machine_site import Machine, machine


@pytest.fixture(scope="module")
def staged_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as found:
        yield found


@pytest.fixture
def host(staged_machine: Machine) -> Iterator[Machine]:
    """The machine, as after a boot."""
    with ThreadPoolExecutor(8) as pool:
        staged_machine.pool = pool
        yield staged_machine
        staged_machine.reset()
