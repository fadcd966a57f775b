"""The shipped anycast labs, staged under names of a run's own, and what is expected of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hostlab.faults import injecting
from hostlab.faults.site import Site
from hostlab.linux.running import SBIN
from hostlab.spec.faults import parse
from hostlab.spec.model import Check
from hostlab.sync import Lab
from tests.netns.lab import lab_site

EXAMPLES = Path(__file__).parents[3] / "examples" / "anycast"
SOON_S = 300.0
"""Timers are seconds; this is for a machine on which everything takes ten times as long, and for
FRR, which waits up to a minute before it speaks again to somebody whose session has often ended."""
PROGRAMS = ("bird", "vtysh", "exabgp", "nginx", "nft", "curl")


def needs_programs() -> None:
    """Skip where a daemon of the labs is not here, or no lab is possible."""
    for name in PROGRAMS:
        if shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}") is None:
            pytest.skip(f"{name} is not installed")
    if os.geteuid():
        pytest.skip("here: FRR and ExaBGP in nodes take a lab of root's")
    lab_site.probe()


def own(name: str, directory: Path, changes: Mapping[str, Mapping[str, str]] | None = None) -> Path:
    """The example, copied, under a name that no other run has; `changes` are of files' texts."""
    shutil.copytree(EXAMPLES, directory / name)
    path = directory / name / f"{name}.yaml"
    named = (path.name, {"\nname: anycast": f"\nname: a{os.getpid()}"})
    for file, texts in (named, *(changes or {}).items()):
        place = directory / name / file
        text = place.read_text()
        for before, after in texts.items():
            assert before in text, before
            text = text.replace(before, after)
        place.write_text(text)
    return path


def up(lab: Lab) -> None:
    """Up, and converged.

    A node's init keeps a process for commands from the first one on, which is none that a test
    leaves behind.
    """
    lab.up(wait_s=SOON_S)
    lab["client"].succeed("true", timeout_s=SOON_S)


def speaker(lab: Lab, name: str, med: int | None = None) -> dict[str, Any]:
    """A node, as a check of BGP names it."""
    interfaces = lab.description.node(name).interfaces
    found = [str(ip_interface(each).ip) for one in interfaces for each in one.addresses]
    return {"name": name, "addresses": found, "med": med}


def bgp(
    lab: Lab,
    on: tuple[str, ...],
    prefix: str,
    *,
    paths: Mapping[str, int | None] | None = None,
    next_hop: str | None = None,
    within_s: float = SOON_S,
) -> Check:
    """What the daemons of some nodes have of a prefix; the least metric is preferred."""
    arguments: dict[str, Any] = {"prefix": prefix}
    if paths is not None:
        arguments["paths"] = [speaker(lab, name, med) for name, med in paths.items()]
    if next_hop is not None:
        arguments["next_hop"] = speaker(lab, next_hop)
    return Check(nodes=on, kind="bgp", arguments=arguments, within_s=within_s)


def session(lab: Lab, on: str, peer: str, state: str) -> Check:
    """Whether a node's sessions with a peer are up."""
    arguments = {"peer": speaker(lab, peer), "state": state}
    return Check(nodes=(on,), kind="bgp_session", arguments=arguments, within_s=SOON_S)


def served(address: str, by: str) -> Check:
    """Who answers the client.

    Asked again and again: a frozen node's kernel takes a connection that is never answered.
    """
    host = f"[{address}]" if ":" in address else address
    run = f'test "$(curl -s --max-time 3 http://{host}/)" = {by}'
    arguments = {"run": run, "status": 0, "stdout": None}
    return Check(nodes=("client",), kind="command", arguments=arguments, within_s=SOON_S)


def expect(lab: Lab, *checks: Check) -> None:
    """All of these come to hold."""
    report = lab.check(checks)
    wrong = [str(row) for row in report.rows if not row.ok]
    assert not wrong, "\n".join([*wrong, *map(partial(sessions, lab), ("rs4", "rs5"))])


def sessions(lab: Lab, server: str) -> str:
    """What a route server says of its sessions, for the message of a failure."""
    shown = "birdc show protocols" if server == "rs4" else "vtysh -c 'show bgp summary'"
    return f"{server}:\n{lab[server].run(shown, timeout_s=SOON_S).stdout.decode()}"


def expect_all(lab: Lab) -> None:
    """Every check of the description comes to hold, on a busy machine too."""
    expect(lab, *(replace(each, within_s=SOON_S) for each in lab.description.checks))


@contextmanager
def broken(lab: Lab, *words: str) -> Iterator[None]:
    """A fault stands for the length of the block."""
    site = Site.of(lab.name)
    there = injecting.inject(site, parse(words, site.lab))
    try:
        yield
    finally:
        injecting.clear(site, {each.number for each in there})
