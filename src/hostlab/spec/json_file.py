"""A JSON file that a person can be told about: every value knows where it stands.

A decoder that yields values alone cannot say where a wrong one is, and one that yields types stops
at the first. So the text is scanned once (RFC 8259) into plain values and a map from each value's
path to its offset; `JsonObject` then reads one object field by field, notes every error with its
place and goes on. `null` counts as absent, as it does for the Go programs that write such files.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from hostlab.errors import Place, SpecError, SpecErrors

MAX_DEPTH: Final = 100
"""Nesting that is still read; deeper input is refused before Python's own stack is."""
MAX_DIGITS: Final = 40
"""Length of a number that is still read; 2**64 has 20 digits."""
MAX_QUOTED_LINE: Final = 200
"""A longer line (a file without line breaks) is not quoted in a message."""

_Path: TypeAlias = tuple[str | int, ...]
_T = TypeVar("_T")

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_STRINGS: Final = json.JSONDecoder()
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}


class _Malformed(Exception):
    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.offsets: dict[_Path, int] = {(): 0}

    def document(self) -> Any:
        value, end = self.value(self.skip(0), ())
        if end < len(self.text):
            raise _Malformed("something follows the end of the JSON value", end)
        return value

    def skip(self, offset: int) -> int:
        match = _SPACE.match(self.text, offset)
        assert match is not None
        return match.end()

    def value(self, offset: int, path: _Path) -> tuple[Any, int]:
        """The value at an offset and the offset of what follows it and its white space."""
        if len(path) > MAX_DEPTH:
            raise _Malformed(f"nested deeper than {MAX_DEPTH} levels", offset)
        value: Any
        match self.text[offset : offset + 1]:
            case "{":
                value, end = self.object(offset + 1, path)
            case "[":
                value, end = self.array(offset + 1, path)
            case '"':
                value, end = self.string(offset)
            case _:
                value, end = self.scalar(offset)
        return value, self.skip(end)

    def scalar(self, offset: int) -> tuple[Any, int]:
        for word, value in _WORDS.items():
            if self.text.startswith(word, offset):
                return value, offset + len(word)
        number = _NUMBER.match(self.text, offset)
        if number is None:
            raise _Malformed("a JSON value is missing here", offset)
        if len(number[0]) > MAX_DIGITS:
            raise _Malformed(f"a number of more than {MAX_DIGITS} digits", offset)
        if number[1] is None and number[2] is None:
            return int(number[0]), number.end()
        if not math.isfinite(float(number[0])):
            raise _Malformed("a number that is too large", offset)
        return float(number[0]), number.end()

    def string(self, offset: int) -> tuple[str, int]:
        if self.text[offset : offset + 1] != '"':
            raise _Malformed('a string in double quotes (") is missing here', offset)
        try:
            value, end = _STRINGS.raw_decode(self.text, offset)
            value.encode()
        except json.JSONDecodeError as error:
            raise _Malformed(f"a broken string: {error.msg}", error.pos) from None
        except UnicodeEncodeError:
            raise _Malformed("half of a surrogate pair in a string", offset) from None
        assert isinstance(value, str)
        return value, end

    def object(self, offset: int, path: _Path) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        offset = self.skip(offset)
        if self.text[offset : offset + 1] == "}":
            return found, offset + 1
        while True:
            key, end = self.string(offset)
            if key in found:
                raise _Malformed(f"`{key}` is given twice", offset)
            self.offsets[(*path, key)] = offset
            end = self.skip(end)
            if self.text[end : end + 1] != ":":
                raise _Malformed(f"a colon is missing after `{key}`", end)
            found[key], end = self.value(self.skip(end + 1), (*path, key))
            offset, done = self.separator(end, "}")
            if done:
                return found, offset

    def array(self, offset: int, path: _Path) -> tuple[list[Any], int]:
        found: list[Any] = []
        offset = self.skip(offset)
        if self.text[offset : offset + 1] == "]":
            return found, offset + 1
        while True:
            here = (*path, len(found))
            self.offsets[here] = offset
            item, end = self.value(offset, here)
            found.append(item)
            offset, done = self.separator(end, "]")
            if done:
                return found, offset

    def separator(self, offset: int, closing: str) -> tuple[int, bool]:
        """After an item: where the next one is, or the end of the whole."""
        match self.text[offset : offset + 1]:
            case ",":
                return self.skip(offset + 1), False
            case mark if mark == closing:
                return offset + 1, True
            case _:
                raise _Malformed(f"a comma or `{closing}` is missing here", offset)


class JsonFile:
    """A JSON document, the errors found in it, and notes on what it asks for in vain."""

    def __init__(self, content: bytes, *, file: str, code: str) -> None:
        """Scan `content`; a SpecErrors with one error when it is not a JSON object.

        `file` names it in places, `code` is the first word of every error's code.
        """
        self.file = file
        self.code = code
        self.errors: list[SpecError] = []
        self.notes: list[str] = []
        # A byte that is not UTF-8 must still be placed, so it is replaced for the quotation only.
        self._text = content.decode(errors="replace")
        try:
            scanner = _Scanner(content.decode())
            value = scanner.document()
        except UnicodeDecodeError as error:
            before = len(content[: error.start].decode(errors="replace"))
            raise self._syntax("not UTF-8 text", before) from None
        except _Malformed as error:
            raise self._syntax(error.message, error.offset) from None
        if not isinstance(value, dict):
            raise self._syntax("the whole file must be one JSON object", 0)
        self._offsets = scanner.offsets
        self.root = JsonObject(self, value, ())

    def _syntax(self, message: str, offset: int) -> SpecErrors:
        place = self._place(offset)
        return SpecErrors((SpecError(f"{self.code}-syntax", message, where=place),))

    def _place(self, offset: int) -> Place:
        start = self._text.rfind("\n", 0, offset) + 1
        end = self._text.find("\n", start)
        line = self._text[start : end if end >= 0 else None].rstrip("\r")
        # One space for each tab keeps the caret below the column that the number names.
        quoted = line.replace("\t", " ") if len(line) <= MAX_QUOTED_LINE else ""
        number = self._text.count("\n", 0, start) + 1
        return Place(self.file, number, offset - start + 1, quoted)

    def fail(self, path: _Path, message: str, *, hint: str | None = None) -> None:
        """Note an error at the key or list item of this path."""
        where = self._place(self._offsets.get(path, 0))
        text = f"`{dotted(path)}` {message}" if path else message
        self.errors.append(SpecError(f"{self.code}-value", text, where=where, hint=hint))

    def finish(self) -> None:
        """Raise SpecErrors with everything noted, in the file's order, if there is anything."""
        if self.errors:
            self.errors.sort(
                key=lambda error: (error.where.line, error.where.column) if error.where else (0, 0)
            )
            raise SpecErrors(tuple(self.errors))


def dotted(path: _Path) -> str:
    """A path as people write it: `process.rlimits[0].type`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


class JsonObject:
    """One object, read field by field; what was never read can be listed at the end."""

    def __init__(self, file: JsonFile, value: Mapping[str, Any], path: _Path) -> None:
        self.file = file
        self.path = path
        self._value = value
        self._read: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._value)

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def raw(self, key: str) -> Any:
        """The value as JSON has it, None when absent."""
        self._read.add(key)
        return self._value.get(key)

    def fail(self, key: str, message: str, *, hint: str | None = None) -> None:
        """Note an error at one of this object's keys."""
        self.file.fail((*self.path, key), message, hint=hint)

    def missing(self, key: str) -> None:
        """Note that a key that must be there is not, at the object that lacks it."""
        self.file.fail(self.path, f"lacks `{key}`" if self.path else f"`{key}` is missing")

    def note(self, key: str, reason: str) -> None:
        """Note that a key is not carried out, and why."""
        self.file.notes.append(f"{dotted((*self.path, key))}: {reason}")

    def _typed(self, key: str, kind: type[_T], name: str) -> _T | None:
        value = self.raw(key)
        if value is None:
            return None
        # JSON's true is an int in Python.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, f"must be {name}")
            return None
        return value

    def boolean(self, key: str) -> bool:
        """A flag; False when absent."""
        return self._typed(key, bool, "true or false") or False

    def text(self, key: str, *, required: bool = False) -> str:
        """A string without NUL, which no system call takes; "" when absent."""
        value = self._typed(key, str, "a string")
        if value is None:
            if required and key not in self:
                self.missing(key)
            return ""
        if "\0" in value:
            self.fail(key, "must not contain a NUL character")
            return ""
        return value

    def integer(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number between two bounds, both allowed; None when absent or wrong."""
        value = self._typed(key, int, "a whole number")
        if value is not None and not low <= value <= high:
            self.fail(key, f"must be between {low} and {high}")
            return None
        return value

    def _items(self, key: str, kind: type[_T], name: str) -> Iterable[tuple[_Path, _T]]:
        for number, item in enumerate(self._typed(key, list, "a list") or ()):
            path = (*self.path, key, number)
            if isinstance(item, kind) and not (kind is int and isinstance(item, bool)):
                yield path, item
            else:
                self.file.fail(path, f"must be {name}")

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings without NUL; () when absent."""
        found: list[str] = []
        for path, item in self._items(key, str, "a string"):
            if "\0" in item:
                self.file.fail(path, "must not contain a NUL character")
            else:
                found.append(item)
        return tuple(found)

    def integers(self, key: str, *, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers between two bounds; () when absent."""
        found: list[int] = []
        for path, item in self._items(key, int, "a whole number"):
            if low <= item <= high:
                found.append(item)
            else:
                self.file.fail(path, f"must be between {low} and {high}")
        return tuple(found)

    def child(self, key: str) -> JsonObject:
        """An object inside; an empty one when absent."""
        return JsonObject(self.file, self._typed(key, dict, "an object") or {}, (*self.path, key))

    def children(self, key: str) -> tuple[JsonObject, ...]:
        """A list of objects; () when absent."""
        items = self._items(key, dict, "an object")
        return tuple(JsonObject(self.file, item, path) for path, item in items)

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """An object whose values are strings, in the file's order."""
        child = self.child(key)
        return tuple((name, child.text(name)) for name in child._value)

    def rest(self, reasons: Mapping[str, str]) -> None:
        """Note every key that was not read and asks for something: its reason, or its strangeness.

        Empty values ask for nothing. An unknown property is never an error in this family of
        files ("Extensibility" in the runtime specification), so it is a note as well.
        """
        for key, value in self._value.items():
            if key in self._read or value in (None, False, "", 0, [], {}):
                continue
            if key in reasons:
                self.note(key, reasons[key])
                continue
            near = difflib.get_close_matches(key, [*self._read, *reasons], n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            self.note(key, f"not a known property, ignored{hint}")
