"""The keys of a fault in a description's timeline."""

from __future__ import annotations

from hostlab.spec.faults import KINDS
from hostlab.spec.scalars import DURATION, NAME, TEXT
from hostlab.spec.shapes import Key, ListOf, MapOf, Table, choice

FAULT = Table(
    "fault",
    "Something that is broken on purpose, at a time; `hostlab fault kinds` lists what can be.",
    (
        Key("at", DURATION, "When, from the timeline's start.", "5s", "0s"),
        Key("do", choice("a fault", tuple(KINDS)), "What.", "link-down"),
        Key("on", ListOf(TEXT), "To what: `NODE`, `NODE:INTERFACE`, a segment, `NODE/JOB`; a role "
            "stands for its nodes.", "r1:eth0"),
        Key("for", DURATION, "How long.", "3s", "until the timeline ends"),
        Key("with", MapOf(NAME, TEXT), "Its options.", "{loss: 30%}"),
    ),
    required=("do", "on"),
)  # fmt: skip
