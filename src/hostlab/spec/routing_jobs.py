"""A node's routing daemons as jobs of the node, with their configuration among its files."""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec.structs import replace

from hostlab.spec import routing_bird, routing_frr, routing_pimd
from hostlab.spec.drafts import Draft
from hostlab.spec.job import (
    Directory,
    Expect,
    Expression,
    Job,
    Match,
    Operator,
    Readiness,
    Respawn,
)
from hostlab.spec.model import File, Node, User
from hostlab.spec.routing import Engine, Pim, Routing
from hostlab.spec.routing_lines import Line, text_of
from hostlab.spec.source import Source, quoted

BIRD: Final = "bird"
DIGEST: Final = "CONFIGURATION"
"""A job's variable that differs when its configuration does, so that it is started anew then."""
FRR_USER: Final = "hostlab-frr"
"""FRR's daemons run as the node's root by this name, which is in the group that they insist on."""
_RESPAWN: Final = Respawn(enabled=True, limit=10, interval_s=60.0, delay_min_s=0.1, delay_max_s=5.0)


def configurations(node: Node) -> dict[str, list[Line]]:
    """The files of the node's daemons by their path in it, line by line."""
    routing = node.routing
    if routing is None:
        return {}
    pim = routing_pimd.pim_of(routing)
    beside = {} if pim is None else {routing_pimd.CONFIG: routing_pimd.render(node.name, pim)}
    if routing.engine is Engine.BIRD:
        rendered = routing_bird.render(node.name, node.loopbacks, routing)
        return {routing_bird.CONFIG: rendered, **beside}
    files = routing_frr.render(node.name, routing)
    return {f"{routing_frr.DIRECTORY}/{name}.conf": lines for name, lines in files.items()} | beside


def with_daemons(source: Source, draft: Draft, node: Node) -> Node:
    """The node with what its `routing` needs; what stands in the way is reported."""
    routing = node.routing
    assert routing is not None
    made = configurations(node)
    files = tuple(
        File(path=path, content=text_of(lines).encode(), mode=0o644) for path, lines in made.items()
    )
    digests = {file.path: hashlib.sha256(file.content).hexdigest()[:16] for file in files}
    jobs = _bird(node, digests) if routing.engine is Engine.BIRD else _frr(node, routing, digests)
    pim = routing_pimd.pim_of(routing)
    if pim is not None:
        jobs += (_pimd(node, pim, digests[routing_pimd.CONFIG]),)
    _check_clashes(source, draft, "jobs", {job.name for job in jobs}, "the routing daemon's job")
    _check_clashes(source, draft, "files", set(made), "the routing daemon's configuration")
    users = node.users
    if routing.engine is Engine.FRR:
        user = User(
            name=FRR_USER, uid=0, gid=0, home="/", shell="/usr/sbin/nologin", groups=("frrvty",)
        )
        users += (user,)
    return replace(node, files=node.files + files, jobs=node.jobs + jobs, users=users)


def _check_clashes(source: Source, draft: Draft, key: str, ours: set[str], what: str) -> None:
    said = draft.fields.value(key, {})
    for name in sorted(ours & said.keys()):
        message = f"{quoted(name)} is {what}"
        hint = "lines of your own belong into `raw` of `routing`"
        source.report("clash", message, said[name].key, hint)


def _bird(node: Node, digests: dict[str, str]) -> tuple[Job, ...]:
    return (
        Job(
            name=BIRD,
            description="BIRD, the routing daemon",
            argv=(BIRD, "-c", routing_bird.CONFIG, "-s", routing_bird.SOCKET),
            environment=((DIGEST, digests[routing_bird.CONFIG]),),
            directories=(Directory(path="/run/bird"),),
            start_on=Expression((Match(node.boot.startup_event),)),
            # Its parent leaves when the configuration is read and the socket is there.
            readiness=Readiness(kind=Expect.FORK),
            respawn=_RESPAWN,
        ),
    )


def _pimd(node: Node, pim: Pim, digest: str) -> Job:
    # Its first word as the elected router is lost unless the others' routes to it are there, and
    # the next comes 30 s later; so it waits until one candidate has a route to another.
    networks = tuple(dict.fromkeys(pim.elected))
    start: tuple[Match | Operator, ...] = (Match(node.boot.startup_event),)
    if networks:
        start = (Match("net-route-added", (f"TO={networks[0]}",)),)
        for network in networks[1:]:
            start += (Match("net-route-added", (f"TO={network}",)), Operator.OR)
    return Job(
        name=routing_pimd.NAME,
        description="pimd, which routes multicast",
        argv=(routing_pimd.NAME, "-f", "-N", "-c", routing_pimd.CONFIG),
        environment=((DIGEST, digest),),
        directories=(Directory(path=routing_pimd.DIRECTORY),),
        start_on=Expression(start),
        respawn=_RESPAWN,
    )


def _frr(node: Node, routing: Routing, digests: dict[str, str]) -> tuple[Job, ...]:
    return tuple(
        _frr_daemon(node, name, routing, digests[f"{routing_frr.DIRECTORY}/{name}.conf"])
        for name in routing_frr.daemons(routing)
    )


def _frr_daemon(node: Node, name: str, routing: Routing, digest: str) -> Job:
    path = f"{routing_frr.DIRECTORY}/{name}.conf"
    argv = [f"/usr/lib/frr/{name}", "-f", path, "--log", "stdout", "--vty_port", "0"]
    argv += ["-u", FRR_USER, "-g", "root", "-d"]
    bgp = routing.bgp
    if name == "bgpd" and bgp is not None and not bgp.installs:
        argv.append("--no_kernel")
    is_zebra = name == routing_frr.ZEBRA
    event = Match(node.boot.startup_event) if is_zebra else Match("started", (routing_frr.ZEBRA,))
    return Job(
        name=name,
        description=f"{name} of FRR, a routing daemon",
        argv=tuple(argv),
        environment=((DIGEST, digest),),
        directories=(Directory(path=routing_frr.RUN),),
        start_on=Expression((event,)),
        stop_on=None if is_zebra else Expression((Match("stopping", (routing_frr.ZEBRA,)),)),
        # They want SYS_ADMIN, for network namespaces that they have no use for here.
        inert_capset=True,
        # The parent leaves when the sockets are there; without zebra's the others wait for 10 s.
        readiness=Readiness(kind=Expect.FORK),
        respawn=_RESPAWN,
    )


def daemon_jobs(routing: Routing) -> tuple[str, ...]:
    """The names of the jobs that a node's daemons are."""
    own = (BIRD,) if routing.engine is Engine.BIRD else routing_frr.daemons(routing)
    return own if routing_pimd.pim_of(routing) is None else (*own, routing_pimd.NAME)
