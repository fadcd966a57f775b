"""From what a job says to an argument vector."""

from __future__ import annotations

import pytest

from hostlab.jobs.command import Command, command
from hostlab.spec.job import Process

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (Process(exec="/bin/a -b  c"), Command(("/bin/a", "-b", "c"))),
        (
            Process(exec="/bin/a $B"),
            Command(("/bin/sh", "-e", "-c", "exec /bin/a $B", "/bin/sh")),
        ),
        (Process(script="one\n\n"), Command(("/bin/sh", "-e", "-c", "one", "/bin/sh"))),
        (Process(script="one\ntwo\n"), Command(("/bin/sh", "-e"), "one\ntwo\n")),
        (Process(argv=("a", "$b")), Command(("a", "$b"))),
    ],
)
def test_commands(process: Process, expected: Command) -> None:
    assert command(process) == expected
