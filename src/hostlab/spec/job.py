"""A job: something a node runs, whether it came from YAML, a `.conf` or a systemd unit."""

from __future__ import annotations

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a node; every source of jobs ends in this type."""

    name: str
    exec: str | None = None
    """A command line: given to `/bin/sh -e -c` if it has shell characters, else split in words."""
    argv: tuple[str, ...] = ()
    """An exact argument vector (an OCI bundle's `process.args`); instead of `exec`."""
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    """Name or number; None is the node's root."""
    group: str | None = None
    groups: tuple[str, ...] = ()
    """Supplementary groups, names or numbers, beside `group`."""
    umask: int | None = None
    oom_score_adj: int | None = None
    """-1000 to 1000, as /proc/PID/oom_score_adj has it; lowering it needs CAP_SYS_RESOURCE."""
    directory: str = "/"
    capabilities: tuple[str, ...] | None = None
    """Exactly these (`NET_BIND_SERVICE`, …); None is the node's set."""
    no_new_privs: bool = False
    namespaces: tuple[tuple[str, str], ...] = ()
    """(`net`, node) …: run in another node's namespace of this kind."""
