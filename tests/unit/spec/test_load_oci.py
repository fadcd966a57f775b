"""A node whose root is an OCI bundle: the bundle's word, and the description's above it."""

from __future__ import annotations

import json

import pytest

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, RootKind, load
from tests.unit.spec.described import described

pytestmark = pytest.mark.unit

CONFIG = {
    "ociVersion": "1.0.2",
    "hostname": "bundled",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "args": ["sleep", "1"],
        "env": ["A=bundle", "B=bundle"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": True,
        "capabilities": {"bounding": ["CAP_KILL"]},
    },
    "linux": {
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "resources": {"pids": {"limit": 7}, "memory": {"limit": 4096}},
    },
}


def lab_of(keys: str, config: object = CONFIG) -> Lab:
    def read(path: str) -> bytes:
        assert path == "bundle/config.json"
        return json.dumps(config).encode()

    text = f"segments: [lan]\nnodes:\n  a: {{root: {{oci: bundle}}{keys}}}\n"
    return load(text, file="lab.yaml", read=read, directory="/labs")


def test_what_the_description_does_not_say_the_bundle_says() -> None:
    node = lab_of("").node("a")
    assert (node.root.kind, node.root.path) == (RootKind.OCI, "/labs/bundle/rootfs")
    assert node.root.readonly
    assert node.hostname == "bundled"
    assert dict(node.environment) == {"A": "bundle", "B": "bundle"}
    assert node.capabilities == ("KILL",)
    assert node.no_new_privs
    assert node.limits.pids == 7
    assert dict(node.sysctls) == {"net.ipv4.ip_forward": "1"}
    assert [job.argv for job in node.jobs] == [("sleep", "1")]
    assert [i.segment for i in node.interfaces] == ["lan"]


def test_the_description_has_the_last_word() -> None:
    node = lab_of(
        ", hostname: own, environment: {B: own}, capabilities: [CHOWN], no_new_privs: false, "
        "limits: {pids: 9}, sysctls: {net.ipv4.ip_forward: 0}, jobs: {more: x}"
    ).node("a")
    assert node.hostname == "own"
    assert dict(node.environment) == {"A": "bundle", "B": "own"}
    assert node.capabilities == ("CHOWN",)
    assert not node.no_new_privs
    assert (node.limits.pids, node.limits.memory) == (9, 4096)
    assert dict(node.sysctls) == {"net.ipv4.ip_forward": "0"}
    assert [job.name for job in node.jobs] == ["main", "more"]


def test_a_job_of_the_bundles_name_takes_its_place() -> None:
    assert lab_of(", jobs: {main: x}").node("a").jobs == (described("main", exec="x"),)


def test_a_bundles_job_starts_and_stops_as_a_descriptions_does() -> None:
    bundled, more = lab_of(", jobs: {more: x}").node("a").jobs
    assert (bundled.start_on, bundled.kill) == (more.start_on, more.kill)


def test_an_error_in_the_bundle_has_its_place_there() -> None:
    with pytest.raises(SpecErrors) as caught:
        lab_of("", {**CONFIG, "hostname": 7})
    (error,) = caught.value.errors
    assert error.where is not None
    assert error.where.file == "/labs/bundle/config.json"
