"""What a command wrote, read beside the answer that it has ended; its init is played."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from hostlab.errors import UsageError
from hostlab.init.client import Control
from hostlab.init.protocol import send
from hostlab.lab.access import NodeConnection, known_node

pytestmark = pytest.mark.unit


class Ending(Control):
    """Its command ends at once, and says its last words just before that is told."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(ours)
        self.output = -1

    def send(self, op: str, fds: Sequence[int] = (), **arguments: Any) -> int:
        self.output = os.dup(fds[1])
        os.write(self.output, b"first\n")
        send(self.theirs, {"id": 1, "ok": {"status": 5, "signal": None}})
        return 1

    def receive(self) -> dict[str, Any]:
        os.write(self.output, b"last\n")
        return super().receive()

    def close(self) -> None:
        os.close(self.output)
        self.theirs.close()
        super().close()


class Node(NodeConnection):
    def control(self) -> Control:
        return Ending()


def test_last_words_are_not_lost() -> None:
    node = Node("lab", "node", 1)
    done = node.execute(["anything"])
    assert (done.status, done.stdout) == (5, b"first\nlast\n")
    done = node.execute_unheard(["anything"])
    assert (done.status, done.stdout) == (5, b"first\nlast\n")


def test_who_names_the_lab_is_told_its_nodes() -> None:
    with pytest.raises(UsageError) as error:
        known_node(("server", "client"), "mm", "mm")
    assert error.value.message == "mm is a lab; a node of it is wanted"
    assert error.value.hint == "mm/server, mm/client"
    assert known_node(("mm",), "mm", "mm") == "mm"
