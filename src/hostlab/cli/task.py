"""Commands about tasks: programs that run on, with nobody who watches them."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, Final

import click

from hostlab.cli.output import json_option, print_json
from hostlab.errors import Failed, UsageError

MAX_COMMAND: Final = 50
"""Characters of a command that `ls` shows, as lanĉo's."""
_PASS_ON: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class _Warning(click.Group):
    """What a task did not do is said as lanĉo says it: time, command, sentence; exit 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failed as problem:
            now = datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S")
            what = f"{now} [WARN/{ctx.invoked_subcommand}] {problem.message}"
            print(what + (f"\n  hint: {problem.hint}" if problem.hint else ""), file=sys.stderr)
            return problem.exit_code


@click.group(
    "task", cls=_Warning, epilog="Example: hostlab task testns run first-task openssl speed aes"
)
@click.argument("namespace")
@click.pass_context
def task_command(ctx: click.Context, namespace: str) -> None:
    """Run programs that go on without anybody: start, check, list and stop them, no daemon needed.

    A task is named within a NAMESPACE, which `init` makes: root for any user, or a user for
    himself. A task runs as long as one of its processes does, however far that has forked away.
    """
    from hostlab.tasks.places import checked_name

    ctx.obj = checked_name("namespace", namespace)


def _task_argument(function: Any) -> Any:
    return click.argument("task", callback=_checked_task)(function)


def _checked_task(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    from hostlab.tasks.places import checked_name

    return None if value is None else checked_name("task", value)


@task_command.command("init", epilog="Example: sudo hostlab task testns init -u $(id -un)")
@click.option("-u", "--user", help="Whose it is to be; name or number. Yours, if you do not say.")
@click.option("-g", "--group", help="Name or number; the user's own, if you do not say.")
@click.option(
    "--logs", type=click.Path(), help="Directory of logs, not /var/log/hostlab/NAMESPACE."
)
@click.pass_obj
def init_command(name: str, *, user: str | None, group: str | None, logs: str | None) -> None:
    """Make the namespace; everything else then needs no privilege.

    The logs of a namespace that root makes are in /var/log/hostlab/NAMESPACE, those of a user's own
    in ~/.local/state/hostlab/NAMESPACE.
    """
    from hostlab.tasks.making import make, owner
    from hostlab.tasks.places import Tracking

    made = make(name, owner(user, group), logs=logs)
    if made.tracking is Tracking.KEEPER:
        print(
            f"warning: user {made.uid} can have no cgroup here: each task has a keeper, and no"
            " limits; see `hostlab doctor`",
            file=sys.stderr,
        )


@task_command.command(
    "run",
    context_settings=_PASS_ON,
    epilog="Example: hostlab task testns run -c 'mail -s done root' backup tar cf /b.tar /srv",
)
@click.option("-f", "--foreground", is_flag=True, help="Wait for its end; keep the terminal.")
@click.option("-L", "logged", is_flag=True, help="Write the log in the foreground, too.")
@click.option("-l", "--log", type=click.Path(), help="Write the output into this file.")
@click.option("-c", "hook", metavar="CMD", help="A command for /bin/sh when the task has ended.")
@click.option("-m", "--memory", type=click.IntRange(min=4096), help="Limit of memory in bytes.")
@click.option("--cpus", type=click.FloatRange(min=0.01), help="Limit in CPUs' worth of time.")
@click.option("--cpuset", metavar="LIST", help="The CPUs that it may use, as 0-2,5.")
@click.option("--pids", type=click.IntRange(min=1), help="Limit of processes and threads.")
@_task_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run_command(name: str, /, *, task: str, command: tuple[str, ...], **options: Any) -> int:
    """Run a command as a task; exit 1 if the task is already running.

    Its input is empty, its output goes to a log; a log that is there already becomes LOG.1. In the
    foreground the exit status is the command's, once everything that it has started has ended.
    """
    from hostlab.tasks.launching import Wanted, run

    return run(name, Wanted(task=task, argv=command, **options))


@task_command.command("check", epilog="Example: hostlab task testns check backup && echo running")
@_task_argument
@json_option
@click.pass_obj
def check_command(name: str, *, task: str, as_json: bool) -> int:
    """Tell whether a task runs, by the exit status: 0 or 1."""
    from hostlab.tasks.groups import is_running
    from hostlab.tasks.places import needed

    running = is_running(needed(name), task)
    if as_json:
        print_json({"task": task, "running": running})
    return 0 if running else 1


@task_command.command("stop", epilog="Example: hostlab task testns stop backup")
@click.option(
    "--wait",
    "waits",
    metavar="S,S,S",
    default="20,10,5",
    show_default=True,
    help="Seconds after the first TERM, the second, and KILL.",
)
@_task_argument
@click.pass_obj
def stop_command(name: str, *, task: str, waits: str) -> None:
    """Stop a task whole: TERM, TERM once more, then KILL; exit 1 if it is not running."""
    from hostlab.tasks.stopping import stop

    stop(name, task, _waits(waits))


def _waits(text: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(word) for word in text.split(","))
    except ValueError:
        first = second = third = -1.0
    if not all(0 <= value <= 86_400 for value in (first, second, third)):
        raise UsageError("wait", f"--wait wants three numbers of seconds, not {text!r}")
    return first, second, third


@task_command.command("ls", epilog="Example: hostlab task testns ls -l")
@click.option("-l", "whole", is_flag=True, help="Do not cut commands at 50 characters.")
@json_option
@click.pass_obj
def ls_command(name: str, *, whole: bool, as_json: bool) -> None:
    """List the tasks that run, and their processes."""
    from hostlab.tasks.figures import running_tasks
    from hostlab.tasks.places import needed

    tasks = running_tasks(needed(name))
    if as_json:
        print_json(tasks)
        return
    print(name)
    for task in tasks:
        print(f" ├ {task.name}")
        for one in task.processes:
            print(f" │  → {one.pid:5} {_cut(one.cmdline or '?????', whole=whole)}")
    print(" ╯")


def _cut(text: str, *, whole: bool) -> str:
    """On one line, and with nothing in it that a terminal would obey."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.replace("\n", " "))
    return text if whole or len(text) <= MAX_COMMAND else f"{text[: MAX_COMMAND - 1]}…"


@task_command.command("top", epilog="Example: hostlab task testns top")
@click.option(
    "-d", "--delay", type=click.FloatRange(min=0.1), default=1.0, show_default=True,
    help="Seconds from one picture to the next.",
)  # fmt: skip
@click.pass_obj
def top_command(name: str, *, delay: float) -> None:
    """Show what tasks use, in the terminal, again and again; q ends it."""
    from hostlab.cli.task_top import show

    show(name, delay)


@task_command.command("dump", epilog="Example: hostlab task testns dump")
@click.pass_obj
def dump_command(name: str) -> None:
    """Print everything about a namespace as JSON, under lanĉo's names.

    cpu is in nanoseconds, memory in bytes, timestamp in milliseconds of the monotonic clock.
    """
    from hostlab.tasks.figures import dump
    from hostlab.tasks.places import needed

    print_json(dump(needed(name)))


@task_command.command("release", epilog="Example: sudo hostlab task testns release")
@click.option("-n", "no_hook", is_flag=True, help="Do not run the task's exit hook.")
@click.argument("task", required=False, callback=_checked_task)
@click.pass_obj
def release_command(name: str, *, task: str | None, no_hook: bool) -> None:
    """Clear away a task that has ended; without TASK, the whole namespace. Logs stay.

    A task's end does this by itself, unless somebody has killed its keeper.
    """
    from hostlab.tasks import making

    if task is None:
        making.release(name)
    else:
        making.release_task(name, task, hook=not no_hook)
