"""Upstart's initctl and its other names: what they do to the engine, and what they print.

The words, the texts and the statuses are util/initctl.c's and initctl(8)'s: job scripts, packages
and people compare them. Output goes to standard output unless `--quiet`; an error is
`PROGRAM: TEXT` on standard error, with status 1.

Without arguments `start`, `stop`, `restart`, `reload`, `status` and `usage` mean the job from which
they are called; then they do not wait, because they would wait for their caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hostlab.errors import UsageError
from hostlab.init.initctl.call import Call
from hostlab.init.initctl.environment import ENVIRONMENT_COMMANDS
from hostlab.init.initctl.jobs import JOB_COMMANDS, UPSTART_VERSION
from hostlab.init.initctl.options import COMMON, Option, Refusal, help_text, read_line
from hostlab.init.initctl.power import PROGRAMS, Power
from hostlab.init.initctl.surroundings import Answer, Command, Init

INITCTL: Final = "initctl"
COMMANDS: Final = {**JOB_COMMANDS, **ENVIRONMENT_COMMANDS}
NAMES: Final = (INITCTL, "start", "stop", "restart", "reload", "status", "emit", *PROGRAMS)
"""What the programs are called; called by the name of any command, it is that command."""
_HELP_COMMAND: Final = "help"
_OPTIONS: Final = (
    *COMMON,
    Option("", "session", text="use existing D-Bus session bus (accepted, without effect)"),
    Option("", "system", text="use D-Bus system bus (accepted, without effect)"),
    Option("", "dest", "NAME", text="D-Bus name of the init daemon (accepted, without effect)"),
    Option("", "user", text="run in user mode (accepted, without effect)"),
)


class Initctl:
    """Serves calls of Upstart's programs."""

    def __init__(
        self,
        init: Init,
        *,
        is_waiting: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`is_waiting` says whether the caller with a token is still there."""
        self.init = init
        self.power = Power(init, is_waiting=is_waiting, clock=clock)

    async def run(self, command: Command) -> Answer:
        """Carry out a call; whatever is wrong with it is in the answer."""
        try:
            if command.program in PROGRAMS:
                answer = await self.power.run(command)
            else:
                answer = await self._run(command)
        except Refusal as refusal:
            advice = f"Try `{command.program} --help' for more information.\n"
            text = f"{command.program}: {refusal.text}\n"
            return Answer(1, err=text + advice if refusal.advise else text)
        except UsageError as error:
            return Answer(1, err=f"{command.program}: {_told(error)}\n")
        return answer

    async def _run(self, command: Command) -> Answer:
        name, words = command.program, command.arguments
        if name not in COMMANDS:
            line = read_line(words, _OPTIONS, until_argument=True)
            if not line.arguments:
                if line.has("help"):
                    return Answer(0, _general_help(command.program))
                if line.has("version"):
                    return Answer(0, _version(command.program))
                raise Refusal("missing command", advise=True)
            name = line.arguments[0]
            if name == _HELP_COMMAND:
                return Answer(0, _list_of_commands(command.program))
            if name not in COMMANDS:
                raise Refusal(f"invalid command: {name}", advise=True)
            before = len(words) - len(line.arguments)
            words = (*words[:before], *words[before + 1 :])
        verb = COMMANDS[name]
        options = (*_OPTIONS, *verb.options)
        line = read_line(words, options)
        if line.has("help"):
            stem = "" if name == command.program else f"{name} "
            text = help_text(command.program, f"{stem}[OPTION]... {verb.usage}", verb.what, options)
            return Answer(0, text)
        if line.has("version"):
            return Answer(0, _version(command.program))
        done = await verb.run(Call(name, self.init, command, line))
        answer = done if isinstance(done, Answer) else Answer(0, done)
        return Answer(answer.status) if line.has("quiet") else answer


def _told(error: UsageError) -> str:
    """What Upstart says of a request that the engine refuses."""
    return error.message[:1].upper() + error.message[1:]


def _version(program: str) -> str:
    return f"{program} (upstart {UPSTART_VERSION})\n"


def _general_help(program: str) -> str:
    usage = "[OPTION]... COMMAND [OPTION]... [ARG]..."
    text = help_text(program, usage, "", _OPTIONS)
    return f"{text}\nFor a list of commands, try `{program} help'.\n"


def _list_of_commands(program: str) -> str:
    lines = [f"  {name:<30}{verb.what}\n" for name, verb in COMMANDS.items()]
    advice = f"For more information on a command, try `{program} COMMAND --help'.\n"
    return "Commands:\n" + "".join(lines) + "\n" + advice
