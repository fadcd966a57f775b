"""timerfd on the running kernel. That a clock was set cannot be tried without setting it."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from hostlab.linux.timerfd import CLOCK_BOOTTIME, CLOCK_REALTIME, TimerFd

pytestmark = pytest.mark.netns

DEADLINE_S = 60.0


@pytest.fixture(params=[CLOCK_REALTIME, CLOCK_BOOTTIME])
def timer(request: pytest.FixtureRequest) -> Iterator[TimerFd]:
    found = TimerFd(request.param)
    yield found
    found.close()


def is_readable(timer: TimerFd, timeout_s: float = 0.0) -> bool:
    return bool(select.select([timer], [], [], timeout_s)[0])


def test_it_expires_and_is_read(timer: TimerFd) -> None:
    timer.set(time.clock_gettime(timer.clock) + 1000)
    assert not is_readable(timer)
    at = time.clock_gettime(timer.clock) + 0.05
    timer.set(at)
    assert is_readable(timer, DEADLINE_S)
    assert time.clock_gettime(timer.clock) >= at
    assert timer.read()
    assert not is_readable(timer)
    assert timer.read(), "there is nothing to read, and that does not block"


def test_what_is_past_expires_at_once(timer: TimerFd) -> None:
    timer.set(0.0)
    assert is_readable(timer, DEADLINE_S)


def test_disarmed(timer: TimerFd) -> None:
    timer.set(0.0)
    timer.set(None)
    assert not is_readable(timer)
    timer.set(time.clock_gettime(timer.clock) + 1000)
    assert not is_readable(timer)
