"""The parts of readiness that are pure: names that are kept, notes, what /proc says."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.init.readiness import daemons
from hostlab.init.readiness.fd_store import quote, unquote
from hostlab.init.readiness.notify import MAX_STATUS_CHARACTERS, parse
from hostlab.init.readiness.watch import PAGE_BYTES, Memory, Notes, kept_parts
from hostlab.linux.pipe import peek

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=20).map("".join))
def test_a_quoted_name_is_one_word_and_comes_back(text: str) -> None:
    quoted = quote(text)
    assert unquote(quoted) == text
    assert not set(quoted) & set(" /:\n!")


def test_what_watches_keep_is_told_from_what_others_keep() -> None:
    assert kept_parts("notify:7:eth0") == ("notify", 7, "eth0")
    assert kept_parts("ready:7:") == ("ready", 7, "")
    for name in ("store:a/b/c:0", "log:7:x", "notify:7", "notify:x:y", "journal"):
        assert kept_parts(name) is None


def test_notes_keep_what_a_message_does_not_say() -> None:
    notes = Notes().after(parse(b"STATUS=a\nERRNO=0\nRELOADING=1"))
    assert notes == Notes(status="a", errno=0, reloading=True)
    assert notes.after(parse(b"READY=1")) == Notes(status="a", errno=0)
    assert notes.after(parse(b"STATUS=\nSTOPPING=1")) == Notes(
        status="", errno=0, reloading=True, stopping=True
    )


def test_the_longest_status_fits_the_page_or_is_short() -> None:
    short = Notes(status="\x01" * 256)
    everything = Memory(first=1 << 22, seen=(1 << 22,) * 128, watchdog_s=1 / 3, notes=short)
    assert len(msgspec.json.encode(everything)) <= PAGE_BYTES
    assert MAX_STATUS_CHARACTERS >= 256


@given(st.binary(max_size=40))
def test_a_processes_name_may_hold_anything(name: bytes) -> None:
    rest = b" S 12 7 34 " + b"0 " * 15 + b"567 0 0\n"
    process = daemons.parse_stat(b"99 (" + name + b")" + rest)
    assert process == daemons.Process(99, 12, 34, 567)


@given(st.binary(max_size=100))
def test_half_a_stat_is_no_process(data: bytes) -> None:
    assert daemons.parse_stat(data) is None


def test_dead_ones_are_none() -> None:
    for state in (b"Z", b"X"):
        rest = b") " + state + b" 12 7 34 " + b"0 " * 15 + b"567 0 0\n"
        assert daemons.parse_stat(b"99 (a" + rest) is None
    assert daemons.look(0) is None


def test_oneself_is_seen() -> None:
    found = daemons.look(os.getpid())
    assert found is not None
    assert (found.pid, found.parent) == (os.getpid(), os.getppid())
    assert found.session == os.getsid(0)


def test_the_eldest_orphan_comes_first_and_one_that_vanished_is_looked_for_again() -> None:
    listings = iter([(4194303,), (os.getpid(),)])
    found = daemons.orphans(lambda: next(listings), os.getppid(), lambda process: True)
    assert [process.pid for process in found] == [os.getpid()]
    assert daemons.orphans(lambda: (4194303,), 1, lambda process: True) == []


def test_a_pipe_is_looked_into_and_nothing_taken() -> None:
    reader, writer = os.pipe()
    assert peek(reader) is None
    os.write(writer, b"a\n")
    assert peek(reader) == b"a\n"
    assert os.read(reader, 10) == b"a\n"
    os.close(writer)
    assert peek(reader) == b""
    os.close(reader)
