"""`dbus …` in an event expression, and the rules by which a bus sends only what it means.

    start on dbus SIGNAL=SessionNew INTERFACE=org.freedesktop.login1.Manager
    stop on dbus SIGNAL=NameOwnerChanged ARG0=org.example.Thing ARG2="" BUS=session

The event has Upstart's variables in Upstart's order (extra/upstart-dbus-bridge.c): SIGNAL, BUS,
INTERFACE, OBJPATH, SENDER, DESTINATION and, for each argument of a simple type, ARG0, ARG1, ….

Upstart's bridge had every signal of the bus sent to it. Here an operand becomes a match rule
(D-Bus Specification, "Match Rules"), and the bus wakes nobody for anything else. A rule may let
through more than its operand means, as the engine compares the event anyway, but never less: what
a rule cannot say, such as most patterns, is left out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hostlab.errors import SpecError
from hostlab.jobs.expression import NO_ENVIRONMENT, Argument, Environment
from hostlab.jobs.glob import matches
from hostlab.spec.job import Match

EVENT: Final = "dbus"
SYSTEM: Final = "system"
SESSION: Final = "session"
MAX_RULES: Final = 256
"""On one connection. A system bus allows 512 (max_match_rules_per_connection of dbus-daemon)."""
MAX_NAME_BYTES: Final = 255
MAX_ARGUMENT: Final = 63
"""The last argument that a rule can speak of."""

_MEMBER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_INTERFACE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+\Z")
_BUS_NAME: Final = re.compile(
    r"(:[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+|[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+)\Z"
)
_PATH: Final = re.compile(r"/(|[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*)\Z")
_ARGUMENT: Final = re.compile(r"ARG(0|[1-9][0-9]?)\Z")
_ALSO_NO_STRING: Final = re.compile(r"TRUE\Z|FALSE\Z|-?[0-9]+(\.[0-9]+)?\Z|-?(inf|nan)\Z")
"""What an argument that is no string may look like in the event."""
_SPECIAL: Final = re.compile(r"[*?\[\\$]")

_APOSTROPHE: Final = "'\\''"
"""One in a value: nothing is special between apostrophes, and behind a backslash one is itself."""

_KEYS: Final[Mapping[str, tuple[str, re.Pattern[str], str]]] = {
    "SIGNAL": ("member", _MEMBER, "a signal's name"),
    "INTERFACE": ("interface", _INTERFACE, "an interface"),
    "OBJPATH": ("path", _PATH, "an object's path"),
    "SENDER": ("sender", _BUS_NAME, "a name on the bus"),
    "DESTINATION": ("destination", _BUS_NAME, "a name on the bus"),
}
"""A variable of the event -> the key of a rule, what its value must look like, what it is."""
_LEAST_FIRST: Final = ("arg", "path", "destination", "sender", "member", "interface")
"""What rules do without first when there are too many; beginnings of their keys."""

Rule = frozenset[tuple[str, str]]
"""Conditions that must all hold; none is every signal."""


def rule_text(rule: Rule) -> str:
    """A rule as a bus takes it."""
    quoted = ((key, value.replace("'", _APOSTROPHE)) for key, value in sorted(rule))
    return ",".join(["type='signal'", *(f"{key}='{value}'" for key, value in quoted)])


def rule_of(match: Match) -> Rule:
    """The rule of an operand; SpecError when no signal can ever be what it asks for."""
    conditions: dict[str, str] = {}
    for position, text in enumerate(match.arguments):
        argument = Argument(text, position)
        # A positional one is compared with the variable at its place, of which SIGNAL is the first.
        key = argument.key or ("SIGNAL" if position == 0 else "")
        if argument.negated:
            continue
        if key in _KEYS:
            conditions.update(_of_header(key, argument))
        elif number := _ARGUMENT.match(key):
            conditions.update(_of_argument(int(number[1]), argument))
    if "path" in conditions:
        # One rule cannot have both, and this one says more.
        conditions.pop("path_namespace", None)
    return frozenset(conditions.items())


def _of_header(key: str, argument: Argument) -> Mapping[str, str]:
    value = argument.fixed()
    name, form, what = _KEYS[key]
    if value is not None:
        if not form.match(value) or (len(value.encode()) > MAX_NAME_BYTES and name != "path"):
            raise SpecError("dbus", f"{key}={value}: `{value}` cannot be {what}")
        return {name: value}
    above = _literal_start(argument).rpartition("/")[0]
    if key == "OBJPATH" and above and _PATH.match(above):
        return {"path_namespace": above}
    return {}


def _of_argument(number: int, argument: Argument) -> Mapping[str, str]:
    if number > MAX_ARGUMENT:
        return {}
    value = argument.fixed()
    if value is not None:
        if value.startswith("/"):
            # A string or an object's path; an `argN` is a string only.
            return {f"arg{number}path": value}
        return {} if _ALSO_NO_STRING.match(value) else {f"arg{number}": value}
    start = _literal_start(argument)
    if start.startswith("/"):
        directory = f"{start.rpartition('/')[0]}/"
        return {} if directory == "/" else {f"arg{number}path": directory}
    above = start.rpartition(".")[0]
    if number == 0 and _BUS_NAME.match(above) and not above.startswith(":"):
        return {"arg0namespace": above}
    return {}


def _literal_start(argument: Argument) -> str:
    """How every value begins that a pattern accepts."""
    special = _SPECIAL.search(argument.pattern)
    return argument.pattern[: special.start()] if special else argument.pattern


def bounded(rules: Iterable[Rule], limit: int = MAX_RULES) -> frozenset[Rule]:
    """At most so many rules that let through at least what these do."""
    found = frozenset(rules)
    for least in _LEAST_FIRST:
        if len(found) <= limit:
            break
        found = frozenset(
            frozenset(pair for pair in rule if not pair[0].startswith(least)) for rule in found
        )
    return found


def buses(match: Match, usual: Sequence[str]) -> tuple[str, ...]:
    """The buses that an operand listens to: `system`, `session` or an address.

    One that says no BUS means the usual ones; a pattern means those of them that it accepts.
    SpecError when it is neither.
    """
    for position, text in enumerate(match.arguments):
        argument = Argument(text, position)
        if argument.key != "BUS":
            continue
        value = argument.fixed()
        if value is not None and not argument.negated:
            if value not in (SYSTEM, SESSION) and ":" not in value:
                hint = "system, session, or an address such as unix:path=/run/x/bus"
                raise SpecError("dbus", f"BUS={value}: `{value}` is no bus", hint=hint)
            return (value,)
        if "$" not in argument.pattern:
            return tuple(
                bus for bus in usual if matches(argument.pattern, bus) is not argument.negated
            )
    return tuple(usual)


def environment(
    bus: str,
    member: str,
    *,
    interface: str | None,
    path: str | None,
    sender: str | None,
    destination: str | None,
    arguments: Sequence[tuple[str, object]],
) -> Environment:
    """The event's variables; `arguments` are the type and value of each of the signal's.

    One of another than a simple type is left out, and counted (dbus-event(7)).
    """
    header = (
        ("SIGNAL", member),
        ("BUS", bus),
        ("INTERFACE", interface),
        ("OBJPATH", path),
        ("SENDER", sender),
        ("DESTINATION", destination),
    )
    values = [(f"ARG{n}", _text(kind, value)) for n, (kind, value) in enumerate(arguments)]
    return tuple((key, value) for key, value in (*header, *values) if value is not None)


def _text(kind: str, value: object) -> str | None:
    """An argument as Upstart's bridge prints it; None when it does not."""
    match kind:
        case "s" | "o":
            return str(value)
        case "b":
            return "TRUE" if value else "FALSE"
        case "n" | "q" | "i" | "u" | "x" | "t":
            return str(value)
        case "d":
            return f"{value:f}"
        case _:
            return None


def listens_to(match: Match, variables: Environment) -> bool:
    """Whether an operand, as far as it is fixed, may mean an event with these variables."""
    return all(
        Argument(text, position).accepts(variables, NO_ENVIRONMENT)
        for position, text in enumerate(match.arguments)
        if "$" not in text
    )
