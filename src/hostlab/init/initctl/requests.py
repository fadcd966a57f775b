"""Requests that the engine took, and its answers, until whoever asked has heard.

A supervisor may die between an answer of the engine and the moment at which a client has it. The
client is still there and must neither wait for ever nor be served twice. So each request has a
name, its token, which the client's files still have; here stands which tokens the engine took, and
what it answered. Facts and effects are told to this book as they come, the replayed ones too, and
what it holds is stored beside the engine's snapshot: then it is as it was.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hostlab.jobs.effects import Reply

PART: Final = "#"
"""Between a token and what tells the requests of one client apart (`systemctl start a b`)."""
Entry = tuple[str, Reply | None]
"""A token, and its answer if there is one."""


class Requests:
    """The tokens that are not forgotten yet."""

    def __init__(self, stored: tuple[Entry, ...] = ()) -> None:
        self._answers: dict[str, Reply | None] = dict(stored)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything, to be stored beside the engine's state."""
        return tuple(self._answers.items())

    def took(self, token: str | None) -> None:
        """The engine took a fact with this token: it was not refused."""
        if token is not None:
            self._answers.setdefault(token, None)

    def answered(self, reply: Reply) -> None:
        """The engine answered."""
        if reply.request not in self._answers:
            return
        self._answers[reply.request] = reply
        waiting = self._waiting.pop(reply.request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def knows(self, token: str) -> bool:
        """Whether the engine took it already."""
        return token in self._answers

    async def answer(self, token: str) -> Reply:
        """Wait for the answer to a request that the engine took."""
        found = self._answers[token]
        if found is not None:
            return found
        waiting = self._waiting.get(token)
        if waiting is None:
            waiting = self._waiting[token] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiting)

    def forget(self, token: str) -> None:
        """Whoever asked has heard, or is gone; so it is with the parts of what was asked."""
        parts = [each for each in self._answers if each.startswith(f"{token}{PART}")]
        for each in (token, *parts):
            self._answers.pop(each, None)
            waiting = self._waiting.pop(each, None)
            if waiting is not None:
                waiting.cancel()

    def forget_others(self, prefix: str, tokens: frozenset[str]) -> None:
        """Forget what begins with a prefix and is none of these."""
        for token in [each for each in self._answers if each.startswith(prefix)]:
            if token.partition(PART)[0] not in tokens:
                self.forget(token)
