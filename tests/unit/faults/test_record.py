"""The journal of faults: what stands, whatever a crash has left of the last line."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.faults.record import Line, Phase, decode, next_number, standing
from hostlab.spec.model import Fault

pytestmark = pytest.mark.unit

FIRST, SECOND = Fault(kind="link-down", on="lan"), Fault(kind="cpu-slow", on="a")


def line(number: int, phase: Phase, fault: Fault | None = None) -> Line:
    state = {"table": "t"} if fault is not None else {}
    return Line(number=number, phase=phase, time=float(number), fault=fault, state=state)


LINES = (
    line(1, Phase.BEGUN, FIRST),
    line(1, Phase.INJECTED),
    line(2, Phase.BEGUN, SECOND),
    line(1, Phase.CLEARED),
    line(3, Phase.BEGUN, FIRST),
    line(3, Phase.INJECTED),
)


def test_what_was_not_cleared_stands() -> None:
    found = standing(LINES)
    assert [(each.number, each.fault, each.phase) for each in found] == [
        (2, SECOND, Phase.BEGUN),
        (3, FIRST, Phase.INJECTED),
    ]
    assert found[1].state == {"table": "t"}
    assert next_number(LINES) == 4
    assert (standing(()), next_number(())) == ((), 1)


def test_a_line_that_was_cut_short_is_left_out_wherever_it_is_cut() -> None:
    data = b"".join(msgspec.json.encode(each) + b"\n" for each in LINES)
    assert tuple(decode(data)) == LINES
    for cut in range(len(data)):
        found = tuple(decode(data[:cut]))
        assert found == LINES[: len(found)]
        assert len(found) == data[:cut].count(b"\n")
    # Whoever wrote next has ended it (`paths.append_lines`).
    whole = data[: data.rfind(b"\n", 0, -1) + 1]
    assert tuple(decode(whole + data[len(whole) : -3] + b"\n" + whole))[:5] == LINES[:5]
