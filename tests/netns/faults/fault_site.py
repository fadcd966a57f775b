"""A lab to break things in, and how to see from outside whether something is broken.

c --left-- r1 --cable-- r2 --right-- s, d
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostlab.faults import injecting, record, witness
from hostlab.faults.hands import HANDS
from hostlab.faults.record import Phase, Standing
from hostlab.faults.site import Site
from hostlab.linux import procfs
from hostlab.observe.snapshot import Snapshot, differences
from hostlab.spec.faults import parse
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import DEADLINE_S, described, wait_until
from tests.netns.lab.lab_site import site as place

LAB = """
segments:
  left: [10.0.0.0/24, "fd00::/64"]
  cable: [10.1.0.0/24, "fd01::/64"]
  right: [10.2.0.0/24, "fd02::/64"]
nodes:
  c: {interfaces: [left], gateway: r1}
  r1: {interfaces: [left, cable], forwarding: true, gateway: r2}
  r2: {interfaces: [cable, right], forwarding: true, gateway: r1}
  s:
    interfaces: [right]
    gateway: r2
    limits: {disk: 4M}
    jobs:
      echo: {exec: python3 /srv/echo.py, respawn: false, readiness: {port: 7000}}
    files:
      /srv/echo.py: |
        import socketserver
        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                open("/tmp/seen", "w").close()
                self.wfile.write(self.rfile.readline())
        socketserver.ThreadingTCPServer.address_family = 10
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        socketserver.ThreadingTCPServer(("::", 7000), Echo).serve_forever()
  d: {interfaces: [right], gateway: r2}
checks:
  - {on: [c], reaches: "s:7000", within: 20s}
"""
HELLO = "hello\n"
Ran = Callable[..., str]
"""The command line with its words and the expected `status`; what it prints."""
SHORT_S = 0.2
"""What is broken need not be waited for longer; what is whole has the whole deadline."""
SERVER = ("10.2.0.1", "10.2.0.2")


@contextmanager
def broken_lab(
    tmp_path: Path, patch: pytest.MonkeyPatch, text: str = LAB, *, kind: str = "test"
) -> Iterator[Site]:
    """A lab that is up, and whose supervisors are."""
    with place(tmp_path, patch, kind=kind) as found:
        lab = Lab(described(found.name, text))
        lab.up()
        for node in lab:
            node.succeed("true")
            node.wait_settled()
        yield Site.of(lab.name)


def inject(site: Site, words: str) -> tuple[Standing, ...]:
    """As the command line does."""
    return injecting.inject(site, parse(words.split(), site.lab))


def assert_whole(site: Site, before: Snapshot, *, but: frozenset[str] = frozenset()) -> None:
    """The lab is what it was; what the kernel settles by itself is awaited."""
    found: list[str] = []

    def same() -> bool:
        after = witness.take(site)
        found[:] = [str(each) for each in differences(before, after) if each.kind not in but]
        return not found

    with suppress(AssertionError):
        wait_until(same, "the lab is what it was", timeout_s=DEADLINE_S / 2)
    assert not found, "\n".join(found)


def answer(address: str, port: int, timeout_s: float) -> str:
    """What an echo server makes of a line; in whatever network this runs."""
    try:
        with socket.create_connection((address, port), timeout_s) as link:
            link.settimeout(timeout_s)
            link.sendall(b"hello\n")
            return link.recv(100).decode()
    except OSError as error:
        return type(error).__name__


def asks(site: Site, client: str, *, timeout_s: float = DEADLINE_S) -> str:
    """What a node gets from `s`."""
    address = site.lab.node("s").interfaces[0].addresses[0].partition("/")[0]
    found: str = site.in_network(client, lambda: answer(address, 7000, timeout_s))
    return found


def in_files(site: Site, node: str, work: Callable[[], Any]) -> Any:
    """What a call among a node's files returns, or the name of its error."""

    def guarded() -> Any:
        try:
            return work()
        except OSError as error:
            return error.strerror

    return site.in_files(node, guarded)


def node_of(site: Site, name: str) -> Node:
    return Node(site.lab.name, name, site.pid(name))


def job(site: Site) -> int:
    """The process of the one job there is."""
    return next(
        pid
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
        if _runs_echo(pid) and _parent(pid) == site.nodes["s"]
    )


def _runs_echo(pid: int) -> bool:
    try:
        return b"/srv/echo.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _parent(pid: int) -> int | None:
    """None for one that has just ended: other labs have such jobs, too."""
    found = procfs.stat(pid)
    return None if found is None else found.parent


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def settle(site: Site) -> None:
    site.look()
    for name in site.nodes:
        node_of(site, name).wait_settled()


def lacking(site: Site, words: str) -> bool:
    """Whether this machine's cgroups are other ones than this test is for."""
    lacking = {
        "node-frozen": site.unified is None,
        "cpu-slow": "cpu" not in site.v1,
        "memory-pressure": "memory" not in site.v1,
    }
    return lacking.get(words.split()[0], False)


def die_injecting(site: Site, words: str, die: Callable[[str], None]) -> None:
    """Inject in a process that is killed on the way; the fault has begun."""
    pid = os.fork()
    if pid == 0:
        try:
            die(words.split()[0])
            inject(site, words)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    (standing,) = injecting.injected(site)
    assert standing.phase is Phase.BEGUN


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_when_written(kind: str) -> None:
    HANDS[kind] = replace(HANDS[kind], apply=_die)


def _die_when_done(kind: str) -> None:
    apply = HANDS[kind].apply
    HANDS[kind] = replace(HANDS[kind], apply=lambda *all_: _die(apply(*all_)))


def _die_before_it_is_told(kind: str) -> None:
    write = record.write

    def written(*said: Any) -> record.Line:
        if said[2] is Phase.INJECTED:
            _die()
        return write(*said)

    record.write = written  # type: ignore[assignment]  # in this child alone


DEATHS = (_die_when_written, _die_when_done, _die_before_it_is_told)
