"""Which module tells which events: the rows of `jobs.source_events`, by the modules here.

A table and no imports: a source's module is loaded when a job listens to one of its events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hostlab.jobs.source_events import SOURCES, source_of

_HERE: Final = "hostlab.init.sources"
MODULES: Final[Mapping[str, str]] = {event: f"{_HERE}.{name}" for event, name in SOURCES.items()}
"""By the event's name; one module may tell several."""


def module_of(event: str) -> str | None:
    """The module of the source that tells this event; None for one that comes from no source."""
    if event in MODULES:
        return MODULES[event]
    source = source_of(event)
    return None if source is None else f"{_HERE}.{source}"
