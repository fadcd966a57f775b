"""Who waits at a socket whose job does not accept is let in and sent away, by a child.

The supervisor itself never accepts: on a socket that jobs share, accept(2) may wait. The child
has a bounded time, and takes nothing but what is there.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Final

from hostlab.linux.clone import clone3

SECONDS: Final = 2
MAX_AT_ONCE: Final = 4096


class Disposal:
    """A child at work."""

    def __init__(self, listener: int, count: int, done: Callable[[], None]) -> None:
        """Accept and close up to so many connections; `done` is called in the loop at the end.

        OSError when there can be no child.
        """
        self._done = done
        self._pid, self._pidfd = clone3(0)
        if self._pid == 0:
            try:
                _accept(listener, count)
            finally:
                os._exit(0)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def cancel(self) -> None:
        """End it now; `done` is not called."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._reap()

    def _ended(self) -> None:
        self._reap()
        self._done()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.waitpid(self._pid, 0)


def _accept(fd: int, count: int) -> None:
    """Without what the parent handles signals with: an alarm ends it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    listener = socket.socket(fileno=fd)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    for _ in range(min(count, MAX_AT_ONCE)):
        if not poll.poll(0):
            return
        listener.accept()[0].close()
