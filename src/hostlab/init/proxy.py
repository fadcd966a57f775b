"""How a job of this init runs the proxy: by this interpreter, which needs nothing else for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

MODULE: Final = "hostlab.activation.proxy"


def proxy_command() -> str:
    """The beginning of a shell command; it finds no program in a root without this Python."""
    source = shlex.quote(str(Path(__file__).resolve().parents[2]))
    # Without `site` it starts in half the time, and the standard library is all that it needs.
    return f"PYTHONPATH={source} exec {shlex.quote(sys.executable)} -S -m {MODULE}"
