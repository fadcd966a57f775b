"""journalctl: the logs of units, as far as a log without times of its lines has it.

A job's log is what its processes wrote, line by line; nobody has put a time before each. So `short`
and its kin print what `cat` prints, and `--since` leaves out whole files that were written to
before only.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Final

from hostlab.errors import SpecError
from hostlab.init.initctl.surroundings import Answer, Command, Feed
from hostlab.init.logs.files import opened, read_last
from hostlab.init.logs.reader import LogReader
from hostlab.init.systemctl.line import JOURNALCTL, Line, Refused, read_line
from hostlab.init.systemctl.manager import Manager
from hostlab.init.systemctl.times import when
from hostlab.jobs.classes import JobClass
from hostlab.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO
from hostlab.spec.systemd.unit_names import is_unit_name

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor
    from hostlab.init.units.units import Units

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
MAX_FOLLOWED: Final = 256
"""Logs that one `-f` follows."""
_GROWS: Final = IN_CREATE | IN_MOVED_TO | IN_MODIFY
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
            if line.words:
                raise Refused(f"Failed to add match '{line.words[0]}': Invalid argument")
            manager = Manager(self.supervisor, units)
            if line.has("follow"):
                following = Following(self.supervisor, self._names(line, manager), line)
                return Answer(0, more=following.run)
            return Answer(0, self._text(line, manager))
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
        # What a process has written before this was asked is shown, though it is not in its file.
        self.supervisor.jobs.logs.flush()
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


class Following:
    """`journalctl -f`: the last lines of some logs, and what comes behind them."""

    def __init__(self, supervisor: JobSupervisor, names: list[str], line: Line) -> None:
        self._supervisor = supervisor
        self._names = names[:MAX_FOLLOWED]
        self._is_json = line.last("output") == "json"
        self._count = _count(line) if line.has("lines") else DEFAULT_LINES
        self._pattern = _pattern(line.last("grep")) if line.has("grep") else None

    async def run(self, feed: Feed) -> None:
        """Feed them until nobody is there."""
        manager = Manager(self._supervisor, self._supervisor.units or _no_units())
        changed = asyncio.Event()
        place = f"/proc/self/fd/{self._supervisor.place.log_dir}"
        watch = self._supervisor.watches.add(place, _GROWS, lambda mask, name: changed.set())
        readers = {name: LogReader(manager.log_path(name)) for name in self._names}
        cut = dict.fromkeys(readers, b"")
        try:
            for reader in readers.values():
                reader.skip_to_last(self._count)
            while True:
                changed.clear()
                for name, reader in readers.items():
                    for data in reader.read():
                        *lines, cut[name] = (cut[name] + data)[-MAX_BYTES:].split(b"\n")
                        if not await feed(self._shown(name, lines)):
                            return
                await changed.wait()
        finally:
            watch.close()
            for reader in readers.values():
                reader.close()

    def _shown(self, name: str, lines: list[bytes]) -> str:
        texts = [line.decode(errors="replace") for line in lines]
        kept = [each for each in texts if self._pattern is None or self._pattern.search(each)]
        return "".join(f"{_json(name, each) if self._is_json else each}\n" for each in kept)


def _no_units() -> Units:
    raise Refused("This init has no units.")


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
