"""What the user writes, as values, and the loaders that read it. Pure.

`load` and `schema` bring YAML and all the tables with them, some 60 ms; most commands need only the
values, so these two are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostlab.spec.job import Job
from hostlab.spec.model import (
    MAX_BRIDGE_PORTS,
    Boot,
    BootEvent,
    Check,
    File,
    Interface,
    Lab,
    Limits,
    Link,
    Mount,
    Node,
    Place,
    Publish,
    Rlimit,
    Root,
    RootKind,
    Route,
    Segment,
    User,
    Volume,
)

if TYPE_CHECKING:
    from hostlab.spec.json_schema import schema
    from hostlab.spec.loading import load

__all__ = [
    "MAX_BRIDGE_PORTS",
    "Boot",
    "BootEvent",
    "Check",
    "File",
    "Interface",
    "Job",
    "Lab",
    "Limits",
    "Link",
    "Mount",
    "Node",
    "Place",
    "Publish",
    "Rlimit",
    "Root",
    "RootKind",
    "Route",
    "Segment",
    "User",
    "Volume",
    "load",
    "schema",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        from hostlab.spec.loading import load

        return load
    if name == "schema":
        from hostlab.spec.json_schema import schema

        return schema
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
