"""The hub's view of a node: its first process, and the plan from which it is made."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import pkgutil
import signal
import socket
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

import hostlab.init
import hostlab.jobs
from hostlab.errors import Failed, Unsupported
from hostlab.init.node import NodeConfig
from hostlab.init.protocol import CONTROL, listen
from hostlab.init.spawning import cgroup_stanza
from hostlab.lab import hosts, limits
from hostlab.lab.container import ContainerPlan
from hostlab.lab.root_table import root_table
from hostlab.lab.rootfs import RootPlan, shown
from hostlab.lab.wiring import Directory, configure, indexes
from hostlab.linux import cgroups
from hostlab.linux.clone import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUTS,
    CLONE_PARENT,
    NAMESPACE_FLAGS,
    clone3,
    namespace_fd,
)
from hostlab.linux.libc import setns, unshare
from hostlab.linux.netlink import batch
from hostlab.linux.pidfd import has_ended
from hostlab.linux.scm_rights import receive
from hostlab.linux.seccomp import compile_profile
from hostlab.spec.job import Resources
from hostlab.spec.model import Node, RootKind

if TYPE_CHECKING:
    from hostlab.lab.stage import HubConfig

APPARMOR: Final = "/sys/kernel/security/apparmor"
OWN: Final = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
"""Made by `clone3`; the cgroup namespace follows when the node is in its cgroups."""


class NodeHandle(msgspec.Struct, frozen=True):
    """A node that is there: its holder, as the machine numbers it, and its network namespace."""

    name: str
    pid: int
    pidfd: int
    network: int

    @classmethod
    def of(cls, name: str, pid: int, *, pidfd: int | None = None) -> NodeHandle:
        """A handle on a running holder; OSError when it has ended."""
        opened = os.pidfd_open(pid) if pidfd is None else pidfd
        try:
            return cls(name, pid, opened, namespace_fd(pid, "net"))
        except OSError:
            os.close(opened)
            raise

    def has_ended(self) -> bool:
        """Whether its first process has; the kernel says so before the holder has reaped it."""
        return has_ended(self.pidfd)

    def kill(self) -> None:
        """SIGKILL to the holder: the kernel ends everything in its pid namespace."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the descriptors."""
        os.close(self.pidfd)
        os.close(self.network)


def namespace_flags(node: Node) -> int:
    """The namespaces that a node gets for itself: all but those it shares."""
    flags = OWN
    for kind, _ in node.namespaces:
        flags &= ~NAMESPACE_FLAGS[kind]
    return flags


def container_plan(
    config: HubConfig,
    node: Node,
    directory: Directory,
    channel: socket.socket,
    stack: contextlib.ExitStack,
) -> ContainerPlan:
    """Everything that a new node's first process needs; descriptors belong to `stack`."""
    place = config.directory.node(node.name)
    os.makedirs(f"{place}/log", mode=0o700, exist_ok=True)
    state = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, state)
    control = stack.enter_context(listen(state, CONTROL))
    cgroup = None
    if config.unified is not None:
        cgroup_directory = f"{config.unified}/{node.name}"
        try:
            os.mkdir(cgroup_directory)
        except FileExistsError:
            # Of one that has died: it may be frozen, and has whatever bounds that one had.
            limits.clear(config.unified, config.v1, node.name)
            os.mkdir(cgroup_directory)
        cgroup = os.open(cgroup_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, cgroup)
    if node.apparmor is not None and not os.path.exists(APPARMOR):
        raise Unsupported(
            "apparmor",
            f"node {node.name}: this kernel has no AppArmor for profile {node.apparmor}",
            hint="leave `apparmor:` out; seccomp and capabilities hold without it",
        )
    _prepare_sources(node)
    if node.units is not None:
        _prepare_units(place)
    index = indexes(node.interfaces)
    neighbours = directory.packed(node, index)
    shared = {kind for kind, _ in node.namespaces}
    return ContainerPlan(
        config=NodeConfig(
            node,
            state,
            cgroup,
            _filter(node),
            forks=_fork_bound(config),
            v1=_v1_groups(config, node, stack),
        ),
        root=root_plan(config, node),
        control=control,
        channel=channel,
        index=index,
        configuration=batch(configure(node, index), neighbours),
        neighbours=neighbours,
        owns_network="net" not in shared,
        owns_cgroups="cgroup" not in shared,
        keep=(config.mark,),
    )


def _prepare_sources(node: Node) -> None:
    """What tells the node's jobs of the world is imported here: see `_prepare_units`.

    A node that does not have the machine's files has none to load anything from: so all is there
    for it that an init may ever need.
    """
    from hostlab.init.sources import waited_for
    from hostlab.init.sources.events import MODULES, module_of

    modules = {module_of(match.name) for match in waited_for(node.jobs)}
    if node.crontabs:
        modules |= {"hostlab.init.crontabs", MODULES["timer"]}
    if node.root.kind is not RootKind.MACHINE:
        modules |= _modules(hostlab.init, hostlab.jobs)
    for module in sorted(module for module in modules if module is not None):
        # What is not there is told by the node's init.
        with contextlib.suppress(ImportError, Unsupported):
            importlib.import_module(module)


def _modules(*packages: ModuleType) -> set[str]:
    return {
        found.name
        for package in packages
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }


def _prepare_units(place: str) -> None:
    """What runs units is imported here: the node may have no files to import it from.

    What an earlier node of this name found enabled does not count for the new one's files.
    """
    from hostlab.init.units import supervised
    from hostlab.init.units.units import BEFORE_FILE

    del supervised
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{place}/{BEFORE_FILE}")


def _v1_groups(config: HubConfig, node: Node, stack: contextlib.ExitStack) -> dict[str, int]:
    """The node's groups in v1 hierarchies, where its jobs have limits of their own.

    A controller that one of these hierarchies has is in none of the cgroups v2 (cgroups(7)).
    """
    may_limit = any(job.resources != Resources() or job.cgroups for job in node.jobs)
    if not (may_limit or node.job_files or node.crontabs or node.units):
        return {}
    opened: dict[str, int] = {}
    for controller in cgroup_stanza.CONTROLLERS:
        if controller in config.v1:
            directory = f"{config.v1[controller]}/{node.name}"
            cgroups.make(directory)
            opened[controller] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, opened[controller])
    return opened


def _fork_bound(config: HubConfig) -> int | None:
    """Where no cgroup bounds forks, the kernel counts a user's processes (RLIMIT_NPROC)."""
    return limits.DEFAULT_PIDS if "pids" in limits.missing(config.unified, config.v1) else None


_filters: dict[tuple[str, tuple[str, ...]], bytes] = {}


def _filter(node: Node) -> bytes:
    key = (node.seccomp, node.capabilities)
    if key not in _filters:
        _filters[key] = compile_profile(node.seccomp, capabilities=node.capabilities)
    return _filters[key]


def root_plan(config: HubConfig, node: Node) -> RootPlan:
    """A node's file system, from its description."""
    lab = config.directory
    volumes = []
    for volume in node.volumes:
        source = volume.source
        if not source.startswith("/"):
            source = f"{lab.path}/volumes/{source}"
            os.makedirs(source, exist_ok=True)
        volumes.append((source, volume.target, volume.writable))
    is_machine = node.root.kind is RootKind.MACHINE
    in_place = node.root.kind is RootKind.OCI and node.root.writable
    plan = RootPlan(
        survey=config.survey,
        base=f"{lab.path}/root",
        size_bytes=node.limits.disk,
        lower=None if is_machine or in_place else node.root.path,
        bind_root=node.root.path if in_place else None,
        readonly=node.root.readonly,
        mounts=node.mounts,
        volumes=tuple(volumes),
        hosts=hosts.path_of(lab, node),
        resolv_conf=hosts.resolver_path(lab),
        masked=node.masked_paths,
        readonly_paths=node.readonly_paths,
        unmasked=node.nesting,
    )
    if not is_machine or node.mounts or node.masked_paths or node.readonly_paths or node.nesting:
        return plan
    names = None if volumes else shown(plan)
    return replace(plan, table=root_table(plan.survey, plan.base, plan.size_bytes, names))


def needed_nodes(node: Node) -> tuple[tuple[str, str], ...]:
    """(kind, other node) of every namespace of another that a node or one of its jobs is in."""
    return (*node.namespaces, *(pair for job in node.jobs for pair in job.namespaces))


def shared_namespaces(
    plan: ContainerPlan,
    node: Node,
    nodes: Mapping[str, NodeHandle],
    stack: contextlib.ExitStack,
) -> ContainerPlan:
    """Add the descriptors of the namespaces of others that a node and its jobs are in."""
    opened: dict[tuple[str, str], int] = {}
    for kind, other in needed_nodes(node):
        handle = nodes.get(other)
        if handle is None:
            message = f"node {node.name} shares the {kind} namespace of {other}, which is not there"
            raise Failed("namespace", message)
        if (kind, other) not in opened:
            opened[kind, other] = namespace_fd(handle.pid, kind)
            stack.callback(os.close, opened[kind, other])
    if not opened:
        return plan
    jobs = {pair: opened[pair] for job in node.jobs for pair in job.namespaces}
    return replace(
        plan,
        join=tuple(opened[pair] for pair in node.namespaces),
        keep=(*plan.keep, *jobs.values()),
        config=replace(plan.config, shared=jobs),
    )


def needs_midwife(node: Node) -> bool:
    """Whether a node is to be in a namespace that one can only be born into."""
    return node.time_offset_s is not None or any(kind == "pid" for kind, _ in node.namespaces)


def by_midwife(
    node: Node, nodes: Mapping[str, NodeHandle], flags: int, cgroup: int | None
) -> tuple[int, int]:
    """`clone3` from a process that has first set what its children are born into.

    A pid namespace is entered by being born in it (pid_namespaces(7)), a time namespace's offsets
    are written before its first process (time_namespaces(7)), and nobody here may set either back:
    the machine's own belong to a user namespace above the lab's. Returns as `clone3` does; the new
    process is the caller's sibling, as is the process between, which ends.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        helper, helper_fd = clone3(CLONE_PARENT)
        if helper == 0:
            try:
                _set_for_children(node, nodes)
                pid, pidfd = clone3(flags, cgroup=cgroup)
                if pid == 0:
                    return 0, -1
                socket.send_fds(theirs, [b"0 %d" % pid], [pidfd])
            except OSError as error:
                theirs.send(b"%d 0" % (error.errno or errno.EPROTO))
            os._exit(0)
        os.close(helper_fd)
        theirs.close()
        data, fds = receive(ours, 64)
    number, pid = map(int, data.split() or (errno.EPROTO, 0))
    if number or not fds:
        raise OSError(number, os.strerror(number), f"first process of node {node.name}")
    return pid, fds[0]


def _set_for_children(node: Node, nodes: Mapping[str, NodeHandle]) -> None:
    if node.time_offset_s is not None:
        unshare(CLONE_NEWTIME)
        seconds, part = divmod(node.time_offset_s, 1)
        offset = f"{int(seconds)} {int(part * 1e9)}"
        with open("/proc/self/timens_offsets", "w") as file:
            file.write(f"monotonic {offset}\nboottime {offset}\n")
    for kind, other in node.namespaces:
        if kind == "pid":
            fd = namespace_fd(nodes[other].pid, "pid")
            setns(fd, CLONE_NEWPID)
            os.close(fd)
