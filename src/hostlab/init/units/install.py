"""The names `systemctl` and `journalctl` in a node, and what tells scripts that units run here.

A script of a package finds them by PATH, and dpkg's PATH is apt's: so they must also be where
systemd's own are. In a root of its own, which is an overlay or a container's, a link takes the
place of systemd's program; that one could do nothing but refuse, as its init is not systemd.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from hostlab.init.initctl.programs import INITCTL

NAMES: Final = ("systemctl", "journalctl")
IN_ROOT: Final = "/usr/bin"
OLD: Final = "/bin"
BOOTED: Final = "/run/systemd/system"
"""sd_booted(3) and every maintainer script look for this directory."""
LOG: Final = "/dev/log"
"""Where syslog(3) writes to; with systemd journald listens there, and passes on to the next."""
SYSLOG: Final = "/run/systemd/journal/syslog"
"""Where `syslog.socket` listens, which every syslog daemon's unit is given (systemd.special(7))."""


def install_names(directory: str, *, own_root: bool) -> None:
    """Links to the client beside Upstart's names, and where scripts count on them.

    OSError when `directory` cannot be written to; a root that cannot goes without.
    """
    for name in NAMES:
        _link(INITCTL, f"{directory}/{name}")
    if not own_root:
        return
    with contextlib.suppress(OSError):
        os.makedirs(BOOTED, mode=0o755, exist_ok=True)
    with contextlib.suppress(OSError):
        # No journald is between them here. A daemon that binds it itself takes the link away.
        os.symlink(SYSLOG, LOG)
    places = [IN_ROOT] if os.path.islink(OLD) else [IN_ROOT, OLD]
    for place in places:
        for name in NAMES:
            with contextlib.suppress(OSError):
                _link(f"{directory}/{INITCTL}", f"{place}/{name}")


def _link(target: str, path: str) -> None:
    """A link in place of whatever has the name, never missing meanwhile."""
    with contextlib.suppress(OSError):
        if os.readlink(path) == target:
            return
    made = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made)
    os.symlink(target, made)
    os.rename(made, path)
