"""Upstart's `cgroup CONTROLLER [NAME] [KEY VALUE]` on today's kernel.

A job has a cgroup of its own in any case, so only a key has something to do: it is a file of the
controller, in version 1's words mostly, as Upstart knew no others. Those of the controllers that
bound a job are understood in both versions' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hostlab.jobs.environment import ExpansionError, expand
from hostlab.linux.cgroups import Limit
from hostlab.spec.job import Cgroup

CONTROLLERS: Final = ("memory", "cpu", "pids")
OWN_GROUP: Final = "$UPSTART_CGROUP"
"""The name that Upstart gives a job's own group; no other has a meaning here."""
PERIOD_US: Final = 100_000
_SAME: Final = {
    "memory.limit_in_bytes": "memory.max",
    "memory.soft_limit_in_bytes": "memory.high",
    "memory.memsw.limit_in_bytes": "memory.swap.max",
}


def limit_of(stanza: Cgroup, environment: Mapping[str, str]) -> tuple[Limit | None, str | None]:
    """(what to write, what is not done): neither where the job's own group is all that is asked."""
    said = f"cgroup {stanza.controller}"
    if stanza.controller not in CONTROLLERS:
        return None, f"{said}: only {', '.join(CONTROLLERS)} are carried out"
    note = None
    if stanza.name not in (None, OWN_GROUP):
        note = f"{said} {stanza.name}: a job has a group of its own, not one that it shares"
    if stanza.key is None or stanza.value is None:
        return None, note
    try:
        value = expand(stanza.value, environment)
    except ExpansionError as error:
        return None, f"{said} {stanza.key} {stanza.value}: {error.message}"
    key = stanza.key if "." in stanza.key else f"{stanza.controller}.{stanza.key}"
    return Limit(stanza.controller, ((_version_1(key), value),), _version_2(key, value)), note


def _version_1(key: str) -> str:
    return next((old for old, new in _SAME.items() if new == key), key)


def _version_2(key: str, value: str) -> tuple[tuple[str, str], ...]:
    if key == "cpu.shares" and value.isdigit():
        # The kernel's ranges laid on each other: 2 to 262144 shares, a weight of 1 to 10000.
        shares = min(max(int(value), 2), 262_144)
        return (("cpu.weight", str(1 + (shares - 2) * 9999 // 262_142)),)
    if key == "cpu.cfs_quota_us":
        return (("cpu.max", f"{'max' if value == '-1' else value} {PERIOD_US}"),)
    return ((_SAME.get(key, key), "max" if value == "-1" else value),)
