"""Who listens to an event: an index, so that a job that does not listen costs nothing.

Operands are found by the event's name. Among those of one name, an operand with an argument that
accepts one value only (`JOB=foo`, `eth0`) is found by that value, so that the hundred jobs that
wait for `started JOB=…` cost a `started` event one look-up. All other operands are candidates
every time. What is found is then compared in full.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from hostlab.jobs.expression import Environment, Leaf, Tree

Owner = TypeVar("Owner")


class Listener(NamedTuple, Generic[Owner]):
    """An operand of somebody's condition."""

    order: tuple[int, int, int]
    """Classes in the order in which they came; in each, instances' `stop on` before `start on`."""
    leaf: Leaf
    owner: Owner


_Order = tuple[int, int, int]
_Bucket = dict[tuple[_Order, int], Listener[Owner]]


class _Named(Generic[Owner]):
    """The listeners to events of one name."""

    __slots__ = ("always", "chosen")

    def __init__(self) -> None:
        self.always: _Bucket[Owner] = {}
        self.chosen: dict[str | int, dict[str, _Bucket[Owner]]] = {}
        """By a variable's name or position, then by the value that is accepted."""


class Index(Generic[Owner]):
    """All listeners."""

    def __init__(self) -> None:
        self._named: dict[str, _Named[Owner]] = {}

    def add(self, order: _Order, tree: Tree, owner: Owner) -> None:
        """Somebody's condition listens from now on."""
        for leaf in tree.leaves:
            named = self._named.setdefault(leaf.name, _Named())
            bucket = named.always
            if choice := _choice(leaf):
                selector, value = choice
                bucket = named.chosen.setdefault(selector, {}).setdefault(value, {})
            bucket[order, leaf.index] = Listener(order, leaf, owner)

    def remove(self, order: _Order, tree: Tree) -> None:
        """The condition that was added in this place does not listen any more."""
        for leaf in tree.leaves:
            named = self._named[leaf.name]
            if choice := _choice(leaf):
                selector, value = choice
                values = named.chosen[selector]
                del values[value][order, leaf.index]
                # Instances come and go: what becomes empty goes too.
                if not values[value]:
                    del values[value]
                if not values:
                    del named.chosen[selector]
            else:
                del named.always[order, leaf.index]
            if not (named.always or named.chosen):
                del self._named[leaf.name]

    def find(self, name: str, environment: Environment) -> list[Listener[Owner]]:
        """Everyone whose operand may match this event, in their order."""
        named = self._named.get(name)
        if named is None:
            return []
        found = list(named.always.values())
        for selector, values in named.chosen.items():
            value = _value(environment, selector)
            if value is not None and (bucket := values.get(value)):
                found += bucket.values()
        if len(found) > 1:
            found.sort(key=_place)
        return found


def _choice(leaf: Leaf) -> tuple[str | int, str] | None:
    """The variable and the one value of it that an operand is found by."""
    for argument in leaf.arguments:
        value = argument.fixed()
        if value is not None:
            return argument.position if argument.key is None else argument.key, value
    return None


def _value(environment: Environment, selector: str | int) -> str | None:
    if isinstance(selector, int):
        return environment[selector][1] if selector < len(environment) else None
    for key, value in environment:
        if key == selector:
            return value
    return None


def _place(listener: Listener[Owner]) -> tuple[_Order, int]:
    return listener.order, listener.leaf.index
