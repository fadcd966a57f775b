"""Requests at a rate: what can be asked, and what is a good answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.checks.inside import MESSAGE_BYTES
from hostlab.checks.requests import (
    BATCH,
    TEXT_BYTES,
    Answer,
    How,
    Probe,
    Taken,
    Target,
    judged,
    target_of,
)
from hostlab.errors import UsageError
from hostlab.probes.reach import echo_reply, echo_request

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("how", "text", "target"),
    [
        (How.GET, "http://10.0.0.1/", Target("10.0.0.1", 80, "/", "10.0.0.1")),
        (How.GET, "http://web", Target("web", 80, "/", "web")),
        (
            How.GET,
            "http://[2001:db8::1]:8080/a?b",
            Target("2001:db8::1", 8080, "/a?b", "[2001:db8::1]:8080"),
        ),
        (How.PING, "2001:db8::1", Target("2001:db8::1", 0)),
        (How.PING, "fe80::1%eth0", Target("fe80::1%eth0", 0)),
        (How.PING, "web-1", Target("web-1", 0)),
        (How.UDP, "10.0.0.1:7", Target("10.0.0.1", 7)),
        (How.UDP, "[2001:db8::1]:7", Target("2001:db8::1", 7)),
    ],
)
def test_where_requests_go(how: How, text: str, target: Target) -> None:
    assert target_of(Probe(how=how, target=text)) == target


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (How.GET, "https://10.0.0.1/"),
        (How.GET, "10.0.0.1"),
        (How.GET, "http:///x"),
        (How.GET, "http://[::1/"),
        (How.GET, "http://web:99999/"),
        (How.GET, "http://web/a b"),
        (How.GET, "http://web/\r\nX: y"),
        (How.GET, "http://wéb/"),
        (How.PING, "http://web/"),
        (How.PING, ""),
        (How.PING, "-c"),
        (How.UDP, "web"),
        (How.UDP, "web:x"),
        (How.UDP, "2001:db8::1"),
    ],
)
def test_what_cannot_be_asked(how: How, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        target_of(Probe(how=how, target=text))
    assert refused.value.hint is not None
    assert "for example" in refused.value.hint


PAGE = b"HTTP/1.0 200 OK\r\nServer: x\r\nX-Served-By:  w2 \r\n\r\nw1\nmore\n"


@pytest.mark.parametrize(
    ("data", "header", "answer"),
    [
        (PAGE, None, ("w1", "")),
        (PAGE, "x-served-by", ("w2", "")),
        (PAGE, "x-other", ("", "")),
        (b"HTTP/1.1 302 Found\r\n\r\n", None, ("", "")),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nw1", None, ("", "status 503")),
        (b"HTTP/1.1\r\n\r\n", None, ("", "no HTTP answer")),
        (b"SSH-2.0-x\r\n", None, ("", "no HTTP answer")),
        (b"", None, ("", "the connection was closed without an answer")),
    ],
)
def test_what_is_a_good_answer(data: bytes, header: str | None, answer: tuple[str, str]) -> None:
    assert judged(data, header) == answer


@pytest.mark.hypothesis
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(PAGE.__add__)))
def test_any_answer_is_judged_and_fits(data: bytes) -> None:
    who, error = judged(PAGE.replace(b"w1", data, 1), None)
    assert len(who.encode()) <= TEXT_BYTES
    assert judged(data, "Server") is not None
    largest = Taken((Answer(1e9 / 7, 1e9 / 3, who, error or "x" * TEXT_BYTES),) * BATCH, 1 / 7, 1)
    assert len(msgspec.json.encode(largest)) < MESSAGE_BYTES


@pytest.mark.parametrize("v6", [False, True])
def test_an_echo_reply_is_known_by_its_number_and_data(*, v6: bool) -> None:
    header = b"" if v6 else b"\x45" + bytes(19)
    request = echo_request("::1" if v6 else "127.0.0.1", b"ours", 7)
    reply = header + bytes([129 if v6 else 0]) + request[1:]
    assert echo_reply(reply, b"ours", v6=v6) == 7
    assert echo_reply(reply, b"other", v6=v6) is None
    assert echo_reply(header + request, b"ours", v6=v6) is None
    assert echo_reply(b"", b"ours", v6=v6) is None
