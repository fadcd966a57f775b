"""What an environment says about the sockets of a service."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hostlab.activation.inherited import ActivationError, passed

pytestmark = pytest.mark.unit

PID = 77
NONE: tuple[tuple[int, str], ...] = ()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, NONE),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "77"}, ((3, "unknown"),)),
        (
            {"LISTEN_FDS": "2", "LISTEN_PID": "77", "LISTEN_FDNAMES": "web:admin"},
            ((3, "web"), (4, "admin")),
        ),
        (
            {"LISTEN_FDS": "3", "LISTEN_PID": "77", "LISTEN_FDNAMES": "web:"},
            ((3, "web"), (4, "unknown"), (5, "unknown")),
        ),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "78"}, NONE),
        ({"LISTEN_FDS": "1"}, NONE),
        ({"LISTEN_FDS": "0", "LISTEN_PID": "77"}, NONE),
        ({"UPSTART_FDS": "9"}, ((9, "unknown"),)),
        ({"UPSTART_FDS": "9 12"}, ((9, "unknown"), (12, "unknown"))),
        ({"UPSTART_FDS": ""}, NONE),
        # Both, as hostlab sets them: they are the same sockets.
        ({"UPSTART_FDS": "3", "LISTEN_FDS": "1", "LISTEN_PID": "77"}, ((3, "unknown"),)),
        ({"UPSTART_FDS": "9", "LISTEN_FDS": "1", "LISTEN_PID": "1"}, ((9, "unknown"),)),
    ],
)
def test_descriptors(environment: dict[str, str], expected: tuple[tuple[int, str], ...]) -> None:
    environment = {"HOME": "/", **environment}
    assert passed(environment, PID) == expected
    assert environment == {"HOME": "/"}, "a child of the service must not see them"


@pytest.mark.parametrize(
    "environment",
    [
        {"LISTEN_FDS": "x", "LISTEN_PID": "77"},
        {"LISTEN_FDS": "-1", "LISTEN_PID": "77"},
        {"LISTEN_FDS": "99999999", "LISTEN_PID": "77"},
        {"UPSTART_FDS": "no"},
        {"UPSTART_FDS": "-1"},
    ],
)
def test_what_cannot_be_meant(environment: dict[str, str]) -> None:
    with pytest.raises(ActivationError):
        passed(environment, PID)


def test_it_imports_the_standard_library_only() -> None:
    """Nor any of it that is not used: `asyncio` and `http` only with their own modules."""
    program = """
import sys
before = set(sys.modules)
from hostlab import activation
new = {name for name in set(sys.modules) - before}
print(sorted(n for n in new if n.split(".")[0] not in sys.stdlib_module_names))
print(sorted(n for n in new if n in ("asyncio", "http", "socketserver", "typing_extensions")))
from hostlab.activation import servers, streams
print(sorted(n.split(".")[0] for n in set(sys.modules) - before
             if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith("hostlab")))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    own, heavy, foreign = done.stdout.splitlines()
    assert own == str(
        ["hostlab", "hostlab.activation", "hostlab.activation.inherited", "hostlab.version"]
    )
    assert (heavy, foreign) == ("[]", "[]")
