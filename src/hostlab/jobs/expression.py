"""Event expressions at work: a tree of operands, and apart from it what has matched so far.

The tree never changes; it belongs to the job. The state does: each operand is FALSE until an
event matches it, then TRUE, with that event kept, until the whole tree is reset
(init/event_operator.c). Three things follow that people trip over:

- an operand that is TRUE already is not matched again; the first event's environment counts;
- an event that made an operand TRUE is blocked until the reset, so half of an `and` holds it;
- only operands in branches that are TRUE give their environment.

A job class has one state for `start on`, shared by all its instances; each instance has its own
for `stop on`. Matching walks an operand's arguments: a positional one is compared with the event's
variable at its position, `KEY=V` with the variable of that name, `KEY!=V` likewise and negated. V
is expanded first, then it is a glob. A variable that the event lacks is no match, also for `!=`; an
expansion that fails is no match.

Nothing here recurses: the nodes are in postfix order, so children stand before their parents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from hostlab.jobs import named_event
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.jobs.file_operand import FILE
from hostlab.jobs.glob import is_literal, matcher, matches
from hostlab.spec import sockets
from hostlab.spec.job import Expression, Match, Operator

Environment = tuple[tuple[str, str], ...]
NO_ENVIRONMENT: Mapping[str, str] = {}
_LITERAL: dict[str, Callable[[Match], tuple[str, ...]]] = {
    **dict.fromkeys(named_event.SAYS, named_event.arguments),
    sockets.EVENT: sockets.pattern,
}
"""Events whose operands are values, no patterns: they say themselves what is to happen."""
Held = TypeVar("Held")


class Argument:
    """One argument of an operand, taken apart."""

    __slots__ = ("_matcher", "is_literal", "key", "negated", "pattern", "position", "variable")

    def __init__(self, text: str, position: int, *, is_literal: bool = False) -> None:
        """One that is literal has no pattern and no variables in it: it is a value."""
        # Upstart looks for `!=` anywhere before it looks for `=`.
        key, found, pattern = text.partition("!=")
        self.negated = bool(found)
        if not found:
            key, found, pattern = text.partition("=")
        self.key: str | None = key if found else None
        self.pattern = pattern if found else text
        self.position = position
        # What can be worked out once is: this is asked for each event and each listener.
        self.is_literal = is_literal
        self._matcher: Callable[[str], bool] | None = None
        if is_literal:
            self._matcher = self.pattern.__eq__
        elif "$" not in self.pattern:
            self._matcher = matcher(self.pattern)
        simple = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", self.pattern)
        self.variable: str | None = simple[1] if simple else None
        """The variable that the whole pattern is."""

    def fixed(self) -> str | None:
        """The one value it accepts; None when it accepts several or needs an environment."""
        if self.negated:
            return None
        if not self.is_literal and ("$" in self.pattern or not is_literal(self.pattern)):
            return None
        return self.pattern

    def accepts(self, event: Environment, environment: Mapping[str, str]) -> bool:
        """Whether an event's environment satisfies it."""
        key = self.key
        if key is None:
            if self.position >= len(event):
                return False
            value = event[self.position][1]
        else:
            for name, value in event:  # noqa: B007 - the value is used behind the loop
                if name == key:
                    break
            else:
                return False
        if self._matcher is not None:
            return self._matcher(value) is not self.negated
        pattern = self._expanded(environment)
        return pattern is not None and matches(pattern, value) is not self.negated

    def _expanded(self, environment: Mapping[str, str]) -> str | None:
        """The pattern with its variables replaced; None when one is unknown."""
        if self.variable is not None:
            return environment.get(self.variable)
        try:
            return expand(self.pattern, environment)
        except ExpansionError:
            return None


class Leaf:
    """An operand, ready to be compared."""

    __slots__ = ("arguments", "index", "name")

    def __init__(self, match: Match, index: int) -> None:
        self.name = match.name
        self.index = index
        """Its place among the nodes."""
        own = _LITERAL.get(match.name)
        texts = own(match) if own else match.arguments
        self.arguments = tuple(
            Argument(text, position, is_literal=own is not None or _is_path(match.name, text))
            for position, text in enumerate(texts)
        )

    def accepts(
        self, name: str, event: Environment, environment: Mapping[str, str] = NO_ENVIRONMENT
    ) -> bool:
        """Whether an event is the one that the operand means."""
        if name != self.name:
            return False
        for argument in self.arguments:  # noqa: SIM110 - a generator costs a third of the rate
            if not argument.accepts(event, environment):
                return False
        return True


def _is_path(event: str, text: str) -> bool:
    """Whether an argument is the FILE of a `file` event, which has what the operand says."""
    return event == FILE and text.startswith("FILE=")


class Tree:
    """An expression with the links between its nodes; shared by every state of it."""

    __slots__ = ("expression", "leaves", "left", "operators", "parent", "root")

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        nodes = expression.nodes
        self.root = len(nodes) - 1
        self.operators = tuple(node if isinstance(node, Operator) else None for node in nodes)
        self.leaves = tuple(
            Leaf(node, index) for index, node in enumerate(nodes) if isinstance(node, Match)
        )
        self.parent = [-1] * len(nodes)
        self.left = [-1] * len(nodes)
        """An operator's left child; the right one is the node before the operator."""
        whole: list[int] = []
        for index, operator in enumerate(self.operators):
            if operator is not None:
                right, left = whole.pop(), whole.pop()
                self.parent[left] = self.parent[right] = index
                self.left[index] = left
            whole.append(index)


class Progress(Generic[Held]):
    """What has matched of one tree, and the events that did it."""

    __slots__ = ("events", "tree", "values")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.values = [False] * len(tree.operators)
        self.events: dict[int, Held] = {}
        """The event of each operand that is TRUE, by the operand's place."""

    @property
    def satisfied(self) -> bool:
        """The whole expression is TRUE."""
        return self.values[-1]

    def take(self, leaf: Leaf, event: Held) -> bool:
        """Let an event that matches make its operand TRUE; False when it was already."""
        values, tree = self.values, self.tree
        index = leaf.index
        if values[index]:
            return False
        self.events[index] = event
        values[index] = True
        while (index := tree.parent[index]) >= 0:
            both = tree.operators[index] is Operator.AND
            if values[index] or (both and not (values[tree.left[index]] and values[index - 1])):
                break
            values[index] = True
        return True

    def active(self) -> list[Held]:
        """The events of TRUE branches, from left to right."""
        values, tree = self.values, self.tree
        found: list[Held] = []
        waiting = [tree.root]
        while waiting:
            index = waiting.pop()
            if not values[index]:
                continue
            if tree.operators[index] is None:
                found.append(self.events[index])
            else:
                waiting += (index - 1, tree.left[index])
        return found

    def missing(self) -> tuple[Match, ...]:
        """The operands that are still FALSE, from left to right."""
        nodes = self.tree.expression.nodes
        return tuple(
            node
            for node, value in zip(nodes, self.values, strict=True)
            if isinstance(node, Match) and not value
        )

    def reset(self) -> list[Held]:
        """Make everything FALSE; the events that were held, one for each operand."""
        if not self.events:
            return []
        held = list(self.events.values())
        self.events.clear()
        self.values = [False] * len(self.values)
        return held

    def restore(self, held: Sequence[tuple[int, Held]]) -> None:
        """Take up operands and their events where another supervisor left them."""
        leaves = {leaf.index: leaf for leaf in self.tree.leaves}
        for index, event in held:
            self.take(leaves[index], event)
