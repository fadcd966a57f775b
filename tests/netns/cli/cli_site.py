"""hostlab as a program: on this machine, as a plain user, or on a machine of its own.

A machine of its own is made of private namespaces: PIDs, network, mounts with an empty /run and
/tmp, and a cgroup tree that begins at a cgroup of ours. So a test can ask what is left on *the
machine* while others work on the real one.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostlab.linux import cgroups

ROOT = Path(__file__).parents[3]
NOBODY = 65534
LIMIT_S = 100

_MACHINE = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
if [ -n "$CGROUP" ]; then mount -t cgroup2 none /sys/fs/cgroup; fi
for place in $PLACES; do mount -t tmpfs none $place; done
ip link set lo up
mkdir /run/keep
"""
_END = """
end() {
    $PYTHON -c 'import os, select, sys
for pid in map(int, sys.argv[1:]):
    fd = os.pidfd_open(pid)
    os.kill(pid, 9)
    select.select([fd], [], [])' "$@"
}
"""


@dataclass
class Hostlab:
    """Runs hostlab with a run directory of its own, as this user or another."""

    run_directory: Path
    user: int | None = None
    names: list[str] = field(default_factory=list)
    python: str = sys.executable
    path: str = str(ROOT / "src")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": self.path,
            "HOSTLAB_RUN": str(self.run_directory),
            "HOME": "/",
        }

    def argv(self, *arguments: str) -> list[str]:
        return [self.python, "-m", "hostlab.cli.main", *arguments]

    def __call__(
        self, *arguments: str, status: int | None = 0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*arguments),
            env=self.environment,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert status is None or done.returncode == status, done.stderr + done.stdout
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*arguments),
            env=self.environment,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def up(self, name: str, rest: str) -> str:
        """Stage a lab whose name no other has; returns its name."""
        name = f"{name}-{os.getpid()}"
        self.names.append(name)
        self("up", "-", stdin=f"name: {name}\n{rest}")
        return name

    def end(self) -> None:
        for name in self.names:
            self("down", name, status=None)


def plain_users_python() -> tuple[str, str]:
    """(interpreter, PYTHONPATH) for NOBODY, who may not reach one that is installed at root's."""
    for python, path in (
        (sys.executable, str(ROOT / "src")),
        ("/usr/bin/python3", ":".join((str(ROOT / "src"), *site.getsitepackages()))),
    ):
        try:
            done = subprocess.run(
                [python, "-c", "import msgspec, yaml, click, pyseccomp, hostlab"],
                env={"PYTHONPATH": path},
                user=NOBODY if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if not done.returncode:
            return python, path
    pytest.skip("here: nothing of Python and hostlab that a plain user can read")


def needs_namespaces() -> None:
    done = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], check=False)
    if done.returncode:
        pytest.skip("this user cannot have mount, PID and network namespaces")


def on_machine_of_its_own(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script there; `hostlab` is the program, `end PID…` kills and waits."""
    needs_namespaces()
    hidden = [place for place in ("/run", "/tmp", "/var/tmp", "/dev/shm") if _is_free(place)]
    functions = f'hostlab() {{ {sys.executable} -m hostlab.cli.main "$@"; }}\n' + _END
    whole = _MACHINE + functions + script
    with _cgroup() as cgroup:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHON": sys.executable,
            "ROOT": str(ROOT),
            "PLACES": " ".join(hidden),
            "CGROUP": cgroup,
            **variables,
        }
        enter = f"echo $$ > {cgroup}/cgroup.procs; " if cgroup else ""
        kinds = "--mount --pid --net --ipc --uts" + (" --cgroup" if cgroup else "")
        flags = "--fork --kill-child --mount-proc"
        return subprocess.run(
            ["sh", "-c", f'{enter}exec unshare {kinds} {flags} sh -c "$0"', whole],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


def _is_free(place: str) -> bool:
    """Whether nothing that the test needs is below."""
    needed = (str(ROOT), os.path.realpath(sys.executable), sys.prefix, sys.base_prefix)
    return os.path.isdir(place) and not any(path.startswith(f"{place}/") for path in needed)


@contextmanager
def _cgroup() -> Iterator[str]:
    """A cgroup for the machine's top, where this user may make one; empty elsewhere."""
    unified = cgroups.find().unified
    if unified is None:
        yield ""
        return
    path = f"{unified}/hostlab-test-{os.getpid()}"
    os.mkdir(path)
    try:
        yield path
    finally:
        cgroups.remove(path)
