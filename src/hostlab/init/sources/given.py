"""The sockets of jobs, asked from the source of sockets, which is only there when a job has any."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hostlab.init.sources import Sources
from hostlab.init.spawning.given import NOTHING, Given
from hostlab.jobs import effects
from hostlab.spec.sockets import EVENT

if TYPE_CHECKING:
    from hostlab.init.sources.socket import SocketSource


class SourcedSockets:
    """What `Jobs.sockets` asks."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def given(self, effect: effects.Spawn) -> Given:
        """The sockets of a job's main process; Failed when one of them is not open."""
        source = self._source()
        return NOTHING if source is None else source.given(effect)

    def accepted(self, effect: effects.Spawn, peer: str) -> None:
        """It has accepted a connection of this peer."""
        source = self._source()
        if source is not None:
            source.accepted(effect, peer)

    def _source(self) -> SocketSource | None:
        return cast("SocketSource | None", self._sources.get(EVENT))
