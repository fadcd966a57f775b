"""A line of cron as a job: a timer starts it, and it runs as cron would run it.

Each time it comes it is an instance of its own, for cron starts a command although the one of
before still runs. Its output goes to the job's log: nobody is sent mail, whatever MAILTO says.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

from hostlab.errors import SpecError
from hostlab.jobs import named_event
from hostlab.jobs.crontab import Line
from hostlab.spec.job import Expression, Job, Match
from hostlab.spec.source import quoted

DELAY: Final = "RANDOM_DELAY"
"""Minutes by which cronie starts the commands below it later, up to so many."""
STARTUP: Final = "startup"
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def job_of(line: Line, table: str, owner: str = "root") -> Job:
    """The job of a line; `table` names its file in the job's name, `owner` is whose table it is.

    SpecError when the user's name is none.
    """
    user = line.user or owner
    if not _USER.fullmatch(user):
        hint = "in this table the user stands behind the time"
        raise SpecError("cron", f"{quoted(user)} is no user's name", where=line.where, hint=hint)
    return Job(
        name=f"{table}.{line.where.line}",
        description=line.where.text.strip(),
        script=_script(line, user),
        environment=line.environment,
        user=user,
        task=True,
        start_on=Expression((_match(line),)),
        instance="" if line.schedule is None else "$AT",
    )


def _match(line: Line) -> Match:
    schedule = line.schedule
    if schedule is None:
        return Match(STARTUP)
    zone = () if schedule.zone is None else (f"ZONE={schedule.zone}",)
    minutes = dict(line.environment).get(DELAY, "0")
    delay = (f"DELAY={minutes}m",) if minutes.isdecimal() and int(minutes) else ()
    return Match(named_event.TIMER, (f"CRON={schedule.fields}", *zone, *delay))


def _script(line: Line, user: str) -> str:
    """For `/bin/sh -e`: the user's home and name, which only the node knows, then the command."""
    lines = [f"LOGNAME={user}", "export LOGNAME"]
    if "HOME" not in dict(line.environment):
        lines += [f"HOME=~{user}", "export HOME"]
    lines.append('cd "$HOME" 2>/dev/null || cd /')
    command = f'"$SHELL" -c {shlex.quote(line.command)}'
    if line.input is None:
        lines.append(f"exec {command}")
    else:
        lines.append(f"printf %s {shlex.quote(line.input)} | {command}")
    return "\n".join(lines) + "\n"
