"""Upstart's job files: a `.conf`, and the `.override` that is laid over it, as a `Job`.

A file is a run of stanzas; each is one entry of the table in `stanzas.py`. Any error rejects the
whole file. A stanza said twice counts the second time, except those that accumulate (`env`,
`export`, `emits`, `normal exit`, `cgroup`, `limit` for each resource).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache

from hostlab.errors import SpecError
from hostlab.spec import sockets
from hostlab.spec.job import Console, Job
from hostlab.spec.stanzas import STANZAS, Draft
from hostlab.spec.tokens import Scanner

MAX_STANZAS = 10_000
"""Of one file; the corpus's longest has 40."""
MAX_CACHED = 256
DOCUMENTATION = frozenset({"description", "author", "version", "usage"})
"""Stanzas that only a person reads."""
MAX_ERRORS = 100
"""Of one file, that are told."""


def load_conf(
    text: str,
    *,
    file: str,
    name: str,
    override: tuple[str, str] | None = None,
    console: Console = Console.LOG,
) -> Job:
    """The job that a `.conf` describes; SpecError with file, line and column.

    `console` is where the output of a job goes that says nothing of it (`--default-console`).
    `override` is (text, file) of the `.override` beside it. An error in that one is raised too;
    a caller that wants to go on without it, as Upstart does, calls `apply_override` itself.
    """
    job = _read(Job(name=name, console=console), text, file)
    if override is not None:
        override_text, override_file = override
        job = apply_override(job, override_text, file=override_file)
    return job


def apply_override(job: Job, text: str, *, file: str) -> Job:
    """The job with an `.override` laid over it; SpecError with its place."""
    return _read(job, text, file)


def job_name(relative_path: str) -> str:
    """The job's name: its file's path below the configuration directory, less the suffix."""
    for suffix in (".conf", ".override"):
        if relative_path.endswith(suffix):
            return relative_path.removesuffix(suffix)
    return relative_path


def find_errors(text: str, *, file: str) -> tuple[SpecError, ...]:
    """Every error of a `.conf` or an `.override`, in its order; the first is what loading raises.

    After an error the next line is read on. What was meant there is a guess, so a line that looks
    like no stanza at all is then taken for the rest of what was wrong (a script whose first line
    is missing) and not reported.
    """
    scanner = _scanner(text, file)
    draft = Draft(Job(name=""))
    errors: list[SpecError] = []
    is_lost = False
    starts = _starts(scanner)
    while len(errors) < MAX_ERRORS:
        try:
            start = next(starts, None)
        except SpecError as error:
            errors.append(error)
            break
        if start is None:
            break
        try:
            _stanza(draft, scanner, start)
        except _UnknownStanza as error:
            if not is_lost or _is_misspelt(error.word):
                errors.append(error)
            is_lost = True
            _resume(scanner, error)
        except SpecError as error:
            errors.append(error)
            is_lost = True
            _resume(scanner, error)
        else:
            is_lost = False
    return tuple(errors)


def find_remarks(text: str, *, file: str) -> tuple[SpecError, ...]:
    """What Upstart would reject in a file without errors, and is taken as it was meant."""
    scanner = _scanner(text, file)
    draft = Draft(Job(name=""))
    for start in _starts(scanner):
        _stanza(draft, scanner, start)
    return (*draft.remarks, *_wrong_sockets(draft, scanner))


def _wrong_sockets(draft: Draft, scanner: Scanner) -> Iterator[SpecError]:
    """Operands that nobody can listen on: the job starts on everything else that it says."""
    for word, error in sockets.problems(draft.finish()):
        at = max(scanner.text.find(word), 0)
        message = f"this socket is not made: {error.message}"
        yield SpecError(error.code, message, where=scanner.place(at), hint=error.hint)


class _UnknownStanza(SpecError):
    """A line that starts with no stanza's name."""

    word = ""


def _resume(scanner: Scanner, error: SpecError) -> None:
    """To the line after an error; the stanza may have read to the end of its line already."""
    if error.where is not None:
        scanner.position = max(scanner.position, scanner.offset(error.where))
    if scanner.text[scanner.position - 1 : scanner.position] != "\n":
        scanner.next_line()


def _read(job: Job, text: str, file: str) -> Job:
    scanner = _scanner(text, file)
    draft = Draft(job)
    for start in _starts(scanner):
        _stanza(draft, scanner, start)
    return draft.finish()


def _scanner(text: str, file: str) -> Scanner:
    """An editor's mark of the encoding is no part of the text."""
    return Scanner(text.removeprefix("\ufeff"), file)


def _starts(scanner: Scanner) -> Iterator[int]:
    """Where each stanza starts; whoever asks for the next one has read past this one."""
    stanzas = 0
    while not scanner.at_end():
        scanner.skip_blanks()
        if not scanner.has_token():
            scanner.next_line()
            continue
        stanzas += 1
        if stanzas > MAX_STANZAS:
            raise scanner.error(f"more than {MAX_STANZAS} stanzas", scanner.position)
        yield scanner.position


def _stanza(draft: Draft, scanner: Scanner, start: int) -> None:
    word = scanner.word()
    stanza = STANZAS.get(word)
    if stanza is None and (meant := _documents(word)) is not None:
        STANZAS[meant](draft, scanner, start)
        reason = f"unknown stanza {word!r}, taken for {meant!r}: it changes nothing that runs"
        draft.remarks.append(scanner.error(reason, start))
        return
    if stanza is None:
        reason = f"unknown stanza {word!r}"
        unknown = _UnknownStanza("conf", reason, where=scanner.place(start), hint=_nearest(word))
        unknown.word = word
        raise unknown
    stanza(draft, scanner, start)


@lru_cache(MAX_CACHED)
def _is_misspelt(word: str) -> bool:
    """Whether a word is so near to a stanza's name that it was most likely meant as one."""
    return bool(difflib.get_close_matches(word, STANZAS, n=1, cutoff=0.8))


def _documents(word: str) -> str | None:
    """The stanza for readers alone that a misspelt word was most likely meant as."""
    nearest = difflib.get_close_matches(word, STANZAS, n=1, cutoff=0.8)
    return nearest[0] if nearest and nearest[0] in DOCUMENTATION else None


@lru_cache(MAX_CACHED)
def _nearest(word: str) -> str | None:
    """What a misspelt stanza may have meant."""
    found = difflib.get_close_matches(word, STANZAS, n=1)
    return f"did you mean {found[0]!r}?" if found else None
