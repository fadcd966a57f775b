"""What this machine offers, what is missing, and how to get it.

Nothing is guessed from versions or configuration: a probe does the thing itself, in a child and
in namespaces that end with it. One that cannot be tried without harm (a limit) is read.
"""

from __future__ import annotations

from hostlab.observe import doctor_files, doctor_isolation, doctor_machine, doctor_network
from hostlab.observe.finding import Finding, State

NEEDED = (
    "user namespaces",
    "mnt namespaces",
    "net namespaces",
    "pid namespaces",
    "uts namespaces",
    "ipc namespaces",
    "veth",
    "bridge",
    "overlay of a top-level directory",
    "tmpfs",
    "proc",
)
"""Without one of these no lab stands."""

_PROBES = (
    *doctor_isolation.PROBES,
    *doctor_files.PROBES,
    *doctor_network.PROBES,
    *doctor_machine.PROBES,
)


def doctor() -> tuple[Finding, ...]:
    """Every finding, grouped; takes about half a second and leaves nothing.

    The caller's privileges decide: what root finds, a plain user may not.
    """
    return tuple(finding for probe in _PROBES for finding in probe())


def blocking(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those that keep any lab from standing."""
    return tuple(one for one in findings if one.name in NEEDED and one.state is State.MISSING)
