"""JSON and plain values as values of a type, in any thread.

msgspec keeps what it knows of a class with the class, and hangs it there before it is complete, as
a class may contain itself. Of two threads that need a class for the first time, one can so meet
what the other has half written, and the process ends with SIGSEGV (msgspec 0.22; seen in checks,
which are answered by many threads). Here a type is made ready by one thread at a time, once; all
of hostlab asks here, and ruff refuses what does not.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final, TypeVar, overload

import msgspec

T = TypeVar("T")

_ready: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}
_lock: Final = threading.RLock()
# A child whose parent had another thread in here at the fork would wait for it for ever.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


@overload
def decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...
@overload
def decoder(kind: Any) -> msgspec.json.Decoder[Any]: ...
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """What reads JSON as this type; the same for every caller."""
    found = _ready.get(kind)
    if found is None:
        with _lock:
            found = _ready.get(kind) or msgspec.json.Decoder(kind)
            _ready[kind] = found
    return found


def decode(data: bytes | str, kind: type[T]) -> T:
    """What JSON says, as this type.

    msgspec.ValidationError when it says something else, msgspec.DecodeError when it is no JSON.
    """
    return decoder(kind).decode(data)


def convert(value: object, kind: type[T]) -> T:
    """Mappings, lists and plain values as this type; msgspec.ValidationError when they are not."""
    decoder(kind)
    return msgspec.convert(value, kind)
