"""What people ask of an init's jobs, over its control socket.

Every operation is one of Upstart's: start, stop, restart, reload, emit, set-env and the like; and
what Upstart lacked: who waits for whom, and a stream of everything that happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError, Failed, UsageError
from hostlab.init.jobs import Jobs
from hostlab.init.protocol import Message
from hostlab.init.supervisor import Request
from hostlab.jobs import facts
from hostlab.jobs.classes import JobClass
from hostlab.jobs.effects import Effect
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.jobs.expression import Environment
from hostlab.jobs.report import is_settling, report
from hostlab.jobs.status import status_lines
from hostlab.jobs.waits import waits

ACTIONS: Final[dict[str, type[facts.Start | facts.Stop | facts.Restart | facts.Reload]]] = {
    "start": facts.Start,
    "stop": facts.Stop,
    "restart": facts.Restart,
    "reload": facts.Reload,
}
SETTLED_WITHIN_S: Final = 10.0
MAX_S: Final = 1e9
"""The longest time that anybody can wait, in seconds: thirty years."""


class JobService:
    """The operations about jobs."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        booted: asyncio.Event,
        reread: Callable[[], None],
        load: Callable[[str], str] = lambda name: name,
    ) -> None:
        """`booted` is set when the boot's events have been emitted; `reread` reads job files.

        `load` is called with the name of a job that is not there, and says whose it is: it may be
        a unit's that is loaded then, or another name of one.
        """
        self.load = load
        self.jobs = jobs
        self.booted = booted
        self.reread = reread

    @property
    def handlers(self) -> dict[str, Callable[[Request], Awaitable[Any]]]:
        """Operation -> what serves it."""
        return {
            "jobs": self.list_jobs,
            "status": self.status,
            "job": self.control_job,
            "emit": self.emit,
            "waits": self.list_waits,
            "monitor": self.monitor,
            "configuration": self.configuration,
            "reload-configuration": self.reload_configuration,
            "set-variable": self.set_variable,
            "settled": self.settled,
        }

    async def list_jobs(self, request: Request) -> list[dict[str, Any]]:
        """Every instance, and every job that has none."""
        return rows(self.jobs)

    async def status(self, request: Request) -> dict[str, Any]:
        """A job's rows, and the lines that `initctl status` prints of them.

        With an environment it is the one instance that this names, as with `initctl`.
        """
        name = _text(request.message, "name")
        environment = dict(_environment(request.message.get("environment", ())))
        found = self._class(name)
        name = found.job.name
        table = rows(self.jobs, name)
        instances = dict(sorted(found.instances.items()))
        if environment:
            whole = self.jobs.engine.class_environment(found.job) | environment
            try:
                chosen = expand(found.job.instance, whole)
            except ExpansionError as error:
                raise UsageError("instance", error.message) from None
            table = [row for row in table if row["instance"] == chosen]
            instances = {key: each for key, each in instances.items() if key == chosen}
        lines = [line for each in instances.values() for line in status_lines(name, each)]
        return {"rows": table, "lines": lines or status_lines(name, None)}

    def _class(self, name: str) -> JobClass:
        classes = self.jobs.engine.classes
        found = classes.get(name) or classes.get(self.load(name))
        if found is None:
            known = ", ".join(sorted(self.jobs.engine.classes)) or "none"
            raise UsageError("no-job", f"no job {name!r} here", hint=f"jobs of this node: {known}")
        return found

    async def control_job(self, request: Request) -> list[dict[str, Any]]:
        """start, stop, restart or reload; answers with the job's rows when it is done."""
        message = request.message
        name, action = _text(message, "name"), _text(message, "action")
        kind = ACTIONS.get(action)
        if kind is None:
            known = ", ".join(ACTIONS)
            raise UsageError(
                "bad-action", f"a job is not told to {action!r}", hint=f"one of {known}"
            )
        found = self._class(name)
        name = found.job.name
        if action == "restart" and not found.instances:
            kind = facts.Start
        token = self._token(request) if message.get("wait", True) else None
        fact = kind(
            job=name,
            environment=_environment(message.get("environment", ())),
            instance=_optional(message, "instance"),
            request=token,
        )
        if token is None:
            self.jobs.tell(fact)
        else:
            reply = await self.jobs.ask(token, fact)
            if not reply.ok and action != "stop":
                why = next((row["reason"] for row in rows(self.jobs, name) if row["reason"]), None)
                text = reply.message if why is None else f"{reply.message}: {why}"
                hint = f"`hostlab job log {name}` shows what it wrote"
                raise Failed("job", f"{name}: {text}", hint=hint)
        return rows(self.jobs, name)

    async def emit(self, request: Request) -> None:
        """Emit an event, and wait until everything that it started or stopped is done."""
        message = request.message
        name = _text(message, "name")
        environment = _environment(message.get("environment", ()))
        if not message.get("wait", True):
            self.jobs.tell(facts.Emit(name=name, environment=environment))
            return
        token = self._token(request)
        fact = facts.Emit(
            name=name,
            environment=environment,
            request=token,
            timeout_s=_seconds(message, "timeout_s"),
        )
        reply = await self.jobs.ask(token, fact)
        if not reply.ok:
            hint = "`hostlab job waits` tells who blocks it" if "blocked" in reply.message else None
            raise Failed("event", f"{name}: {reply.message}", hint=hint)

    def _token(self, request: Request) -> str:
        """Names a request, the same in every program that serves it."""
        token: str = request.carried.setdefault("token", self.jobs.token())
        return token

    async def list_waits(self, request: Request) -> Any:
        """Who waits for whom, and why."""
        return msgspec.to_builtins(waits(self.jobs.engine))

    async def monitor(self, request: Request) -> None:
        """Every effect from now on, with its wall-clock time; ends when the client hangs up."""
        gone = asyncio.Event()

        def tell(effect: Effect, wall: float) -> None:
            request.reply({"time": wall, "effect": msgspec.to_builtins(effect)}, more=True)

        unsubscribe = self.jobs.subscribe(tell)
        request.connection.at_close.append(gone.set)
        if not request.connection.is_open:
            gone.set()
        request.reply({"subscribed": True}, more=True)
        try:
            await gone.wait()
        finally:
            unsubscribe()

    async def configuration(self, request: Request) -> Any:
        """Every job's description, as this init has it."""
        return [msgspec.to_builtins(each.job) for each in self.jobs.engine.classes.values()]

    async def reload_configuration(self, request: Request) -> None:
        """Read the job files again; they are read by themselves too, when one changes."""
        self.reread()

    async def set_variable(self, request: Request) -> None:
        """Set a variable of every job's environment; without a value, unset it."""
        message = request.message
        value = _optional(message, "value")
        self.jobs.tell(facts.SetVariable(name=_text(message, "name"), value=value))

    async def settled(self, request: Request) -> list[dict[str, Any]]:
        """Answer once the boot is over and no job is starting or stopping; or after `within_s`."""
        within_s = _seconds(request.message, "within_s")
        within_s = SETTLED_WITHIN_S if within_s is None else within_s
        try:
            async with asyncio.timeout(within_s):
                await self.booted.wait()
                while is_settling(self.jobs.engine):
                    self.jobs.changed.clear()
                    await self.jobs.changed.wait()
        except TimeoutError:
            pass
        return rows(self.jobs)


def rows(jobs: Jobs, name: str | None = None) -> list[dict[str, Any]]:
    """The rows of all jobs, or of one; `says` is what a main process last said of itself."""
    found = []
    for row in report(jobs.engine):
        if name is not None and row.name != name:
            continue
        instance = jobs.engine.instance(row.name, row.instance)
        main = instance.main if instance is not None else None
        says = jobs.readiness.notes(main.spawn).status if main is not None else None
        found.append({**msgspec.to_builtins(row), "says": says})
    return found


def _environment(pairs: object) -> Environment:
    try:
        return typed.convert(pairs, tuple[tuple[str, str], ...])
    except msgspec.ValidationError as error:
        raise DecodeError("bad-request", f"environment: {error}") from None


def _text(message: Message, key: str) -> str:
    """A string that must be there: what goes to the engine is written down, and read again."""
    found = message[key]
    if not isinstance(found, str):
        raise DecodeError("bad-request", f"{key} is no string: {found!r:.100}")
    return found


def _optional(message: Message, key: str) -> str | None:
    return None if message.get(key) is None else _text(message, key)


def _seconds(message: Message, key: str) -> float | None:
    """A time, if one is given."""
    found = message.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= MAX_S:
        raise DecodeError("bad-request", f"{key} is no number of seconds: {found!r:.100}")
    return float(found)
