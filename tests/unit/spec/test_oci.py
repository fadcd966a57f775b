"""An OCI bundle's config.json becomes the fields of a node, and what does not is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec.job import Job
from hostlab.spec.model import Limits, Mount, Rlimit, Root, RootKind
from hostlab.spec.oci import OciBundle, bundle

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[2] / "data"
EVERYTHING = (DATA / "oci-everything.json").read_bytes()
RUNC = (DATA / "oci-runc-spec.json").read_bytes()


def read(config: bytes) -> OciBundle:
    return bundle(config, path="/bundles/one/config.json")


def errors_of(config: bytes) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        read(config)
    assert all(isinstance(error, SpecError) and error.where for error in caught.value.errors)
    return [f"{error.where}: {error.message}" for error in caught.value.errors]


def changed(**fields: Any) -> bytes:
    """The file of `runc spec`, one property a line, with some properties replaced."""
    config = json.loads(RUNC)
    for path, value in fields.items():
        *parents, last = path.split("__")
        target = config
        for parent in parents:
            target = target[parent]
        target[last] = value
    return json.dumps(config, indent=1).encode()


def test_what_runc_spec_writes() -> None:
    found = read(RUNC)
    assert found.hostname == "runc"
    assert found.root == Root(kind=RootKind.OCI, path="/bundles/one/rootfs", readonly=True)
    assert found.capabilities == ("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE")
    assert found.rlimits == (Rlimit(resource="RLIMIT_NOFILE", soft=1024, hard=1024),)
    assert found.no_new_privs
    assert found.job is not None
    assert (found.job.argv, found.job.user, found.job.capabilities) == (("sh",), "0", None)
    assert found.mounts[1] == Mount(
        target="/dev",
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "strictatime", "mode=755", "size=65536k"),
    )
    assert "/proc/kcore" in found.masked_paths
    assert "/proc/sys" in found.readonly_paths
    assert [note.partition(":")[0] for note in found.unsupported] == [
        "linux.namespaces",
        "process.terminal",
    ]


def test_what_runc_spec_rootless_writes() -> None:
    found = read((DATA / "oci-runc-spec-rootless.json").read_bytes())
    notes = "\n".join(found.unsupported)
    assert "runtime's network namespace" in notes
    assert "linux.uidMappings: a node has the lab's mapping" in notes
    assert found.mounts[5] == Mount(
        target="/sys",
        type="none",
        source="/sys",
        options=("rbind", "nosuid", "noexec", "nodev", "ro"),
    )


@pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed")
def test_the_runc_of_this_machine_writes_what_we_read(tmp_path: Path) -> None:
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True, timeout=100)
    config = tmp_path / "config.json"
    found = bundle(config.read_bytes(), path=str(config))
    assert found.root.path == str(tmp_path / "rootfs")
    assert not any("not a known property" in note for note in found.unsupported)


def test_everything_that_a_node_does() -> None:
    found = read(EVERYTHING)
    assert found.root == Root(kind=RootKind.OCI, path="/bundles/shared/rootfs", writable=True)
    assert found.capabilities == ("CHOWN", "KILL", "NET_BIND_SERVICE")
    environment = (("PATH", "/usr/bin:/bin"), ("EMPTY", ""), ("MANY", "a=b=c"))
    assert found.environment == environment
    assert found.job == Job(
        name="main",
        argv=("/usr/sbin/server", "--name", 'it\'s "quoted" é'),
        environment=environment,
        user="33",
        group="34",
        groups=("5", "6"),
        umask=0o077,
        oom_score_adj=100,
        directory="/srv",
        capabilities=("NET_BIND_SERVICE",),
        no_new_privs=True,
    )
    assert found.rlimits[0] == Rlimit(resource="RLIMIT_CORE", soft=0, hard=2**64 - 1)
    assert found.limits == Limits(memory=512 * 2**20, cpu=0.25, cpus="0-1", pids=32)
    assert found.sysctls == (("net.ipv4.ip_forward", "1"), ("net.core.somaxconn", "256"))
    assert found.time_offset_s == 86400.5
    assert found.apparmor == "acme"
    assert json.loads(found.seccomp)["syscalls"][0]["errnoRet"] == 38
    assert found.namespaces == ("pid", "mnt", "ipc", "uts", "cgroup", "time", "net")
    assert found.mounts[1] == Mount(
        target="/data",
        type="none",
        source="/bundles/one/volumes/data",
        options=("rbind", "ro", "rslave"),
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=OciBundle) == found


def test_everything_that_a_node_does_not_do_is_said_once() -> None:
    notes = read(EVERYTHING).unsupported
    assert sorted(note.partition(": ")[0] for note in notes) == [
        "domainname",
        "hooks.prestart",
        "linux.cgroupsPath",
        "linux.devices[0].path",
        "linux.intelRdt",
        "linux.namespaces[6].path",
        "linux.resources.cpu.mems",
        "linux.resources.cpu.shares",
        "linux.resources.devices[1].allow",
        "linux.resources.memory.swap",
        "linux.resources.rdma",
        "linux.resources.unified",
        "linux.rootfsPropagation",
        "linux.sysctls",
        "linux.timeOffsets.boottime",
        "mounts[2].options",
        "mounts[3].options",
        "mounts[3].uidMappings",
        "process.capabilities.inheritable",
        "process.ioPriority",
        "process.selinuxLabel",
    ]
    assert len(set(notes)) == len(notes)
    text = "\n".join(notes)
    assert "did you mean `sysctl`?" in text
    assert "linux.namespaces[6].path: /run/netns/other is not joined" in text
    assert "mounts[3].options: `idmap` is not carried out" in text
    assert "device c 10:229 stays out of reach" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ociVersion": "2.0.0"}, "only versions 1.x"),
        ({"ociVersion": None}, "`ociVersion` is missing"),
        ({"root": None}, "`root` is missing"),
        ({"root__path": 7}, "`root.path` must be a string"),
        ({"root__path": "a\0b"}, "NUL"),
        ({"root__readonly": "yes"}, "`root.readonly` must be true or false"),
        ({"hostname": "x" * 65}, "longer than 64 bytes"),
        ({"process__args": []}, "`process.args` is empty"),
        ({"process__args": None}, "`process` lacks `args`"),
        ({"process__args": ["a", 1]}, "`process.args[1]` must be a string"),
        ({"process__cwd": "srv"}, "`process.cwd` must be an absolute path"),
        ({"process__env": ["A"]}, "`process.env[0]` must be NAME=value"),
        ({"process__user": {"uid": True}}, "`process.user.uid` must be a whole number"),
        ({"process__user": {"uid": -1}}, "`process.user.uid` must be between 0 and"),
        ({"process__user": {"additionalGids": [2**32]}}, "additionalGids[0]` must be between"),
        ({"process__oomScoreAdj": 1001}, "between -1000 and 1000"),
        ({"process__rlimits": [{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}]}, "no resource"),
        ({"process__rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, "above the hard"),
        ({"process__rlimits": [{"type": "RLIMIT_CPU", "soft": 2}]}, "lacks `hard`"),
        ({"process__rlimits": 2 * [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]}, "twice"),
        ({"mounts": [{"type": "tmpfs"}]}, "`mounts[0]` lacks `destination`"),
        ({"mounts": [{"destination": "/a"}]}, "`mounts[0]` lacks `type`"),
        ({"mounts": [{"destination": "/a", "options": ["bind"]}]}, "lacks `source`"),
        ({"linux__namespaces": [{"type": "net"}]}, "`net` is no kind of namespace"),
        ({"linux__namespaces": 2 * [{"type": "pid"}]}, "`pid` is given twice"),
        ({"linux__maskedPaths": ["proc"]}, "must be an absolute path"),
        ({"linux__seccomp": {"syscalls": []}}, "lacks `defaultAction`"),
        ({"linux__sysctl": {"a.b": 1}}, "`linux.sysctl.a.b` must be a string"),
        ({"linux": []}, "`linux` must be an object"),
    ],
)
def test_an_error_names_the_property(fields: dict[str, Any], message: str) -> None:
    (error,) = errors_of(changed(**fields))
    assert message in error


def test_all_errors_at_once_with_their_places() -> None:
    config = b"""{
  "ociVersion": "1.0.2",
  "root": {"path": "/r", "readonly": 1},
  "process": {
\t"cwd": "here",
    "args": ["true"]
  },
  "mounts": [{"destination": "/x", "type": "tmpfs"}, 3]
}
"""
    assert errors_of(config) == [
        "/bundles/one/config.json:3:26: `root.readonly` must be true or false",
        "/bundles/one/config.json:5:2: `process.cwd` must be an absolute path",
        "/bundles/one/config.json:8:54: `mounts[1]` must be an object",
    ]
    with pytest.raises(SpecErrors) as caught:
        read(config)
    where = caught.value.errors[1].where
    assert where is not None
    assert where.text == ' "cwd": "here",'


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        (b"", "1:1", "a JSON value is missing"),
        (b"[]", "1:1", "must be one JSON object"),
        (b'{"a": 1} x', "1:10", "something follows"),
        (b'{"a": 1,\n "a": 2}', "2:2", "`a` is given twice"),
        (b'{"a" 1}', "1:6", "a colon is missing"),
        (b'{"a": [1 2]}', "1:10", "a comma or `]` is missing"),
        (b'{"a": 1\n', "2:1", "a comma or `}` is missing"),
        (b'{"a": 1,}', "1:9", "a string in double quotes"),
        (b'{"a": "b\nc"}', "1:9", "a broken string"),
        (b'{"a": "\\ud800"}', "1:7", "half of a surrogate pair"),
        (b'{"a": ' + b"9" * 5000 + b"}", "1:7", "more than 40 digits"),
        (b'{"a": 1e999}', "1:7", "too large"),
        (b'{"a": ' + b"[" * 5000, "1:107", "nested deeper than 100"),
        (b'{"a":\n"\xff"}', "2:2", "not UTF-8"),
        (b'{"a": nul}', "1:7", "a JSON value is missing"),
    ],
)
def test_malformed_json_has_a_place(config: bytes, place: str, message: str) -> None:
    (error,) = errors_of(config)
    assert error.startswith(f"/bundles/one/config.json:{place}: ")
    assert message in error


def test_a_line_without_end_is_not_quoted() -> None:
    with pytest.raises(SpecErrors) as caught:
        read(b'{"ociVersion": "3", "root": {"path": "' + b"x" * 500 + b'"}}')
    where = caught.value.errors[0].where
    assert where is not None
    assert (where.line, where.column, where.text) == (1, 2, "")


def test_capabilities_of_root_and_of_others() -> None:
    sets = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"]}
    root = read(changed(process__capabilities=sets))
    assert root.capabilities == ("CHOWN", "KILL")
    assert root.job is not None
    assert root.job.capabilities is None
    assert "process.capabilities.effective: differs" in "\n".join(root.unsupported)
    assert not any("ambient" in note for note in root.unsupported)
    ambient = read(changed(process__capabilities=sets | {"ambient": ["CAP_KILL"]}))
    assert "process.capabilities.ambient: root has" in "\n".join(ambient.unsupported)
    other = read(changed(process__capabilities=sets, process__user={"uid": 1, "gid": 1}))
    assert other.job is not None
    assert other.job.capabilities == ()


def test_no_process_is_no_job() -> None:
    found = read(b'{"ociVersion": "1.0.0", "root": {"path": "/r"}}')
    assert found.job is None
    assert found.capabilities == ()


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_that_is_not_positive_is_none(limit: int) -> None:
    resources = {"memory": {"limit": limit}, "pids": {"limit": limit}, "cpu": {"quota": limit}}
    assert read(changed(linux__resources=resources)).limits == Limits()


def test_a_quota_has_the_kernels_period() -> None:
    assert read(changed(linux__resources={"cpu": {"quota": 150_000}})).limits.cpu == 1.5


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_PATHS = st.sampled_from(
    [
        *("ociVersion", "root", "root__path", "process", "process__user", "process__args"),
        *("process__env", "process__rlimits", "process__capabilities", "linux", "mounts"),
        *("linux__resources", "linux__seccomp", "linux__namespaces", "hooks", "hostname"),
    ]
)


def read_or_placed(config: bytes) -> None:
    errors: tuple[SpecError, ...] = ()
    try:
        read(config)
    except SpecErrors as error:
        errors = error.errors
    assert all(error.where for error in errors)


@given(_PATHS, _VALUES)
def test_any_value_anywhere_is_read_or_placed(path: str, value: Any) -> None:
    read_or_placed(changed(**{path: value}))


@given(st.integers(0, len(EVERYTHING) - 1), st.binary(max_size=3))
def test_any_damage_is_read_or_placed(offset: int, damage: bytes) -> None:
    read_or_placed(EVERYTHING[:offset] + damage + EVERYTHING[offset + 1 :])
