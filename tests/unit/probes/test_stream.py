"""Why none of a name's addresses takes a connection."""

from __future__ import annotations

import errno
import os

import pytest

from hostlab.checks.kind import unanswered
from hostlab.probes.stream import none_of

pytestmark = pytest.mark.unit


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_the_same_reason_is_said_once() -> None:
    refused = _error(errno.ECONNREFUSED)
    found = none_of({"10.0.0.1": refused, "fd00::1": refused})
    assert isinstance(found, ConnectionRefusedError)
    assert unanswered(found).text == "no answer: 10.0.0.1, fd00::1: Connection refused"


def test_each_address_has_its_own_reason() -> None:
    found = none_of(
        {
            "10.0.0.1": _error(errno.ECONNREFUSED),
            "10.0.0.2": _error(errno.EHOSTUNREACH),
            "10.0.0.3": _error(errno.ECONNREFUSED),
            "10.0.0.4": TimeoutError("timed out"),
        }
    )
    text = "10.0.0.1, 10.0.0.3: Connection refused; 10.0.0.2: No route to host; 10.0.0.4: timed out"
    assert unanswered(found).text == f"no answer: {text}"
