"""Keys of the Compose specification that an import leaves out, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BLOCK: Final = "is left out: block devices are not limited"
_IMAGE: Final = "is left out: there is no image to build, fetch or tag"
_STORE: Final = "is left out; put the file in with `files`"
_MEMORY: Final = "is left out: memory has one limit, `limits: {memory: …}`"
_CPU: Final = "is left out: CPU time has one limit, `limits: {cpu: …}`"
_HOOK: Final = "is left out; write it as a step of the job, of the same name"
_META: Final = "is left out: it means nothing to a lab"
_TTY: Final = "is left out: a job has no terminal; `hostlab exec` gives one"
_DNS: Final = "is left out: names of the lab resolve in every node"
_SHARE: Final = "is left out: a node has a namespace of its own"

TOP: Final[Mapping[str, str]] = {
    "version": "is left out: the Compose specification ignores it too",
    "include": "is left out; import the other files by themselves",
    "secrets": _STORE,
    "configs": _STORE,
    "models": _META,
}

SERVICE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("annotations", "attach", "gpus", "provider", "models", "develop"), _META),
    **dict.fromkeys(("label_file", "labels", "logging", "platform", "runtime", "isolation"), _META),
    **dict.fromkeys(("credential_spec", "use_api_socket", "profiles", "scale"), _META),
    **dict.fromkeys(("build", "pull_policy"), _IMAGE),
    **dict.fromkeys(("configs", "secrets"), _STORE),
    **dict.fromkeys(("mem_reservation", "mem_swappiness", "memswap_limit"), _MEMORY),
    "oom_kill_disable": _MEMORY,
    **dict.fromkeys(("cpu_count", "cpu_percent", "cpu_shares"), _CPU),
    **dict.fromkeys(("cpu_rt_period", "cpu_rt_runtime"), _CPU),
    **dict.fromkeys(("pre_start", "post_start", "pre_stop"), _HOOK),
    **dict.fromkeys(("stdin_open", "tty"), _TTY),
    **dict.fromkeys(("dns", "dns_opt", "dns_search", "domainname"), _DNS),
    **dict.fromkeys(("cgroup", "cgroup_parent", "ipc", "pid", "userns_mode", "uts"), _SHARE),
    "blkio_config": _BLOCK,
    "container_name": "is left out: a node is called by the name of its service",
    "device_cgroup_rules": "is left out: a node has the usual devices only",
    "devices": "is left out: a node has the usual devices only",
    "depends_on": "is left out: jobs start together; a check with `within` waits for the other",
    "env_file": "was not read; put its variables into `environment`",
    "extends": "was not read; write the other service's keys here",
    "external_links": "is left out: nothing outside of the lab is reached by a link",
    "init": "is left out: every node has an init",
    "privileged": "is left out: `capabilities: {add: [ALL]}` is as far as a node goes",
    "read_only": "is left out: a node writes into an overlay of its own",
    "shm_size": "is left out: `limits: {memory: …}` bounds /dev/shm too",
    "tmpfs": "is left out: a node's root can be written, and goes with the node",
    "volumes_from": "is left out; name the same volumes in both",
}

NETWORK: Final[Mapping[str, str]] = {
    "attachable": _META,
    "labels": _META,
    "name": "is left out: a segment is called by its key",
    "external": "is left out: the lab makes a segment of its own",
    "enable_ipv4": "is left out; say `subnets` to have one family only",
}

IPAM: Final[Mapping[str, str]] = {
    "driver": "is left out: addresses are assigned by the lab",
    "options": "is left out: addresses are assigned by the lab",
}

POOL: Final[Mapping[str, str]] = {
    "ip_range": "is left out: addresses are assigned from the whole subnet",
    "aux_addresses": "is left out; no node is given an address twice",
}

ATTACHMENT: Final[Mapping[str, str]] = {
    "link_local_ips": "is left out; add them to `addresses`",
    "driver_opts": _META,
    "gw_priority": "is left out; say which node is the `gateway`",
}

VOLUME: Final[Mapping[str, str]] = {
    "driver": "is left out: a volume is a directory of the lab",
    "driver_opts": "is left out: a volume is a directory of the lab",
    "external": "is left out: the volume begins empty, in the lab's run directory",
    "labels": _META,
    "name": "is left out: a volume is called by its key",
}

MOUNT: Final[Mapping[str, str]] = {
    "bind": "is left out: a volume is mounted without options",
    "volume": "is left out: a volume is mounted without options",
    "tmpfs": "is left out: a volume is mounted without options",
    "image": _IMAGE,
    "consistency": _META,
}

DEPLOY: Final[Mapping[str, str]] = {
    **dict.fromkeys(("endpoint_mode", "labels", "placement", "rollback_config"), _META),
    **dict.fromkeys(("update_config", "mode"), _META),
}

HEALTHCHECK: Final[Mapping[str, str]] = {
    "start_interval": "is left out: a check is tried again until its time is over",
}
