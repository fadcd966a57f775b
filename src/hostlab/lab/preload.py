"""What a node's init imports late is imported by the hub before the node is made.

An init that has no units, and no job that waits for a clock, does not pay for them; so their code is
imported when it is first used. A node with a root of its own has no files to import it from then,
nor has one that does not see where hostlab lies; and of many nodes each would do it again.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from typing import Final

from hostlab.init.sources.events import MODULES, module_of
from hostlab.spec.model import Node, RootKind

UNITS: Final = (
    "hostlab.init.units.supervised",
    "hostlab.init.units.units",
    "hostlab.init.systemctl.journal",
    "hostlab.init.systemctl.program",
    "hostlab.init.sources.timer",
    "hostlab.init.sources.file",
    "hostlab.init.sources.socket",
)
"""What a node with units comes to need."""


def preload(nodes: Iterable[Node]) -> None:
    """Import what these nodes will need; a module whose extra is not installed is left out."""
    wanted = dict.fromkeys(module for node in nodes for module in _modules(node))
    for module in wanted:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def _modules(node: Node) -> Iterator[str]:
    if node.units is not None:
        yield from UNITS
    if node.job_files and node.root.kind is not RootKind.MACHINE:
        # Whatever its job files may wait for, now or later.
        yield from MODULES.values()
    for job in node.jobs:
        for expression in (job.start_on, job.stop_on):
            for match in expression.matches if expression else ():
                module = module_of(match.name)
                if module is not None:
                    yield module
