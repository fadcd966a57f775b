"""The command line, for whoever breaks something by it."""

from __future__ import annotations

import pytest

from hostlab.cli.main import run
from tests.netns.faults.fault_site import Ran


@pytest.fixture
def hostlab(capsys: pytest.CaptureFixture[str]) -> Ran:
    """The command line, in this process; what it prints."""

    def ran(*words: str, status: int) -> str:
        capsys.readouterr()
        ended = run([*words])
        printed = "".join(capsys.readouterr())
        assert ended == status, printed
        return printed

    return ran
