"""An OCI bundle under a description: what the bundle says holds where the description is silent."""

from __future__ import annotations

from typing import Protocol

import msgspec

from hostlab.spec.model import Limits, Node
from hostlab.spec.node_jobs import as_described
from hostlab.spec.oci import OciBundle


class ReadBundle(Protocol):
    """Reads the content of the `config.json` at a path; SpecErrors with what is wrong in it."""

    def __call__(self, config: bytes, *, path: str) -> OciBundle: ...


def overlay(node: Node, bundle: OciBundle, said: frozenset[str]) -> Node:
    """The node with the bundle below it; `said` are the keys that the description has itself.

    Mappings are merged, the description's word last; of single values the description's stands
    where it has one. A job of the description of the same name replaces the bundle's.
    """
    jobs = node.jobs
    if bundle.job is not None and all(job.name != bundle.job.name for job in node.jobs):
        jobs = (as_described(bundle.job, node.boot), *node.jobs)
    limits = {
        name: getattr(bundle.limits, name)
        for name in Limits.__struct_fields__
        if getattr(node.limits, name) is None
    }
    return msgspec.structs.replace(
        node,
        root=bundle.root,
        hostname=node.hostname if "hostname" in said else bundle.hostname or node.hostname,
        mounts=bundle.mounts,
        rlimits=bundle.rlimits,
        environment=_pairs(bundle.environment, node.environment),
        sysctls=_pairs(bundle.sysctls, node.sysctls),
        capabilities=node.capabilities if "capabilities" in said else bundle.capabilities,
        no_new_privs=node.no_new_privs if "no_new_privs" in said else bundle.no_new_privs,
        seccomp=node.seccomp if "seccomp" in said else bundle.seccomp,
        apparmor=node.apparmor if "apparmor" in said else bundle.apparmor,
        limits=msgspec.structs.replace(node.limits, **limits),
        time_offset_s=bundle.time_offset_s if node.time_offset_s is None else node.time_offset_s,
        masked_paths=bundle.masked_paths,
        readonly_paths=bundle.readonly_paths,
        jobs=jobs,
        unsupported=bundle.unsupported,
    )


def _pairs(
    below: tuple[tuple[str, str], ...], above: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    return tuple({**dict(below), **dict(above)}.items())
