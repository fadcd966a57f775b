"""Programs that jobs run on their sockets: by this interpreter, which needs nothing else for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

MODULES: Final = {
    "socket-proxy": "hostlab.activation.proxy",
    "socket-acceptor": "hostlab.activation.acceptor",
}
"""By name in a job's PATH."""


def socket_programs() -> dict[str, str]:
    """The beginning of each one's shell command; it finds none in a root without this Python."""
    source = str(Path(__file__).resolve().parents[2])
    found = {}
    for name, module in MODULES.items():
        # A variable would be the programs' that it starts, too. Without `site` it starts in half
        # the time, and the standard library is all that it needs.
        text = f"import sys; sys.path.insert(0, {source!r}); from {module} import main; "
        words = (sys.executable, "-S", "-c", f"{text}sys.exit(main())")
        found[name] = f"exec {' '.join(map(shlex.quote, words))}"
    return found
