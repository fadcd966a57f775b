"""Signals by name: `HUP`, `SIGHUP` and numbers, as libnih's nih/signal.c reads them.

A table of our own because the numbers are part of a description, whatever machine reads it;
they are Linux's on every architecture but alpha, mips, parisc and sparc (signal(7)).
"""

from __future__ import annotations

SIGNALS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        [
            "HUP",
            "INT",
            "QUIT",
            "ILL",
            "TRAP",
            "ABRT",
            "BUS",
            "FPE",
            "KILL",
            "USR1",
            "SEGV",
            "USR2",
            "PIPE",
            "ALRM",
            "TERM",
            "STKFLT",
            "CHLD",
            "CONT",
            "STOP",
            "TSTP",
            "TTIN",
            "TTOU",
            "URG",
            "XCPU",
            "XFSZ",
            "VTALRM",
            "PROF",
            "WINCH",
            "IO",
            "PWR",
            "SYS",
        ],
        start=1,
    )
}
"""Number by name without `SIG`."""

_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29}
_NAMES = {number: name for name, number in SIGNALS.items()}


def signal_number(name: str) -> int | None:
    """The number of a signal's name with or without `SIG`; None when there is no such name."""
    bare = name.removeprefix("SIG")
    return SIGNALS.get(bare, _ALIASES.get(bare))


def signal_name(number: int) -> str:
    """The name without `SIG`, as `EXIT_SIGNAL=` has it; the number when it has none."""
    return _NAMES.get(number, str(number))
