"""The routing daemons' configurations beside each node's logs, where a person can read them.

They are what the node's own files were made of: `RUN/nodes/NODE/routing/bird.conf`, or FRR's.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

from hostlab.lab.paths import LabDirectory
from hostlab.linux.whole_files import write_whole
from hostlab.spec.model import Lab, Node

_DIRECTORIES: Final = ("/run/bird", "/etc/frr")


def write(directory: LabDirectory, old: Lab, new: Lab) -> None:
    """Write those of the new description, and remove those of nodes that route no more."""
    for node in old.nodes:
        if node.routing is not None:
            shutil.rmtree(_place(directory, node), ignore_errors=True)
    for node in new.nodes:
        if node.routing is None:
            continue
        place = _place(directory, node)
        os.makedirs(place, mode=0o700, exist_ok=True)
        for file in node.files:
            where, name = os.path.split(file.path)
            if where in _DIRECTORIES:
                write_whole(f"{place}/{name}", file.content)


def _place(directory: LabDirectory, node: Node) -> str:
    return f"{directory.node(node.name)}/routing"
