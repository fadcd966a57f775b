"""The hub's program: begun before it is known what for, and told later.

It takes a fifth of a second to load its modules, about as long as its caller takes to read a
description or to let a routing daemon's parser judge one; on two processors both are done at once.
What it is told comes as one message with the descriptors that it names; a program that hears of no
lab ends, and has done nothing.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

from hostlab.errors import Problem

TIMEOUT_S: Final = 60.0
_PROGRAM: Final = "hostlab.lab.hub_program"


class HubProgram:
    """One that loads, or none yet; a context manager, which ends one that was not told."""

    def __init__(self) -> None:
        self._loading: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def begin(self) -> None:
        """Let it load, unless it does."""
        if self._loading is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _PROGRAM],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
        except BaseException:
            ours.close()
            raise
        self._loading = process, ours

    def become(self, start: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Tell it what hub to be, and wait until that has left this process' family.

        Problem when the program does not start.
        """
        self.begin()
        assert self._loading is not None
        process, ours = self._loading
        try:
            with suppress(BrokenPipeError):  # It has ended; why is on its standard error.
                socket.send_fds(ours, [msgspec.json.encode(start)], descriptors)
            _, said = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            message = f"the hub's program did not start within {TIMEOUT_S:g} s"
            raise Problem("hub", message) from None
        finally:
            self.close()
        if process.returncode:
            text = said.decode(errors="replace").strip()
            raise Problem("hub", f"the hub's program did not start: {text}")

    def close(self) -> None:
        """End what has begun, if it has not ended."""
        if self._loading is not None:
            process, ours = self._loading
            self._loading = None
            ours.close()
            with process:
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
