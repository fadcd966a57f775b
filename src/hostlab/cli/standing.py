"""What to tell of a lab in which something is broken on purpose, whoever has forgotten it."""

from __future__ import annotations

from hostlab.faults import record
from hostlab.lab.paths import LabDirectory


def standing(lab: str) -> str:
    """One line with the faults that stand in a lab; empty when there are none."""
    if not record.standing(record.read(LabDirectory.of(lab))):
        return ""
    # What breaks and mends is much to load, and seldom is anything broken.
    from hostlab.faults import injecting
    from hostlab.faults.site import Site

    found = ", ".join(f"{each.number} {each.fault}" for each in injecting.injected(Site.of(lab)))
    return f"broken on purpose: {found}; `hostlab fault clear` mends it" if found else ""
