"""An OCI bundle's `config.json` as the fields of a node.

The OCI runtime specification (1.x) says what each property means; this module says which of them
a node of a lab carries out. Every other one that asks for something is named in `unsupported`, a
sentence each, so that nothing is dropped in silence. Two of its rules differ in a lab:

- A namespace that the file does not list is inherited from the runtime. A node always has its own,
  since a node in the hub's namespaces would be the hub; only the user namespace is the lab's.
- Five capability sets are given to the first process. A node has one, the bounding set, which is
  also what a process of root has after its execve whatever the other sets were (capabilities(7),
  "Transformation of capabilities during execve()"). A process of another user has the ambient set
  then, so that is the job's.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Final

import msgspec

from hostlab.spec.capabilities import ALL
from hostlab.spec.job import Job
from hostlab.spec.json_file import JsonFile, JsonObject
from hostlab.spec.model import Limits, Mount, Rlimit, Root, RootKind
from hostlab.spec.mount_options import (
    DATA_OPTIONS,
    MOUNT_OPTIONS,
    MountFlags,
    MountOption,
    mount_flags,
    unknown_data,
)
from hostlab.spec.oci_tables import (
    CPU,
    DEFAULT_CPU_PERIOD,
    DEFAULT_DEVICES,
    HOOKS,
    LINUX,
    MEMORY,
    NAMESPACES,
    PROCESS,
    RESOURCES,
    RLIMITS,
    TOP,
    USER,
)

__all__ = [
    "DATA_OPTIONS",
    "MOUNT_OPTIONS",
    "MountFlags",
    "MountOption",
    "OciBundle",
    "bundle",
    "mount_flags",
]

_UINT32: Final = 2**32 - 1
_UINT64: Final = 2**64 - 1
_INT64: Final = 2**63 - 1
_VERSION: Final = re.compile(r"1\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]*)?")
_VARIABLE: Final = re.compile(r"[^=]+=.*", re.DOTALL)
_HOSTNAME_BYTES: Final = 64


class OciBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle asks of a node; the fields are those of `model.Node` where it has them."""

    hostname: str | None
    root: Root
    mounts: tuple[Mount, ...]
    """In the order in which they must be made; sources of bind mounts are absolute."""
    capabilities: tuple[str, ...]
    """The bounding set."""
    rlimits: tuple[Rlimit, ...]
    environment: tuple[tuple[str, str], ...]
    job: Job | None
    """`process`, as a job named `main`; None when the bundle starts nothing."""
    no_new_privs: bool
    sysctls: tuple[tuple[str, str], ...]
    limits: Limits
    namespaces: tuple[str, ...]
    """Types that the bundle wants new, as /proc/PID/ns names them."""
    time_offset_s: float | None
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    seccomp: str
    """`unconfined` or the profile as JSON text, as in `model.Node`."""
    apparmor: str | None
    unsupported: tuple[str, ...]
    """One sentence for each thing that the file asks for and a node does not do."""


def bundle(config: bytes, *, path: str) -> OciBundle:
    """Read the content of a `config.json` that stands at `path`.

    The bundle is the directory of `path`: its root and the sources of its bind mounts count from
    there. Nothing is opened. Raises SpecErrors with every error and its place.
    """
    file = JsonFile(config, file=path, code="oci")
    top = file.root
    directory = posixpath.dirname(path)
    _check_version(top)
    process = top.child("process")
    linux = top.child("linux")
    capabilities, ambient = _capabilities(process)
    environment = _environment(process)
    found = OciBundle(
        hostname=_hostname(top),
        root=_root(top, directory),
        mounts=tuple(_mount(mount, directory) for mount in top.children("mounts")),
        capabilities=capabilities,
        rlimits=_rlimits(process),
        environment=environment,
        job=_job(process, environment, ambient) if "process" in top else None,
        no_new_privs=process.boolean("noNewPrivileges"),
        sysctls=linux.pairs("sysctl"),
        limits=_limits(linux.child("resources")),
        namespaces=_namespaces(linux),
        time_offset_s=_time_offset(linux),
        masked_paths=_absolute(linux, "maskedPaths"),
        readonly_paths=_absolute(linux, "readonlyPaths"),
        seccomp=_seccomp(linux),
        apparmor=process.text("apparmorProfile") or None,
        unsupported=(),
    )
    _devices(linux)
    _rest(top, process, linux)
    file.finish()
    return msgspec.structs.replace(found, unsupported=tuple(file.notes))


def _check_version(top: JsonObject) -> None:
    version = top.text("ociVersion", required=True)
    if version and not _VERSION.fullmatch(version):
        top.fail(
            "ociVersion",
            f"is {version}; only versions 1.x of the runtime specification are known",
            hint="`runc spec` writes a file of a known version",
        )
    # Metadata without a meaning of its own ("Annotations").
    top.child("annotations")


def _hostname(top: JsonObject) -> str | None:
    name = top.text("hostname")
    if len(name.encode()) > _HOSTNAME_BYTES:
        top.fail("hostname", f"must not be longer than {_HOSTNAME_BYTES} bytes (sethostname(2))")
    return name or None


def _root(top: JsonObject, directory: str) -> Root:
    if "root" not in top:
        top.missing("root")
    root = top.child("root")
    path = root.text("path", required="root" in top)
    readonly = root.boolean("readonly")
    root.rest({})
    return Root(
        kind=RootKind.OCI,
        path=posixpath.normpath(posixpath.join(directory, path)),
        readonly=readonly,
        writable=not readonly,
    )


def _mount(mount: JsonObject, directory: str) -> Mount:
    target = mount.text("destination", required=True)
    fstype = mount.text("type")
    source = mount.text("source")
    options = mount.strings("options")
    binds = fstype == "bind" or "bind" in options or "rbind" in options
    if binds and not source:
        mount.missing("source")
    if not binds and not fstype:
        mount.missing("type")
    for option in () if binds else unknown_data(fstype, options):
        mount.note("options", f"`{option}` is no option of {fstype}, the kernel will refuse it")
    for extension in mount_flags(options).extensions:
        mount.note("options", f"`{extension}` is not carried out")
    mount.rest(dict.fromkeys(("uidMappings", "gidMappings"), "mounts are not id-mapped"))
    return Mount(
        # A relative destination counts from the root, and none leaves it.
        target=posixpath.normpath(posixpath.join("/", target)),
        type=fstype or "none",
        source=posixpath.normpath(posixpath.join(directory, source)) if binds else source,
        options=options,
    )


def _capabilities(process: JsonObject) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The bounding and the ambient set; what the other three say beyond is noted."""
    given = process.child("capabilities")
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    sets = {kind: _capability_set(given, kind) for kind in kinds}
    given.rest({})
    bounding = sets["bounding"]
    is_root = not process.child("user").raw("uid")
    for kind in ("effective", "permitted"):
        if is_root and sets[kind] != bounding:
            given.note(kind, "differs from bounding, which is what root has after its execve")
    expected = bounding if is_root else sets["ambient"]
    if sets["inheritable"] not in (frozenset(), expected):
        given.note("inheritable", "a node has no inheritable set of its own")
    if is_root and sets["ambient"] not in (frozenset(), bounding):
        given.note("ambient", "root has the bounding set after its execve, ambient or not")
    return tuple(sorted(bounding)), tuple(sorted(sets["ambient"]))


def _capability_set(given: JsonObject, kind: str) -> frozenset[str]:
    found: set[str] = set()
    for name in given.strings(kind):
        short = name.removeprefix("CAP_")
        if name.startswith("CAP_") and short in ALL:
            found.add(short)
        else:
            # The specification asks for a warning here, not an error.
            given.note(kind, f"`{name}` is no capability of Linux, ignored")
    return frozenset(found)


def _rlimits(process: JsonObject) -> tuple[Rlimit, ...]:
    found: dict[str, Rlimit] = {}
    for limit in process.children("rlimits"):
        name = limit.text("type", required=True)
        soft = limit.integer("soft", low=0, high=_UINT64)
        hard = limit.integer("hard", low=0, high=_UINT64)
        limit.rest({})
        for key in ("soft", "hard"):
            if key not in limit:
                limit.missing(key)
        if name and name not in RLIMITS:
            limit.fail("type", f"`{name}` is no resource of setrlimit(2)")
        elif name in found:
            limit.fail("type", f"`{name}` is given twice")
        if soft is not None and hard is not None:
            if soft > hard:
                limit.fail("soft", f"is {soft}, above the hard limit {hard}")
            found[name] = Rlimit(resource=name, soft=soft, hard=hard)
    return tuple(found.values())


def _environment(process: JsonObject) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for number, text in enumerate(process.strings("env")):
        if not _VARIABLE.fullmatch(text):
            process.file.fail((*process.path, "env", number), "must be NAME=value")
            continue
        name, _, value = text.partition("=")
        found[name] = value
    return tuple(found.items())


def _job(
    process: JsonObject, environment: tuple[tuple[str, str], ...], ambient: tuple[str, ...]
) -> Job:
    user = process.child("user")
    uid = user.integer("uid", low=0, high=_UINT32) or 0
    gid = user.integer("gid", low=0, high=_UINT32) or 0
    groups = user.integers("additionalGids", low=0, high=_UINT32)
    umask = user.integer("umask", low=0, high=0o777)
    user.rest(USER)
    argv = process.strings("args")
    if not argv:
        process.fail("args", "is empty") if "args" in process else process.missing("args")
    cwd = process.text("cwd", required=True)
    if cwd and not cwd.startswith("/"):
        process.fail("cwd", "must be an absolute path")
    return Job(
        name="main",
        argv=argv,
        environment=environment,
        user=str(uid),
        group=str(gid),
        groups=tuple(str(group) for group in groups),
        umask=umask,
        oom_score_adj=process.integer("oomScoreAdj", low=-1000, high=1000),
        directory=cwd or "/",
        capabilities=ambient if uid else None,
        no_new_privs=process.boolean("noNewPrivileges"),
    )


def _limits(resources: JsonObject) -> Limits:
    memory = resources.child("memory")
    cpu = resources.child("cpu")
    pids = resources.child("pids")
    limit = memory.integer("limit", low=-1, high=_INT64)
    quota = cpu.integer("quota", low=-_INT64, high=_INT64)
    period = cpu.integer("period", low=0, high=_INT64) or DEFAULT_CPU_PERIOD
    count = pids.integer("limit", low=-_INT64, high=_INT64)
    cpus = cpu.text("cpus")
    memory.rest(MEMORY)
    cpu.rest(CPU)
    pids.rest({})
    _device_rules(resources)
    resources.rest(RESOURCES)
    return Limits(
        # Not positive means unlimited in all three (config-linux.md, "Memory", "CPU", "PIDs").
        memory=limit if limit and limit > 0 else None,
        cpu=quota / period if quota and quota > 0 else None,
        cpus=cpus or None,
        pids=count if count and count > 0 else None,
    )


def _device_rules(resources: JsonObject) -> None:
    """A node can use the usual devices and no others: only a rule that says else is noted."""
    for rule in resources.children("devices"):
        allow = rule.boolean("allow")
        major = rule.integer("major", low=-1, high=_INT64)
        minor = rule.integer("minor", low=-1, high=_INT64)
        kind = rule.text("type")
        rule.text("access")
        if allow and not any(
            kind in ("c", "a", "") and major == usual[0] and minor in (usual[1], None, -1)
            for usual in DEFAULT_DEVICES.values()
        ):
            where = f"{kind or 'a'} {_number(major)}:{_number(minor)}"
            rule.note("allow", f"device {where} stays out of reach, a node has the usual ones only")
        rule.rest({})


def _number(value: int | None) -> str:
    return "*" if value is None or value < 0 else str(value)


def _devices(linux: JsonObject) -> None:
    for device in linux.children("devices"):
        path = device.text("path", required=True)
        if path and path not in DEFAULT_DEVICES:
            device.note("path", f"{path} is not made, a node has the usual devices only")


def _namespaces(linux: JsonObject) -> tuple[str, ...]:
    found: list[str] = []
    for namespace in linux.children("namespaces"):
        kind = namespace.text("type", required=True)
        path = namespace.text("path")
        namespace.rest({})
        name = NAMESPACES.get(kind)
        if kind and name is None:
            namespace.fail("type", f"`{kind}` is no kind of namespace", hint=", ".join(NAMESPACES))
        if name is None:
            continue
        if name in found:
            namespace.fail("type", f"`{kind}` is given twice")
        found.append(name)
        if path:
            namespace.note("path", f"{path} is not joined; use `namespaces:` of the description")
    for kind, name in NAMESPACES.items():
        # The lab's user namespace is the one to inherit, and a time namespace is only on request.
        if name not in (*found, "user", "time"):
            linux.note("namespaces", f"a node does not share the runtime's {kind} namespace")
    return tuple(found)


def _time_offset(linux: JsonObject) -> float | None:
    offsets = linux.child("timeOffsets")
    values: dict[str, float] = {}
    for clock in ("monotonic", "boottime"):
        offset = offsets.child(clock)
        secs = offset.integer("secs", low=-_INT64, high=_INT64) or 0
        nanosecs = offset.integer("nanosecs", low=0, high=999_999_999) or 0
        offset.rest({})
        values[clock] = secs + nanosecs / 1e9
    offsets.rest({})
    if values["boottime"] != values["monotonic"]:
        offsets.note("boottime", "a node's two clocks shift by the same, that of monotonic")
    return values["monotonic"] or None


def _absolute(linux: JsonObject, key: str) -> tuple[str, ...]:
    paths = linux.strings(key)
    for number, path in enumerate(paths):
        if not path.startswith("/"):
            linux.file.fail((*linux.path, key, number), "must be an absolute path")
    return paths


def _seccomp(linux: JsonObject) -> str:
    profile = linux.child("seccomp")
    if not profile:
        return "unconfined"
    profile.text("defaultAction", required=True)
    if profile.text("listenerPath"):
        profile.note("listenerPath", "no one is told of system calls, SCMP_ACT_NOTIFY fails them")
    return json.dumps(linux.raw("seccomp"), separators=(",", ":"))


def _rest(top: JsonObject, process: JsonObject, linux: JsonObject) -> None:
    """Note what nothing above has read."""
    hooks = top.child("hooks")
    hooks.rest(HOOKS)
    process.rest(PROCESS)
    linux.child("annotations")
    if linux.text("rootfsPropagation") not in ("", "private", "rprivate"):
        linux.note("rootfsPropagation", "a node's mounts are private")
    linux.rest(LINUX)
    top.rest(TOP)
