"""Which faults cannot be beside one another: whom each touches, and what it holds alone."""

from __future__ import annotations

from collections.abc import Iterable

from hostlab.spec.faults import KINDS, Form, form, links, node_of, option
from hostlab.spec.model import Fault, Lab
from hostlab.spec.source import quoted


def touched(fault: Fault, lab: Lab) -> frozenset[str]:
    """The nodes that must be there for a fault to be done, and to be taken back."""
    if form(fault, lab) in (Form.LINK, Form.SEGMENT):
        return frozenset(node for node, _ in links(fault, lab))
    return frozenset((node_of(fault),))


def silenced(faults: Iterable[Fault]) -> frozenset[str]:
    """The nodes about which no check can be judged as long as these last."""
    return frozenset(node_of(fault) for fault in faults if KINDS[fault.kind].silences)


def held(fault: Fault, lab: Lab) -> frozenset[str]:
    """What no second fault may hold at the same time."""
    place = KINDS[fault.kind].place
    match place:
        case "":
            return frozenset(f"link {node}:{name}" for node, name in links(fault, lab))
        case "port":
            port = f"{option(fault, 'protocol')} {option(fault, 'port')}"
            return frozenset((f"port {fault.on} {port}",))
        case "file":
            return frozenset((f"file {fault.on} {option(fault, 'path')}",))
        case "route":
            return frozenset((f"route {fault.on} {option(fault, 'to')}",))
        case "loss":
            return frozenset((f"loss {fault.on} {option(fault, 'direction')}",))
        case _:
            return frozenset((f"{place} {fault.on}",))


def contradiction(active: Iterable[Fault], new: Fault, lab: Lab) -> str | None:
    """Why a fault cannot be beside these, in words; None when it can."""
    mine, nodes = held(new, lab), touched(new, lab)
    for other in active:
        theirs = touched(other, lab)
        if node_of(other) in nodes and other.kind == "node-killed":
            return f"{node_of(other)} is dead on purpose ({other})"
        if new.kind == "node-killed" and new.on in theirs:
            return f"{new.on} has another fault ({other}), which would end with it"
        if KINDS[new.kind].needs_init and other.kind == "node-frozen" and other.on in nodes:
            return f"{other.on} is frozen on purpose, so nothing in it answers ({other})"
        if mine & held(other, lab):
            return f"{quoted(str(other))} holds {min(mine & held(other, lab))} already"
    return None
