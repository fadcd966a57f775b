"""The hub's program: `python -m hostlab.lab.hub_program`, started by `hostlab up`.

It loads the hub without the hooks that `threading` and `logging` put on fork. They put right in a
child what other threads may have left half done; the hub loads everything before it has a second
thread, and a node is never cloned while one works. Run in every node they cost a third of a
millisecond and half a megabyte: they write to 140 of the pages that a node shares with its hub.
What is loaded later has its hooks.
"""

from __future__ import annotations

import os
from typing import Any

from hostlab.init.lean import without_needless


def main() -> None:
    """Become the hub."""
    register = os.register_at_fork
    os.register_at_fork = _leave_out
    try:
        with without_needless():
            from hostlab.lab import hub
    finally:
        os.register_at_fork = register
    hub.main()


def _leave_out(**_hooks: Any) -> None:
    return


if __name__ == "__main__":
    main()
