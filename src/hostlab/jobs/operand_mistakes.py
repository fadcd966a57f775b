"""What is wrong with what a job's conditions have sources look for, before any source sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hostlab.errors import Place, SpecError
from hostlab.jobs import file_operand, named_event, timer_operand
from hostlab.spec.job import Job, Match

EVENTS = frozenset({named_event.TIMER, named_event.PATH, file_operand.FILE})
"""Whose operands are judged here."""


def mistakes(job: Job) -> Iterator[SpecError]:
    """Operands that no source can mean, each with the place of its stanza.

    One with a variable in it is not judged: what it says is known when it is there.
    """
    for stanza, condition in (("start on", job.start_on), ("stop on", job.stop_on)):
        said = next((each for each in job.said if each.stanza == stanza), None)
        place = None if said is None else Place(said.file, said.line, 1)
        for _, error in _mistakes(condition.matches if condition is not None else ()):
            text = f"`{stanza}` of the job `{job.name}`: {error.message}"
            yield SpecError(error.code, text, where=place, hint=error.hint)


def listening_mistakes(job: Job) -> Iterator[tuple[Match, SpecError]]:
    """The same of what a unit listens to while it runs, each with its operand and no place."""
    yield from _mistakes(job.listens)


def _mistakes(matches: Iterable[Match]) -> Iterator[tuple[Match, SpecError]]:
    for match in matches:
        if any("$" in word for word in match.arguments):
            continue
        try:
            if match.name == file_operand.FILE:
                file_operand.parse_file(match.arguments, home="/")
            elif named_event.says(match):
                words = named_event.arguments(match)
                parse = {named_event.TIMER: timer_operand.parse,
                         named_event.PATH: file_operand.parse_path}[match.name]  # fmt: skip
                parse(words)
        except SpecError as error:
            yield match, error
