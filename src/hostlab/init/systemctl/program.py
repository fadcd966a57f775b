"""systemctl: its verbs as a table, of which the reference page is made too (systemctl(1))."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hostlab.errors import UsageError
from hostlab.init.initctl.surroundings import Answer, Command
from hostlab.init.systemctl import control, links, show, texts
from hostlab.init.systemctl.line import SYSTEMCTL, Refused, read_line
from hostlab.init.systemctl.manager import Call, Manager

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor

PROGRAM: Final = "systemctl"
VERSION: Final = "systemd 252 (hostlab)\n-PAM -SELINUX default-hierarchy=hybrid\n"
"""Scripts of packages compare the number: its verbs and its output are what is meant."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of systemctl."""

    run: Callable[[Call], Awaitable[None]]
    usage: str
    what: str
    status: str = ""
    """What its exit status says beside 0 and 1."""


_NAMES: Final = "UNIT…"
_START: Final = "5 where there is no such unit"
VERBS: Final[Mapping[str, Verb]] = {
    "start": Verb(control.start, _NAMES, "Start units, and wait until they are ready.", _START),
    "stop": Verb(control.stop, _NAMES, "Stop units, and wait until they are gone.", _START),
    "restart": Verb(control.restart, _NAMES, "Stop and start; so does what stopped.", _START),
    "try-restart": Verb(control.restart, _NAMES, "The same, of those that run."),
    "condrestart": Verb(control.restart, _NAMES, "The same, its old name."),
    "reload": Verb(control.reload, _NAMES, "`ExecReload=`; an error for a unit without one."),
    "reload-or-restart": Verb(control.reload, _NAMES, "Reload those that can, restart others."),
    "try-reload-or-restart": Verb(control.reload, _NAMES, "The same, of those that run."),
    "reload-or-try-restart": Verb(control.reload, _NAMES, "The same, its old name."),
    "force-reload": Verb(control.reload, _NAMES, "The same, its older name."),
    "isolate": Verb(control.isolate, "TARGET", "Start a target, stop what it does not pull in."),
    "default": Verb(control.go_to, "", "isolate default.target"),
    "rescue": Verb(control.go_to, "", "isolate rescue.target"),
    "emergency": Verb(control.go_to, "", "isolate emergency.target"),
    "kill": Verb(control.kill, _NAMES, "Send a signal to the processes of units."),
    "reset-failed": Verb(control.reset_failed, "[UNIT…]", "Forget that units have failed."),
    "status": Verb(
        texts.status, "[UNIT…]", "How units are, with the end of their logs.",
        "3 when one does not run, 4 when there is no such unit",
    ),
    "show": Verb(show.show, "[UNIT…]", "Properties as `KEY=VALUE`."),
    "cat": Verb(texts.cat, _NAMES, "The files of units, drop-ins included."),
    "is-active": Verb(texts.is_active, _NAMES, "Whether one of them runs.", "3 when none does"),
    "is-failed": Verb(texts.is_failed, _NAMES, "Whether one of them has failed."),
    "is-enabled": Verb(texts.is_enabled, _NAMES, "Whether one of them is enabled, in any way."),
    "is-system-running": Verb(texts.is_system_running, "", "Whether the boot is over."),
    "list-units": Verb(texts.list_units, "[GLOB…]", "The units that are loaded."),
    "list-sockets": Verb(texts.list_units, "[GLOB…]", "Of these the sockets."),
    "list-timers": Verb(texts.list_units, "[GLOB…]", "Of these the timers."),
    "list-unit-files": Verb(texts.list_unit_files, "[GLOB…]", "All unit files, enabled or not."),
    "list-dependencies": Verb(texts.list_dependencies, "[UNIT…]", "What units pull in."),
    "list-jobs": Verb(control.nothing, "", "Nothing: requests are jobs of nobody here."),
    "enable": Verb(links.change, _NAMES, "Make the links of `[Install]`."),
    "disable": Verb(links.change, _NAMES, "Take away every link to units."),
    "reenable": Verb(links.change, _NAMES, "Both."),
    "preset": Verb(links.change, _NAMES, "Whichever the distribution wants."),
    "preset-all": Verb(links.change, "", "The same, of all."),
    "mask": Verb(links.change, _NAMES, "Let units lead to /dev/null."),
    "unmask": Verb(links.change, _NAMES, "Undo that."),
    "add-wants": Verb(links.change, "TARGET UNIT…", "Have a target want units."),
    "add-requires": Verb(links.change, "TARGET UNIT…", "Have a target require units."),
    "set-default": Verb(links.change, "TARGET", "What the boot starts."),
    "get-default": Verb(texts.get_default, "", "What the boot starts."),
    "daemon-reload": Verb(control.daemon_reload, "", "Run the generators, read all units anew."),
    "daemon-reexec": Verb(control.nothing, "", "Nothing: `telinit u` is meant."),
    "poweroff": Verb(control.go_down, "", "Stop everything, and end."),
    "halt": Verb(control.go_down, "", "The same."),
    "reboot": Verb(control.go_down, "", "Stop everything, and boot anew."),
    "exit": Verb(control.go_down, "", "poweroff"),
    "show-environment": Verb(links.show_environment, "", "Variables that every unit gets."),
    "set-environment": Verb(links.set_environment, "KEY=VALUE…", "Set some."),
    "unset-environment": Verb(links.set_environment, "KEY…", "Unset some."),
    "import-environment": Verb(control.nothing, "KEY…", "Nothing: a caller's are not known."),
}  # fmt: skip


class Systemctl:
    """Serves calls of systemctl."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self.supervisor = supervisor

    async def run(self, command: Command) -> Answer:
        """Carry out a call; whatever is wrong with it is in the answer."""
        units = self.supervisor.units
        if units is None:
            return Answer(1, err="This init has no units.\n")
        try:
            line = read_line(PROGRAM, command.arguments, SYSTEMCTL)
            if line.has("version"):
                return Answer(0, VERSION)
            if line.has("help"):
                return Answer(0, help_text())
            if line.last("root", "/") != "/":
                raise Refused("systemctl: only `/` can be the root of a running init's units.")
            name = line.words.pop(0) if line.words else "list-units"
            verb = VERBS.get(name)
            if verb is None:
                raise Refused(f"Unknown command verb {name}.")
            units.look()
            call = Call(Manager(self.supervisor, units), command, name, line)
            await verb.run(call)
        except Refused as refused:
            return Answer(refused.status, err=f"{refused.text}\n")
        except UsageError as error:
            return Answer(1, err=f"{error.message}\n")
        return Answer(call.status, out=_lines(call.out), err=_lines(call.err))


def _lines(texts_: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts_)


def help_text() -> str:
    """What `--help` prints."""
    lines = [f"{PROGRAM} [OPTIONS...] COMMAND ...", "", "Commands:"]
    lines += [f"  {f'{name} {verb.usage}':<36}{verb.what}" for name, verb in VERBS.items()]
    lines += ["", "Options:"]
    for option in SYSTEMCTL:
        if option.text:
            short = f"-{option.letter} " if option.letter else "   "
            name = f"--{option.long}" + ("=" if option.argument else "")
            lines.append(f"  {short}{name:<20}{option.text}")
    return _lines(lines)
