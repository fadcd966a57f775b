"""How a Compose service runs, as the keys of its node's job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hostlab.spec.import_respawn import respawn
from hostlab.spec.importing import Description, Fields, number, seconds, whole, without_nothing
from hostlab.spec.job_forms import bound, signal, within
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.stanzas import RESOURCES
from hostlab.spec.tree import Mapping as Tree_Mapping
from hostlab.spec.units import between


def job_keys(fields: Fields) -> Description:
    """All but the command; what cannot be taken over is noted."""
    user, _, group = (fields.word("user") or "").partition(":")
    return without_nothing({
        "user": user,
        "group": group,
        "groups": [word for word, _ in fields.words("group_add")],
        "directory": fields.word("working_dir"),
        "oom_score_adj": _valid(fields, "oom_score_adj", partial(between, -1000, 1000)),
        "rlimits": dict(_rlimits(fields)),
        "kill": without_nothing({
            "signal": _valid(fields, "stop_signal", signal),
            "timeout": _seconds(fields, "stop_grace_period"),
        }),
    }) | _restart(fields)  # fmt: skip


def _restart(fields: Fields) -> Description:
    """Whether it is started again: what `deploy` says, else the service's own word."""
    deployed = fields.child("deploy").child("restart_policy")
    said = {key: deployed.word(key) for key in ("condition", "max_attempts", "delay", "window")}
    deployed.rest({})
    policy = fields.word("restart")
    if any(said.values()):
        policy = {"any": "always", None: "always", "none": "no"}.get(
            said["condition"], said["condition"]
        )
        if whole(said["max_attempts"]):
            policy = f"{policy}:{said['max_attempts']}"
    found = respawn(policy)
    if found is None:
        fields.note("restart", f"was not understood: {quoted(policy or '')}")
        return {}
    for key, ours in (("delay", "delay"), ("window", "interval")):
        span = seconds(said[key] or "")
        if span is not None and "respawn" in found:
            found["respawn"][ours] = f"{number(span)}s"
    return found


def _rlimits(fields: Fields) -> Iterator[tuple[str, Any]]:
    limits = fields.child("ulimits")
    for name in limits:
        pair = isinstance(limits.tree(name), Tree_Mapping)
        inner = limits.child(name) if pair else limits
        words = [inner.word(key) for key in (("soft", "hard") if pair else (name,))]
        try:
            soft, *rest = ["unlimited" if word == "-1" else word or "" for word in words]
            within(bound(soft), bound(rest[0] if rest else soft))
        except Wrong as wrong:
            limits.note(name, f"is left out: {wrong.message}")
            continue
        if name in RESOURCES:
            values = [whole(value) or value for value in (soft, *rest)]
            yield name, values if pair else values[0]
        else:
            limits.note(name, "is left out: a job has no limit of this name")


def _valid(fields: Fields, key: str, parse: Callable[[str], int]) -> str | int | None:
    """What a parser of ours takes too."""
    word = fields.word(key)
    if not word:
        return None
    try:
        value = parse(word)
    except Wrong as wrong:
        fields.note(key, f"was not understood: {wrong.message}")
        return None
    return value if whole(word) == value else word


def _seconds(fields: Fields, key: str) -> str | None:
    word = fields.word(key)
    span = seconds(word) if word else None
    if word and span is None:
        fields.note(key, f"was not understood: {quoted(word)} is no time")
    return None if span is None else f"{number(span)}s"
