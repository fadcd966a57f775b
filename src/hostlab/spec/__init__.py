"""What the user writes, as values, and the loaders that read it. Pure."""

from __future__ import annotations

from hostlab.spec.job import Job
from hostlab.spec.load import load
from hostlab.spec.model import (
    MAX_BRIDGE_PORTS,
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
from hostlab.spec.schema import schema

__all__ = [
    "MAX_BRIDGE_PORTS",
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
