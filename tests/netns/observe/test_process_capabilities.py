"""Capabilities of real processes and files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.linux import capabilities as linux
from hostlab.linux.file_capabilities import FILE_ATTRIBUTE, encode_file_capabilities
from hostlab.observe.capabilities import brief, file_capabilities, process_capabilities

pytestmark = pytest.mark.netns


def test_the_sets_of_another_process() -> None:
    if linux.mask_of(("SETPCAP", "CHOWN")) & ~linux.capget()[0]:
        pytest.skip("the caller has no capabilities to give away")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.set_capabilities(("CHOWN",), ambient=True)
            os.write(writer, b"+")
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(reader, 1) == b"+"
        seen = process_capabilities(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
    sets = ("permitted", "effective", "inheritable", "bounding", "ambient")
    assert seen.rows() == tuple((name, "CHOWN") for name in sets)
    assert seen.user_namespace == os.stat("/proc/self/ns/user").st_ino
    assert seen.uid == os.geteuid()
    assert f"{pid} ({seen.command})" in str(seen)


def test_the_callers_own_sets_are_what_capget_says() -> None:
    effective, permitted, inheritable = linux.capget()
    seen = process_capabilities(os.getpid())
    assert linux.mask_of(seen.effective) == effective
    assert linux.mask_of(seen.permitted) == permitted
    assert linux.mask_of(seen.inheritable) == inheritable
    assert linux.mask_of(seen.bounding) == linux.bounding_set()


def test_no_such_process() -> None:
    with pytest.raises(UsageError, match="no process 4194305"):
        process_capabilities(2**22 + 1)


def test_a_file(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    assert str(file_capabilities(str(program))) == f"{program}: none"
    value = encode_file_capabilities("cap_net_raw,cap_net_admin=ep")
    try:
        os.setxattr(program, FILE_ATTRIBUTE, value)
    except OSError as error:
        pytest.skip(f"file capabilities cannot be set here: {error}")
    seen = file_capabilities(str(program))
    assert (seen.permitted, seen.inheritable, seen.effective) == (
        ("NET_ADMIN", "NET_RAW"),
        (),
        True,
    )
    assert seen.rows() == ((str(program), "cap_net_admin,cap_net_raw=ep"),)


def test_a_set_in_few_words() -> None:
    assert brief(()) == "none"
    assert brief(linux.NAMES) == "all"
    assert brief(tuple(n for n in linux.NAMES if n != "SYS_RESOURCE")) == "all but SYS_RESOURCE"
    assert brief(("CHOWN", "KILL")) == "CHOWN, KILL"
