"""A command of initctl on its way: its arguments, and what the commands have in common."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hostlab.init.initctl.options import Line, Refusal
from hostlab.init.initctl.surroundings import Command, Init
from hostlab.jobs.classes import JobClass
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.jobs.expression import Environment
from hostlab.jobs.journal import AnyFact
from hostlab.jobs.status import status_lines


class Call(msgspec.Struct):
    """A command of initctl on its way."""

    name: str
    """The command's, which is not the program's when that is initctl."""
    init: Init
    command: Command
    line: Line

    @property
    def arguments(self) -> list[str]:
        return self.line.arguments

    def first(self, what: str) -> str:
        """The first argument; Refusal when there is none."""
        if not self.arguments:
            raise Refusal(f"missing {what}", advise=True)
        return self.arguments[0]

    def pairs(self) -> Environment:
        """The KEY=VALUE arguments behind the first."""
        pairs = []
        for word in self.arguments[1:]:
            key, equals, value = word.partition("=")
            if not equals:
                raise Refusal("Env must be KEY=VALUE pairs")
            pairs.append((key, value))
        return tuple(pairs)

    def own_job(self) -> tuple[str, str] | None:
        """The job and instance from which this is called, where no other is named."""
        if self.arguments:
            return None
        job, instance = map(self.command.environment.get, ("UPSTART_JOB", "UPSTART_INSTANCE"))
        if job is None or instance is None:
            raise Refusal("missing job name", advise=True)
        return job, instance

    def job_class(self, name: str) -> JobClass:
        """A job by its name."""
        if not name:
            raise Refusal("Name may not be empty string")
        found = self.init.engine.classes.get(name)
        if found is None:
            raise Refusal(f"Unknown job: {name}")
        return found

    def instance_name(self, found: JobClass, *, with_usage: bool = True) -> str:
        """The instance that the arguments mean, which need not exist."""
        environment = self.init.engine.class_environment(found.job)
        environment.update(self.pairs())
        try:
            return expand(found.job.instance, environment)
        except ExpansionError as error:
            usage = f"\nUsage: {found.job.usage}" if with_usage and found.job.usage else ""
            raise Refusal(_capital(error.message) + usage) from None

    async def request(self, fact: AnyFact, *, wait: bool) -> None:
        """Have the engine do something, and wait for it; Refusal when it is not done."""
        reply = await self.init.request(self.command.token, fact, wait=wait)
        if not reply.ok:
            raise Refusal(reply.message)

    def status(self, job: str, instance: str) -> str:
        """What `status` says now."""
        return text_of(status_lines(job, self.init.engine.instance(job, instance)))


def text_of(lines: Iterable[str]) -> str:
    """Lines as a text."""
    return "".join(line + "\n" for line in lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
