"""Task namespaces that several programs make and take away at the same time, as scripts do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.tasks import making, places

pytestmark = pytest.mark.netns

ROUNDS = 20
AT_ONCE = 5


def at_once(*works: Callable[[], object]) -> list[str]:
    """What went wrong in processes that begin in the same instant."""
    go, begin = os.pipe()
    reader, writer = os.pipe()
    pids = []
    for work in works:
        pid = os.fork()
        if pid == 0:
            try:
                os.close(begin)
                os.read(go, 1)
                work()
            except BaseException as error:
                os.write(writer, f"{error!r}\n".encode())
            finally:
                os._exit(0)
        pids.append(pid)
    for fd in (go, begin, writer):
        os.close(fd)
    with open(reader) as told:
        said = told.read().splitlines()
    for pid in pids:
        os.waitpid(pid, 0)
    return said


def test_whoever_makes_one_at_once_with_others_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    name, whose = f"many-{os.getpid()}", making.owner(None, None)

    def make() -> None:
        assert making.make(name, whose, logs=str(tmp_path / "logs")).name == name

    def release() -> None:
        with contextlib.suppress(UsageError):  # Somebody else was quicker.
            making.release(name)

    for _ in range(ROUNDS):
        assert at_once(*[make] * AT_ONCE) == []
        assert places.needed(name).name == name
        assert at_once(*[release] * AT_ONCE) == []
        assert places.found(name) is None
        assert at_once(*[make, release] * AT_ONCE) == []
        release()
        assert os.listdir(tmp_path) == ["logs"]
