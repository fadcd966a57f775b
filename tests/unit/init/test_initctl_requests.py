"""The book of requests: what was taken is not taken again, and its answer waits."""

from __future__ import annotations

import asyncio

import pytest

from hostlab.init.initctl.requests import Requests
from hostlab.jobs.effects import Reply

pytestmark = pytest.mark.unit


def test_an_answer_waits_for_whoever_asks_later() -> None:
    book = Requests()
    book.took("a")
    reply = Reply(request="a", ok=False, message="no")
    book.answered(reply)
    assert asyncio.run(book.answer("a")) == reply


def test_whoever_waits_is_told() -> None:
    async def test() -> None:
        book = Requests()
        book.took("a")
        both = asyncio.gather(book.answer("a"), book.answer("a"))
        await asyncio.sleep(0)
        reply = Reply(request="a", ok=True)
        book.answered(reply)
        assert list(await both) == [reply, reply]

    asyncio.run(test())


def test_what_is_stored_is_as_it_was() -> None:
    book = Requests()
    for token in ("a", "b", "c"):
        book.took(token)
    book.took(None)
    book.answered(Reply(request="b", ok=True))
    book.forget("c")
    after = Requests(book.entries)
    assert after.entries == (("a", None), ("b", Reply(request="b", ok=True)))
    # A replayed fact does not make it unanswered.
    after.took("b")
    assert after.entries == book.entries


def test_answers_to_nobody_are_dropped() -> None:
    book = Requests()
    book.answered(Reply(request="a", ok=True))
    assert not book.knows("a")


def test_those_without_a_client_are_forgotten() -> None:
    book = Requests()
    for token in ("initctl/1/1", "initctl/2/2", "other"):
        book.took(token)
    book.forget_others("initctl/", frozenset({"initctl/2/2"}))
    assert [token for token, _ in book.entries] == ["initctl/2/2", "other"]
