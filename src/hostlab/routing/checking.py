"""Routing configurations held against the daemons' own parsers, before anything is staged.

BIRD reads a file and says where it is wrong (`bird -p`), vtysh knows every command of FRR's daemons
(`vtysh -C -f`); neither touches the machine. A line that is refused is traced back to the place in
the description that made it. A node whose files are not the machine's has daemons of its own, which
check for themselves when they start.

vtysh takes 40 ms to learn the commands and next to nothing for a line, and goes on after one that
it refuses; so it reads all files as one. What bird reads must be one daemon's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

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
_HOSTNAME: Final = "checked"
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
    files = [
        _File(node, path, lines)
        for node in nodes
        for path, lines in configurations(node).items()
        # pimd has no way of only reading its configuration, and no line of it is the user's.
        if path != routing_pimd.CONFIG
    ]
    errors: dict[tuple[str, str], SpecError] = {}
    with tempfile.TemporaryDirectory(prefix="hostlab-routing-") as directory:
        for error in (*_refused_by_bird(files, directory), *_refused_by_frr(files, directory)):
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


class _File(NamedTuple):
    """What one daemon of a node reads."""

    node: Node
    path: str
    lines: list[Line]

    @property
    def is_of_bird(self) -> bool:
        return self.node.routing is not None and self.node.routing.engine is Engine.BIRD


def _refused_by_bird(files: Sequence[_File], directory: str) -> list[SpecError]:
    """By one process a file, one for each CPU at a time."""
    found: list[SpecError] = []
    mine = [file for file in files if file.is_of_bird]
    written = [f"{directory}/{number}" for number in range(len(mine))]
    for file, path in zip(mine, written, strict=True):
        with open(path, "w", encoding="utf-8") as output:
            output.write(text_of(file.lines))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        complaints = pool.map(lambda path: _complaints("bird", "-p", "-c", path), written)
        for file, path, said in zip(mine, written, complaints, strict=True):
            refused = list(_BIRD_SAYS.finditer(said))
            found += [_error(file, int(each[1]), each[2].strip()) for each in refused]
            if said and not refused:
                text = said.replace(path, file.path)
                raise Failed("routing", f"node {file.node.name}: bird refuses {file.path}: {text}")
    return found


def _refused_by_frr(files: Sequence[_File], directory: str) -> list[SpecError]:
    """By one process for all: each line is known by its number in the whole."""
    mine = [file for file in files if not file.is_of_bird]
    if not mine:
        return []
    path = f"{directory}/frr.conf"
    places: list[tuple[_File, int]] = []
    with open(path, "w", encoding="utf-8") as output:
        for file in mine:
            # A command of the outermost level ends whatever the file before has begun.
            output.write(f"hostname {_HOSTNAME}\n{text_of(file.lines)}")
            places += [(file, number) for number in range(len(file.lines) + 1)]
    said = _complaints("vtysh", "-C", "-f", path)
    refused = list(_VTYSH_SAYS.finditer(said))
    if said and not refused:
        raise Failed("routing", f"vtysh refuses the nodes' configurations: {said}")
    at = [(*places[min(int(each[1]), len(places)) - 1], each[2].strip()) for each in refused]
    return [_error(file, number, reason) for file, number, reason in at]


def _complaints(name: str, *arguments: str) -> str:
    """What a daemon's parser says of a file that it refuses; nothing of a good one."""
    done = subprocess.run(
        (program(name) or name, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return said or f"it ended with status {done.returncode}"


def _error(file: _File, number: int, reason: str) -> SpecError:
    number = min(max(number, 1), len(file.lines))
    line, node = file.lines[number - 1], file.node
    where = line.place or (node.routing.place if node.routing else None)
    message = f"node {node.name}: its routing daemon refuses its configuration: {reason}"
    hint = f"line {number} of {file.path} is `{line.text.strip()}`"
    return SpecError("routing", message, where=where or Place("", 1, 1), hint=hint)
