"""The 35 stanzas of a `.conf`, one function each, as init/parse_job.c has them.

A stanza gets the draft, the scanner behind the keyword, and the keyword's offset; it leaves the
scanner at the start of the next line. `respawn delay`, `kill mode` and the further kinds of
`expect` are ours: Upstart rejects them, so no file that works there means anything else here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from msgspec.structs import replace

from hostlab.errors import SpecError
from hostlab.spec.condition import parse_on
from hostlab.spec.job import (
    UNLIMITED,
    Cgroup,
    Console,
    Expect,
    Job,
    KillMode,
    Process,
    Readiness,
    ResourceLimit,
    Said,
)
from hostlab.spec.signals import signal_number
from hostlab.spec.tokens import Scanner

RESOURCES = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "sigpending",
        "stack",
    ]
)
APPARMOR_LOAD = "/sbin/apparmor_parser -r -W "
"""What `apparmor load PROFILE` runs (init/apparmor.h)."""
INT_MAX = 2**31 - 1
ULONG_MAX = 2**64 - 1
OOM_NEVER = -1000

Closed = TypeVar("Closed", bound=StrEnum)
Stanza = Callable[["Draft", Scanner, int], None]


_OPENS_SCRIPT = re.compile(r"^\s*((pre|post)-(start|stop)\s+)?script\s*(#.*)?$", re.M)
ACCUMULATED = ("said", "export", "emits", "normal_exit", "cgroups")


class Draft:
    """The job as far as it has been read.

    What accumulates is kept apart, so that a file of many stanzas takes linear time.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.lists: dict[str, list[Any]] = {each: [*getattr(job, each)] for each in ACCUMULATED}
        self.remarks: list[SpecError] = []
        """What Upstart would reject, and can only be meant in one way."""
        self.environment = dict(job.environment)
        self.inherit = dict.fromkeys(job.inherit)

    def finish(self) -> Job:
        """The job that all of it makes."""
        return replace(
            self.job,
            environment=tuple(self.environment.items()),
            inherit=tuple(self.inherit),
            **{field: tuple(values) for field, values in self.lists.items()},
        )

    def set(self, scanner: Scanner, start: int, stanza: str, **changes: Any) -> None:
        """Change fields, and remember where that was said."""
        self.add(scanner, start, stanza, (), changes)

    def add(
        self,
        scanner: Scanner,
        start: int,
        stanza: str,
        words: tuple[str, ...],
        changes: Mapping[str, Any],
    ) -> None:
        """Change fields by words that are added to them, and remember which and where."""
        line = scanner.line(start)
        said = Said(stanza=stanza, file=scanner.file, line=line, words=words)
        self.lists["said"].append(said)
        if changes:
            self.job = replace(self.job, **changes)


def _integer(
    scanner: Scanner, what: str, low: int, high: int, *, base: int = 10, text: str | None = None
) -> int:
    """A number as strtol(3) reads it, within bounds; SpecError otherwise."""
    start = scanner.position
    text = scanner.word() if text is None else text
    digits = "0-7" if base == 8 else "0-9"
    if re.fullmatch(rf"\s*[+-]?[{digits}]{{1,20}}", text):
        value = int(text, base)
        if low <= value <= high:
            return value
    raise scanner.error(f"illegal {what} {text!r}", start)


def _choice(
    scanner: Scanner, kind: type[Closed], what: str, *, without: Container[Closed] = ()
) -> Closed:
    """A word of a closed set, less some that only others say; SpecError with the set."""
    start = scanner.position
    text = scanner.word()
    known = [each for each in kind if each not in without]
    if text not in known:
        raise scanner.error(f"unknown {what} {text!r}", start, hint=f"one of {', '.join(known)}")
    return kind(text)


def _second(scanner: Scanner, stanza: str, known: tuple[str, ...]) -> str:
    """The second word of a stanza, which is read with its quotes as keywords are."""
    start = scanner.position
    word = scanner.word(keep_quotes=True)
    if word not in known:
        hint = f"one of {', '.join(known)}"
        raise scanner.error(f"unknown stanza '{stanza} {word}'", start, hint=hint)
    return word


def _signal(scanner: Scanner) -> int:
    start = scanner.position
    text = scanner.word()
    number = signal_number(text)
    if number is None:
        if not re.fullmatch(r"\+?[0-9]{1,10}", text) or int(text) > INT_MAX:
            raise scanner.error(f"illegal signal {text!r}", start)
        number = int(text)
    return number


def _text(stanza: str, field: str) -> Stanza:
    """A stanza that is one word for one field."""

    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        value = scanner.word()
        scanner.end_line()
        draft.set(scanner, start, stanza, **{field: value})

    return read


def _words(stanza: str) -> Stanza:
    """A stanza whose words add to a field of its name."""

    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        if not scanner.has_token():
            raise scanner.error("expected token", scanner.position)
        words = scanner.words()
        draft.lists[stanza] += words
        draft.add(scanner, start, stanza, words, {})

    return read


def _flag(stanza: str, **changes: Any) -> Stanza:
    """A word that is a stanza by itself; what follows on its line is read as the next one."""

    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        draft.set(scanner, start, stanza, **changes)

    return read


def _task(draft: Draft, scanner: Scanner, start: int) -> None:
    scanner.end_line()
    draft.set(scanner, start, "task", task=True)


def _env(draft: Draft, scanner: Scanner, start: int) -> None:
    text = scanner.word()
    scanner.end_line()
    key, equals, value = text.partition("=")
    draft.inherit.pop(key, None)
    if equals:
        draft.environment[key] = value
    else:
        draft.environment.pop(key, None)
        draft.inherit[key] = None
    draft.set(scanner, start, "env")


def _on(stanza: str) -> Stanza:
    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        _second(scanner, stanza, ("on",))
        condition = parse_on(scanner)
        changes: dict[str, Any] = {f"{stanza}_on": condition}
        if stanza == "start":
            changes["manual"] = False
        draft.set(scanner, start, f"{stanza} on", **changes)

    return read


def _body(scanner: Scanner, start: int, kind: str) -> Process:
    """What stands behind `exec` or `script`."""
    if kind == "exec":
        return Process(exec=scanner.command())
    scanner.end_line()
    return Process(script=scanner.block("script", start))


def _main(kind: str) -> Stanza:
    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        body = _body(scanner, start, kind)
        draft.set(scanner, start, kind, exec=body.exec, script=body.script, argv=())

    return read


def _process(stanza: str) -> Stanza:
    field = stanza.replace("-", "_")

    def read(draft: Draft, scanner: Scanner, start: int) -> None:
        if scanner.has_token():
            kind = _second(scanner, stanza, ("exec", "script"))
            body = _body(scanner, start, kind)
        else:
            body = _bare_script(draft, scanner, start, stanza)
        draft.set(scanner, start, stanza, **{field: body})

    return read


def _bare_script(draft: Draft, scanner: Scanner, start: int, stanza: str) -> Process:
    """Lines behind a `pre-start` that forgot its `script`, when an `end script` closes them."""
    here = scanner.position
    scanner.end_line()
    try:
        script = scanner.block("script", start)
    except SpecError:
        script = None
    if script is None or _OPENS_SCRIPT.search(script):
        # What `end script` there is belongs to another.
        scanner.position = here
        raise scanner.error("expected token", here, hint="one of exec, script")
    reason = f"{stanza!r} lacks its `script`, which the lines behind it can only be"
    draft.remarks.append(scanner.error(reason, start))
    return Process(script=script)


def _expect(draft: Draft, scanner: Scanner, start: int) -> None:
    old = draft.job.readiness
    here = scanner.position
    text = scanner.word()
    if text == "timeout":
        deadline_s = _integer(scanner, "interval", 0, INT_MAX)
        new = replace(old, deadline_s=float(deadline_s))
    else:
        scanner.position = here
        kind = _choice(scanner, Expect, "kind of expect", without=(Expect.BUS,))
        new = Readiness(kind=kind, deadline_s=old.deadline_s)
        match kind:
            case Expect.FD:
                new = replace(new, fd=_integer(scanner, "descriptor", 0, INT_MAX))
            case Expect.PORT:
                new = replace(new, port=_integer(scanner, "port", 1, 65535))
            case Expect.FILE:
                new = replace(new, path=scanner.word())
            case _:
                pass
    scanner.end_line()
    draft.set(scanner, start, "expect", readiness=new)


def _kill(draft: Draft, scanner: Scanner, start: int) -> None:
    kill = draft.job.kill
    match _second(scanner, "kill", ("timeout", "signal", "mode")):
        case "timeout":
            timeout_s = _integer(scanner, "interval", 0, INT_MAX)
            kill = replace(kill, timeout_s=float(timeout_s))
        case "signal":
            kill = replace(kill, signal=_signal(scanner))
        case _:
            kill = replace(kill, mode=_choice(scanner, KillMode, "kill mode"))
    scanner.end_line()
    draft.set(scanner, start, "kill", kill=kill)


def _reload(draft: Draft, scanner: Scanner, start: int) -> None:
    _second(scanner, "reload", ("signal",))
    number = _signal(scanner)
    scanner.end_line()
    draft.set(scanner, start, "reload", reload_signal=number)


def _apparmor(draft: Draft, scanner: Scanner, start: int) -> None:
    kind = _second(scanner, "apparmor", ("load", "switch"))
    profile = scanner.word()
    scanner.end_line()
    if kind == "load":
        draft.set(scanner, start, "apparmor", security=Process(exec=APPARMOR_LOAD + profile))
    else:
        draft.set(scanner, start, "apparmor", apparmor_switch=profile)


def _respawn(draft: Draft, scanner: Scanner, start: int) -> None:
    respawn = draft.job.respawn
    if not scanner.has_token():
        respawn = replace(respawn, enabled=True)
    elif _second(scanner, "respawn", ("limit", "delay")) == "delay":
        here = scanner.position
        low = _integer(scanner, "interval", 0, INT_MAX)
        high = _integer(scanner, "interval", 0, INT_MAX)
        if high < low:
            raise scanner.error("illegal delay: the longest is below the first", here)
        respawn = replace(respawn, delay_min_s=float(low), delay_max_s=float(high))
    else:
        here = scanner.position
        text = scanner.word()
        if text == "unlimited":
            respawn = replace(respawn, limit=0, interval_s=0.0)
        else:
            scanner.position = here
            limit = _integer(scanner, "limit", 0, INT_MAX)
            interval_s = _integer(scanner, "interval", 0, INT_MAX)
            respawn = replace(respawn, limit=limit, interval_s=float(interval_s))
    scanner.end_line()
    draft.set(scanner, start, "respawn", respawn=respawn)


def _normal(draft: Draft, scanner: Scanner, start: int) -> None:
    _second(scanner, "normal", ("exit",))
    ends: list[int] = []
    while scanner.has_token() or not ends:
        here = scanner.position
        text = scanner.word()
        number = signal_number(text)
        if number is not None:
            ends.append(number << 8)
        elif re.fullmatch(r"\+?[0-9]{1,10}", text) and int(text) <= INT_MAX:
            ends.append(int(text))
        else:
            raise scanner.error(f"illegal exit {text!r}: neither a status nor a signal", here)
    scanner.end_line()
    draft.lists["normal_exit"] += ends
    draft.set(scanner, start, "normal exit")


def _console(draft: Draft, scanner: Scanner, start: int) -> None:
    console = _choice(scanner, Console, "console")
    scanner.end_line()
    draft.set(scanner, start, "console", console=console)


def _umask(draft: Draft, scanner: Scanner, start: int) -> None:
    umask = _integer(scanner, "umask", 0, 0o777, base=8)
    scanner.end_line()
    draft.set(scanner, start, "umask", umask=umask)


def _nice(draft: Draft, scanner: Scanner, start: int) -> None:
    nice = _integer(scanner, "nice value", -20, 19)
    scanner.end_line()
    draft.set(scanner, start, "nice", nice=nice)


def _oom(draft: Draft, scanner: Scanner, start: int) -> None:
    here = scanner.position
    text = scanner.word()
    if text == "score":
        here = scanner.position
        text = scanner.word()
        if text != "never":
            scanner.position = here
            score = _integer(scanner, "oom score", -1000, 1000)
    elif text != "never":
        scanner.position = here
        old = _integer(scanner, "oom adjustment", -17, 15)
        # The older scale: C divides towards zero, -17 is never and 15 is first.
        score = int(old * 1000 / (17 if old < 0 else 15))
    if text == "never":
        score = OOM_NEVER
    scanner.end_line()
    draft.set(scanner, start, "oom", oom_score_adj=score)


def _bound(scanner: Scanner) -> int:
    """One side of a resource limit, as strtoul(3) reads it."""
    here = scanner.position
    if scanner.word() == "unlimited":
        return UNLIMITED
    scanner.position = here
    value = _integer(scanner, "limit", -ULONG_MAX, ULONG_MAX) % (ULONG_MAX + 1)
    return UNLIMITED if value == ULONG_MAX else value


def _limit(draft: Draft, scanner: Scanner, start: int) -> None:
    here = scanner.position
    resource = scanner.word()
    if resource not in RESOURCES:
        hint = f"one of {', '.join(sorted(RESOURCES))}"
        raise scanner.error(f"unknown resource {resource!r}", here, hint=hint)
    soft = _bound(scanner)
    # Upstart rejects a single value; whoever writes one means both, as in a systemd unit.
    hard = _bound(scanner) if scanner.has_token() else soft
    new = ResourceLimit(resource=resource, soft=soft, hard=hard)
    scanner.end_line()
    others = tuple(limit for limit in draft.job.limits if limit.resource != resource)
    draft.set(scanner, start, "limit", limits=(*others, new))


def _cgroup(draft: Draft, scanner: Scanner, start: int) -> None:
    if not scanner.has_token():
        raise scanner.error("expected token", scanner.position)
    words = [scanner.word()]
    while scanner.has_token() and len(words) < 4:
        words.append(scanner.word())
    scanner.end_line()
    # The number of words tells what they are: CTRL, CTRL NAME, CTRL KEY VALUE, all four.
    name = words[1] if len(words) in (2, 4) else None
    key, value = words[-2:] if len(words) > 2 else (None, None)
    new = Cgroup(controller=words[0], name=name, key=key, value=value)
    draft.lists["cgroups"].append(new)
    draft.set(scanner, start, "cgroup")


STANZAS: dict[str, Stanza] = {
    "instance": _text("instance", "instance"),
    "description": _text("description", "description"),
    "author": _text("author", "author"),
    "version": _text("version", "version"),
    "env": _env,
    "export": _words("export"),
    "start": _on("start"),
    "stop": _on("stop"),
    "emits": _words("emits"),
    "exec": _main("exec"),
    "script": _main("script"),
    "pre-start": _process("pre-start"),
    "post-start": _process("post-start"),
    "pre-stop": _process("pre-stop"),
    "post-stop": _process("post-stop"),
    "expect": _expect,
    "task": _task,
    "kill": _kill,
    "reload": _reload,
    "respawn": _respawn,
    "normal": _normal,
    "console": _console,
    "umask": _umask,
    "nice": _nice,
    "oom": _oom,
    "limit": _limit,
    "chroot": _text("chroot", "chroot"),
    "chdir": _text("chdir", "directory"),
    "setuid": _text("setuid", "user"),
    "setgid": _text("setgid", "group"),
    # As in Upstart these two do not look at the rest of their line.
    "debug": _flag("debug", debug=True),
    "manual": _flag("manual", manual=True, start_on=None),
    "usage": _text("usage", "usage"),
    "apparmor": _apparmor,
    "cgroup": _cgroup,
}
