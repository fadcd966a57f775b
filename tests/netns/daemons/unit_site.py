"""A lab of daemons under their units, as their boot leaves them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostlab.sync import Lab, Node
from tests.netns.daemons.unit_daemons import DAEMONS, description
from tests.netns.lab.lab_site import site

UNITS = Path("/lib/systemd/system")
BOOT_S = 200.0
EXPECTED = (
    # What nobody in a node may do on the machine.
    r"unable to set (oom adjustment|priority|\"nofile\" resource limit): .*; it goes without",
    # dbus is stopped, and init was on it.
    r"the system bus: the connection has ended",
    # What of a sandbox is done in part; `job check --explain` lists it.
    r"/lib/systemd/system/\S+:\d+:\d+: (Protect|ReadOnly|DynamicUser)",
    # TERM reaches both of its processes, and each passes it on: a race of its own, seen in one stop
    # of 25 without any init, with 0 as the third way to end.
    r"lldpd.service main process \(\d+\) terminated with status 1",
)
"""Warnings of init that go with them."""


def needs_units(*names: str) -> None:
    """Skip where the packages of these units are missing."""
    missing = [name for name in names if not (UNITS / name).exists()]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: `make dev` as root installs them")
    if os.geteuid():
        pytest.skip("only root's lab has the users that the daemons become")


@contextmanager
def daemons(directory: Path) -> Iterator[Lab]:
    """All of them."""
    needs_units(*(daemon.unit for daemon in DAEMONS))
    with pytest.MonkeyPatch.context() as patch, site(directory, patch) as place:
        found = place.up(description())
        for node in found:
            node.wait_settled(within_s=BOOT_S)
        yield found


def main_of(node: Node, unit: str) -> int | None:
    return node.jobs()[unit].pid


def surprises(node: Node) -> list[str]:
    """What init warns of and is not expected."""
    path = Path(node.init_log_path())
    lines = path.read_text().splitlines() if path.exists() else []
    warnings = [line for line in lines if " warning: " in line or " error: " in line]
    return [line for line in warnings if not any(re.search(text, line) for text in EXPECTED)]
