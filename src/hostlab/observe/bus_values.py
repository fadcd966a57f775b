"""Values of D-Bus as people write and read them.

What a method takes is known from its introspection, so an argument is written without its type:

    text, path, signature    as it is: hello, /org/example
    number, boolean          5, 0x1f, 1.5; true or false, yes or no
    array                    [a, b, "c, d"]
    dictionary               {key: value, other: value}
    structure                (a, 5)
    variant                  its type first: s:hello, as:[a, b]

Inside brackets a text ends at a comma, a colon or a bracket; in quotes, as JSON has them, it may
hold any: [A=1, "B=x, y"] or [A=1, B="x, y"].
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from hostlab.errors import Place, SpecError
from hostlab.init.dbus.library import Variant
from hostlab.init.dbus.link import signature_types

BITS: Final = {"y": 8, "n": -16, "q": 16, "i": -32, "u": 32, "x": -64, "t": 64}
"""Width of an integer; negative of one that has a sign."""
TRUE: Final = frozenset({"true", "yes", "1"})
FALSE: Final = frozenset({"false", "no", "0"})
MAX_NESTING: Final = 32
"""Containers within each other; the D-Bus Specification allows as many of arrays."""
_PATH: Final = re.compile(r"/(|[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*)\Z")
_VARIANT: Final = re.compile(r"\s*([a-z(){}]+):")
_NAMES: Final = {
    "y": "a number of 0 to 255",
    "b": "true or false",
    "d": "a number",
    "o": "an object's path",
    "g": "a signature",
}


def arguments(signature: str, texts: Sequence[str]) -> list[Any]:
    """The values of a call's arguments; SpecError with the argument and the place in it."""
    types = complete_types(signature)
    if len(types) != len(texts):
        wanted = " ".join(types) or "none"
        raise SpecError(
            "bus-arguments", f"{len(types)} arguments are wanted ({wanted}), not {len(texts)}"
        )
    return [
        argument(kind, text, name=f"argument {number}")
        for number, (kind, text) in enumerate(zip(types, texts, strict=True), 1)
    ]


def argument(kind: str, text: str, *, name: str = "value") -> Any:
    """One value of one complete type; SpecError with the place."""
    if kind == "s":
        return text
    reader = _Reader(text, name)
    value = reader.value(kind, nested=False)
    reader.skip()
    if reader.at < len(text):
        raise reader.error(f"this is behind the value of type `{kind}`")
    return value


def complete_types(signature: str) -> list[str]:
    """The complete types of a signature, each as text; SpecError when it is none."""
    try:
        return signature_types(signature)
    except ValueError as error:
        raise SpecError("bus-signature", f"`{signature}` is no signature: {error}") from None


class _Reader:
    """A position in the text of an argument."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.at = 0
        self.depth = 0

    def error(self, message: str, at: int | None = None) -> SpecError:
        column = (self.at if at is None else at) + 1
        return SpecError("bus-argument", message, where=Place(self.name, 1, column, self.text))

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def expect(self, character: str) -> None:
        self.skip()
        if not self.text.startswith(character, self.at):
            found = self.text[self.at] if self.at < len(self.text) else "the end"
            raise self.error(f"`{character}` is wanted here, not {found}")
        self.at += 1

    def value(self, kind: str, *, nested: bool) -> Any:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.error(f"nested more than {MAX_NESTING} deep")
        try:
            if kind[0] == "a":
                return self._dictionary(kind) if kind[1] == "{" else self._array(kind[1:])
            if kind[0] == "(":
                return self._structure(kind)
            if kind == "v":
                return self._variant(nested=nested)
            return self._basic(kind, nested=nested)
        finally:
            self.depth -= 1

    def _array(self, kind: str) -> Any:
        values: list[Any] = []
        self.expect("[")
        while not self._ends("]", bool(values)):
            values.append(self.value(kind, nested=True))
        return bytes(values) if kind == "y" else values

    def _dictionary(self, kind: str) -> dict[Any, Any]:
        key_kind, value_kind = complete_types(kind[2:-1])
        values: dict[Any, Any] = {}
        self.expect("{")
        while not self._ends("}", bool(values)):
            key = self.value(key_kind, nested=True)
            self.expect(":")
            values[key] = self.value(value_kind, nested=True)
        return values

    def _structure(self, kind: str) -> list[Any]:
        values: list[Any] = []
        self.expect("(")
        for each in complete_types(kind[1:-1]):
            if values:
                self.expect(",")
            values.append(self.value(each, nested=True))
        self.expect(")")
        return values

    def _variant(self, *, nested: bool) -> Variant:
        found = _VARIANT.match(self.text, self.at)
        if found is None:
            raise self.error("a variant begins with its type: s:hello, i:5, as:[a, b]")
        types = complete_types(found[1])
        if len(types) != 1:
            raise self.error(f"`{found[1]}` is not one type")
        self.at = found.end()
        return Variant(types[0], self.value(types[0], nested=nested))

    def _ends(self, end: str, has_values: bool) -> bool:  # noqa: FBT001
        self.skip()
        if self.text.startswith(end, self.at):
            self.at += 1
            return True
        if has_values:
            self.expect(",")
        return False

    def _basic(self, kind: str, *, nested: bool) -> Any:
        self.skip()
        start = self.at
        text = self._word(nested=nested)
        if kind == "s":
            return text
        if kind in BITS:
            return self._integer(kind, text, start)
        if kind == "b" and text.lower() in TRUE | FALSE:
            return text.lower() in TRUE
        if kind == "d":
            try:
                return float(text)
            except ValueError:
                pass
        if kind == "o" and _PATH.match(text):
            return text
        if kind == "g":
            complete_types(text)
            return text
        if kind == "h":
            raise self.error("a descriptor cannot be given here", start)
        raise self.error(f"`{text}` is not {_NAMES.get(kind, kind)}", start)

    def _word(self, *, nested: bool) -> str:
        """A text up to what ends it; what is in quotes belongs to it whatever it is."""
        parts: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                parts.append(self._quoted())
            elif nested and character in ",:[]{}()":
                break
            else:
                parts.append(character)
                self.at += 1
        return "".join(parts).strip() if len(parts) != 1 else parts[0]

    def _quoted(self) -> str:
        scan: Any = json.decoder.scanstring  # type: ignore[attr-defined]  # typeshed does not know it
        try:
            value, self.at = scan(self.text, self.at + 1)
        except ValueError as error:
            raise self.error(str(error)) from None
        return str(value)

    def _integer(self, kind: str, text: str, start: int) -> int:
        bits = BITS[kind]
        low, high = (0, (1 << bits) - 1) if bits > 0 else (-(1 << -bits - 1), (1 << -bits - 1) - 1)
        try:
            number = int(text, 0)
        except ValueError:
            raise self.error(f"`{text}` is no whole number", start) from None
        if not low <= number <= high:
            raise self.error(f"{number} is not within {low} to {high}", start)
        return number


def plain(value: Any) -> Any:
    """A value for JSON: variants are what is in them, bytes numbers, a dictionary's keys texts."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, bytes | bytearray):
        return list(value)
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): plain(each) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def shown(value: Any) -> str:
    """A value for a person: a text bare, what holds others as JSON, bytes that are text as text."""
    value = _readable(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _readable(value: Any) -> Any:
    if isinstance(value, Variant):
        return _readable(value.value)
    if isinstance(value, bytes | bytearray):
        # Paths, mostly, with the NUL that C puts behind them.
        try:
            text = bytes(value).rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return list(value)
        return text if text.isprintable() else list(value)
    if isinstance(value, dict):
        return {str(key): _readable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(each) for each in value]
    return value
