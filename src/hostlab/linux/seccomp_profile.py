"""Seccomp profiles into programs: our own default, Docker's and the OCI runtime's JSON.

The default denies a list and allows the rest, unlike Docker's: a node is to behave like a host,
its user namespaces, mounts and tracing included, and what capabilities already forbid needs no
second answer here. Denied is what is not namespaced, reaches the kernel's rarely trodden paths,
or would talk to what holds the lab.

An allow list answers a system call that is newer than it with its default error, mostly EPERM,
where a C library expects ENOSYS to fall back to an older call. So numbers above the highest that
the profile names get ENOSYS, as runc does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from hostlab import typed
from hostlab.errors import SpecError, Unsupported
from hostlab.linux.capabilities import mask_of
from hostlab.linux.seccomp import BPF_INSTRUCTION_BYTES, BPF_MAXINSNS

OPTIMIZE_TREE = 2
"""By number, where 1 is by priority (seccomp_attr_set(3), SCMP_FLTATR_CTL_OPTIMIZE)."""

DENIED: tuple[tuple[int, tuple[str, ...]], ...] = (
    # The machine's own state, of which there is one for all namespaces.
    (errno.EPERM, ("syslog", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd")),
    (errno.EPERM, ("settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex",
                   "clock_adjtime", "clock_adjtime64")),
    (errno.EPERM, ("kexec_load", "kexec_file_load", "init_module", "finit_module",
                   "delete_module", "create_module", "query_module", "get_kernel_syms")),
    (errno.EPERM, ("iopl", "ioperm", "pciconfig_read", "pciconfig_write", "pciconfig_iobase")),
    # A file handle opens any file of a file system, outside the root too.
    (errno.EPERM, ("open_by_handle_at",)),
    # Keyrings belong to a user id and not to a node.
    (errno.EPERM, ("add_key", "request_key", "keyctl")),
    (errno.EPERM, ("bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "kcmp")),
    # Programs that use these ask first, and fall back when told that there is none.
    (errno.ENOSYS, ("io_uring_setup", "io_uring_enter", "io_uring_register", "nfsservctl",
                    "uselib", "_sysctl", "vm86", "vm86old")),
)  # fmt: skip
"""What the default profile answers with which error."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""Typing into a terminal, and the console's selection: a job holds the caller's own terminal."""

AF_VSOCK = 40
"""Sockets to the hypervisor, which no namespace bounds."""

_AUDIT_ARCH = {
    "x86_64": 0xC000003E,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
    "s390x": 0x80000016,
    "ppc64le": 0xC0000015,
}
_X32_SYSCALL_BIT = 0x40000000
_RET_ERRNO = 0x00050000
_NOTHING_SUITS = "apt-get install libseccomp2, and pip install pyseccomp"


class _Filtered(msgspec.Struct, frozen=True):
    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    minKernel: str = ""


class _Argument(msgspec.Struct, frozen=True):
    index: Annotated[int, msgspec.Meta(ge=0, le=5)]
    value: Annotated[int, msgspec.Meta(ge=0)]
    op: str
    valueTwo: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Rule(msgspec.Struct, frozen=True):
    action: str
    names: tuple[str, ...] = ()
    name: str = ""
    args: tuple[_Argument, ...] | None = None
    errnoRet: int | None = None
    includes: _Filtered | None = None
    excludes: _Filtered | None = None


class _ArchMap(msgspec.Struct, frozen=True):
    architecture: str
    subArchitectures: tuple[str, ...] | None = None


class _Profile(msgspec.Struct, frozen=True):
    defaultAction: str
    defaultErrnoRet: int | None = None
    architectures: tuple[str, ...] | None = None
    archMap: tuple[_ArchMap, ...] | None = None
    flags: tuple[str, ...] | None = None
    listenerPath: str = ""
    syscalls: tuple[_Rule, ...] | None = None


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise Unsupported(
            "seccomp-library", f"seccomp profiles need libseccomp: {error}", hint=_NOTHING_SUITS
        ) from None
    return pyseccomp


@lru_cache(maxsize=32)
def compile_program(profile: str, capabilities: tuple[str, ...]) -> bytes:
    """The program for `default` or for a profile's JSON text; see `seccomp.compile_profile`."""
    library = _library()
    if profile == "default":
        program = _exported(_default_filter(library))
    else:
        program = _compiled(library, _parsed(profile), mask_of(capabilities))
    if len(program) > BPF_MAXINSNS * BPF_INSTRUCTION_BYTES:
        count = len(program) // BPF_INSTRUCTION_BYTES
        raise SpecError("seccomp", f"the profile needs {count} of {BPF_MAXINSNS} instructions")
    return program


def remarks(profile: str) -> tuple[str, ...]:
    """What this JSON text asks for that is not carried out."""
    parsed = _parsed(profile)
    return tuple(
        f"seccomp flag {flag} is not carried out"
        for flag in parsed.flags or ()
        if flag != "SECCOMP_FILTER_FLAG_TSYNC"  # a job starts with one thread
    )


def _parsed(profile: str) -> _Profile:
    try:
        return typed.decode(profile, _Profile)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SpecError(
            "seccomp", f"no seccomp profile: {error}", hint="default, unconfined, or OCI JSON"
        ) from None


def _exported(program_filter: Any) -> bytes:
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b") as file:
        program_filter.export_bpf(file)
        file.seek(0)
        return file.read()


def _add_architectures(library: Any, program_filter: Any, names: tuple[str, ...]) -> None:
    for name in names:
        number = getattr(library.Arch, name.removeprefix("SCMP_ARCH_"), None)
        if not name.startswith("SCMP_ARCH_") or number is None:
            raise SpecError("seccomp", f"no architecture is called {name!r}", hint="SCMP_ARCH_ARM")
        try:
            program_filter.add_arch(number)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise


def _default_filter(library: Any) -> Any:
    result = library.SyscallFilter(library.ALLOW)
    # Another architecture's numbers, x32 among them, would go round the list.
    result.set_attr(library.Attr.ACT_BADARCH, library.ERRNO(errno.ENOSYS))
    # When a filter is set the kernel plays it for every number there is (seccomp_cache_prepare,
    # kernel/seccomp.c), and the process waits: 160 µs with a list, 70 with a tree.
    with contextlib.suppress(OSError):  # libseccomp before 2.5 knows no tree
        result.set_attr(library.Attr.CTL_OPTIMIZE, OPTIMIZE_TREE)
    also = {"x86_64": ("SCMP_ARCH_X86",), "aarch64": ("SCMP_ARCH_ARM",)}
    _add_architectures(library, result, also.get(os.uname().machine, ()))
    for error, names in DENIED:
        for name in names:
            number = library.resolve_syscall(library.Arch.NATIVE, name)
            if number != -1:  # -1: libseccomp is older than the call, and so the number unknown
                result.add_rule(library.ERRNO(error), number)
    for request in (TIOCSTI, TIOCLINUX):
        # The kernel looks at the low half only (CVE-2019-10063).
        matched = library.Arg(1, library.MASKED_EQ, 0xFFFFFFFF, request)
        result.add_rule(library.ERRNO(errno.EPERM), "ioctl", matched)
    # Where one call carries all of them, i386's socketcall(2), the family is out of a filter's
    # sight and libseccomp denies the whole; C libraries since 2016 call socket(2) itself.
    family = library.Arg(0, library.MASKED_EQ, 0xFFFFFFFF, AF_VSOCK)
    result.add_rule(library.ERRNO(errno.EAFNOSUPPORT), "socket", family)
    return result


def _action(library: Any, name: str, error: int | None) -> int:
    number = errno.EPERM if error is None else error
    match name.removeprefix("SCMP_ACT_"):
        case "ALLOW":
            return int(library.ALLOW)
        case "ERRNO":
            return int(library.ERRNO(number))
        case "KILL" | "KILL_THREAD":
            return int(library.KILL_THREAD)
        case "KILL_PROCESS":
            return int(library.KILL_PROCESS)
        case "TRAP":
            return int(library.TRAP)
        case "LOG":
            return int(library.LOG)
        case "TRACE":
            return int(library.TRACE(number))
        case "NOTIFY":
            raise Unsupported("seccomp", "SCMP_ACT_NOTIFY needs a listener, and hostlab has none")
        case _:
            raise SpecError("seccomp", f"no action is called {name!r}", hint="SCMP_ACT_ERRNO")


def _is_meant(rule: _Rule, capabilities: int) -> bool:
    """Whether Docker's `includes` and `excludes` let this rule count here."""
    if rule.includes is not None:
        if mask_of(rule.includes.caps) & ~capabilities:
            return False
        if rule.includes.arches and not _is_this_machine(rule.includes.arches):
            return False
        if rule.includes.minKernel and not _kernel_is_at_least(rule.includes.minKernel):
            return False
    if rule.excludes is not None:
        if mask_of(rule.excludes.caps) & capabilities:
            return False
        if _is_this_machine(rule.excludes.arches):
            return False
        if rule.excludes.minKernel and _kernel_is_at_least(rule.excludes.minKernel):
            return False
    return True


def _is_this_machine(arches: tuple[str, ...]) -> bool:
    go_names = {
        "x86_64": ("amd64", "x86", "x32"),
        "aarch64": ("arm64", "arm"),
        "i686": ("386", "x86"),
        "armv7l": ("arm",),
    }
    machine = os.uname().machine
    return any(arch in (machine, *go_names.get(machine, ())) for arch in arches)


def _kernel_is_at_least(version: str) -> bool:
    try:
        wanted = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        raise SpecError("seccomp", f"{version!r} is no kernel version", hint="4.8") from None
    have = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return have >= wanted


def _architectures(profile: _Profile) -> tuple[str, ...]:
    names = list(profile.architectures or ())
    native = {"x86_64": "X86_64", "aarch64": "AARCH64", "s390x": "S390X"}.get(os.uname().machine)
    for entry in profile.archMap or ():
        if entry.architecture == f"SCMP_ARCH_{native}":
            names += [entry.architecture, *(entry.subArchitectures or ())]
    return tuple(names)


def _comparison(library: Any, argument: _Argument) -> Any:
    name = argument.op.removeprefix("SCMP_CMP_")
    if name not in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"):
        raise SpecError("seccomp", f"no comparison is called {argument.op!r}", hint="SCMP_CMP_EQ")
    return library.Arg(argument.index, getattr(library, name), argument.value, argument.valueTwo)


def _compiled(library: Any, profile: _Profile, capabilities: int) -> bytes:
    default = _action(library, profile.defaultAction, profile.defaultErrnoRet)
    result = library.SyscallFilter(default)
    _add_architectures(library, result, _architectures(profile))
    highest = 0
    for rule in profile.syscalls or ():
        action = _action(library, rule.action, rule.errnoRet)
        meant = _is_meant(rule, capabilities)
        for name in rule.names or (rule.name,):
            number = library.resolve_syscall(library.Arch.NATIVE, name)
            highest = max(highest, number)
            # libseccomp refuses a rule that says what the default says already; -1 is a call
            # that it does not know, whose number therefore cannot be known either.
            if not meant or number == -1 or action == default:
                continue
            try:
                _add_rule(library, result, action, number, rule.args or ())
            except OSError as error:
                message = f"libseccomp refuses the rule for {name}: {error.strerror}"
                raise SpecError("seccomp", message) from None
    program = _exported(result)
    if default & 0xFFFF0000 == _RET_ERRNO and highest:
        return _newer_is_enosys(highest) + program
    return program


def _add_rule(
    library: Any, result: Any, action: int, number: int, arguments: tuple[_Argument, ...]
) -> None:
    matched = [_comparison(library, argument) for argument in arguments]
    if len({argument.index for argument in arguments}) == len(arguments):
        result.add_rule(action, number, *matched)
    else:
        # One rule cannot compare an argument twice; runc reads such a list as alternatives.
        for one in matched:
            result.add_rule(action, number, one)


def _newer_is_enosys(highest: int) -> bytes:
    """Instructions before the program: the native calls above `highest` get ENOSYS.

    Jumps are relative, so what follows needs no change; struct sock_filter is code, jump if
    true, jump if false, operand.
    """
    arch = _AUDIT_ARCH.get(os.uname().machine)
    if arch is None:
        return b""
    load, jump_equal, jump_greater, jump_greater_equal, ret = 0x20, 0x15, 0x25, 0x35, 0x06
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 4),
            (jump_equal, 0, 4, arch),
            (load, 0, 0, 0),
            (jump_greater_equal, 2, 0, _X32_SYSCALL_BIT),
            (jump_greater, 0, 1, highest),
            (ret, 0, 0, _RET_ERRNO | errno.ENOSYS),
        )
    )
