"""The hub's way to impaired cables, which loads what impairs them with the first one.

Most labs have none, and every node of every lab would pay for what the hub has loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from hostlab.spec.model import Lab, Node

if TYPE_CHECKING:
    from hostlab.lab.links import Impairing
    from hostlab.lab.stage import HubSupervisor

WIRE: Final = "wire"
"""The wire's name with the holder, as a process and as a kept descriptor."""


class Cables:
    """All cables of one lab."""

    def __init__(self, hub: HubSupervisor) -> None:
        self._hub = hub
        self._made: Impairing | None = None
        self._wire_pid = 0

    def _impairing(self) -> Impairing:
        if self._made is None:
            from hostlab.lab.links import Impairing

            self._made = Impairing(self._hub)
            self._made.carrier.found(self._wire_pid)
        return self._made

    def restore(self, *labs: Lab) -> None:
        """After a supervisor that was killed: what is in place of what these labs describe."""
        if self._wire_pid or any(_is_impaired(node) for lab in labs for node in lab.nodes):
            self._impairing().restore(*labs)

    def change(self, nodes: Iterable[Node]) -> None:
        """Bring these nodes' cables to what their description says, in place where that can be.

        It is whole when `load` has been called. Failed when an interface that is to be impaired is
        not there.
        """
        concerned = tuple(nodes)
        if self._made is not None or any(map(_is_impaired, concerned)):
            self._impairing().change(concerned)

    def load(self) -> None:
        """Do what is done for many changes at once."""
        if self._made is not None:
            self._made.load()

    def gone(self, node: str) -> None:
        """A node has ended, and its ends of its cables with it; the log tells what fails."""
        if self._made is not None:
            self._made.gone(node)

    def wire_found(self, pid: int) -> None:
        """The wire of an earlier supervisor still runs."""
        self._wire_pid = pid

    def wire_ended(self, pid: int) -> None:
        """The wire has ended."""
        if self._made is not None:
            self._made.carrier.ended(pid)
        elif pid == self._wire_pid:
            self._wire_pid = 0

    def report(self) -> dict[str, Any]:
        """The impaired cables, how that is done, and what has passed."""
        if self._made is None:
            return {"links": [], "wire": None}
        return {"links": self._made.report(), "wire": self._made.carrier.pid or None}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not work of them."""
        return () if self._made is None else self._made.carrier.warnings


def _is_impaired(node: Node) -> bool:
    return any(interface.is_impaired for interface in node.interfaces)
