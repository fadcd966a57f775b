"""The stored state of every release is read by this one: a supervisor is upgraded in place."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hostlab.errors import DecodeError
from hostlab.init import store
from hostlab.init.jobs import REQUESTS
from hostlab.jobs.engine import Engine
from hostlab.jobs.report import report
from hostlab.jobs.snapshot import LATER_VERSION, capture, decode, encode
from hostlab.jobs.waits import waits
from hostlab.version import __version__

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[2] / "data"
STATES = sorted(DATA.glob("state-*.json"))


def loaded(data: bytes) -> Engine:
    fd = os.memfd_create("state")
    try:
        os.write(fd, data)
        return store.load(fd, lambda _: None, lambda *_: None)
    finally:
        os.close(fd)


def test_this_release_has_one() -> None:
    assert DATA / f"state-{__version__}.json" in STATES


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_every_release_is_read(path: Path) -> None:
    """The same jobs were running when each was stored."""
    engine = loaded(path.read_bytes())
    rows = {(row.name, row.instance): row for row in report(engine)}
    states = {key: str(row.state) for key, row in rows.items()}
    assert states == {
        ("broken", ""): "failed",
        ("half", ""): "waiting",
        ("late", ""): "waiting",
        ("many", "1"): "running",
        ("many", "3"): "running",
        ("slow", ""): "starting",
        ("task", ""): "stopped",
        ("web", ""): "running",
    }
    assert rows["broken", ""].reason == "execute: No such file or directory"
    assert rows["many", "3"].pid == 18654
    assert engine.environment["NEW"] == "value"
    assert {"one #11", "18629.15533040507889.5"} <= {wait.name for wait in waits(engine)}
    assert engine.extra["boot"] == 1
    assert engine.extra["runlevel"] == "2"
    assert ["18629.15533040507889.5", None] in engine.extra[REQUESTS]
    assert decode(encode(capture(engine))) == capture(engine)


def test_later_version_is_told_apart() -> None:
    """Also where it has written nothing but what is usual with it."""
    snapshot, _, _ = STATES[0].read_bytes().partition(b"\n")
    raw = msgspec.json.decode(encode(decode(snapshot)))
    raw["version"] += 1
    with pytest.raises(DecodeError) as caught:
        loaded(msgspec.json.encode(raw) + b"\n")
    assert caught.value.code == LATER_VERSION
    del raw["version"]
    with pytest.raises(DecodeError, match="not one"):
        decode(msgspec.json.encode(raw))
