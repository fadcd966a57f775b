"""A child that was forked beside other threads has none of them to wait for."""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading

import pytest

from hostlab.linux.clone import clone3

pytestmark = pytest.mark.netns

CHILDREN = 20
DEADLINE_S = 60.0


def test_a_child_does_not_wait_for_a_thread_that_threading_does_not_know() -> None:
    ended, gone = threading.Event(), threading.Event()

    def want_the_interpreter() -> None:
        while not ended.is_set():
            pass
        gone.set()

    interval_s = sys.getswitchinterval()
    # So it is asked for while clone3 runs, each time.
    sys.setswitchinterval(1e-5)
    _thread.start_new_thread(want_the_interpreter, ())
    try:
        for _ in range(CHILDREN):
            pid, pidfd = clone3(0, hooks=False)
            if pid == 0:
                for number in range(100_000):
                    str(number)
                os._exit(0)
            try:
                assert select.select([pidfd], [], [], DEADLINE_S)[0], "the child hangs"
            finally:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED)
                os.close(pidfd)
    finally:
        sys.setswitchinterval(interval_s)
        ended.set()
        assert gone.wait(DEADLINE_S)
