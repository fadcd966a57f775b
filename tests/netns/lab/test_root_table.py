"""A node's file system by tables of system calls and by Python: what comes out is the same."""

from __future__ import annotations

import errno
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hostlab.lab import rootfs
from hostlab.lab.root_table import root_table
from hostlab.lab.rootfs import RootPlan
from hostlab.lab.survey import survey
from hostlab.linux import vfork
from hostlab.linux.clone import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID
from hostlab.linux.libc import unshare
from hostlab.linux.mounts import bind, make_private, make_readonly

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has one overlay for all of `/`"),
    pytest.mark.skipif(not vfork.prepare(), reason="no stub for this machine"),
]
LISTED = ("/", "/dev", "/dev/net", "/run", "/tmp", "/proc/sys", "/sys")


def seen() -> dict[str, Any]:
    """What a node sees of its file system, less the numbers of its mounts."""
    mounts = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            root, target, options, *tags = left.split(" ")[3:]
            named = right.replace("/u0", "").split(" ")
            mounts.append((target, root, options, *tags, *named))
    listed = {}
    for directory in LISTED:
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            found = os.lstat(path)
            link = os.readlink(path) if os.path.islink(path) else ""
            listed[path] = (oct(found.st_mode), found.st_uid, found.st_rdev, link)
    hosts = Path("/etc/hosts").read_text()
    refused = []
    for path in ("/proc/kmsg", "/etc/hosts", "/proc/sys/kernel/hostname"):
        try:
            os.close(os.open(path, os.O_RDWR))
        except OSError as error:
            refused.append(errno.errorcode[error.errno or 0])
    return {"mounts": sorted(mounts), "listed": listed, "hosts": hosts, "refused": refused}


def in_namespaces(work: Callable[[], object]) -> Any:
    """What work gives in namespaces of its own, as their first process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC)
            inner = os.fork()
            if inner:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
            make_private()
            found = json.dumps(work()).encode()
            while found:
                found = found[os.write(writer, found) :]
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(data)


def built(place: Path, *, by_table: bool, has_places: bool, **changes: Any) -> Any:
    def work() -> object:
        lower, base = f"{place}/lower", f"{place}/root"
        bind(b"/", lower.encode())
        make_readonly(lower.encode())
        plan = RootPlan(survey=survey(lower, base=base), base=base, **changes)
        if by_table:
            names = rootfs.shown(plan) if has_places else None
            table = root_table(plan.survey, base, plan.size_bytes, names)
            assert table is not None
            assert table.is_entered is has_places
            plan = replace(plan, table=table)
        rootfs.build(plan)
        rootfs.seal(plan)
        return seen()

    return in_namespaces(work)


@pytest.mark.parametrize("has_places", [True, False])
@pytest.mark.parametrize("changes", [{}, {"size_bytes": 1 << 20}, {"readonly": True}])
def test_both_ways_lead_to_the_same(
    tmp_path: Path, changes: dict[str, Any], *, has_places: bool
) -> None:
    for name in ("lower", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "hosts").write_text("192.0.2.1 somebody\n")
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.2\n")
    changes |= {"hosts": f"{tmp_path}/hosts", "resolv_conf": f"{tmp_path}/resolv.conf"}
    short, long = (
        built(tmp_path, by_table=by_table, has_places=has_places, **changes)
        for by_table in (True, False)
    )
    assert short == long
    assert short["hosts"] == "192.0.2.1 somebody\n"
    assert short["refused"] == ["ENXIO", "EROFS", "EROFS"]
    assert len(short["mounts"]) > 20
