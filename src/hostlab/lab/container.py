"""A node as namespaces: what its first process does from `clone3` until it holds the node up.

The hub decides and wires; the child builds its own file system at the same time, on another CPU.
They speak over one socket pair: the hub says `go` when the links are there (or hangs up, and the
child ends: so nothing is left of a node that a dead hub had begun), the child answers `ready`, or
what went wrong and where.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.errors import Problem
from hostlab.init.holder import Holder, Inheritance
from hostlab.init.node import NodeConfig, supervise
from hostlab.lab import files, rootfs, wiring
from hostlab.linux.clone import CLONE_NEWCGROUP
from hostlab.linux.libc import close_all_but, set_process_name, sethostname, setns, unshare
from hostlab.linux.netlink import Batch, Netlink
from hostlab.spec.model import Node

GO: Final = b"go"
READY: Final = b"ready"
ANSWER_BYTES: Final = 8192


class Trouble(msgspec.Struct, frozen=True):
    """Why a node could not be made: the step and the reason."""

    step: str
    message: str


class ContainerPlan(msgspec.Struct, frozen=True):
    """Everything a new node's first process needs; it is in memory when the child begins."""

    config: NodeConfig
    root: rootfs.RootPlan
    control: socket.socket
    channel: socket.socket
    """To the hub's holder."""
    index: Mapping[str, int]
    configuration: Batch | None
    """What its network is to be, with its neighbours; None where that is too much at once."""
    neighbours: bytes
    """Packed requests."""
    owns_network: bool
    owns_cgroups: bool
    join: Sequence[int] = ()
    """Descriptors of other nodes' namespaces that this one shares."""
    keep: Sequence[int] = ()
    """Further descriptors to keep: the mark."""


def become_node(plan: ContainerPlan, link: socket.socket) -> NoReturn:
    """The child's whole life; never returns."""
    step = "start"
    try:
        for step, work in _steps(plan, link):  # noqa: B007  (the handlers below name the step)
            work()
    except BaseException as error:
        _fail(link, step, error)
    config = plan.config
    _hold(plan.control, config, eager=config.node.has_jobs)


def _fail(link: socket.socket, step: str, error: BaseException) -> NoReturn:
    """Say what went wrong, and end; nothing of the hub's own program may run on in here."""
    try:
        if isinstance(error, Problem):
            message = error.message
        else:
            expected = isinstance(error, OSError | ValueError | KeyError)
            message = str(error) if expected else repr(error)
        link.send(msgspec.json.encode(Trouble(step, message)))
    finally:
        os._exit(1)


def _steps(plan: ContainerPlan, link: socket.socket) -> Sequence[tuple[str, Callable[[], None]]]:
    node = plan.config.node
    return (
        ("introduce", lambda: _introduce(plan, link)),
        ("join namespaces", lambda: _join(plan.join)),
        ("file system", lambda: rootfs.build(plan.root)),
        ("settings", lambda: _sysctls(wiring.other_sysctls(node))),
        ("protect", lambda: rootfs.seal(plan.root)),
        ("host name", lambda: _hostname(node)),
        ("wait for links", lambda: _wait_go(link)),
        ("cgroups", lambda: _cgroups(plan)),
        ("network", lambda: _network(plan)),
        ("users", lambda: files.add_users(node.users)),
        ("files", lambda: files.write_files(node.files)),
        ("report", lambda: _report(link)),
    )


def _hold(control: socket.socket, config: NodeConfig, *, eager: bool) -> NoReturn:
    def start(inheritance: Inheritance) -> None:
        supervise(config, inheritance)

    Holder(control, start, eager=eager).hold()


def _introduce(plan: ContainerPlan, link: socket.socket) -> None:
    """Tell the hub's holder who this is, and let go of everything else that is the hub's.

    A descriptor of another node's namespace, kept here, would keep that namespace alive.
    """
    asyncio.events._set_running_loop(None)
    plan.channel.send(f"+ node:{plan.config.node.name}".encode())
    config = plan.config
    kept = {link.fileno(), plan.control.fileno(), config.state_dir, *config.v1.values()}
    kept |= {*plan.keep, *plan.join}
    if config.cgroup is not None:
        kept.add(config.cgroup)
    close_all_but(kept)


def _join(namespaces: Sequence[int]) -> None:
    for fd in namespaces:
        setns(fd, 0)


def _hostname(node: Node) -> None:
    """The node's name, also as the process' own for `ps -o comm` (15 bytes of it)."""
    # Without a space, at which what reads `ps` would take it apart.
    set_process_name(f"hold:{node.name}")
    if not any(kind == "uts" for kind, _ in node.namespaces):
        encoded = node.hostname.encode()
        sethostname(encoded, len(encoded))


def _wait_go(link: socket.socket) -> None:
    if link.recv(ANSWER_BYTES) != GO:
        os._exit(1)


def _cgroups(plan: ContainerPlan) -> None:
    """Only now is it in every one of its cgroups, which become the roots that it sees.

    A cgroup namespace made by `clone3` would have what is above for v1: CLONE_INTO_CGROUP is v2's.
    """
    if plan.owns_cgroups:
        unshare(CLONE_NEWCGROUP)


def _sysctls(settings: Sequence[tuple[str, str]]) -> None:
    for key, value in settings:
        try:
            wiring.write_sysctl(key, value)
        except OSError as error:
            raise Problem("sysctl", f"{key} = {value}: {error.strerror}") from None


def _network(plan: ContainerPlan) -> None:
    node = plan.config.node
    if not plan.owns_network:
        return
    _sysctls(wiring.network_sysctls(node))
    with Netlink() as netlink:
        if plan.configuration is not None:
            netlink.request_batch(plan.configuration, lambda: wiring.configure(node, plan.index))
            return
        netlink.request(wiring.configure(node, plan.index))
        if plan.neighbours:
            netlink.request_packed(plan.neighbours)


def _report(link: socket.socket) -> None:
    link.send(READY)
    link.close()


def answer(link: socket.socket) -> Trouble | None:
    """What the child said; None when the node is ready."""
    try:
        data = link.recv(ANSWER_BYTES)
    except ConnectionResetError:
        # The child has ended with our `go` unread; what it had said before is still there.
        data = link.recv(ANSWER_BYTES)
    if data == READY:
        return None
    if not data:
        return Trouble("start", "the node's first process ended without a word")
    return typed.decode(data, Trouble)


def netlink_in(namespace: int, *, home: int) -> Netlink:
    """A netlink socket that belongs to another network namespace; a socket stays where it is made.

    The caller is in that namespace only while the socket is made.
    """
    setns(namespace, 0)
    try:
        return Netlink()
    finally:
        setns(home, 0)
