"""The commands of initctl about jobs, events and init itself, but for the environment's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from hostlab.init.initctl.call import Call, text_of
from hostlab.init.initctl.options import Option, Refusal
from hostlab.init.initctl.surroundings import Answer, LogPriority
from hostlab.jobs import facts
from hostlab.jobs.listing import show_config
from hostlab.jobs.reachable import unreachable
from hostlab.jobs.status import list_lines

UPSTART_VERSION: Final = "1.13.2"
"""The version whose meaning is ours. Packages ask `initctl version` whether it says `upstart`."""


class Verb(msgspec.Struct, frozen=True):
    """A command of initctl."""

    run: Callable[[Call], Awaitable[str | Answer]]
    usage: str
    what: str
    options: tuple[Option, ...] = ()


_KINDS: Final[Mapping[str, type[facts.Start | facts.Stop | facts.Restart]]] = {
    "start": facts.Start,
    "stop": facts.Stop,
    "restart": facts.Restart,
}


async def _change(call: Call) -> str:
    kind = _KINDS[call.name]
    own = call.own_job()
    token = call.command.token
    if own is not None:
        job, instance = own
        found = call.job_class(job)
        if instance not in found.instances and not call.init.knows(token):
            raise Refusal(f"Unknown instance: {instance}")
        await call.request(kind(job=job, instance=instance, request=token), wait=False)
        return call.status(job, instance)
    job = call.arguments[0]
    found = call.job_class(job)
    # Its environment names an instance of now; a job that has ended has it from its old one.
    instance = call.instance_name(found, with_usage=kind is not facts.Restart)
    is_missing = kind is not facts.Start and instance not in found.instances
    if is_missing and not call.init.knows(token):
        raise Refusal(f"Unknown instance: {instance}")
    fact = kind(job=job, environment=call.pairs(), request=token)
    await call.request(fact, wait=not call.line.has("no-wait"))
    return call.status(job, instance)


async def _reload(call: Call) -> str:
    job, instance = call.own_job() or (call.arguments[0], None)
    found = call.job_class(job)
    if instance is None:
        instance = call.instance_name(found)
    if instance not in found.instances:
        raise Refusal(f"Unknown instance: {instance}")
    token = call.command.token
    await call.request(facts.Reload(job=job, instance=instance, request=token), wait=False)
    return ""


async def _status(call: Call) -> str:
    own = call.own_job()
    job, instance = own or (call.arguments[0], None)
    found = call.job_class(job)
    if instance is None:
        instance = call.instance_name(found)
    if instance not in found.instances and (own or call.arguments[1:]):
        raise Refusal(f"Unknown instance: {instance}")
    return call.status(job, instance)


async def _list(call: Call) -> str:
    return text_of(list_lines(call.init.engine))


async def _emit(call: Call) -> str:
    name = call.first("event name")
    if not name:
        raise Refusal("Name may not be empty string")
    fact = facts.Emit(name=name, environment=call.pairs(), request=call.command.token)
    await call.request(fact, wait=not call.line.has("no-wait"))
    return ""


async def _usage(call: Call) -> str:
    job, _ = call.own_job() or (call.arguments[0], None)
    return f"Usage: {call.job_class(job).job.usage or ''}\n"


async def _reload_configuration(call: Call) -> str:
    call.init.reload_configuration()
    return ""


async def _version(call: Call) -> str:
    return f"init (upstart {UPSTART_VERSION})\n"


async def _log_priority(call: Call) -> str:
    if not call.arguments:
        return f"{call.init.log_priority}\n"
    try:
        call.init.log_priority = LogPriority(call.arguments[0])
    except ValueError:
        raise Refusal("The log priority given was not recognised") from None
    return ""


async def _show_config(call: Call) -> str:
    classes = call.init.engine.classes
    names = [call.job_class(call.arguments[0]).job.name] if call.arguments else sorted(classes)
    jobs = [classes[name].job for name in names]
    return show_config(jobs, enumerate_events=call.line.has("enumerate"))


async def _check_config(call: Call) -> str | Answer:
    jobs = {name: found.job for name, found in call.init.engine.classes.items()}
    names = sorted(jobs)
    if call.arguments:
        names = [call.arguments[0]]
        if names[0] not in jobs:
            raise Refusal(f"Invalid job class: {names[0]}")
    lists = call.line.options.get("ignore-events", [])
    ignored = [name for words in lists for name in words.split(",")]
    strict = call.line.has("warn")
    text = text_of(unreachable(jobs, names, ignored=ignored, strict=strict))
    return Answer(1, text) if text else ""


async def _list_sessions(call: Call) -> str:
    return text_of(f"{pid} {session}" for pid, session in call.init.sessions())


async def _notify_address(call: Call) -> str:
    if call.name == "notify-dbus-address":
        call.init.notify_bus_address(call.first("D-Bus address"))
    else:
        call.first("address")
    return ""


async def _notify_disk_writeable(call: Call) -> str:
    return ""


def _no_wait(what: str) -> Option:
    return Option("n", "no-wait", text=f"do not wait for {what} before exiting")


_JOB: Final = "JOB [KEY=VALUE]..."
JOB_COMMANDS: Final[Mapping[str, Verb]] = {
    "start": Verb(_change, _JOB, "Start job.", (_no_wait("job to start"),)),
    "stop": Verb(_change, _JOB, "Stop job.", (_no_wait("job to stop"),)),
    "restart": Verb(_change, _JOB, "Restart job.", (_no_wait("job to restart"),)),
    "reload": Verb(_reload, _JOB, "Send HUP signal to job."),
    "status": Verb(_status, _JOB, "Query status of job."),
    "list": Verb(_list, "", "List known jobs."),
    "emit": Verb(_emit, "EVENT [KEY=VALUE]...", "Emit an event.", (_no_wait("event to finish"),)),
    "usage": Verb(_usage, "JOB", "Show job usage message if available."),
    "reload-configuration": Verb(
        _reload_configuration, "", "Reload the configuration of the init daemon."
    ),
    "version": Verb(_version, "", "Request the version of the init daemon."),
    "log-priority": Verb(
        _log_priority,
        "[PRIORITY]",
        "Change the minimum priority of log messages from the init daemon.",
    ),
    "show-config": Verb(
        _show_config,
        "[CONF]",
        "Show emits, start on and stop on details for job configurations.",
        (Option("e", "enumerate", text="one line for each event and job"),),
    ),
    "check-config": Verb(
        _check_config,
        "[CONF]",
        "Check for unreachable jobs/event conditions.",
        (
            Option("i", "ignore-events", "EVENT_LIST", "ignore these events"),
            Option("w", "warn", text="tell of any unreachable events/jobs"),
        ),
    ),
    "list-sessions": Verb(_list_sessions, "", "List all sessions."),
    "notify-disk-writeable": Verb(
        _notify_disk_writeable, "", "Inform Upstart that disk is now writeable."
    ),
    "notify-dbus-address": Verb(
        _notify_address, "ADDRESS", "Inform Upstart of D-Bus address to connect to."
    ),
    "notify-cgroup-manager-address": Verb(
        _notify_address, "ADDRESS", "Inform Upstart of the cgroup manager's D-Bus address."
    ),
}
