"""Environments and the `${x}` grammar that expands text against one (init/environ.c).

An environment is a dict whose order is that of Upstart's table: setting a variable again keeps
its place. The grammar: `$X`, `${X}`, a name that is itself expanded (`${$X}`), and four operators
with an argument that is expanded too: `${X-d}` and `${X:-d}` give `d` when X is missing (or, with
the colon, empty), `${X+a}` and `${X:+a}` give `a` when it is not. `${}` is a dollar sign, and so is
a `$` that nothing of this follows. What was put in is not looked at again. An unknown variable
without an operator is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostlab.errors import Problem

MAX_NESTING = 100
"""Braces within braces; the notebook's deepest has two."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_END = "}:-+"


class ExpansionError(Problem):
    """A text cannot be expanded: a variable is unknown, or its braces make no sense."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__("expansion", message)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """The text with every reference replaced; ExpansionError when that cannot be done."""
    if "$" not in text:
        return text
    return _Expansion(text, environment).until("", 0)


class _Expansion:
    """A position in the text that is being expanded."""

    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self.text = text
        self.environment = environment
        self.position = 0

    def until(self, stops: str, depth: int) -> str:
        """The expansion up to one of these characters, or to the end."""
        if depth > MAX_NESTING:
            raise ExpansionError(f"braces nested more than {MAX_NESTING} deep")
        text = self.text
        out: list[str] = []
        while self.position < len(text) and text[self.position] not in stops:
            start = self.position
            if text[start] != "$":
                self.position += 1
                out.append(text[start])
            elif name := _NAME.match(text, start + 1):
                self.position = name.end()
                out.append(self.value(name.group()))
            elif text.startswith("${}", start):
                self.position += 3
                out.append("$")
            elif text.startswith("${", start):
                self.position += 2
                out.append(self.braces(depth))
            else:
                self.position += 1
                out.append("$")
        return "".join(out)

    def braces(self, depth: int) -> str:
        """What `${…}` means, from behind its opening brace to behind its closing one."""
        name = self.until(_NAME_END, depth + 1)
        operator = self.operator()
        argument = self.until("}", depth + 1)
        if self.position >= len(self.text):
            raise ExpansionError(f"mismatched braces in {self.text!r}")
        self.position += 1
        if not operator:
            return self.value(name)
        value = self.environment.get(name)
        there = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("-"):
            return value if there and value is not None else argument
        return argument if there else ""

    def operator(self) -> str:
        """The operator behind a name; empty when the name is all there is."""
        for operator in (":-", ":+", "-", "+"):
            if self.text.startswith(operator, self.position):
                self.position += len(operator)
                return operator
        if self.position < len(self.text) and self.text[self.position] != "}":
            raise ExpansionError(f"expected operator in {self.text!r}")
        return ""

    def value(self, name: str) -> str:
        value = self.environment.get(name)
        if value is None:
            raise ExpansionError(f"unknown parameter: {name}")
        return value
