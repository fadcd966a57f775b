"""The kernel's cleaning up: whoever is measured next is not to wait for what was there before."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from bench import kernel
from bench.rtnl import LinkEvents, Rtnl, bridge, veth

DEADLINE_S: Final = 60.0
BRIDGE: Final = 2
LEFT: Final = 2
"""The loopback and the bridge."""
MAC: Final = bytes((2, 0, 0, 0, 0, 1))


def wait_cleaned() -> None:
    """Until network namespaces that have ended are taken down; for root.

    The kernel does it later than their end, one batch after the other, and holds the lock that
    makes links meanwhile: so one more that ends now is taken down after all of them.
    """
    kernel.forked(_wait)


def _wait() -> None:
    kernel.unshare(kernel.CLONE_NEWNET)
    with contextlib.closing(Rtnl()) as rtnl, contextlib.closing(LinkEvents()) as events:
        rtnl.create(bridge("s"))
        pid = kernel.clone3(kernel.CLONE_NEWNET)
        if pid == 0:
            kernel.die_with_parent()
            kernel.pause_for_ever()
        rtnl.create(veth("p", BRIDGE, "eth0", pid, MAC))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        events.wait_links(LEFT, rtnl, DEADLINE_S)
