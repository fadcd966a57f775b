"""Texts that a description marks as secret (`!secret …`), kept out of everything that is told.

A secret can come back from a host in other clothes: quoted for a shell, as JSON has it, in a URL,
in base64. Each of these is masked, line by line where it has several lines.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

MASK: Final = "••••••"

Told = TypeVar("Told", bound=msgspec.Struct)


class Masking:
    """Takes the secrets out of texts, and of all texts of a value."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if form.strip()}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        """The text without them."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def of(self, told: Told) -> Told:
        """The same with every text masked, but for words of ours, as an outcome's."""
        masked: Told = told if self._pattern is None else self._masked(told)
        return masked

    def _masked(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, msgspec.Struct):
            said = {name: self._masked(getattr(value, name)) for name in value.__struct_fields__}
            return msgspec.structs.replace(value, **said)
        if isinstance(value, dict):
            return {key: self._masked(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._masked(each) for each in value)
        return value


def _forms(secret: str) -> Iterator[str]:
    for text in (secret, *secret.splitlines()):
        yield text
        yield repr(text)[1:-1]
        yield json.dumps(text)[1:-1]
        yield shlex.quote(text).strip("'")
        yield shlex.quote(shlex.quote(text)).strip("'")
        yield quote(text, safe="")
        yield quote_plus(text)
        yield base64.b64encode(text.encode()).decode().rstrip("=")
