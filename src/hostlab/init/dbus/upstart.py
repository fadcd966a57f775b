"""The init as com.ubuntu.Upstart: what its methods do and its properties say.

Here nothing is known of buses: a call is a path, an interface, a member and its arguments, and its
answer are values. Meanings and errors are those of Upstart's control.c, job_class.c and job.c.
Only changing a job's variables as process 1 is allowed here, as with `initctl`.
"""

# What a method takes is the bus's: its booleans have their places there.
# ruff: noqa: FBT001

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from hostlab.errors import Problem, UsageError
from hostlab.init.dbus import objects
from hostlab.init.dbus.objects import INSTANCE, JOB, MANAGER, Member
from hostlab.init.initctl.jobs import UPSTART_VERSION
from hostlab.init.initctl.surroundings import Init, LogPriority
from hostlab.jobs import facts, snapshot
from hostlab.jobs.classes import JobClass
from hostlab.jobs.effects import Reply
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.jobs.expression import Environment
from hostlab.jobs.instance import Instance
from hostlab.spec.job import Expression, Match

INVALID: Final = "org.freedesktop.DBus.Error.InvalidArgs"
UNKNOWN_METHOD: Final = "org.freedesktop.DBus.Error.UnknownMethod"
UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"
UNKNOWN_PROPERTY: Final = "org.freedesktop.DBus.Error.UnknownProperty"
READ_ONLY: Final = "org.freedesktop.DBus.Error.PropertyReadOnly"
_ERRORS: Final = {
    "unknown-job": "UnknownJob",
    "unknown-instance": "UnknownInstance",
    "already-started": "AlreadyStarted",
    "already-stopped": "AlreadyStopped",
    "not-running": "NotRunning",
    "not-permitted": "PermissionDenied",
}
MACHINE_ID: Final = "/etc/machine-id"

_JobFact = facts.Start | facts.Stop | facts.Restart
Target = None | JobClass | Instance
Handler = Callable[..., Awaitable[Sequence[Any]]]


class Refused(Problem):
    """A call is answered with an error; its code is the error's name on the bus."""


class Upstart:
    """The objects of one init."""

    def __init__(
        self,
        init: Init,
        ask: Callable[[_JobFact | facts.Emit], Awaitable[Reply]],
        *,
        notify_address: Callable[[str], None],
        end_session: Callable[[], None],
    ) -> None:
        """`ask` tells a fact with a request of its own name, and waits until it is done."""
        self.init = init
        self._ask = ask
        self._emitting: set[asyncio.Future[Reply]] = set()
        """What nobody may wait for."""
        self._notify_address = notify_address
        self._end_session = end_session

    def find(self, path: str, interface: str | None, member: str) -> tuple[str, Member]:
        """The interface and the method that a call means; Refused when there is none."""
        target_interface = self._interface_of(path)
        own = () if target_interface is None else (target_interface, objects.PROPERTIES)
        known = (*own, objects.INTROSPECTABLE, objects.PEER)
        for name in known if interface is None else (interface,):
            if name in known and (method := objects.METHODS[name].get(member)) is not None:
                return name, method
        if target_interface is None:
            raise Refused(UNKNOWN_OBJECT, f"No such object path '{path}'")
        raise Refused(UNKNOWN_METHOD, f"No such method {member!r} of {interface or path}")

    async def call(self, path: str, interface: str, member: str, body: Sequence[Any]) -> list[Any]:
        """What a method gives; Refused with the error that it answers."""
        if interface == objects.INTROSPECTABLE:
            return [objects.introspection(self._interface_of(path), self._children(path))]
        if interface == objects.PEER:
            return [] if member == "Ping" else [_machine_id()]
        target = self._target(path)
        try:
            if interface == objects.PROPERTIES:
                return list(await self._properties(target, member, *body))
            handler = self._handlers(target)[member]
            return list(await handler(*body))
        except UsageError as error:
            name = _ERRORS.get(error.code)
            text = f"{error.message}\n{error.hint}" if error.hint else error.message
            raise Refused(f"{MANAGER}.Error.{name}" if name else INVALID, text) from None

    # Objects.

    def _target(self, path: str) -> Target:
        names = objects.names_of(path)
        if names == ():
            return None
        if names is not None:
            found = self.init.engine.classes.get(names[0])
            if found is not None and len(names) == 1:
                return found
            instance = found.instances.get(names[1]) if found is not None else None
            if instance is not None:
                return instance
        raise Refused(UNKNOWN_OBJECT, f"No such object path '{path}'")

    def _interface_of(self, path: str) -> str | None:
        """None for what is only on the way to an object."""
        try:
            target = self._target(path)
        except Refused:
            return None
        return INSTANCE if isinstance(target, Instance) else JOB if target else MANAGER

    def _children(self, path: str) -> list[str]:
        classes = self.init.engine.classes
        if path == objects.JOBS:
            return [objects.encode(name) for name in classes]
        names = objects.names_of(path)
        if names == ():
            return ["jobs"]
        if names is not None and len(names) == 1 and names[0] in classes:
            return [objects.encode(name) for name in classes[names[0]].instances]
        above = path.rstrip("/")
        if objects.ROOT.startswith(f"{above}/"):
            return [objects.ROOT.removeprefix(f"{above}/").partition("/")[0]]
        return []

    def _handlers(self, target: Target) -> Mapping[str, Handler]:
        if target is None:
            return self._of_manager()
        if isinstance(target, JobClass):
            return _OfJob(self, target).handlers
        return _OfInstance(self, target).handlers

    def _of_manager(self) -> Mapping[str, Handler]:
        return {
            "ReloadConfiguration": self._reload_configuration,
            "GetJobByName": self._get_job_by_name,
            "GetAllJobs": self._get_all_jobs,
            "GetState": self._get_state,
            "Restart": self._restart,
            "GetEnv": self._get_env,
            "SetEnv": self._set_env,
            "SetEnvList": self._set_env_list,
            "UnsetEnv": self._unset_env,
            "UnsetEnvList": self._unset_env_list,
            "ListEnv": self._list_env,
            "ResetEnv": self._reset_env,
            "EmitEvent": self._emit_event,
            "EmitEventWithFile": self._emit_event,
            "NotifyDiskWriteable": self._nothing,
            "NotifyDBusAddress": self._notify_dbus_address,
            "NotifyCGroupManagerAddress": self._nothing,
            "EndSession": self._end,
        }

    # The init's methods.

    async def _nothing(self, *_: object) -> Sequence[Any]:
        """Of what no init here has to be told: its logs and cgroups are its own from the start."""
        return ()

    async def _reload_configuration(self) -> Sequence[Any]:
        self.init.reload_configuration()
        return ()

    async def _get_job_by_name(self, name: str) -> Sequence[Any]:
        if not name:
            raise Refused(INVALID, "Name may not be empty string")
        if name not in self.init.engine.classes:
            raise UsageError("unknown-job", f"Unknown job: {name}")
        return (objects.job_path(name),)

    async def _get_all_jobs(self) -> Sequence[Any]:
        return ([objects.job_path(name) for name in self.init.engine.classes],)

    async def _get_state(self) -> Sequence[Any]:
        return (snapshot.encode(snapshot.capture(self.init.engine)).decode(),)

    async def _restart(self) -> Sequence[Any]:
        # Once the answer is on its way.
        asyncio.get_running_loop().call_soon(self.init.reexec)
        return ()

    async def _emit_event(
        self, name: str, env: Sequence[str], wait: bool, file: int = -1
    ) -> Sequence[Any]:
        if not name:
            raise Refused(INVALID, "Name may not be empty string")
        fact = facts.Emit(name=name, environment=pairs(env))
        if file >= 0:
            done = self._with_file(fact, os.dup(file))
            if not wait:
                return ()
            reply = await done
        elif not wait:
            self.init.tell(fact)
            return ()
        else:
            reply = await self._ask(fact)
        if not reply.ok:
            raise Refused(f"{MANAGER}.Error.EventFailed", reply.message)
        return ()

    def _with_file(self, fact: facts.Emit, fd: int) -> asyncio.Future[Reply]:
        """Emit an event whose jobs are given a descriptor, which is open until it is finished."""

        async def emit() -> Reply:
            try:
                return await self._ask(msgspec.structs.replace(fact, fds=(fd,)))
            finally:
                os.close(fd)

        done = asyncio.ensure_future(emit())
        self._emitting.add(done)
        done.add_done_callback(self._emitting.discard)
        return done

    async def _notify_dbus_address(self, address: str) -> Sequence[Any]:
        self._notify_address(address)
        return ()

    async def _end(self) -> Sequence[Any]:
        asyncio.get_running_loop().call_soon(self._end_session)
        return ()

    # Variables.

    def _table(self, details: Sequence[str]) -> tuple[Instance | None, Mapping[str, str]]:
        """Whose variables are meant: a job's instance's, or None for everybody's."""
        if not details:
            return None, self.init.engine.environment
        job, name = details[0], details[1] if len(details) > 1 else ""
        if not job:
            raise Refused(INVALID, "Job may not be empty string")
        found = self.init.engine.classes.get(job)
        if found is None:
            raise UsageError("unknown-job", f"Unknown job: {job}")
        instance = found.instances.get(name)
        if instance is None:
            raise UsageError("unknown-instance", f"Unknown instance: {name} of job {job}")
        return instance, instance.environment

    def _set_variable(self, instance: Instance | None, name: str, value: str | None) -> None:
        if not name:
            raise Refused(INVALID, "Variable may not be empty string")
        if instance is None:
            self.init.tell(facts.SetVariable(name=name, value=value, running=True))
        else:
            job, key = instance.job.name, instance.name
            self.init.tell(facts.SetVariable(name=name, value=value, job=job, instance=key))

    async def _get_env(self, details: Sequence[str], name: str) -> Sequence[Any]:
        if not name:
            raise Refused(INVALID, "Variable may not be empty string")
        _, table = self._table(details)
        if name not in table:
            raise Refused(INVALID, f"No such variable: {name}")
        return (table[name],)

    async def _set_env(self, details: Sequence[str], var: str, replace: bool) -> Sequence[Any]:
        return await self._set_env_list(details, [var], replace)

    async def _set_env_list(
        self, details: Sequence[str], variables: Sequence[str], replace: bool
    ) -> Sequence[Any]:
        instance, table = self._table(details)
        for text in variables:
            name, _, value = text.partition("=")
            if replace or name not in table:
                self._set_variable(instance, name, value)
        return ()

    async def _unset_env(self, details: Sequence[str], name: str) -> Sequence[Any]:
        return await self._unset_env_list(details, [name])

    async def _unset_env_list(self, details: Sequence[str], names: Sequence[str]) -> Sequence[Any]:
        instance, _ = self._table(details)
        for name in names:
            self._set_variable(instance, name, None)
        return ()

    async def _list_env(self, details: Sequence[str]) -> Sequence[Any]:
        _, table = self._table(details)
        return ([f"{name}={value}" for name, value in table.items()],)

    async def _reset_env(self, details: Sequence[str]) -> Sequence[Any]:
        instance, table = self._table(details)
        before = dict(table)
        after: Mapping[str, str] = self.init.default_environment
        if instance is not None:
            after = self.init.engine.class_environment(instance.job)
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                self._set_variable(instance, name, after.get(name))
        return ()

    # Properties.

    async def _properties(self, target: Target, member: str, *body: Any) -> Sequence[Any]:
        interface = INSTANCE if isinstance(target, Instance) else JOB if target else MANAGER
        types = objects.PROPERTY_TYPES[interface]
        asked, *rest = body
        if asked not in ("", interface):
            types = {}
        if member == "GetAll":
            return ({name: (kind, self.value(target, name)) for name, kind in types.items()},)
        name = rest[0]
        if name not in types:
            raise Refused(UNKNOWN_PROPERTY, f"No such property {name!r} of {asked or interface}")
        if member == "Get":
            return ((types[name], self.value(target, name)),)
        if (interface, name) not in objects.WRITABLE:
            raise Refused(READ_ONLY, f"{name} cannot be set")
        kind, value = rest[1]
        if kind != types[name] or value not in tuple(LogPriority):
            raise Refused(INVALID, "The log priority given was not recognised")
        self.init.log_priority = LogPriority(value)
        return ()

    def value(self, target: Target, name: str) -> Any:
        """What a property says."""
        if target is None:
            version = f"init (upstart {UPSTART_VERSION})"
            return version if name == "version" else str(self.init.log_priority)
        if isinstance(target, Instance):
            return _instance_value(target, name)
        job = target.job
        if name in ("start_on", "stop_on"):
            return conditions(getattr(job, name))
        return list(job.emits) if name == "emits" else str(getattr(job, name) or "")

    async def request(self, fact: _JobFact, *, wait: bool) -> Reply | None:
        """Tell a request; with `wait` its answer, Refused when it failed."""
        if not wait:
            self.init.tell(fact)
            return None
        reply = await self._ask(fact)
        if not reply.ok:
            raise Refused(f"{MANAGER}.Error.JobFailed", reply.message)
        return reply


class _OfJob:
    """The methods of a job."""

    def __init__(self, upstart: Upstart, found: JobClass) -> None:
        self.upstart = upstart
        self.found = found
        self.name = found.job.name
        self.handlers: Mapping[str, Handler] = {
            "GetInstance": self._get_instance,
            "GetInstanceByName": self._get_instance_by_name,
            "GetAllInstances": self._get_all_instances,
            "Start": self._start,
            "Stop": self._stop,
            "Restart": self._restart,
        }

    def _instance_name(self, env: Sequence[str]) -> str:
        job = self.found.job
        whole = self.upstart.init.engine.class_environment(job) | dict(pairs(env))
        try:
            return expand(job.instance, whole)
        except ExpansionError as error:
            hint = f"Usage: {job.usage}" if job.usage else None
            raise UsageError("instance", error.message, hint=hint) from None

    async def _get_instance(self, env: Sequence[str]) -> Sequence[Any]:
        return await self._get_instance_by_name(self._instance_name(env))

    async def _get_instance_by_name(self, name: str) -> Sequence[Any]:
        if name not in self.found.instances:
            raise UsageError("unknown-instance", f"Unknown instance: {name or self.name}")
        return (objects.instance_path(self.name, name),)

    async def _get_all_instances(self) -> Sequence[Any]:
        return ([objects.instance_path(self.name, name) for name in self.found.instances],)

    async def _start(self, env: Sequence[str], wait: bool) -> Sequence[Any]:
        path = objects.instance_path(self.name, self._instance_name(env))
        await self.upstart.request(facts.Start(job=self.name, environment=pairs(env)), wait=wait)
        return (path,)

    async def _stop(self, env: Sequence[str], wait: bool) -> Sequence[Any]:
        await self.upstart.request(facts.Stop(job=self.name, environment=pairs(env)), wait=wait)
        return ()

    async def _restart(self, env: Sequence[str], wait: bool) -> Sequence[Any]:
        path = objects.instance_path(self.name, self._instance_name(env))
        await self.upstart.request(facts.Restart(job=self.name, environment=pairs(env)), wait=wait)
        return (path,)


class _OfInstance:
    """The methods of an instance."""

    def __init__(self, upstart: Upstart, instance: Instance) -> None:
        self.upstart = upstart
        self.job, self.name = instance.job.name, instance.name
        self.handlers: Mapping[str, Handler] = {
            "Start": self._start,
            "Stop": self._stop,
            "Restart": self._restart,
            "Reload": self._reload,
        }

    async def _start(self, wait: bool) -> Sequence[Any]:
        fact = facts.Start(job=self.job, instance=self.name)
        await self.upstart.request(fact, wait=wait)
        return ()

    async def _stop(self, wait: bool) -> Sequence[Any]:
        await self.upstart.request(facts.Stop(job=self.job, instance=self.name), wait=wait)
        return ()

    async def _restart(self, wait: bool) -> Sequence[Any]:
        await self.upstart.request(facts.Restart(job=self.job, instance=self.name), wait=wait)
        return ()

    async def _reload(self) -> Sequence[Any]:
        self.upstart.init.tell(facts.Reload(job=self.job, instance=self.name))
        return ()


def pairs(env: Sequence[str]) -> Environment:
    """Variables as engines have them; Refused when one is none (environ_all_valid())."""
    found = []
    for text in env:
        key, equals, value = text.partition("=")
        if not equals or not key or not key.isidentifier() or not key.isascii():
            raise Refused(INVALID, "Env must be KEY=VALUE pairs")
        found.append((key, value))
    return tuple(found)


def conditions(expression: Expression | None) -> list[list[str]]:
    """`start on` as Upstart tells it: its operands and operators in postfix order."""
    return [
        [node.name, *node.arguments] if isinstance(node, Match) else [f"/{node.upper()}"]
        for node in (expression.nodes if expression else ())
    ]


def _instance_value(instance: Instance, name: str) -> Any:
    match name:
        case "processes":
            return [
                (step.value, running.pid)
                for step, running in instance.processes.items()
                if running.pid is not None
            ]
        case "name":
            return instance.name
        case "goal":
            return instance.goal.value
        case _:
            return instance.state.value


def _machine_id() -> str:
    try:
        with open(MACHINE_ID) as file:
            return file.read(64).strip()
    except OSError as error:
        raise Refused(
            "org.freedesktop.DBus.Error.FileNotFound", os.strerror(error.errno or 0)
        ) from None
