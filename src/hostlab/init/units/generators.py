"""Generators: programs that write units before the units are read (systemd.generator(7)).

They are given three directories, of which the first stands behind, the second before and the third
behind all other places of units. Those of systemd itself that read the machine's disks and kernel
command line have nothing to say in a node.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Final

from hostlab.init.job_supervisor import UNIT_GENERATORS_JOB
from hostlab.spec.job import Command, Job

DIRECTORIES: Final = (
    "/run/systemd/system-generators",
    "/etc/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
    "/usr/lib/systemd/system-generators",
    "/lib/systemd/system-generators",
)
"""The first that has a name counts; an empty file or a link to /dev/null masks it."""
OUTPUT: Final = (
    "/run/systemd/generator",
    "/run/systemd/generator.early",
    "/run/systemd/generator.late",
)
WITHIN_S: Final = 30.0
"""For all of them together."""
MAX_GENERATORS: Final = 100
_DISKS: Final = "a node's mounts are made before its first unit starts"
_COMMAND_LINE: Final = "the kernel's command line is the machine's"
PASSED_OVER: Final[Mapping[str, str]] = {
    "systemd-fstab-generator": _DISKS,
    "systemd-gpt-auto-generator": _DISKS,
    "systemd-cryptsetup-generator": _DISKS,
    "systemd-integritysetup-generator": _DISKS,
    "systemd-veritysetup-generator": _DISKS,
    "systemd-hibernate-resume-generator": _DISKS,
    "systemd-bless-boot-generator": _DISKS,
    "zram-generator": _DISKS,
    "lvm2-activation-generator": _DISKS,
    "systemd-debug-generator": _COMMAND_LINE,
    "systemd-run-generator": _COMMAND_LINE,
    "systemd-system-update-generator": "a node is not updated offline",
    "systemd-getty-generator": "there is no terminal to log in on; `hostlab shell` is",
    "friendly-recovery": "there is no terminal to log in on; `hostlab shell` is",
    "netplan": "a node's interfaces are in its description",
}
"""Generator -> why an init of hostlab does not run it."""


def generators() -> Iterator[str]:
    """The paths of those that are run here, by their names."""
    found: dict[str, str] = {}
    for directory in DIRECTORIES:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            found.setdefault(name, f"{directory}/{name}")
    for name, path in sorted(found.items())[:MAX_GENERATORS]:
        is_program = os.path.isfile(path) and os.access(path, os.X_OK) and os.path.getsize(path)
        if name not in PASSED_OVER and is_program:
            yield path


def make_output() -> None:
    """Empty directories for what they write; OSError when they cannot be made."""
    for path in OUTPUT:
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path, mode=0o755, exist_ok=True)


def job() -> Job | None:
    """The job that runs them, one after another; None where there is none."""
    commands = tuple(Command(argv=(each, *OUTPUT), ignore_failure=True) for each in generators())
    if not commands:
        return None
    return Job(
        name=UNIT_GENERATORS_JOB,
        description="generators of units",
        commands=commands,
        task=True,
        environment=(
            ("SYSTEMD_SCOPE", "system"),
            ("SYSTEMD_IN_INITRD", "0"),
            ("SYSTEMD_FIRST_BOOT", "0"),
            ("SYSTEMD_VIRTUALIZATION", "container:hostlab"),
        ),
    )
