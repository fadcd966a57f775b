"""A running lab's description with one cable's impairments changed; what is not named stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from hostlab.errors import UsageError
from hostlab.plan.operations import Kind, Operation
from hostlab.spec.impairments import NONE, contradiction, made
from hostlab.spec.model import Interface, Lab


class LinkChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a call of `hostlab link` says."""

    node: str
    interface: str
    clear: tuple[str, ...] = ()
    """Directions, `out` and `in`, that begin with nothing."""
    sending: Mapping[str, Any] = {}
    """Values by the keys of `impair:`."""
    receiving: Mapping[str, Any] = {}


_WAYS: Final = (("out", "sending"), ("in", "receiving"))


def changed(lab: Lab, change: LinkChange) -> tuple[Lab, Operation]:
    """The lab as it is to be, and the operation that leads there.

    UsageError when there is no such interface, or when what would come of it cannot be so.
    """
    node = next((node for node in lab.nodes if node.name == change.node), None)
    names = [] if node is None else [interface.name for interface in node.interfaces]
    if node is None or change.interface not in names:
        message = f"{change.node} has no interface {change.interface!r}"
        raise UsageError("no-interface", message, hint=f"it has {', '.join(names) or 'none'}")
    interfaces = []
    reasons: list[str] = []
    for one in node.interfaces:
        if one.name == change.interface:
            one = _changed(one, change, reasons)
        interfaces.append(one)
    there = replace(node, interfaces=tuple(interfaces))
    nodes = tuple(there if other is node else other for other in lab.nodes)
    reason = ", ".join(reasons) or "nothing changes"
    return replace(lab, nodes=nodes), Operation(Kind.CHANGE_IMPAIRMENTS, node.name, reason)


def _changed(one: Interface, change: LinkChange, reasons: list[str]) -> Interface:
    if one.tunnel is not None or one.device:
        message = f"{one.name} has no cable that could be impaired: it is a tunnel's or a device's"
        raise UsageError("impairment", message, hint="impair what it goes over")
    ways = {}
    for word, field in _WAYS:
        before = getattr(one, field)
        base = NONE if word in change.clear else before
        ways[field] = now = made(getattr(change, field), base)
        wrong = contradiction(now)
        if wrong is not None:
            key, message, hint = wrong
            raise UsageError("impairment", f"{word} {key}: {message}", hint=hint)
        if now != before:
            reasons.append(f"{one.name} {word} {now.describe()}")
    return replace(one, **ways)
