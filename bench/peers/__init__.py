"""The other ways of doing the same work, one a module; each says what it lacks on this machine."""

from bench.peers.network import MININET, MUNET, NetworkPeer
from bench.peers.oci import RuncContainer, runc_missing, runc_run_true
from bench.peers.spawn import (
    bwrap_mounts_true,
    bwrap_true,
    command_missing,
    mean_ms,
    nsenter_by_posix_spawn,
    nsenter_by_subprocess,
    systemd_run_missing,
    systemd_run_true,
    unshare_mounts_true,
    unshare_true,
)
from bench.peers.supervisord import Supervisord, supervisord_missing

__all__ = [
    "MININET",
    "MUNET",
    "NetworkPeer",
    "RuncContainer",
    "Supervisord",
    "bwrap_mounts_true",
    "bwrap_true",
    "command_missing",
    "mean_ms",
    "nsenter_by_posix_spawn",
    "nsenter_by_subprocess",
    "runc_missing",
    "runc_run_true",
    "supervisord_missing",
    "systemd_run_missing",
    "systemd_run_true",
    "unshare_mounts_true",
    "unshare_true",
]
