"""Facts written down as they come: the cheap half of a state that survives a crash.

The engine has no input but facts and times, so a snapshot and the facts after it are its state.
Storing a snapshot of 500 jobs takes some milliseconds, a fact some microseconds: a supervisor
writes each fact before it carries out its effects, and a snapshot now and then.

A kind of fact that a reader does not know it cannot do without, so a new one, or a changed meaning,
raises `snapshot.VERSION`; a field that is only added does not.

An entry is one line of JSON. A last line that a crash cut short was never acted upon, and is
dropped; anything else that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError, UsageError
from hostlab.jobs import facts
from hostlab.jobs.effects import Effect
from hostlab.jobs.engine import Engine

AnyFact = (
    facts.Load
    | facts.Unload
    | facts.Emit
    | facts.Start
    | facts.Stop
    | facts.Restart
    | facts.Reload
    | facts.SetVariable
    | facts.Forget
    | facts.Spawned
    | facts.SpawnFailed
    | facts.Skipped
    | facts.Exited
    | facts.Signalled
    | facts.Stopped
    | facts.Ready
    | facts.MainPid
    | facts.ExtendDeadline
    | facts.Emptied
    | facts.Elapsed
)

Told = Callable[[AnyFact, tuple[Effect, ...]], None]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A fact and when it was told."""

    now: float
    fact: AnyFact


_encoder = msgspec.json.Encoder()
_decoder = typed.decoder(Entry)


def encode_entry(fact: AnyFact, now: float) -> bytes:
    """One line, with its newline."""
    return _encoder.encode(Entry(now, fact)) + b"\n"


def decode_entries(data: bytes) -> Iterator[Entry]:
    """The entries of a journal; DecodeError with its line for one that is none."""
    *lines, _cut = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            yield _decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise DecodeError("journal", f"The journal's line {number}: {error}") from None


def replay(engine: Engine, data: bytes, told: Told | None = None) -> None:
    """Tell an engine that was restored what had been told after its snapshot.

    The effects are not wanted: they were carried out, or the fact that they were not comes later.
    `told` is called after each fact that the engine took, with the effects for what they tell.
    """
    for entry in decode_entries(data):
        try:
            effects = engine.handle(entry.fact, entry.now)
        except UsageError:
            # It was refused the first time too, and nothing changed.
            continue
        if told is not None:
            told(entry.fact, effects)
