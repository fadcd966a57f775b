"""What a node does not reproduce, computed from its description."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.linux.capabilities import NAMES
from hostlab.observe.capability_uses import MACHINE_ONLY, USES
from hostlab.observe.differences import Circumstances, Difference, differences
from hostlab.spec.model import Limits, Node, Root, RootKind

pytestmark = pytest.mark.unit

GRANTED = Circumstances(
    release="6.18",
    is_rootless=False,
    has_uid_range=True,
    controllers=("cpu", "cpuset", "memory", "pids"),
    has_cgroup=True,
    has_apparmor=True,
    masked_paths=("/proc/kcore",),
)
ROOTLESS = msgspec.structs.replace(
    GRANTED, is_rootless=True, has_uid_range=False, controllers=(), has_cgroup=False
)


def topics(node: Node, here: Circumstances = GRANTED) -> dict[str, Difference]:
    found = differences(node, here)
    assert all(len(one.row()) == len(Difference.COLUMNS) for one in found)
    return {one.topic: one for one in found}


def node(**more: object) -> Node:
    return msgspec.convert({"name": "web1", "hostname": "web1"} | more, Node)


def test_every_capability_has_a_use() -> None:
    assert tuple(USES) == NAMES
    assert set(NAMES) >= MACHINE_ONLY


def test_what_no_container_reproduces() -> None:
    found = topics(node())
    assert {"kernel", "modules", "wall clock", "/sys", "uevents", "PID 1", "devices"} <= set(found)
    assert "6.18" in found["kernel"].here


def test_an_impaired_cable_says_how_and_how_well_it_is_impaired() -> None:
    here = msgspec.structs.replace(GRANTED, impaired=(("eth0", "by the wire: so exact"),))
    assert topics(node(), here)["impairments of eth0"].here == "by the wire: so exact"
    assert "impairments of eth0" not in topics(node())


def test_a_missing_capability_names_its_use() -> None:
    found = topics(node(capabilities=("CHOWN", "SYS_TIME")))
    assert "CAP_CHOWN" not in found
    assert found["CAP_NET_RAW"].here == "missing"
    assert "ping" in found["CAP_NET_RAW"].there
    assert found["CAP_NET_RAW"].remedy == "capabilities: add NET_RAW"
    assert found["CAP_SYS_MODULE"].remedy == "a vm node"
    assert "held, but" in found["CAP_SYS_TIME"].here


def test_rootless_without_delegation() -> None:
    assert "bounds" not in topics(node())
    found = topics(node(limits={"memory": 1 << 20}), ROOTLESS)
    assert found["bounds"].here == (
        "forks bounded by RLIMIT_NPROC only, no memory bound, no freeze"
    )
    assert found["users"].here.startswith("one, root")
    assert "is not in force" in found["memory"].here


def test_limits_that_are_set_are_no_difference() -> None:
    assert {"memory", "cpu"} <= set(topics(node()))
    limited = Node(name="a", hostname="a", limits=Limits(memory=1 << 30, cpu=1))
    assert not {"memory", "cpu"} & set(topics(limited))


def test_the_root_decides_whose_files_they_are() -> None:
    assert "machine's own" in topics(node())["files"].here
    writable = Root(kind=RootKind.OCI, path="/bundle", writable=True)
    found = topics(Node(name="a", hostname="a", root=writable))
    assert not {"files", "disk"} & set(found)
    readonly = Root(kind=RootKind.OCI, path="/bundle", readonly=True)
    assert topics(Node(name="a", hostname="a", root=readonly))["files"].here == (
        "nothing can be written"
    )


def test_hidden_paths_are_the_usual_and_the_nodes() -> None:
    found = topics(node(masked_paths=["/proc/more"]))
    assert found["hidden paths"].here == "/proc/kcore, /proc/more"


def test_filters_and_privileges() -> None:
    assert "kexec_load" in topics(node())["system calls"].here
    assert "system calls" not in topics(node(seccomp="unconfined"))
    assert "own profile" in topics(node(seccomp="{}"))["system calls"].here
    assert "no_new_privs" in topics(node(no_new_privs=True))
    assert "AppArmor" not in topics(node())


def test_shared_namespaces_and_the_clock() -> None:
    found = topics(node(namespaces=[["net", "web2"], ["ipc", "web3"]], time_offset_s=5.0))
    assert "shared on purpose" in found["network"].here
    assert not {"interfaces", "net namespace"} & set(found)
    assert found["ipc namespace"].here == "that of web3"
    assert "shifted by 5 s" in found["uptime"].here
