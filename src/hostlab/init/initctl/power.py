"""telinit, runlevel, shutdown, reboot, halt and poweroff, with Upstart's meaning.

`telinit` and `shutdown` change the runlevel and do not wait for what that starts and stops, as
sysvinit never did. `shutdown` with a time stays in the foreground until then; when it is ended
meanwhile, or somebody says `shutdown -c`, nothing happens. There is one at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from hostlab.init.initctl.options import COMMON, Line, Option, Refusal, help_text, read_line
from hostlab.init.initctl.surroundings import Answer, Command, Down, Init
from hostlab.jobs.boot import HALT, NO_RUNLEVEL, REBOOT, SINGLE
from hostlab.jobs.expression import Environment

LEVELS: Final = "0123456SsQqUu"
MINUTE_S: Final = 60
DAY_MINUTES: Final = 24 * 60
IGNORED: Final = tuple(Option(letter) for letter in "anfFy")
IGNORED_WITH_ARGUMENT: Final = (Option("i", argument="LEVEL"), Option("t", argument="SECS"))


class Aim(msgspec.Struct, frozen=True):
    """Where a shutdown leads."""

    name: str
    """As the warning has it."""
    down: Down | None
    """None is single user."""
    environment: Environment = ()


MAINTENANCE: Final = Aim("maintenance", None)
_AIMS: Final = {
    "r": Aim("reboot", Down.REBOOT),
    "h": Aim("halt", Down.HALT),
    "H": Aim("halt", Down.HALT, (("INIT_HALT", "HALT"),)),
    "P": Aim("power off", Down.POWEROFF, (("INIT_HALT", "POWEROFF"),)),
}


class Planned(msgspec.Struct):
    """A shutdown that waits for its time."""

    token: str
    cancelled: asyncio.Event


class Power:
    """The programs about going down, and the shutdown that waits."""

    def __init__(
        self,
        init: Init,
        *,
        is_waiting: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`is_waiting` says whether the caller with a token is still there."""
        self.init = init
        self.is_waiting = is_waiting
        self.clock = clock
        self._planned: Planned | None = None

    async def run(self, command: Command) -> Answer:
        """Carry out one program; Refusal when it is none or wrong."""
        program = PROGRAMS[command.program]
        options = (*COMMON, *program.options)
        line = read_line(command.arguments, options)
        if line.has("help"):
            text = help_text(command.program, f"[OPTION]... {program.usage}", program.what, options)
            return Answer(0, text)
        if line.has("version"):
            return Answer(0, f"{command.program} (upstart)\n")
        answer = await program.run(self, command, line)
        return Answer(answer.status) if line.has("quiet") else answer

    async def telinit(self, command: Command, line: Line) -> Answer:
        """Change the runlevel, or `q` and `u`."""
        if not line.arguments:
            raise Refusal("missing runlevel", advise=True)
        level = line.arguments[0]
        if len(level) != 1 or level not in LEVELS:
            raise Refusal(f"illegal runlevel: {level}", advise=True)
        pairs = (word.partition("=") for word in line.options.get("e", ()))
        environment = tuple((key, value) for key, _, value in pairs)
        match level.upper():
            case "Q":
                self.init.reload_configuration()
            case "U":
                self.init.reexec()
            case "0":
                self.init.go_down(Down.HALT, environment, force=False, token=command.token)
            case "6":
                self.init.go_down(Down.REBOOT, environment, force=False, token=command.token)
            case changed:
                self.init.change_runlevel(changed, environment, token=command.token)
        return Answer()

    async def runlevel(self, command: Command, _: Line) -> Answer:
        """The runlevel before and now; what the environment says goes first."""
        said = command.environment.get("RUNLEVEL")
        if said is not None:
            before = command.environment.get("PREVLEVEL")
            levels = (before or NO_RUNLEVEL)[0], (said or NO_RUNLEVEL)[0]
        else:
            levels = self.init.runlevel or (NO_RUNLEVEL, NO_RUNLEVEL)
        if levels[1] == NO_RUNLEVEL:
            return Answer(1, "unknown\n")
        return Answer(0, f"{levels[0]} {levels[1]}\n")

    async def reboot(self, command: Command, line: Line) -> Answer:
        """reboot, halt, poweroff: a shutdown at once; with -f, or when that is on, without it."""
        down = Down(command.program)
        if down is Down.HALT and line.has("poweroff"):
            down = Down.POWEROFF
        if line.has("wtmp-only"):
            return Answer()
        levels = self.init.runlevel
        force = line.has("force") or (levels is not None and levels[1] in (HALT, REBOOT))
        environment = {
            Down.REBOOT: (),
            Down.HALT: _AIMS["H"].environment,
            Down.POWEROFF: _AIMS["P"].environment,
        }[down]
        given = () if force else environment
        self.init.go_down(down, given, force=force, token=command.token)
        return Answer()

    async def shutdown(self, command: Command, line: Line) -> Answer:
        """A shutdown now or later."""
        aim = MAINTENANCE
        # The last one that was given counts.
        for letter in line.options:
            aim = _AIMS.get(letter, aim)
        words = list(line.arguments)
        when = line.options.get("g", [None])[-1]
        is_cancel = line.has("c")
        if when is None and not is_cancel:
            if not words:
                raise Refusal("time expected", advise=True)
            when = words.pop(0)
        delay = 0 if when is None else _delay_minutes(when, command.asked_at)
        message = "".join(f"{word} " for word in words) + ("\r\n" if words else "")
        if self._planned is not None and not self.is_waiting(self._planned.token):
            self._planned = None
        if is_cancel:
            return self._cancel(message)
        if self._planned is not None:
            raise Refusal("Another shutdown is already running")
        if not delay or line.has("k"):
            self.init.broadcast(_warning(aim, delay, message))
            if not line.has("k"):
                self._go(aim, command.token)
            return Answer()
        return await self._later(command, aim, delay, message)

    def _cancel(self, message: str) -> Answer:
        if self._planned is None:
            raise Refusal("Cannot find pid of running shutdown")
        self._planned.cancelled.set()
        self._planned = None
        if message:
            self.init.broadcast(message)
        return Answer()

    async def _later(self, command: Command, aim: Aim, delay: int, message: str) -> Answer:
        """Wait, with a warning now and then; nothing happens when the caller has gone."""
        planned = self._planned = Planned(command.token, asyncio.Event())
        try:
            for left in range(delay, 0, -1):
                if left == delay or _is_warned(left):
                    self.init.broadcast(_warning(aim, left, message))
                until = command.asked_at + (delay - left + 1) * MINUTE_S
                if await _is_set(planned.cancelled, until - self.clock()):
                    return Answer(0, err="shutdown: Shutdown cancelled\n")
                if not self.is_waiting(command.token):
                    return Answer()
            self.init.broadcast(_warning(aim, 0, message))
            self._go(aim, command.token)
            return Answer()
        finally:
            if self._planned is planned:
                self._planned = None

    def _go(self, aim: Aim, token: str) -> None:
        if aim.down is None:
            self.init.change_runlevel(SINGLE, aim.environment, token=token)
        else:
            self.init.go_down(aim.down, aim.environment, force=False, token=token)


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event happens within a time."""
    if seconds <= 0:
        return event.is_set()
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _delay_minutes(when: str, now: float) -> int:
    """Minutes from now; Refusal when it is no time."""
    if when == "now":
        return 0
    if ":" not in when:
        minutes = when.strip().removeprefix("+")
        if not (minutes.isascii() and minutes.isdigit() and len(minutes) < 8):
            raise Refusal("illegal time value", advise=True)
        return int(minutes)
    hour, _, minute = when.partition(":")
    if not (hour.isascii() and hour.isdigit() and int(hour[:8]) < 24):
        raise Refusal("illegal hour value", advise=True)
    if not (minute.isascii() and minute.isdigit() and int(minute[:8]) < 60):
        raise Refusal("illegal minute value", advise=True)
    local = time.localtime(now)
    minutes_left = int(hour) * 60 + int(minute) - (local.tm_hour * 60 + local.tm_min)
    return minutes_left % DAY_MINUTES


def _warning(aim: Aim, minutes: int, message: str) -> str:
    when = f"in {minutes} minute{'' if minutes == 1 else 's'}" if minutes else "NOW"
    return f"\rThe system is going down for {aim.name} {when}!\r\n{message}"


def _is_warned(minutes: int) -> bool:
    """Whether people are told at this many minutes before: ever more often (util/shutdown.c)."""
    for bound, every in ((10, 1), (60, 15), (180, 30)):
        if minutes < bound:
            return minutes % every == 0
    return minutes % 60 == 0


class Program(msgspec.Struct, frozen=True):
    """A program that is no command of initctl."""

    run: Callable[[Power, Command, Line], Awaitable[Answer]]
    usage: str
    what: str
    options: tuple[Option, ...] = ()


_REBOOT_OPTIONS: Final = (
    Option("n", "no-sync", text="don't sync before reboot or halt"),
    Option("f", "force", text="force reboot or halt, don't call shutdown(8)"),
    Option("p", "poweroff", text="switch off the power when called as halt"),
    Option("w", "wtmp-only", text="don't actually reboot or halt, just write wtmp record"),
    *(Option(letter) for letter in "dih"),
)
_SHUTDOWN_OPTIONS: Final = (
    Option("r", text="reboot after shutdown"),
    Option("h", text="halt or power off after shutdown"),
    Option("H", text="halt after shutdown (implies -h)"),
    Option("P", text="power off after shutdown (implies -h)"),
    Option("c", text="cancel a running shutdown"),
    Option("k", text="only send warnings, don't shutdown"),
    Option("g", argument="TIME"),
    *IGNORED,
    *IGNORED_WITH_ARGUMENT,
)
PROGRAMS: Final[Mapping[str, Program]] = {
    "telinit": Program(
        Power.telinit,
        "RUNLEVEL",
        "Change runlevel.",
        (
            Option("e", argument="KEY=VALUE", text="set environment variable in the event"),
            Option("t", argument="SECONDS"),
        ),
    ),
    "runlevel": Program(Power.runlevel, "[UTMP]", "Output previous and current runlevel."),
    "shutdown": Program(
        Power.shutdown, "TIME [MESSAGE]", "Bring the system down.", _SHUTDOWN_OPTIONS
    ),
    "reboot": Program(Power.reboot, "", "Reboot the system.", _REBOOT_OPTIONS),
    "halt": Program(Power.reboot, "", "Halt the system.", _REBOOT_OPTIONS),
    "poweroff": Program(Power.reboot, "", "Power off the system.", _REBOOT_OPTIONS),
}
