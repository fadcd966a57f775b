"""Routing configurations held against the daemons' own parsers, before anything is staged.

BIRD reads a file and says where it is wrong (`bird -p`), vtysh knows every command of FRR's daemons
(`vtysh -C -f`); neither touches the machine. A line that is refused is traced back to the place in
the description that made it. A node whose files are not the machine's has daemons of its own, which
check for themselves when they start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

from hostlab.errors import Failed, Place, SpecError, SpecErrors, Unsupported
from hostlab.lab.idmap import maps_itself
from hostlab.linux import mroute
from hostlab.linux.running import SBIN
from hostlab.spec import routing_frr, routing_pimd
from hostlab.spec.model import Lab, Node, RootKind
from hostlab.spec.routing import Engine, Routing
from hostlab.spec.routing_jobs import configurations
from hostlab.spec.routing_lines import Line, text_of

TIMEOUT_S: Final = 60.0
"""A parser takes milliseconds; this is for a machine that is swapping."""
_BIRD_SAYS: Final = re.compile(r"^bird: [^:\n]*:(\d+):\d+ (.*)$", re.M)
_VTYSH_SAYS: Final = re.compile(r"^line (\d+): (.*)$", re.M)
_NO_DAEMON: Final = "no-daemon"
_PACKAGES: Final = {Engine.BIRD: "bird2", Engine.FRR: "frr"}


def check(lab: Lab) -> None:
    """Unsupported when a daemon is not here, SpecErrors when one refuses its configuration."""
    nodes = [node for node in lab.nodes if node.routing and node.root.kind is RootKind.MACHINE]
    for engine in Engine:
        users = [node for node in nodes if node.routing and node.routing.engine is engine]
        if users:
            _must_be_here(engine, users)
            if engine is Engine.FRR and not may_have_users():
                raise Unsupported(
                    _NO_DAEMON,
                    f"node {users[0].name}: FRR's daemons insist on users and groups, and a lab of"
                    " a plain user with one id has none",
                    hint="take `engine: bird`, or stage it as root",
                )
    _must_route_multicast([node for node in lab.nodes if node.routing and node.routing.pim])
    errors: dict[tuple[str, str], SpecError] = {}
    with tempfile.TemporaryDirectory(prefix="hostlab-routing-") as directory:
        for node in nodes:
            for error in _refused(node, directory):
                # Nodes of one role share their mistakes.
                errors.setdefault((str(error.where), error.message), error)
    if errors:
        raise SpecErrors(tuple(errors.values()))


def may_have_users() -> bool:
    """Whether this user's labs have more user ids than one."""
    return os.geteuid() == 0 or not maps_itself()


def program(name: str) -> str | None:
    """Where a program of the administrator's is; None when it is not here."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def _must_be_here(engine: Engine, users: Sequence[Node]) -> None:
    lacking = ""
    if engine is Engine.BIRD:
        lacking = "" if program("bird") else "bird"
    else:
        wanted = {name for node in users if node.routing for name in _daemons(node.routing)}
        absent = [n for n in sorted(wanted) if not os.access(f"/usr/lib/frr/{n}", os.X_OK)]
        lacking = "vtysh" if program("vtysh") is None else ", ".join(absent)
    if lacking:
        raise Unsupported(
            _NO_DAEMON,
            f"node {users[0].name} routes with {engine.value}, and {lacking} is not here",
            hint=f"apt-get install {_PACKAGES[engine]}",
        )


def _must_route_multicast(users: Sequence[Node]) -> None:
    """Unsupported when the kernel or a program is missing for PIM."""
    if not users:
        return
    error = mroute.missing()
    if error:
        raise Unsupported(
            "multicast-routing",
            f"node {users[0].name}: this kernel routes no multicast ({os.strerror(error)})",
            hint="a kernel with CONFIG_IP_MROUTE and CONFIG_IP_PIMSM_V2; a vm node has one",
        )
    for node in users:
        is_own = node.root.kind is not RootKind.MACHINE
        if is_own or routing_pimd.pim_of(node.routing) is None or program(routing_pimd.NAME):
            continue
        hint = "apt-get install pimd"
        if program("vtysh"):
            hint = (
                "Debian's pimd and frr exclude each other: `apt-get download pimd`,"
                " `dpkg-deb -x pimd_*.deb pimd`, and put pimd/usr/sbin/pimd into /usr/local/sbin"
            )
        raise Unsupported(
            _NO_DAEMON, f"node {node.name} routes multicast with pimd, which is not here", hint=hint
        )


def _daemons(routing: Routing) -> tuple[str, ...]:
    return routing_frr.daemons(routing)


def _refused(node: Node, directory: str) -> Iterator[SpecError]:
    assert node.routing is not None
    for path, lines in configurations(node).items():
        if path == routing_pimd.CONFIG:
            # It has no way of only reading its configuration, and no line is the user's.
            continue
        file = os.path.join(directory, os.path.basename(path))
        with open(file, "w", encoding="utf-8") as output:
            output.write(text_of(lines))
        yield from _complaints(node, node.routing, path, file, lines)


def _complaints(
    node: Node, routing: Routing, path: str, file: str, lines: Sequence[Line]
) -> Iterator[SpecError]:
    is_bird = routing.engine is Engine.BIRD
    name, arguments = ("bird", ("-p", "-c", file)) if is_bird else ("vtysh", ("-C", "-f", file))
    done = subprocess.run(
        (program(name) or name, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).decode(errors="replace").replace(file, path)
    found = list((_BIRD_SAYS if is_bird else _VTYSH_SAYS).finditer(said))
    for each in found:
        number = min(max(int(each[1]), 1), len(lines))
        yield _error(node, path, number, lines, each[2].strip())
    if not found:
        message = f"node {node.name}: {name} refuses {path}: {said.strip()}"
        raise Failed("routing", message)


def _error(node: Node, path: str, number: int, lines: Sequence[Line], reason: str) -> SpecError:
    line = lines[number - 1]
    where = line.place or (node.routing.place if node.routing else None)
    message = f"node {node.name}: its routing daemon refuses its configuration: {reason}"
    hint = f"line {number} of {path} is `{line.text.strip()}`"
    return SpecError("routing", message, where=where or Place("", 1, 1), hint=hint)
