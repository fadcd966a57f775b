"""sd_notify's datagrams: what they mean, and that nothing in one is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.init.readiness.notify import (
    DEFAULT_NAME,
    MAX_DATAGRAM_BYTES,
    MAX_EXTENSION_S,
    MAX_NAME_BYTES,
    MAX_PID,
    MAX_STATUS_CHARACTERS,
    Message,
    parse,
)

pytestmark = pytest.mark.unit

KEYS = (
    b"READY RELOADING STOPPING STATUS MAINPID ERRNO BUSERROR EXIT_STATUS MONOTONIC_USEC WATCHDOG"
    b" EXTEND_TIMEOUT_USEC WATCHDOG_USEC FDSTORE FDSTOREREMOVE FDNAME FDPOLL BARRIER X_OWN"
).split()
VALUES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"1", b"0", b"", b"trigger", b"-1", b"1e3", b"0x10", b"\xd9\xa1", b"9" * 5000]
    ),
    st.integers(0, 1 << 70).map(lambda number: str(number).encode()),
)
DATAGRAMS = st.lists(
    st.one_of(st.tuples(st.sampled_from(KEYS), VALUES).map(b"=".join), st.binary(max_size=40)),
    max_size=12,
).map(b"\n".join)


@given(DATAGRAMS)
def test_nothing_is_an_error_and_every_value_is_in_its_bounds(data: bytes) -> None:
    message = parse(data)
    assert message.main_pid is None or 2 <= message.main_pid <= MAX_PID
    assert message.status is None or len(message.status) <= MAX_STATUS_CHARACTERS
    assert message.exit_status is None or 0 <= message.exit_status <= 255
    for seconds in (message.extend_timeout_s, message.watchdog_s):
        assert seconds is None or 0 <= seconds <= MAX_EXTENSION_S
    assert message.extend_timeout_s != 0
    assert len(message.name.encode()) <= MAX_NAME_BYTES
    assert not set(message.name) & set(":\n\0")
    if message.ready:
        assert b"READY=1" in data


@given(st.binary(max_size=200))
def test_garbage_says_nothing(data: bytes) -> None:
    message = parse(b"no assignment " + data.replace(b"=", b"").replace(b"\0", b""))
    assert message == Message(problems=message.problems)


@given(DATAGRAMS)
def test_the_first_assignment_counts(data: bytes) -> None:
    if b"\0" not in data and len(data) < MAX_DATAGRAM_BYTES - 20:
        assert parse(b"STATUS=first\n" + data).status == "first"


def test_everything_at_once() -> None:
    assert parse(
        b"READY=1\nRELOADING=1\nSTOPPING=1\nSTATUS=h\xc3\xa9=re\nMAINPID=17\nERRNO=2\n"
        b"BUSERROR=org.x\nEXIT_STATUS=3\nMONOTONIC_USEC=99\nEXTEND_TIMEOUT_USEC=1500000\n"
        b"WATCHDOG=1\nWATCHDOG_USEC=20000\nFDSTORE=1\nFDNAME=a b\nFDPOLL=0\nBARRIER=1\nX=y\n\0"
    ) == Message(
        ready=True,
        reloading=True,
        stopping=True,
        status="hé=re",
        main_pid=17,
        errno=2,
        bus_error="org.x",
        exit_status=3,
        monotonic_usec=99,
        extend_timeout_s=1.5,
        watchdog=True,
        watchdog_s=0.02,
        store=True,
        name="a b",
        poll=False,
        barrier=True,
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"READY", "no assignment"),
        (b"STATUS=\xff", "not UTF-8"),
        (b"MAINPID=1", "MAINPID='1' is no number from 2"),
        (b"MAINPID= 7", "is no number"),
        (b"MAINPID=\xd9\xa7", "is no number"),
        (b"MAINPID=" + b"7" * 4000, "is no number"),
        (b"EXTEND_TIMEOUT_USEC=0", "is no number from 1"),
        (b"EXIT_STATUS=256", "is no number from 0 to 255"),
        (b"FDNAME=a:b", "is no name"),
        (b"FDNAME=" + b"n" * 256, "is no name"),
        (b"READY=1\0\nSTATUS=x", "NUL"),
        (b"STATUS=" + b"x" * MAX_DATAGRAM_BYTES, "more than 4096 bytes"),
    ],
)
def test_what_cannot_be_is_named_and_passed_over(data: bytes, problem: str) -> None:
    message = parse(data)
    assert problem in message.problems[0]
    assert message == Message(problems=message.problems)
    assert message.name == DEFAULT_NAME


def test_a_watchdog_can_be_triggered_and_switched_off() -> None:
    assert parse(b"WATCHDOG=trigger").watchdog_failed
    assert not parse(b"WATCHDOG=trigger").watchdog
    assert parse(b"WATCHDOG_USEC=0").watchdog_s == 0
    assert parse(f"WATCHDOG_USEC={(1 << 64) - 1}".encode()).watchdog_s == MAX_EXTENSION_S
