"""The commands of initctl about variables: of a job from which they are called, or of every job.

Upstart's init as PID 1 refuses to change any; here it may be done everywhere, since a node's init
is as private as a user's session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hostlab.init.initctl.call import Call, text_of
from hostlab.init.initctl.jobs import Verb
from hostlab.init.initctl.options import Option, Refusal
from hostlab.jobs.facts import SetVariable
from hostlab.jobs.instance import Instance


def _instance(call: Call) -> Instance | None:
    """The instance whose variables are meant; None for those of every job."""
    if call.line.has("global"):
        return None
    job, name = map(call.command.environment.get, ("UPSTART_JOB", "UPSTART_INSTANCE"))
    if job is None:
        return None
    if name is None:
        raise Refusal("missing job name", advise=True)
    if not job:
        raise Refusal("Job may not be empty string")
    instance = call.job_class(job).instances.get(name)
    if instance is None:
        raise Refusal(f"Unknown instance: {name} of job {job}")
    return instance


def _table(call: Call, instance: Instance | None) -> Mapping[str, str]:
    return call.init.engine.environment if instance is None else instance.environment


def _set(call: Call, instance: Instance | None, name: str, value: str | None) -> None:
    if not name:
        raise Refusal("Variable may not be empty string")
    if instance is None:
        call.init.tell(SetVariable(name=name, value=value, running=True))
    else:
        job, key = instance.job.name, instance.name
        call.init.tell(SetVariable(name=name, value=value, job=job, instance=key))


async def _get_env(call: Call) -> str:
    name = call.first("variable name")
    if not name:
        raise Refusal("Variable may not be empty string")
    value = _table(call, _instance(call)).get(name)
    if value is None:
        raise Refusal(f"No such variable: {name}")
    return f"{value}\n"


async def _list_env(call: Call) -> str:
    table = _table(call, _instance(call))
    return text_of(sorted(f"{name}={value}" for name, value in table.items()))


async def _set_env(call: Call) -> str:
    call.first("variable value")
    instance = _instance(call)
    for word in call.arguments:
        name, _, value = word.partition("=")
        if call.line.has("retain") and name in _table(call, instance):
            continue
        _set(call, instance, name, value)
    return ""


async def _unset_env(call: Call) -> str:
    call.first("variable value")
    instance = _instance(call)
    for name in call.arguments:
        _set(call, instance, name, None)
    return ""


async def _reset_env(call: Call) -> str:
    """Back to what it was; of every job's variables, running instances keep theirs."""
    instance = _instance(call)
    before = dict(_table(call, instance))
    if instance is None:
        after, job, key = dict(call.init.default_environment), None, ""
    else:
        after = call.init.engine.class_environment(instance.job)
        job, key = instance.job.name, instance.name
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            fact = SetVariable(name=name, value=after.get(name), job=job, instance=key)
            call.init.tell(fact)
    return ""


_GLOBAL: Final = Option("g", "global", text="apply to global job environment table")
_RETAIN: Final = Option(
    "r", "retain", text="do not replace the value of the variable if already set"
)
ENVIRONMENT_COMMANDS: Final[Mapping[str, Verb]] = {
    "get-env": Verb(
        _get_env, "VARIABLE", "Retrieve value of a job environment variable.", (_GLOBAL,)
    ),
    "list-env": Verb(_list_env, "", "Show all job environment variables.", (_GLOBAL,)),
    "reset-env": Verb(_reset_env, "", "Revert all job environment variable changes.", (_GLOBAL,)),
    "set-env": Verb(
        _set_env,
        "VARIABLE[=VALUE]...",
        "Set one or more job environment variables.",
        (_GLOBAL, _RETAIN),
    ),
    "unset-env": Verb(
        _unset_env,
        "VARIABLE...",
        "Remove one or more job environment variables.",
        (_GLOBAL,),
    ),
}
