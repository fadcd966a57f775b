"""A job as a description's is when it does not say when it starts and how it is stopped."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from hostlab.spec.condition import parse_condition
from hostlab.spec.job import Job, Kill, KillMode


def described(name: str, **fields: Any) -> Job:
    """The job of this name with these fields."""
    usual = Job(
        name=name,
        start_on=parse_condition("startup"),
        kill=Kill(signal=15, timeout_s=5.0, mode=KillMode.CONTROL_GROUP),
    )
    return replace(usual, **fields)
