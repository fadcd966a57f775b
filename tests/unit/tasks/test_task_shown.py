"""What `ls` and `top` show, without a task."""

from __future__ import annotations

import pytest

from hostlab.cli.task import MAX_COMMAND, _cut, _waits
from hostlab.cli.task_top import picture
from hostlab.errors import UsageError
from hostlab.tasks.figures import Process, Task

pytestmark = pytest.mark.unit


def test_a_command_has_fifty_characters() -> None:
    assert _cut("x" * 50, whole=False) == "x" * 50
    assert _cut("x" * 51, whole=False) == "x" * 49 + "…"
    assert len(_cut("x" * 51, whole=False)) == MAX_COMMAND
    assert _cut("x" * 51, whole=True) == "x" * 51
    assert _cut("a\nb\x1b[2J", whole=True) == "a b\\x1b[2J"


@pytest.mark.parametrize(
    "text", ["", "1", "1,2", "1,2,3,4", "a,b,c", "-1,2,3", "nan,1,1", "1,2,inf"]
)
def test_waits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--wait wants three numbers"):
        _waits(text)


def test_a_picture_has_the_busiest_first_and_fits() -> None:
    tasks = tuple(
        Task(name, (Process(1, "x", 0),) * 3, cpu_ns=0, memory_bytes=3 << 20)
        for name in ("idle", "busy")
    )
    shares = {"": 75.0, "busy": 75.0, "idle": 0.0}
    lines = picture("ns", tasks, shares, 80, 24)
    assert lines[0] == "Namespace: ns   Tasks: 2   CPU: 75.0% [||||||||||||||||||      ]"
    assert lines[3] == "busy                         3     3.0M   75.0 [||||||||||||||||||      ]"
    assert lines[4].startswith("idle ")
    small = picture("ns", tasks, shares, 10, 4)
    assert (len(small), max(map(len, small))) == (4, 10)
    assert picture("ns", (), {}, 80, 24)[0].startswith("Namespace: ns   Tasks: 0   CPU: 0.0%")
