"""A stored state whose parts do not fit together is refused when it is taken up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hostlab.errors import DecodeError
from hostlab.jobs.snapshot import capture, decode, encode, restore
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

Change = Callable[[dict[str, Any]], None]


def state() -> dict[str, Any]:
    world = World(
        half="start on a and b\n",
        main="exec x\n",
        held="start on starting main\npre-start exec y\n",
    )
    world.emit("a")
    world.start("main")
    raw: dict[str, Any] = json.loads(encode(capture(world.engine)))
    return raw


def held(raw: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = raw["classes"][2]["instances"][0]
    return found


def test_the_state_itself_is_sound() -> None:
    restore(decode(json.dumps(state()).encode()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: raw["events"][0].pop("blockers"), "start on of half and event 1"),
        (lambda raw: raw["events"].pop(0), "start on of half and event 1"),
        (lambda raw: raw.update(next_event=2), "event numbers are not below 2"),
        (lambda raw: raw.update(next_spawn=1), "spawn numbers are not below 1"),
        (lambda raw: raw["classes"].append(raw["classes"][0]), "job half is there twice"),
        (lambda raw: raw["classes"][0].update(serial=2), "class number is there twice"),
        (lambda raw: raw["classes"][0].update(start_on=[[2, 1]]), "an operand is TRUE"),
        (lambda raw: raw["classes"][1].update(start_on=[[0, 1]]), "an operand is TRUE"),
        (lambda raw: raw["classes"][1]["instances"][0].update(blocker=9), "waits for event 9"),
        (lambda raw: held(raw).pop("processes"), "held is in pre-start and waits for nothing"),
        (lambda raw: held(raw).update(goal="respawn"), "held is in pre-start"),
        (lambda raw: held(raw).update(state="waiting"), "held is in waiting"),
        (
            lambda raw: raw["classes"][2]["instances"].append(held(raw)),
            "an instance of held is there twice",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Change, reason: str) -> None:
    raw = state()
    change(raw)
    with pytest.raises(DecodeError, match=reason):
        restore(decode(json.dumps(raw).encode()))


def test_an_expression_that_is_no_tree_is_refused() -> None:
    raw = state()
    raw["classes"][0]["job"]["start_on"]["nodes"] = [["a", []], "and"]
    with pytest.raises(DecodeError, match="nodes that are no tree"):
        decode(json.dumps(raw).encode())
