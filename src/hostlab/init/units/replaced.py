"""Units of systemd's own for whose work this init stands, or that no node can do.

Only links that enable them are passed over (`sysinit.target.wants` is full of them): who names one
in a description, or says `systemctl start`, gets it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Final

_LOG: Final = "this init keeps the logs"
_MOUNTS: Final = "the mounts are made before the first unit starts"
_TERMINAL: Final = "there is no terminal to log in on; `hostlab shell` is"
_KERNEL: Final = "it is about the machine's kernel or hardware"
_SETUP: Final = "this init does it before the first unit starts"
PASSED_OVER: Final[Mapping[str, str]] = {
    "systemd-journal*": _LOG,
    "syslog.socket": _LOG,
    "systemd-tmpfiles-setup*": _SETUP,
    "systemd-tmpfiles-clean.timer": "what is old in a node goes with the node",
    "systemd-sysusers.service": _SETUP,
    "systemd-machine-id-commit.service": _SETUP,
    "systemd-firstboot.service": _SETUP,
    "systemd-remount-fs.service": _MOUNTS,
    "systemd-fsck*": _MOUNTS,
    "systemd-growfs*": _MOUNTS,
    "systemd-quotacheck.service": _MOUNTS,
    "systemd-udev*": _KERNEL,
    "systemd-modules-load.service": _KERNEL,
    "systemd-hwdb-update.service": _KERNEL,
    "systemd-random-seed.service": _KERNEL,
    "systemd-boot-*": _KERNEL,
    "systemd-pstore.service": _KERNEL,
    "systemd-pcr*": _KERNEL,
    "systemd-tpm2*": _KERNEL,
    "systemd-binfmt.service": _KERNEL,
    "systemd-sysctl.service": "`sysctls:` of the description are a node's",
    "kmod-static-nodes.service": _KERNEL,
    "systemd-rfkill*": _KERNEL,
    "systemd-backlight@*": _KERNEL,
    "hibernate*": _KERNEL,
    "keyboard-setup.service": _TERMINAL,
    "console-setup.service": _TERMINAL,
    "systemd-vconsole-setup.service": _TERMINAL,
    "systemd-ask-password*": _TERMINAL,
    "getty*": _TERMINAL,
    "serial-getty@*": _TERMINAL,
    "console-getty.service": _TERMINAL,
    "autovt@*": _TERMINAL,
    "debug-shell.service": _TERMINAL,
    "systemd-initctl*": "this init has an `initctl` of its own",
    "systemd-update-*": "nobody reads it here",
    "systemd-logind.service": "it asks systemd itself for the sessions' scopes",
    "systemd-user-sessions.service": "there are no sessions to let in or keep out",
    "systemd-network-generator.service": "a node's interfaces are in its description",
    "systemd-networkd*": "a node's interfaces are in its description",
    "networking.service": "a node's interfaces are in its description",
    "ifupdown-*": "a node's interfaces are in its description",
}
"""Glob of a unit's name -> why an init of hostlab does not start it although it is enabled."""


def why_passed_over(name: str) -> str | None:
    """The reason, or None of a unit that is started when it is enabled."""
    for pattern, reason in PASSED_OVER.items():
        if fnmatch.fnmatchcase(name, pattern):
            return reason
    return None
