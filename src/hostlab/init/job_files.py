"""The job files of a machine: directories in Upstart's order, single files, a text.

One file that cannot be read, or cannot be meant, never hides another: each job comes with its own
errors, and the others are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from hostlab.errors import SpecError, UsageError
from hostlab.spec.job import Console, Job
from hostlab.spec.search import Selected, select_files
from hostlab.spec.systemd.unit import Unit
from hostlab.spec.upstart import apply_override, find_errors, find_remarks, job_name, load_conf

MAX_BYTES = 2**20
"""Of one file; the longest that anybody is known to have written has 10,000."""
MAX_FILES = 100_000
"""Of one directory, with those below it."""
MAX_DIRECTORIES = 10_000
"""Below one directory. A link to `/` would have init read a whole disk while nobody is served."""
SUFFIXES = (".conf", ".override")
_ASKED = frozenset({"timer", "file", "path"})
"""Events whose operands can be wrong."""


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """One job as its files have it."""

    name: str
    texts: Mapping[str, str]
    """Path -> content of the files that could be read: the `.conf`, and what is laid over it."""
    job: Job | None
    """None when its `.conf` is wrong; a wrong `.override` is left away, as Upstart does."""
    errors: tuple[SpecError, ...] = ()
    remarks: tuple[SpecError, ...] = ()
    """What Upstart would reject, and is taken as it was meant; of a unit, what counts as not said
    or will not be quite so."""
    unit: Unit | None = None
    """Of a unit's file: what it says line by line."""


def read_directories(
    directories: Sequence[str], *, console: Console = Console.LOG
) -> tuple[JobFile, ...]:
    """Every job of a search path, by name; the first directory that has a name's `.conf` owns it.

    `console` is that of a job that says none. UsageError for what is no directory.
    """
    for directory in directories:
        if not os.path.isdir(directory):
            hint = "--confdir DIR names a directory of job files"
            raise UsageError("no-directory", f"{directory} is no directory", hint=hint)
    selected = select_files([(each, list(_below(each))) for each in directories])
    return tuple(_read_selected(name, selected[name], console) for name in sorted(selected))


def read_file(path: str) -> JobFile:
    """The job of one `.conf`, or of an `.override` alone, as if nothing were below it."""
    name = job_name(os.path.basename(path))
    try:
        text = read_content(path, regular=False)
    except SpecError as error:
        return JobFile(name=name, texts={}, job=None, errors=(error,))
    return read_text(text, file=path, name=name)


def read_text(text: str, *, file: str, name: str, console: Console = Console.LOG) -> JobFile:
    """The job that a text describes; `file` is its name in messages."""
    errors = find_errors(text, file=file)
    job = None if errors else load_conf(text, file=file, name=name, console=console)
    remarks = () if errors else find_remarks(text, file=file)
    if job is not None:
        remarks = (*remarks, *_mistakes(job))
    return JobFile(name=name, texts={file: text}, job=job, errors=errors, remarks=remarks)


def _mistakes(job: Job) -> tuple[SpecError, ...]:
    """Of what sources are to look for; most jobs ask none, and pay for none of their code."""
    if _ASKED.isdisjoint(match.name for on in (job.start_on, job.stop_on) if on
                         for match in on.matches):  # fmt: skip
        return ()
    try:
        from hostlab.jobs.operand_mistakes import mistakes
    except ImportError:
        # A node may have no files to load it from; then the source itself says so.
        return ()
    return tuple(mistakes(job))


def walk(directory: str) -> Iterator[tuple[str, list[str]]]:
    """A directory and those below it, with the names of their files; UsageError for too many."""
    for number, (place, _, names) in enumerate(os.walk(directory)):
        if number >= MAX_DIRECTORIES:
            raise UsageError(
                "directories",
                f"{directory} has more than {MAX_DIRECTORIES} directories below it",
                hint="name one that has job files only",
            )
        yield place, names


def _below(directory: str) -> Iterator[str]:
    """The files that name a job, relative to the directory."""
    found = 0
    for place, names in walk(directory):
        for name in names:
            # A name that is all suffix has none, for splitext and for Upstart.
            if os.path.splitext(name)[1] in SUFFIXES:
                found += 1
                if found > MAX_FILES:
                    raise UsageError("files", f"{directory} has more than {MAX_FILES} job files")
                yield os.path.relpath(os.path.join(place, name), directory)


def _read_selected(name: str, files: Selected, console: Console) -> JobFile:
    path = os.path.join(*files.conf)
    try:
        found = read_text(read_content(path), file=path, name=name, console=console)
    except SpecError as error:
        # One that has gone since it was listed is no job, and nothing is wrong with it.
        errors = (error,) if os.path.lexists(path) else ()
        found = JobFile(name=name, texts={}, job=None, errors=errors)
    return found if files.override is None else _lay_over(found, os.path.join(*files.override))


def _lay_over(found: JobFile, path: str) -> JobFile:
    try:
        text = read_content(path)
    except SpecError as error:
        return msgspec.structs.replace(found, errors=(*found.errors, error))
    errors = find_errors(text, file=path)
    job = found.job
    if job is not None and not errors:
        job = apply_override(job, text, file=path)
    return msgspec.structs.replace(
        found,
        job=job,
        texts={**found.texts, path: text},
        errors=(*found.errors, *errors),
        remarks=(*found.remarks, *(() if errors else find_remarks(text, file=path))),
    )


def read_content(path: str, *, regular: bool = True) -> str:
    """A file's text; bytes that are no UTF-8 are U+FFFD. SpecError when it cannot be had."""
    try:
        # A FIFO in a directory would be waited for.
        if regular and not stat.S_ISREG(os.stat(path).st_mode):
            raise SpecError("file", f"{path}: no regular file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError("file", f"{path}: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise SpecError("file", f"{path}: more than {MAX_BYTES} bytes")
    return content.decode(errors="replace")
