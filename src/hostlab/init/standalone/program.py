"""The program of a stand-alone init's holder, `python -m hostlab.init.standalone.program`.

It loads what a holder needs and nothing more: holder and supervisor are two Pythons, and what one
has loaded before the other is forked counts twice as soon as either uses it. So a supervisor loads
its own program, as often as one starts; while the program's files are being replaced or are gone
none can, and the holder tries again (`holder.RESTART_PAUSE_MS`), with everything kept meanwhile. In
a node, whose root may have no such files, holder and supervisor live on the hub's pages instead.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from hostlab.init.holder import Holder, Inheritance

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGPWR, signal.SIGWINCH, signal.SIGHUP)
"""Signals that the supervisor is told of."""


def main() -> None:
    """Be the holder; the words are numbers of descriptors, the first two said in `start.run`."""
    numbers = [int(word) for word in sys.argv[1:]]
    for fd in numbers:
        os.set_inheritable(fd, False)  # noqa: FBT003  (has no name for it)
    told, control, *_ = numbers

    def supervise(inheritance: Inheritance) -> None:
        _supervise(told, inheritance)

    gc.collect()
    gc.freeze()
    Holder(
        socket.socket(fileno=control),
        supervise,
        eager=True,
        dies_with_holder=True,
        passes_on=PASSED_ON,
    ).hold()


def _supervise(told: int, inheritance: Inheritance) -> None:
    """Load what is installed now, all of it: the holder's own may be of an earlier version."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "hostlab"]:
        del sys.modules[name]
    from hostlab.init.lean import without_needless

    with without_needless():
        from hostlab.init.standalone.supervisor import supervise
    supervise(told, inheritance)


if __name__ == "__main__":
    main()
