"""Jobs' events as text: what `initctl show-config` prints, and the way back.

    mountall
      emits virtual-filesystems
      start on startup

and with `-e` each operand of a condition on a line of its own, with the job whose event it is:

      start on starting (job: mountall, env:)
      start on runlevel (job:, env: [016])

A word that could not be read again bare (it has a blank, a parenthesis, a quote) is printed in
quotes, where Upstart printed it bare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec.structs import replace

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec.condition import parse_on, print_condition, quote
from hostlab.spec.job import Expression, Job, Match, Operator, Said
from hostlab.spec.tokens import NUL, Scanner

JOB_EVENTS = ("starting", "started", "stopping", "stopped")
_JOB = "JOB="
_ENUMERATED = re.compile(
    r"\s+(?P<stanza>start on|stop on) (?P<event>\S+) "
    r"\(job:\s*(?P<job>[^,]*), env:(?P<arguments>.*)\)\s*$"
)
_STANZA = re.compile(r"\s+(?P<stanza>emits|start\s+on|stop\s+on)\s+(?=\S)")
_NAME = re.compile(r"\S+\s*$")
GREP_SEPARATOR = "--"
"""What grep puts between pieces of a listing."""


def show_config(jobs: Iterable[Job], *, enumerate_events: bool = False) -> str:
    """The listing of these jobs, in their order."""
    lines: list[str] = []
    for job in jobs:
        lines.append(job.name)
        lines += (f"  emits {quote(event)}" for event in job.emits)
        for stanza, condition in (("start on", job.start_on), ("stop on", job.stop_on)):
            if condition is None:
                continue
            if enumerate_events:
                lines += (f"  {stanza} {_enumerated(match)}" for match in condition.matches)
            else:
                lines.append(f"  {stanza} {print_condition(condition)}")
    return "".join(line + "\n" for line in lines)


def job_of(match: Match) -> tuple[str | None, tuple[str, ...]]:
    """The job whose event an operand waits for, if it is a job's event, and the other arguments."""
    if match.name in JOB_EVENTS:
        for index, argument in enumerate(match.arguments):
            others = (*match.arguments[:index], *match.arguments[index + 1 :])
            if argument.startswith(_JOB):
                return argument.removeprefix(_JOB), others
            if "=" not in argument:
                return argument, others
    return None, match.arguments


def _enumerated(match: Match) -> str:
    job, arguments = job_of(match)
    words = "".join(f" {quote(argument)}" for argument in arguments)
    return f"{quote(match.name)} (job:{'' if job is None else ' ' + job}, env:{words})"


def read_listing(text: str, *, file: str) -> tuple[Job, ...]:
    """The jobs of a listing of either kind, which may have been edited; SpecErrors with places.

    Of a job that is there twice the second counts. Empty lines, comments and the separators of
    grep are skipped.
    """
    reader = _Reader(text, file)
    while not reader.scanner.at_end():
        try:
            reader.line()
        except SpecError as error:
            reader.errors.append(error)
            reader.scanner.next_line()
    if reader.errors:
        raise SpecErrors(tuple(reader.errors))
    return tuple(reader.jobs.values())


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.scanner = Scanner(text, file)
        self.jobs: dict[str, Job] = {}
        self.name: str | None = None
        self.errors: list[SpecError] = []

    def line(self) -> None:
        """Read one line, or an expression that goes on in parentheses."""
        scanner = self.scanner
        start = scanner.position
        line = scanner.text[start:].partition("\n")[0]
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == GREP_SEPARATOR:
            scanner.next_line()
        elif "\0" in line:
            raise scanner.error(NUL, start + line.index("\0"))
        elif _NAME.match(line):
            self.name = line.strip()
            self.jobs[self.name] = Job(name=self.name)
            scanner.next_line()
        elif self.name is None:
            scanner.position = start
            raise scanner.error("a line that belongs to no job", start, hint=_SHAPE)
        elif found := _ENUMERATED.match(line):
            words = (found["job"], *self.arguments(found, start))
            match = Match(found["event"], tuple(word for word in words if word))
            self.check_order(match, start)
            self.add_condition(found["stanza"], start, _either(match, self.condition(found)))
            scanner.next_line()
        elif stanza := _STANZA.match(line):
            scanner.position = start + stanza.end()
            self.stanza(" ".join(stanza["stanza"].split()), start)
        else:
            raise scanner.error("neither a job nor one of its events", start, hint=_SHAPE)

    def arguments(self, found: re.Match[str], start: int) -> tuple[str, ...]:
        """The arguments of an enumerated operand, out of their quotes."""
        inner = Scanner(found["arguments"], self.scanner.file)
        inner.skip_blanks()
        if not inner.has_token():
            return ()
        try:
            return inner.words()
        except SpecError as error:
            inside = inner.offset(error.where) if error.where is not None else 0
            place = start + found.start("arguments") + inside
            raise self.scanner.error(error.message, place) from None

    def check_order(self, match: Match, start: int) -> None:
        """As in an expression, what has no name comes before what has one."""
        named = ["=" in word for word in match.arguments]
        if named != sorted(named):
            word = match.arguments[named.index(False, named.index(True))]
            reason = f"expected variable: {word!r} has no name but follows one that has"
            raise self.scanner.error(reason, start)

    def stanza(self, stanza: str, start: int) -> None:
        if stanza == "emits":
            word = self.scanner.word()
            self.scanner.end_line()
            job = self.job()
            self.change(stanza, start, replace(job, emits=(*job.emits, word)), (word,))
        else:
            self.add_condition(stanza, start, parse_on(self.scanner))

    def job(self) -> Job:
        assert self.name is not None
        return self.jobs[self.name]

    def condition(self, found: re.Match[str]) -> Expression | None:
        return self.job().start_on if found["stanza"] == "start on" else self.job().stop_on

    def add_condition(self, stanza: str, start: int, condition: Expression) -> None:
        job = self.job()
        if stanza == "start on":
            self.change(stanza, start, replace(job, start_on=condition))
        else:
            self.change(stanza, start, replace(job, stop_on=condition))

    def change(self, stanza: str, start: int, job: Job, words: tuple[str, ...] = ()) -> None:
        line = self.scanner.line(start)
        said = Said(stanza=stanza, file=self.scanner.file, line=line, words=words)
        self.jobs[job.name] = replace(job, said=(*job.said, said))


_SHAPE = (
    "a job's name begins its line; below it, indented, `emits EVENT`, `start on …`, `stop on …`"
)


def _either(match: Match, before: Expression | None) -> Expression:
    """One more operand; how the others are joined is not in the listing, and counts for nothing."""
    nodes = (match,) if before is None else (*before.nodes, match, Operator.OR)
    return Expression(nodes)
