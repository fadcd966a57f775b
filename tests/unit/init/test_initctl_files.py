"""Requests as files: whatever is in them is a request, none yet, or refused."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.init.initctl.files import (
    MAX_REQUEST_BYTES,
    Asker,
    find_asker,
    is_name,
    read_request,
    session_of,
    sweep,
)
from hostlab.init.initctl.programs import COMMANDS, NAMES, Initctl
from hostlab.init.initctl.surroundings import Answer
from tests.initctl_site import Caller, Site

pytestmark = pytest.mark.unit

ASKER = Asker("7", 1, 0.0)


@pytest.fixture(scope="module")
def place() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as path:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        yield fd
        os.close(fd)


def write(place: int, data: bytes, name: str = "7.args") -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=place)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def test_a_request(place: int) -> None:
    write(place, b"nstart\0eUPSTART_JOB=a=b\0eUPSTART_INSTANCE=\0afoo\0aA=\n x\0a\0.\0")
    command = read_request(place, ASKER)
    assert command is not None
    assert command.program == "start"
    assert command.arguments == ("foo", "A=\n x", "")
    assert command.environment == {"UPSTART_JOB": "a=b", "UPSTART_INSTANCE": ""}
    assert command.token == "initctl/7/1"


@pytest.mark.parametrize("data", [b"", b"nstart\0", b"nstart\0afoo\0.", b"nstart\0a.\0"])
def test_one_that_is_still_written(place: int, data: bytes) -> None:
    write(place, data)
    assert read_request(place, ASKER) is None


def test_one_that_is_too_long(place: int) -> None:
    write(place, b"a" * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(DecodeError):
        read_request(place, ASKER)


def test_one_without_a_file(place: int) -> None:
    assert read_request(place, Asker("8", 1, 0.0)) is None


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=20)).map(b"\0".join))
def test_bytes_of_every_kind(place: int, data: bytes) -> None:
    write(place, data + b"\0.\0")
    with contextlib.suppress(DecodeError):
        read_request(place, ASKER)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a", "1/2", "-1", "1.", "1.x", "१", "1" * 11, "1\n"]
)
def test_names_that_are_none(name: str) -> None:
    assert not is_name(name)


def test_what_is_left_goes_and_what_is_not_ours_stays(place: int) -> None:
    for name in ("21.args", "21.out", "21.err", "notes.args", "22", "requests.out"):
        write(place, b"x", name)
    names = os.listdir(place)
    assert sweep(place, names) == []
    left = set(os.listdir(place)) - {"7.args"}
    assert left == {"notes.args", "22", "requests.out"}
    assert find_asker(place, "22") is None


OPTIONS = ("-n", "-q", "--quiet", "--", "-", "-c", "-k", "-r", "-h", "--help", "-e", "-i", "-g")
ARGUMENTS = ("foo", "tty", "TTY=a", "A=1", "=", "now", "+0", "12:00", "debug", "0", "6", "q")
WORDS = st.text(max_size=5) | st.sampled_from((*COMMANDS, *OPTIONS, *ARGUMENTS))


@given(st.sampled_from((*NAMES, "odd")), st.lists(WORDS, max_size=5))
def test_every_command_line_has_an_answer(program: str, words: list[str]) -> None:
    site = Site({"foo": "exec true", "tty": "instance $TTY\nexec true"}, obeys=True)
    # Nobody waits for a shutdown that is later: the clock is far ahead.
    caller = Caller(site, Initctl(site, clock=lambda: 1e12))
    answer = caller(program, *words)
    assert isinstance(answer, Answer)
    assert answer.status in (0, 1)
    assert answer.err.startswith(f"{program}: ") or not answer.err


@pytest.mark.parametrize("name", ["", "x", "4194305", "9999999999", "0.x"])
def test_the_session_of_nobody(name: str) -> None:
    assert session_of(f"initctl/{name}/1") == 0
    assert session_of(name) == 0


def test_the_session_of_a_client() -> None:
    """Whatever is asked with the token, by a program of several requests too."""
    for end in ("", ".3"):
        token = f"initctl/{os.getpid()}{end}/17|down reboot"
        assert session_of(token) == os.getsid(0)
