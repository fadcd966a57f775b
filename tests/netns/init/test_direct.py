"""The short way to a process and the long one: what comes out is the same."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.spawning import direct
from hostlab.init.spawning.process import (
    DEFAULT_PATH,
    ProcessSetup,
    SpawnFailed,
    prepare_to_spawn,
    start,
)
from hostlab.linux import vfork
from hostlab.linux.seccomp import compile_profile
from tests.netns.init.job_site import TOKEN, run

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not vfork.prepare(), reason="no stub for this machine"),
]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
SEEN = (
    "grep -E '^(Umask|Uid|Gid|Groups|Sig[BIC]|ShdPnd|Cap|NoNewPrivs|Seccomp)' /proc/self/status;"
    " cut -d' ' -f4- /proc/self/mountinfo | sed 's/master:[0-9]*//'; pwd; ls /proc/self/fd; env;"
    " set -- $(cat /proc/$$/stat); test $1 = $6 && echo leads its session"
)
"""What can be seen of a process that its set-up says; not the numbers of its mounts and theirs."""


def setup(*argv: str, **changes: Any) -> ProcessSetup:
    environment = {"PATH": DEFAULT_PATH, TOKEN: os.environ[TOKEN], "WORD": "a b"}
    return ProcessSetup(argv, **{"environment": environment, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"directory": "/proc"},
        {"umask": 0o077},
        {"no_new_privs": True},
        pytest.param({"capabilities": ("KILL", "SETUID")}, marks=ROOT_ONLY),
        pytest.param({"capabilities": ("KILL", "SETUID"), "ambient": True}, marks=ROOT_ONLY),
        pytest.param({"private_tmp": True, "readonly_paths": ("/usr",)}, marks=ROOT_ONLY),
        pytest.param({"seccomp": True}, marks=ROOT_ONLY),
        {"inert_capset": True},
        pytest.param({"inert_capset": True, "seccomp": True, "capabilities": ()}, marks=ROOT_ONLY),
    ],
    ids=lambda changes: "+".join(changes) or "nothing",
)
def test_both_ways_lead_to_the_same(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "seccomp" in changes:
        changes = changes | {"seccomp": compile_profile("default")}
    wanted = setup("sh", "-c", SEEN, **changes)
    assert direct.plan(wanted, "", None) is not None
    short = run(wanted)
    monkeypatch.setattr(direct, "plan", lambda *_: None)
    long = run(wanted)
    assert short.out == long.out
    assert "leads its session" in short.out
    assert (short.status, short.warnings) == (long.status, long.warnings) == (0, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "root"},
        {"chroot": "/"},
        {"script": "true"},
        {"rlimits": ((7, 64, 64),)},
        {"nice": 1},
        {"debug": True},
        {"capabilities": ("FLY",)},
        {"directory": "/a\0b"},
        {"environment": {"A=B": "c"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_rest_goes_the_long_way(changes: dict[str, Any]) -> None:
    prepare_to_spawn()
    assert direct.plan(setup("true", **changes), "", None) is None


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"directory": "/no/such/place"}, "change working directory"),
        ({"descriptors": (1_000_000, 1, 2)}, "move descriptors"),
        pytest.param({"readonly_paths": ("/no",)}, "make /no read-only", marks=ROOT_ONLY),
        ({"environment": {"PATH": "/no/such:/etc"}}, "execute"),
    ],
)
def test_what_fails_is_named_alike(
    changes: dict[str, Any], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_to_spawn()
    found = []
    for _ in range(2):
        with pytest.raises(SpawnFailed) as caught:
            start(setup("passwd", **changes), key="", channel=None)
        found.append((caught.value.step, caught.value.errno))
        monkeypatch.setattr(direct, "plan", lambda *_: None)
    assert found[0] == found[1]
    assert found[0][0] == step


def test_a_holder_that_has_much_to_take_is_no_failure_yet() -> None:
    """The long way waits until it takes more; nothing has been told of the process by then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while theirs.send(b"?"):
                pass
        made = direct.plan(setup("true"), "k", theirs)
        assert made is not None
        pid, pidfd, results = vfork.run(made.rows, 0, None)
        os.close(pidfd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127
    assert made.failed(results) == (direct.TELL, errno.EAGAIN)


def test_descriptors_that_change_places(tmp_path: Path) -> None:
    """Each is the other's number, so neither may be given before the other is taken away."""
    prepare_to_spawn()
    one, other = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("one", "other"))
    kept = os.dup(0), os.dup(1)
    try:
        os.dup2(one, 0)
        os.dup2(other, 1)
        started = start(
            setup("sh", "-c", "echo out; echo in >&0", descriptors=(1, 0, 2)), key="", channel=None
        )
        os.waitpid(started.pid, 0)
    finally:
        os.dup2(kept[0], 0)
        os.dup2(kept[1], 1)
        for fd in (one, other, *kept):
            os.close(fd)
    os.close(started.pidfd)
    assert [(tmp_path / name).read_text() for name in ("one", "other")] == ["out\n", "in\n"]
