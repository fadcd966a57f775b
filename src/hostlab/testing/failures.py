"""What pytest shows of a failure that hostlab has told: the test's own line, then the message."""

from __future__ import annotations

import os
import sysconfig
from types import TracebackType
from typing import Final

from hostlab.errors import Problem

_HOSTLAB: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED: Final = {"site-packages", "dist-packages"}
_RUNNERS: Final = {"_pytest", "pluggy"}
"""Those that call a test; below them alone there is none."""


def shorten(error: BaseException) -> None:
    """End the traceback with the last line that is neither hostlab's nor Python's.

    Of what hostlab tells on purpose; of any other exception its own lines are the news. It is the
    traceback itself that is cut: pytest makes its lists anew from it.
    """
    if not isinstance(error, (Problem, TimeoutError)):
        return
    last: TracebackType | None = None
    entry = error.__traceback__
    has_ours = False
    while entry is not None:
        path = entry.tb_frame.f_code.co_filename
        if path.startswith(_HOSTLAB):
            has_ours = True
        elif not _is_of_python(path):
            last, has_ours = entry, False
        entry = entry.tb_next
    if last is not None and has_ours and not _is_runner(last.tb_frame.f_code.co_filename):
        last.tb_next = None


def _is_of_python(path: str) -> bool:
    return path.startswith((*_STDLIB, "<frozen ")) and _INSTALLED.isdisjoint(path.split(os.sep))


def _is_runner(path: str) -> bool:
    return not _RUNNERS.isdisjoint(path.split(os.sep))
