"""A queue in a memfd: what was put in and not told is found again, whatever was torn."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hostlab.init.sources import spool as module
from hostlab.init.sources.spool import Spool

pytestmark = pytest.mark.unit


@pytest.fixture
def spool() -> Iterator[Spool]:
    found = Spool()
    yield found
    found.close()


def again(spool: Spool) -> list[tuple[int, bytes]]:
    """What the next supervisor finds."""
    taken = Spool(os.dup(spool.fd))
    try:
        return [(kind, data) for _, kind, data in taken.waiting()]
    finally:
        taken.close()


def test_what_was_not_told_is_found_again(spool: Spool) -> None:
    first, _ = spool.put(1, b"one"), spool.put(2, b"two")
    assert again(spool) == [(1, b"one"), (2, b"two")]
    spool.told(first)
    assert again(spool) == [(2, b"two")]
    last = spool.put(1, b"three")
    spool.told(last)
    assert again(spool) == []
    assert os.fstat(spool.fd).st_size < 64, "what was told takes no room"
    spool.put(1, b"four")
    assert again(spool) == [(1, b"four")]


def test_the_mark_is_kept(spool: Spool) -> None:
    spool.mark = 7
    spool.note()
    taken = Spool(os.dup(spool.fd))
    assert taken.mark == 7
    taken.close()


def test_a_torn_record_is_cut_off(spool: Spool) -> None:
    spool.put(1, b"one")
    size = os.fstat(spool.fd).st_size
    spool.put(1, b"two")
    for cut in (*range(os.fstat(spool.fd).st_size - 1, size - 1, -1), size + 9):
        os.ftruncate(spool.fd, cut)
        assert again(spool) == [(1, b"one")]


def test_killed_while_it_is_emptied(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    end = spool.put(1, b"one")
    monkeypatch.setattr(spool, "note", lambda: None)
    spool.told(end)
    assert again(spool) == []


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 200])
def test_what_is_no_spool_is_told(data: bytes) -> None:
    fd = os.memfd_create("test")
    os.write(fd, data)
    with pytest.raises(ValueError, match="head"):
        Spool(fd)
    os.close(fd)


def test_it_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    was_full = [spool.is_full]
    end = spool.put(1, bytes(100))
    was_full.append(spool.is_full)
    spool.told(end)
    was_full.append(spool.is_full)
    assert was_full == [False, True, False]
