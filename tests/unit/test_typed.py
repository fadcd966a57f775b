"""Types are made ready by one thread at a time: two at once end the process, in msgspec."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from hostlab import typed

pytestmark = pytest.mark.unit

MANY = """
import sys, threading
from hostlab import typed
from hostlab.checks.questions import Reply
said = b'{"position":1,"waited":{"seen":{"ok":true,"text":"","facts":{}},"tries":1,"took_s":1}}'
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
def read():
    together.wait()
    found.append(typed.WAY)
found = []
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [found[0]] * 8, found
"""
"""Of 40 processes that ask msgspec itself like this, 38 ended with SIGSEGV."""


@pytest.mark.parametrize(
    "way", ["decode(said, Reply)", "convert(eval(said.replace(b'true', b'True')), Reply)"]
)
def test_many_threads_may_need_a_type_for_the_first_time(way: str) -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", MANY.replace("WAY", way)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_child_reads_though_another_thread_was_making_a_type_ready() -> None:
    """A fork waits for that thread, so the child does not wait for one that it does not have."""
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        with typed._lock:
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=slow)
    thread.start()
    inside.wait(60)
    threading.Timer(0.05, go_on.set).start()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(typed.decode(b"[7]", list[int])[0])
    _, status = os.waitpid(pid, 0)
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.parametrize(
    ("said", "kind", "value"),
    [
        (b"[1]", list[int], [1]),
        ('{"a": null}', dict[str, str | None], {"a": None}),
        ("3", Any, 3),
        ("null", int | None, None),
    ],
)
def test_what_is_read(said: bytes | str, kind: Any, value: object) -> None:
    assert typed.decode(said, kind) == value
    assert typed.convert(value, kind) == value
    assert typed.decoder(kind) is typed.decoder(kind)


def test_what_is_not_of_the_type() -> None:
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        typed.decode(b'["x"]', list[int])
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        typed.convert(["x"], list[int])
    with pytest.raises(msgspec.DecodeError):
        typed.decode(b"[", list[int])
