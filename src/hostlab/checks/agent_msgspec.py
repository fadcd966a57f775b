"""The part of msgspec that checks need, for hosts that have nothing but Python's standard library.

`bundle` sends it as `msgspec`. It takes what hostlab itself has encoded, so it does not validate.
"""

from __future__ import annotations

import base64
import builtins
import inspect
import json as _json
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar


class ValidationError(ValueError):
    """Something is not as it should be."""


class Meta:
    """What is said of a type in an annotation; not looked at here."""

    def __init__(self, **said: Any) -> None:
        self.said = said


class Struct:
    """Fields with defaults, by name or in their order."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _names: ClassVar[dict[str, str]] = {}
    """Field by the name it has in JSON."""

    def __init_subclass__(cls, *, rename: dict[str, str] | None = None, **_said: Any) -> None:
        super().__init_subclass__()
        own = [
            name
            for name, said in inspect.get_annotations(cls).items()
            if not str(said).startswith(("ClassVar", "typing.ClassVar"))
        ]
        cls._fields = tuple(dict.fromkeys((*cls._fields, *own)))
        renamed = rename or {}
        cls._names = cls._names | {renamed.get(name, name): name for name in own}

    def __init__(self, *values: Any, **said: Any) -> None:
        given = dict(zip(self._fields, values, strict=False)) | said
        for name in self._fields:
            if name in given:
                self.__dict__[name] = given.pop(name)
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} lacks {name}")
        if given:
            raise TypeError(f"{type(self).__name__} has no {', '.join(given)}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and to_builtins(self) == to_builtins(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({said})"


def to_builtins(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Struct):
        return {name: to_builtins(getattr(value, field)) for name, field in value._names.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: to_builtins(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtins(each) for each in value]
    return value


def convert(value: Any, type: Any) -> Any:  # noqa: A002 (msgspec's name)
    """A value of this type, from what JSON has; ValidationError for a field that there is not."""
    if isinstance(type, types.UnionType) or typing.get_origin(type) is typing.Union:
        return _of_union(value, typing.get_args(type))
    if typing.get_origin(type) is typing.Annotated:
        return convert(value, typing.get_args(type)[0])
    if not isinstance(type, builtins.type):
        return value
    if issubclass(type, Struct):
        hints = typing.get_type_hints(type)
        unknown = [name for name in value if name not in type._names]
        if unknown:
            raise ValidationError(f"unknown fields {', '.join(unknown)}")
        fields = {type._names[name]: each for name, each in value.items()}
        return type(**{name: convert(each, hints[name]) for name, each in fields.items()})
    return type(value) if issubclass(type, Enum) else value


def _of_union(value: Any, options: tuple[Any, ...]) -> Any:
    for option in options:
        is_class = isinstance(option, builtins.type)
        if value is not None and is_class and issubclass(option, (Struct, Enum)):
            return convert(value, option)
    return value


class json:
    """JSON as bytes."""

    @staticmethod
    def encode(value: Any) -> bytes:
        """A value in UTF-8."""
        return _json.dumps(to_builtins(value), ensure_ascii=False).encode(errors="replace")

    class Decoder:
        """What reads JSON as values of a type."""

        def __init__(self, type: Any) -> None:  # noqa: A002 (msgspec's name)
            self._type = type

        def decode(self, data: bytes | str) -> Any:
            """What it says, as this type."""
            return convert(_json.loads(data), self._type)


class structs:
    """What is done with a Struct."""

    @staticmethod
    def replace(struct: Any, **said: Any) -> Any:
        """The same with other values."""
        fields = {name: getattr(struct, name) for name in struct._fields}
        return type(struct)(**(fields | said))
