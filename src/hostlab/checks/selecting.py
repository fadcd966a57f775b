"""Which checks of a lab are judged; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from hostlab.checks.expectations import expectation, line
from hostlab.errors import UsageError
from hostlab.spec.model import Check, Lab, Node


def said(check: Check) -> str:
    """A check in one line; `SpecError` for a kind or arguments that do not exist."""
    return line(check, expectation(check.kind, check.arguments))


def selected(
    lab: Lab, *, hosts: Sequence[str] = (), roles: Sequence[str] = (), words: Sequence[str] = ()
) -> tuple[Check, ...]:
    """The checks of these hosts (names or patterns as `web*`), roles and words; all of none given.

    A host counts that is in any of `hosts` and has any of `roles`; a check whose line contains any
    of `words`, whatever their case. `UsageError` for a host, role or word that there is not, for
    a typing mistake must not look like success.
    """
    _must_be_there("host", hosts, lab.nodes, lambda node: [node.name])
    _must_be_there("role", roles, lab.nodes, lambda node: node.roles)
    names = {
        node.name
        for node in lab.nodes
        if _matches(hosts, [node.name]) and _matches(roles, node.roles)
    }
    if hosts and roles and not names:
        raise UsageError("selection", f"no host called {_or(hosts)} has the role {_or(roles)}")
    asked = [
        check
        for check in lab.checks
        if not words or any(word.lower() in said(check).lower() for word in words)
    ]
    every = (
        msgspec.structs.replace(check, nodes=tuple(n for n in check.nodes if n in names))
        for check in asked
    )
    kept = tuple(check for check in every if check.nodes)
    if lab.checks and words and not kept:
        what = f"no check says {_or(words)}"
        raise UsageError("selection", f"{what} on these hosts" if asked else what)
    return kept


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)


def _matches(patterns: Sequence[str], names: Iterable[str]) -> bool:
    return not patterns or any(fnmatchcase(name, each) for each in patterns for name in names)


def _must_be_there(
    what: str,
    patterns: Sequence[str],
    nodes: Sequence[Node],
    names: Callable[[Node], Iterable[str]],
) -> None:
    known = list(dict.fromkeys(name for node in nodes for name in names(node)))
    for pattern in patterns:
        if not _matches([pattern], known):
            hint = f"there are: {', '.join(known[:20])}" if known else f"no node has a {what}"
            raise UsageError("selection", f"no {what} is called {pattern}", hint=hint)
