"""Capabilities and system call filters on the real kernel, in a child that then executes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostlab.errors import SpecError
from hostlab.linux import capabilities, seccomp

pytestmark = pytest.mark.netns

NOBODY = 65534


def child(before: Callable[[], None], argv: tuple[str, ...]) -> str:
    """What `argv` prints when it is executed after `before` has run in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            before()
            os.execv(argv[0], argv)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(127)
    os.close(writer)
    with open(reader) as output:
        text = output.read()
    os.waitpid(pid, 0)
    return text


def run_python(before: Callable[[], None], code: str) -> str:
    return child(before, (sys.executable, "-I", "-S", "-c", code)).strip()


def status_of(before: Callable[[], None]) -> capabilities.CapabilitySets:
    return capabilities.decode_status(child(before, ("/bin/cat", "/proc/self/status")))


needs_setpcap = pytest.mark.skipif(
    bool(capabilities.mask_of(("SETPCAP", "SETUID", "SETGID")) & ~capabilities.capget()[0]),
    reason="the caller lacks CAP_SETPCAP, CAP_SETUID or CAP_SETGID",
)
needs_filter = pytest.mark.skipif(
    not Path("/proc/sys/kernel/seccomp/actions_avail").exists(), reason="no seccomp filters"
)


@needs_setpcap
def test_exactly_these_remain_after_execve() -> None:
    wanted = ("CHOWN", "NET_BIND_SERVICE")
    mask = capabilities.mask_of(wanted)
    assert status_of(lambda: capabilities.set_capabilities(wanted)) == capabilities.exact_sets(mask)


@needs_setpcap
def test_another_user_keeps_the_ambient_set_and_no_more() -> None:
    mask = capabilities.mask_of(("NET_BIND_SERVICE",))
    sets = capabilities.exact_sets(mask, ambient=True)
    assert status_of(lambda: capabilities.become(NOBODY, NOBODY, (), sets)) == sets
    plain = capabilities.exact_sets(mask)
    assert status_of(lambda: capabilities.become(NOBODY, NOBODY, (), plain)) == (
        capabilities.CapabilitySets(bounding=mask)
    )


@needs_setpcap
def test_become_sets_user_group_and_groups() -> None:
    sets = capabilities.exact_sets(0)
    said = child(
        lambda: capabilities.become(1234, 2345, (3456,), sets),
        ("/bin/grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status"),
    )
    assert said.split() == ["Uid:", *["1234"] * 4, "Gid:", *["2345"] * 4, "Groups:", "3456"]


@needs_setpcap
def test_what_the_caller_lacks_is_an_error_that_names_it() -> None:
    def twice() -> None:
        capabilities.set_capabilities(("CHOWN", "SETPCAP"))
        capabilities.set_capabilities(("CHOWN", "NET_RAW"))

    assert "capset: Operation not permitted: 'CHOWN,NET_RAW'" in child(twice, ("/bin/true",))


@needs_filter
def test_the_default_profile_denies_its_list_and_leaves_the_rest() -> None:
    program = seccomp.compile_profile("default")
    code = """
import ctypes, errno, os, socket, time
libc = ctypes.CDLL(None, use_errno=True)
def raw(*a):
    ctypes.set_errno(0)
    return libc.syscall(*a) >= 0 or errno.errorcode[ctypes.get_errno()]
def tried(f):
    try:
        f()
    except OSError as e:
        return errno.errorcode[e.errno]
    return True
x86 = os.uname().machine == 'x86_64'
print(dict(
    clock=tried(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
    syslog=tried(lambda: libc.klogctl(10, None, 0) < 0 and (_ for _ in ()).throw(
        OSError(ctypes.get_errno(), ''))),
    vsock=tried(lambda: socket.socket(40, socket.SOCK_STREAM)),
    typing=raw(16, 0, ctypes.c_ulong(0x500005412), b'x') if x86 else 'EPERM',
    x32=raw(0x40000000 + 39) if x86 else 'ENOSYS',
    io_uring=raw(425, 1, None),
    inet=tried(lambda: socket.socket()),
    fork=tried(lambda: os.fork() or os._exit(0)),
))
"""
    assert run_python(lambda: seccomp.apply(program, no_new_privs=True), code) == str(
        {
            "clock": "EPERM",
            "syslog": "EPERM",
            "vsock": "EAFNOSUPPORT",
            "typing": "EPERM",
            "x32": "ENOSYS",
            "io_uring": "ENOSYS",
            "inet": True,
            "fork": True,
        }
    )


@needs_filter
def test_no_new_privs_is_set_only_when_asked() -> None:
    program = seccomp.compile_profile("default")
    for asked in (True, False):
        text = child(
            lambda asked=asked: seccomp.apply(program, no_new_privs=asked),  # type: ignore[misc]  # mypy infers no type of a lambda's default
            ("/bin/grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"),
        )
        assert text == f"NoNewPrivs:\t{int(asked)}\nSeccomp:\t2\n"


UNAME = "import os, errno\ntry: print(os.uname().sysname)\nexcept OSError as e: print(e.errno)"


def docker(**more: object) -> str:
    rule = {"names": ["uname", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5} | more
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


@needs_filter
@pytest.mark.parametrize(
    ("rule", "capabilities_had", "answer"),
    [
        ({}, (), "5"),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, (), "Linux"),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, ("SYS_ADMIN",), "5"),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, ("SYS_ADMIN",), "Linux"),
        ({"includes": {"minKernel": "3.0"}}, (), "5"),
        ({"includes": {"minKernel": "99.0"}}, (), "Linux"),
        ({"includes": {"arches": ["m68k"]}}, (), "Linux"),
    ],
)
def test_a_docker_rule(
    rule: dict[str, object], capabilities_had: tuple[str, ...], answer: str
) -> None:
    program = seccomp.compile_profile(docker(**rule), capabilities=capabilities_had)
    assert run_python(lambda: seccomp.apply(program, no_new_privs=True), UNAME) == answer


@needs_filter
def test_arguments_are_compared_and_one_twice_means_either() -> None:
    def argument(signal: int) -> dict[str, object]:
        return {"index": 1, "value": signal, "op": "SCMP_CMP_EQ"}

    rule = {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7}
    for arguments, denied in (([argument(18)], {18}), ([argument(18), argument(28)], {18, 28})):
        profile = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule | {"args": arguments}],
        }
        program = seccomp.compile_profile(json.dumps(profile))
        code = (
            "import os\nfor s in (0, 18, 28):\n try: os.kill(os.getpid(), s)\n"
            " except OSError as e: print(s, e.errno)"
        )
        said = run_python(lambda p=program: seccomp.apply(p, no_new_privs=True), code)  # type: ignore[misc]  # mypy infers no type of a lambda's default
        assert said == "\n".join(f"{signal} 7" for signal in sorted(denied))


@needs_filter
def test_an_allow_list_answers_newer_calls_with_enosys() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "syscalls": [{"names": ["write", "exit_group", "mseal"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = seccomp.compile_profile(json.dumps(profile))

    def in_child() -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        seccomp.apply(program, no_new_privs=True)
        answers = []
        for number in (39, 5000):
            libc.syscall(number)
            answers.append(str(ctypes.get_errno()))
        os.write(1, " ".join(answers).encode())
        os._exit(0)

    assert child(in_child, ("/bin/true",)) == "1 38"


@pytest.mark.parametrize(
    "profile",
    [
        "defualt",
        "{}",
        '{"defaultAction": "SCMP_ACT_ALLOWED"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3}',
        docker(args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]),
        docker(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_IS"}]),
        docker(includes={"minKernel": "new"}),
    ],
)
def test_a_profile_that_cannot_be_meant(profile: str) -> None:
    with pytest.raises(SpecError):
        seccomp.compile_profile(profile)


def test_unconfined_is_no_program_and_flags_are_remarked() -> None:
    assert seccomp.compile_profile("unconfined") == b""
    profile = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
        }
    )
    assert seccomp.remarks(profile) == ("seccomp flag SECCOMP_FILTER_FLAG_LOG is not carried out",)


@needs_filter
def test_an_inert_capset_succeeds_and_changes_nothing() -> None:
    everything = (1 << 41) - 1

    def before() -> None:
        seccomp.apply(seccomp.inert_capset(), no_new_privs=True)
        capabilities.capset(effective=0, permitted=0, inheritable=0)
        capabilities.capset(effective=everything, permitted=everything, inheritable=everything)

    assert status_of(before) == status_of(seccomp.set_no_new_privs)
