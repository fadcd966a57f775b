"""The targets that units count on (systemd.special(7)), for nodes that have no files of them.

They are what systemd ships, less the mounts, devices and slices that are no jobs here.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from hostlab.spec.systemd.unit import Unit, read_unit

PLACE: Final = "(hostlab)"
"""What stands for their file in messages."""
_EARLY: Final = "DefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n"
_TEXTS: Final = {
    "basic.target": "Requires=sysinit.target\n"
    "Wants=sockets.target timers.target paths.target\n"
    "After=sysinit.target sockets.target paths.target\n",
    "cryptsetup.target": _EARLY,
    "getty.target": "",
    "graphical.target": "Requires=multi-user.target\nAfter=multi-user.target rescue.target\n"
    "Conflicts=rescue.target\n",
    "local-fs.target": f"{_EARLY}After=local-fs-pre.target\n",
    "local-fs-pre.target": _EARLY,
    "multi-user.target": "Requires=basic.target\nAfter=basic.target rescue.target\n"
    "Conflicts=rescue.target\n",
    "network.target": "After=network-pre.target\n",
    "network-online.target": "After=network.target\n",
    "network-pre.target": "",
    "nss-lookup.target": "",
    "nss-user-lookup.target": "",
    "paths.target": _EARLY,
    "remote-fs.target": "After=remote-fs-pre.target\n",
    "remote-fs-pre.target": "",
    "rescue.target": "Requires=sysinit.target\nAfter=sysinit.target\n",
    "rpcbind.target": "",
    "shutdown.target": "DefaultDependencies=no\n",
    "sockets.target": _EARLY,
    "swap.target": _EARLY,
    "sysinit.target": f"{_EARLY}Wants=local-fs.target swap.target\n"
    "After=local-fs.target swap.target\n",
    "time-set.target": _EARLY,
    "time-sync.target": "After=time-set.target\nWants=time-set.target\n",
    "timers.target": _EARLY,
}
STANDARD: Final = tuple(_TEXTS)


def standard_targets(known: Container[str]) -> list[Unit]:
    """Those of them that no file of the node defines."""
    return [target for name in _TEXTS if name not in known and (target := standard_target(name))]


def standard_target(
    name: str, *, wants: tuple[str, ...] = (), requires: tuple[str, ...] = ()
) -> Unit | None:
    """One of them, with what the node's links add; None for another unit."""
    text = _TEXTS.get(name)
    if text is None:
        return None
    text = f"[Unit]\nDescription={name.partition('.')[0]}\n{text}"
    return read_unit(name, [(text, PLACE)], wants=wants, requires=requires)
