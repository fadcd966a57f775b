"""A node's jobs, from what was read of them: the type that `.conf` files end in too.

Where a key is left out a job of a description differs from one of a `.conf` in two things: it
starts when the node comes up, and its stop reaches every process of it, not a process group.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import replace

from hostlab.spec import job_sockets, parts
from hostlab.spec.job import (
    Console,
    Expect,
    Expression,
    Job,
    Kill,
    KillMode,
    Match,
    Process,
    Readiness,
    ResourceLimit,
    Resources,
    Respawn,
    Step,
)
from hostlab.spec.job import Said as Place
from hostlab.spec.model import Boot, BootEvent, Units
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Mark, Source, quoted
from hostlab.spec.stanzas import APPARMOR_LOAD

DESCRIBED_KILL: Final = Kill(mode=KillMode.CONTROL_GROUP)
"""How a job of a description is stopped when it does not say."""

MAX_LINE: Final = 4096
"""Characters of a command line that are looked at word by word; a longer one is a script."""

_STEPS: Final = {
    "pre_start": Step.PRE_START,
    "post_start": Step.POST_START,
    "pre_stop": Step.PRE_STOP,
    "post_stop": Step.POST_STOP,
}
_STATE_KEYS: Final = ("start_on", "manual", *_STEPS)
"""What makes a job without a program meant: a state."""
_PLACED: Final = {"start_on": "start on", "stop_on": "stop on", "emits": "emits"}
"""Keys whose places a search for events tells, and the stanzas they are."""
_KEPT: Final = ("user", "group", "umask", "oom_score_adj", "task", "instance", "reload_signal",
                "nice", "chroot", "debug", "private_tmp", "tcp_congestion",
                "description", "usage", "start_on", "stop_on", "manual", "directory",
                "no_new_privs")  # fmt: skip
"""Keys that are the job's field of the same name."""
_LISTED: Final = {"groups": "groups", "export": "export", "emits": "emits",
                  "normal_exit": "normal_exit", "read_only": "readonly_paths"}  # fmt: skip

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SHELL_WORDS: Final = frozenset(
    ("!", ".", ":", "{", "alias", "break", "case", "cd", "command", "continue", "do", "eval",
     "exec", "exit", "export", "for", "getopts", "if", "local", "read", "readonly", "return",
     "set", "shift", "times", "trap", "type", "ulimit", "umask", "unalias", "unset", "until",
     "wait", "while")
)  # fmt: skip
"""First words of a line that only a shell understands (dash(1))."""

Namespaces = Callable[[Fields], tuple[tuple[str, str], ...]]


class JobReader:
    """Makes the jobs of every node; what a role says is made into a job once for all its nodes."""

    def __init__(self, source: Source, namespaces: Namespaces) -> None:
        """`namespaces` finds the nodes whose namespaces a job names."""
        self.source = source
        self.namespaces = namespaces
        self._made: dict[tuple[int, str, str], tuple[Fields, tuple[Job, ...]]] = {}
        """By what was said; it is kept, so that its identity stays its own."""

    def jobs(self, fields: Fields, startup: str) -> Iterator[Job]:
        """The jobs under a node's `jobs`; what cannot be one is reported.

        `startup` is the event that those start on which do not say when.
        """
        for name, said in fields.items():
            key = (id(said.value), name, startup)
            if key not in self._made:
                self._made[key] = (said.value, self._jobs(name, said, startup))
            yield from self._made[key][1]

    def _jobs(self, name: str, said: Said, startup: str) -> tuple[Job, ...]:
        job = self._job(name, said, startup)
        if job is None:
            return ()
        fields: Fields = said.value
        return job_sockets.proxied(self.source, job, fields.value("sockets", ()))

    def _job(self, name: str, said: Said, startup: str) -> Job | None:
        job = _job(self.source, name, said, startup)
        fields: Fields = said.value
        if job is None or "namespaces" not in fields:
            return job
        return replace(job, namespaces=self.namespaces(fields["namespaces"].value))


def _job(source: Source, name: str, said: Said, startup: str) -> Job | None:
    fields: Fields = said.value
    if not any(key in fields for key in ("exec", "script", *_STATE_KEYS)):
        if not fields.flawed:
            hint = "a job without one is a state, and says `start_on` or `manual`"
            source.report("missing", f"the job {quoted(name)} has no `exec`", said.key, hint)
        return None
    changes: dict[str, Any] = {key: fields[key].value for key in _KEPT if key in fields}
    for key, field in _LISTED.items():
        if key in fields:
            changes[field] = tuple(item.value for item in fields[key].value)
    for key, step in _STEPS.items():
        if key in fields:
            changes[key] = _process(source, fields[key].value, f"`{step}`", fields[key].key)
    if "exec" in fields or "script" in fields:
        main = _process(source, fields, f"the job {quoted(name)}", said.key)
        if main is None:
            return None
        changes |= {"exec": main.exec, "script": main.script, "argv": main.argv}
    if "console" in fields:
        changes["console"] = Console(fields["console"].value)
    for word, error in job_sockets.problems(changes.get("start_on")):
        message = f"{quoted(word)}: {error.message}"
        source.report("value", message, fields["start_on"].at, error.hint)
    if "sockets" in fields and "net" in fields.value("namespaces", Fields()):
        message = "init listens in its own node: a job in another node's network has no `sockets`"
        source.report("clash", message, fields["sockets"].key)
    if "sockets" in fields:
        found = job_sockets.operands(source, fields["sockets"].value)
        changes["start_on"] = job_sockets.joined(changes.get("start_on"), found)
        if "instance" not in fields and job_sockets.accepts(found):
            changes["instance"] = job_sockets.CONNECTION
    elif "start_on" not in fields and not fields.flag("manual"):
        changes["start_on"] = Expression((Match(startup),))
    listed = fields.value("capabilities")
    return Job(
        name=name,
        environment=parts.pairs(fields.value("environment", Fields())),
        capabilities=None if listed is None else parts.expand(listed),
        readiness=_readiness(source, fields),
        respawn=_respawn(source, fields),
        kill=_kill(fields),
        limits=_rlimits(fields),
        resources=_resources(fields),
        said=tuple(_places(source, fields)),
        **_apparmor(fields),
        **changes,
    )


def as_described(job: Job, boot: Boot) -> Job:
    """A bundle's job with what a description's has when it says neither start nor stop."""
    return replace(job, start_on=Expression((Match(boot.startup_event),)), kill=DESCRIBED_KILL)


def _process(source: Source, fields: Fields, what: str, at: Mark) -> Process | None:
    """What an `exec` or a `script` runs; None when that is reported."""
    said = fields.get("exec") or fields.get("script")
    if said is None:
        if not fields.flawed:
            source.report("missing", f"{what} has neither `exec` nor `script`", at)
        return None
    if isinstance(said.value, tuple):
        if not said.value or not said.value[0]:
            source.report("value", "this command is empty", said.at)
            return None
        return Process(argv=said.value)
    if not said.value.strip():
        kind = "command" if "exec" in fields else "script"
        source.report("value", f"this {kind} is empty", said.at)
        return None
    if "script" in fields:
        return Process(script=said.value)
    line = said.value.strip("\n")
    return Process(script=line) if is_script(line) else Process(exec=line)


@lru_cache(1024)  # An alias may repeat a line half a million times.
def is_script(line: str) -> bool:
    """Whether a command line is more than one program: then `exec` before it would cut it off.

    Where in doubt it is a script, which means the same.
    """
    if "\n" in line or len(line) > MAX_LINE:
        return True
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        return False
    if not words or _ASSIGNMENT.match(words[0]) or words[0] in _SHELL_WORDS:
        return True
    return any(word == "||" or not set(word) - set("();&") for word in words)


def _readiness(source: Source, fields: Fields) -> Readiness:
    said: Fields = fields.value("readiness", Fields())
    deadline_s = said.value("within")
    for kind in (Expect.PORT, Expect.FILE, Expect.FD):
        if kind in said:
            found = Readiness(kind=kind, deadline_s=deadline_s)
            field = "path" if kind is Expect.FILE else kind.value
            return replace(found, **{field: said[kind].value})
    if "expect" not in said and "within" in said and not said.flawed:
        message = "nothing is said that it must be within"
        source.report("missing", message, said["within"].key, "say `expect`, `port`, `file`, `fd`")
    return Readiness(kind=Expect(said.value("expect", Expect.NONE)), deadline_s=deadline_s)


def _respawn(source: Source, fields: Fields) -> Respawn:
    said: Fields = fields.value("respawn", Fields())
    delay: Fields = said.value("delay", Fields())
    low_s: float = delay.value("min", 0.0)
    high_s: float = delay.value("max", low_s)
    if high_s < low_s:
        message = "the longest delay is below the first"
        source.report("value", message, said["delay"].at)
    default = Respawn()
    return Respawn(
        enabled=said.flag("enabled"),
        limit=said.value("limit", default.limit),
        interval_s=said.value("interval", default.interval_s),
        delay_min_s=low_s,
        delay_max_s=high_s,
    )


def _kill(fields: Fields) -> Kill:
    said: Fields = fields.value("kill", Fields())
    return Kill(
        timeout_s=said.value("timeout", DESCRIBED_KILL.timeout_s),
        signal=said.value("signal", DESCRIBED_KILL.signal),
        mode=KillMode(said.value("mode", DESCRIBED_KILL.mode)),
    )


def _rlimits(fields: Fields) -> tuple[ResourceLimit, ...]:
    said: Fields = fields.value("rlimits", Fields())
    return tuple(
        ResourceLimit(
            resource=resource, soft=one.value.value("soft", 0), hard=one.value.value("hard", 0)
        )
        for resource, one in said.items()
    )


def _resources(fields: Fields) -> Resources:
    said: Fields = fields.value("limits", Fields())
    return Resources(
        memory_bytes=said.value("memory"), cpu=said.value("cpu"), pids=said.value("pids")
    )


def _apparmor(fields: Fields) -> dict[str, Any]:
    said: Fields = fields.value("apparmor", Fields())
    found: dict[str, Any] = {"apparmor_switch": said.value("switch")}
    if "load" in said:
        found["security"] = Process(exec=APPARMOR_LOAD + shlex.quote(said["load"].value))
    return found


def _places(source: Source, fields: Fields) -> Iterator[Place]:
    for key, stanza in _PLACED.items():
        if key not in fields:
            continue
        said = fields[key]
        if key == "emits":
            for item in said.value:
                line = item.at.line + 1
                yield Place(stanza=stanza, file=source.file, line=line, words=(item.value,))
        else:
            yield Place(stanza=stanza, file=source.file, line=said.key.line + 1)


def units(fields: Fields) -> Units | None:
    """What is said of systemd's units."""
    if "units" not in fields:
        return None
    said: Fields = fields.value("units")
    return Units(
        start=tuple(dict.fromkeys(each.value for each in said.value("start", []))),
        enabled=said.flag("enabled"),
        directories=tuple(each.value for each in said.value("directories", [])),
    )


def boot(source: Source, fields: Fields) -> Boot:
    """The events of a node's boot."""
    said: Fields = fields.value("boot", Fields())
    default = Boot()
    startup = said.value("startup_event", default.startup_event)
    events: tuple[BootEvent, ...] | None = None
    if not said.flag("enabled", default=True):
        events = ()
    elif "events" in said:
        events = tuple(event.value for event in said.value("events"))
        for event in said.value("events"):
            if event.value.name == startup:
                message = f"{quoted(startup)} is emitted before these anyway"
                source.report("clash", message, event.at, "leave it out")
    return Boot(
        startup_event=startup,
        events=events,
        runlevel=said.value("runlevel", default.runlevel),
        container=said.value("container") if "container" in said else default.container,
    )
