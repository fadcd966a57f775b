"""The command line's entry: which command is where, and the one place that prints errors.

Commands are imported when they are called, so that starting costs what the command needs.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from hostlab.cli.lazy import LazyGroup
from hostlab.errors import Problem
from hostlab.terminal import plain
from hostlab.version import __version__

COMMANDS: Final = {
    "validate": ("labs", "Read a description and name every error in it."),
    "plan": ("labs", "Show what `up` would do, and why."),
    "up": ("labs", "Stage a lab, or change a running one into its description."),
    "apply": ("labs", "Change a running lab; only what differs is touched."),
    "check": ("checks", "Judge the checks of a lab."),
    "probe": ("probe", "Ask a host one thing, from anywhere: tcp, http, dns, smtp and more."),
    "talk": ("talk", "Talk to a server by hand or by a script: tcp, tls, unix."),
    "report": ("reports", "Look at reports of checks: show, page, compare, merge."),
    "down": ("labs", "Take a lab down and leave nothing."),
    "ls": ("labs", "List the labs that are up."),
    "status": ("labs", "Show a lab's nodes and jobs."),
    "exec": ("inside", "Run a command in nodes."),
    "shell": ("inside", "Open a shell in a node."),
    "logs": ("inside", "Show what a node's jobs wrote."),
    "job": ("job", "Jobs and events: list, start, emit, who waits; check and draw job files."),
    "monitor": ("monitor", "Follow the events of a node, or of a whole lab."),
    "bus": ("bus", "Ask a message bus: names, objects, properties, calls, signals."),
    "init": ("init", "Be an init: run Upstart jobs here, without a lab."),
    "fault": ("fault", "Break something on purpose, see what holds, mend it."),
    "firewall": ("firewall", "Stage, compare, prove and apply packet filters."),
    "task": ("task", "Run programs that go on without anybody: start, check, list, stop."),
    "cp": ("inside", "Copy files into and out of nodes."),
    "capture": ("look", "Write an interface's packets as pcapng to standard output."),
    "link": ("link", "Show or change what a cable does: delay, loss, rate."),
    "devices": ("devices", "List block and USB devices as kernel, udev and UDisks2 see them."),
    "device": ("device", "Plug things into nodes and pull them out."),
    "fdb": ("fdb", "Show which MAC address is behind which port or end of a VXLAN."),
    "neighbours": ("neighbours", "Show which MAC address each IP address has, as nodes know it."),
    "tap": ("tap", "Give a program of this machine a port of a segment."),
    "graph": ("look", "Draw a lab: text, dot, mermaid or SVG."),
    "addresses": ("addresses", "Show who has which address, also for /etc/hosts and the DNS."),
    "routes": ("routes", "Show who has which route from whom, as the kernels have it."),
    "path": ("path", "Follow the way from one node to another through the kernels."),
    "namespaces": ("look", "Show every namespace of a lab or of the machine."),
    "capabilities": ("look", "Show the capabilities of a process or a file."),
    "differences": ("look", "Tell what a node does not reproduce of a real host."),
    "doctor": ("machine", "Tell what this machine offers, what it lacks, and the remedy."),
    "audit": ("machine", "Prove that nothing of any lab is left, or name what is."),
    "schema": ("machine", "Print the JSON Schema of descriptions, for editors."),
    "import": (
        "imports",
        "Turn others' files into descriptions: Compose, GraphML, goss.",
    ),
    "generate": ("imports", "Print the description of a network with a regular form."),
    "completion": ("machine", "Print the completion script for a shell."),
}
"""Command -> (module, one line of help)."""


@click.group(
    cls=LazyGroup,
    lazily=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: hostlab up examples/hello.yaml && hostlab check hello && hostlab down hello",
)
@click.version_option(__version__, prog_name="hostlab")
def cli() -> None:
    """A host is a description: stage it on this machine, run it, check it."""


def main() -> None:
    """Run a command; every Problem and kernel error ends here, as text and exit status.

    0 done, 1 a check or job failed, 2 the user's input, 3 the machine lacks something,
    4 hostlab's own fault.
    """
    if sys.stderr:
        faulthandler.enable()  # whatever crashes the interpreter says where it was
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # not every locale has a check mark
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status of a command line."""
    return guarded(lambda: cli.main(arguments, prog_name="hostlab", standalone_mode=False))


def guarded(command: Callable[[], Any]) -> int:
    """The exit status of a command; what goes wrong in it is printed."""
    try:
        result: Any = command()
    except Problem as problem:
        print_problem(problem)
        return problem.exit_code
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        (_meaning_json(error) or error).show()
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = f" ({error.filename})" if error.filename else ""
        print(plain(f"hostlab: {error.strerror or error}{what}"), file=sys.stderr)
        return 4
    return result if isinstance(result, int) else 0


def _meaning_json(error: click.ClickException) -> click.UsageError | None:
    """By its letters `--format` is next to `--report`; who writes it mostly means `--json`."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return None
    name = error.option_name
    has_json = any("--json" in option.opts for option in error.ctx.command.params)
    if name not in ("--format", "--output") or not has_json:
        return None
    return click.UsageError(f"No such option '{name}'. Did you mean '--json'?", error.ctx)


def print_problem(problem: Problem) -> None:
    """A Problem on standard error: its place and line first, then what to do."""
    print(f"hostlab: {problem}" if problem.where is None else str(problem), file=sys.stderr)


if __name__ == "__main__":
    main()
