"""Upstart's job files: a `.conf`, and the `.override` that is laid over it, as a `Job`.

A file is a run of stanzas; each is one entry of the table in `stanzas.py`. Any error rejects the
whole file. A stanza said twice counts the second time, except those that accumulate (`env`,
`export`, `emits`, `normal exit`, `cgroup`, `limit` for each resource).
"""

from __future__ import annotations

import difflib

import msgspec

from hostlab.spec.job import Job
from hostlab.spec.stanzas import STANZAS, Draft
from hostlab.spec.tokens import Scanner

MAX_STANZAS = 10_000
"""Of one file; the corpus's longest has 40."""


def load_conf(text: str, *, file: str, name: str, override: tuple[str, str] | None = None) -> Job:
    """The job that a `.conf` describes; SpecError with file, line and column.

    `override` is (text, file) of the `.override` beside it. An error in that one is raised too;
    a caller that wants to go on without it, as Upstart does, calls `apply_override` itself.
    """
    job = _read(Job(name=name), text, file)
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


def _read(job: Job, text: str, file: str) -> Job:
    scanner = Scanner(text, file)
    draft = Draft(job)
    stanzas = 0
    while not scanner.at_end():
        scanner.skip_blanks()
        if not scanner.has_token():
            scanner.next_line()
            continue
        start = scanner.position
        stanzas += 1
        if stanzas > MAX_STANZAS:
            raise scanner.error(f"more than {MAX_STANZAS} stanzas", start)
        word = scanner.word(keep_quotes=True)
        stanza = STANZAS.get(word)
        if stanza is None:
            raise scanner.error(f"unknown stanza {word!r}", start, hint=_nearest(word))
        stanza(draft, scanner, start)
    return draft.job


def _nearest(word: str) -> str | None:
    """What a misspelt stanza may have meant."""
    found = difflib.get_close_matches(word, STANZAS, n=1)
    return f"did you mean {found[0]!r}?" if found else None


def same_but_places(one: Job, other: Job) -> bool:
    """Whether two jobs mean the same, wherever their stanzas stand."""
    return msgspec.structs.replace(one, said=()) == msgspec.structs.replace(other, said=())
