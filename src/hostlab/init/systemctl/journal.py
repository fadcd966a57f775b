"""journalctl: the logs of units, as far as a log without times of its lines has it.

A job's log is what its processes wrote, line by line; nobody has put a time before each. So `short`
and its kin print what `cat` prints, and `--since` leaves out whole files that were written to
before only.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Final

from hostlab.errors import SpecError
from hostlab.init.initctl.surroundings import Answer, Command
from hostlab.init.logs.files import opened, read_last
from hostlab.init.systemctl.line import JOURNALCTL, Line, Refused, read_line
from hostlab.init.systemctl.manager import Manager
from hostlab.init.systemctl.times import when
from hostlab.jobs.classes import JobClass
from hostlab.spec.systemd.unit_names import is_unit_name

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor

PROGRAM: Final = "journalctl"
VERSION: Final = "systemd 252 (hostlab)\n"
MAX_LINES: Final = 100_000
"""Of one answer; more are the log's files, which `hostlab job log` reads."""
MAX_BYTES: Final = 16 << 20
DEFAULT_LINES: Final = 10
FORMATS: Final = frozenset(
    {"short", "short-iso", "short-full", "short-precise", "short-monotonic", "short-unix",
     "with-unit", "verbose", "cat", "json"}
)  # fmt: skip
EMPTY: Final = "-- No entries --\n"


class Journalctl:
    """Serves calls of journalctl."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self.supervisor = supervisor

    async def run(self, command: Command) -> Answer:
        """Carry out a call."""
        units = self.supervisor.units
        if units is None:
            return Answer(1, err="This init has no units.\n")
        try:
            line = read_line(PROGRAM, command.arguments, JOURNALCTL)
            if line.has("version"):
                return Answer(0, VERSION)
            if any(line.has(each) for each in ("sync", "flush", "rotate")):
                return Answer()
            return Answer(0, self._text(line, Manager(self.supervisor, units)))
        except Refused as refused:
            return Answer(refused.status, err=f"{refused.text}\n")
        except SpecError as error:
            return Answer(1, err=f"Failed to parse timestamp: {error.message}\n")

    def _text(self, line: Line, manager: Manager) -> str:
        kind = line.last("output", "short")
        if kind not in FORMATS:
            raise Refused(f"Unknown output format '{kind}'.")
        count = _count(line)
        since = when(line.last("since")) if line.has("since") else None
        found: list[tuple[str, str]] = []
        for name in self._names(line, manager):
            found += ((name, each) for each in _lines(manager.log_path(name), count, since))
        if line.has("grep"):
            pattern = _pattern(line.last("grep"))
            found = [each for each in found if pattern.search(each[1])]
        found = found[-count:] if count else []
        if line.has("reverse"):
            found.reverse()
        if not found:
            return "" if line.has("quiet") else EMPTY
        if kind == "json":
            return "".join(f"{_json(name, text)}\n" for name, text in found)
        return "".join(f"{text}\n" for _, text in found)

    def _names(self, line: Line, manager: Manager) -> list[str]:
        words = [*line.options.get("unit", ()), *line.options.get("identifier", ())]
        if words:
            return [manager.own_name(name) for name in manager.named(words)]
        classes: dict[str, JobClass] = self.supervisor.jobs.engine.classes
        return [name for name in classes if is_unit_name(name)]


def _count(line: Line) -> int:
    if not line.has("lines"):
        return MAX_LINES
    said = line.last("lines") or str(DEFAULT_LINES)
    if said == "all":
        return MAX_LINES
    if not said.isdigit():
        raise Refused(f"Failed to parse lines '{said}'")
    return min(int(said), MAX_LINES)


def _lines(path: str, count: int, since: float | None) -> list[str]:
    with opened(path) as files:
        recent = [fd for fd in files if since is None or os.fstat(fd).st_mtime >= since]
        data = read_last(recent, count) if count else b""
    text = data[-MAX_BYTES:].decode(errors="replace")
    return text.splitlines()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        # As journalctl: a pattern without capitals means both cases.
        return re.compile(text, 0 if text != text.lower() else re.IGNORECASE)
    except re.error as error:
        raise Refused(f'Bad pattern "{text}": {error}') from None


def _json(name: str, text: str) -> str:
    entry = {
        "MESSAGE": text,
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": name.rpartition(".")[0],
        "_SYSTEMD_UNIT": name,
        "_HOSTNAME": os.uname().nodename,
    }
    return json.dumps(entry, ensure_ascii=False)
