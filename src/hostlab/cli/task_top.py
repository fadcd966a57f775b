"""`hostlab task NAMESPACE top`: what tasks use, drawn into the terminal until q is pressed."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.tasks.figures import Task

_GAUGE: Final = 24
_OTHER_SCREEN: Final = "\033[?1049h\033[?25l"
_BACK: Final = "\033[?25h\033[?1049l"
_HOME: Final = "\033[H"
_TO_LINE_END: Final = "\033[K"
_TO_SCREEN_END: Final = "\033[J"
_ENDS: Final = b"qQ\x03\x1b"


def show(name: str, delay_s: float) -> None:
    """Draw a picture every `delay_s` seconds; UsageError where there is no terminal."""
    from hostlab.tasks.figures import namespace_cpu_ns, running_tasks
    from hostlab.tasks.places import needed

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "no-terminal", "top needs a terminal", hint=f"hostlab task {name} dump | jq ."
        )
    before: dict[str, int] = {}
    then = time.monotonic_ns()
    with _screen():
        while True:
            namespace = needed(name)
            tasks = running_tasks(namespace)
            spent = {"": namespace_cpu_ns(namespace, tasks)}
            spent |= {task.name: task.cpu_ns for task in tasks}
            now = time.monotonic_ns()
            available = max(1, now - then) * (os.cpu_count() or 1)
            shares = {
                key: 100 * max(0, value - before.get(key, value)) / available
                for key, value in spent.items()
            }
            before, then = spent, now
            _draw(picture(name, tasks, shares, *shutil.get_terminal_size()))
            if _is_ended(delay_s):
                return


def picture(
    name: str, tasks: tuple[Task, ...], shares: dict[str, float], columns: int, lines: int
) -> list[str]:
    """The lines of one picture; shares are per cent of all processors, "" the namespace's."""
    found = [
        f"Namespace: {name}   Tasks: {len(tasks)}   CPU: {shares.get('', 0):.1f}%"
        f" {_gauge(shares.get('', 0))}",
        "",
        f"{'TASK':<20} {'PROCESSES':>9} {'MEMORY':>9} {'CPU':>6}",
    ]
    for task in sorted(tasks, key=lambda one: (-shares.get(one.name, 0), one.name)):
        share = shares.get(task.name, 0)
        found.append(
            f"{task.name:<20} {len(task.processes):>9} {task.memory_bytes / 2**20:>7.1f}M"
            f" {share:>6.1f} {_gauge(share)}"
        )
    return [line[:columns] for line in found[:lines]]


def _gauge(share: float) -> str:
    full = min(_GAUGE, round(_GAUGE * share / 100))
    return f"[{'|' * full}{' ' * (_GAUGE - full)}]"


def _draw(lines: list[str]) -> None:
    head, *rest = lines or [""]
    text = [click.style(head, reverse=True), *rest]
    sys.stdout.write(_HOME + f"{_TO_LINE_END}\r\n".join(text) + _TO_LINE_END + _TO_SCREEN_END)
    sys.stdout.flush()


def _is_ended(delay_s: float) -> bool:
    """Wait for the next picture's time; True when a key says that it is the last."""
    deadline = time.monotonic() + delay_s
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or any(key in _ENDS for key in keys):
                return True
    return False


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal without echo and lines, on its other screen; as it was afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        sys.stdout.write(_OTHER_SCREEN)
        yield
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
