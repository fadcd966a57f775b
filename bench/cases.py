"""What is compared with what, and what was promised (issue 3, "Speed").

What concerns the init is in `init_cases`, firewalls in `firewall_cases`, impaired
cables in `wire_cases`, faults in `fault_cases`, checks in `check_cases`, what tests wait for in
`testing_cases`, whole networks in `network_cases`, ways through them in `path_cases`.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import generate, ours, peers
from bench.check_cases import CHECK_CASES
from bench.fault_cases import FAULT_CASES
from bench.firewall_cases import FIREWALL_CASES
from bench.floors import FloorLab
from bench.init_cases import INIT_CASES
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.memory import pss_mb_per_node
from bench.network_cases import NETWORK_CASES
from bench.page_cases import PAGE_CASES
from bench.path_cases import PATH_CASES
from bench.probe_cases import PROBE_CASES
from bench.reach import verify
from bench.socket_cases import SOCKET_CASES
from bench.testing_cases import TESTING_CASES
from bench.warm import warm_memory
from bench.wire_cases import WIRE_CASES

NODES = 100
MANY = 1000
FEW = 10
SEGMENTS = 100
EXECS = 20
REACH_DEADLINE_S = 10.0
NEIGHBOURS_ASKED = 16
"""On a segment of 1,000 everyone asks so many round the ring: all pairs would be a million."""
EVERYONE_ANSWERS = Target("answered_share", 1.0, at_least=True)
WARM_BYTES = 1 << 30
"""What 1,000 bare nodes need, with room to spare."""


def floor(nodes: int, segments: int) -> Metrics:
    """Start and stop bare nodes."""
    warm_memory(WARM_BYTES)
    with FloorLab(nodes, segments) as lab:
        started = lab.started
        memory = pss_mb_per_node((lab.hub_pid, *started.pids), nodes)
        stopped = lab.stop()
    return {
        "start_ms": started.up_s / nodes * 1e3,
        "clone_ms": started.clone_s / nodes * 1e3,
        "reaped_ms": stopped.reaped_s / nodes * 1e3,
        "stop_ms": stopped.settled_s / nodes * 1e3,
        "pss_mb": memory,
    }


def hostlab(nodes: int, segments: int, neighbours: int | None = None) -> Metrics:
    """Start a lab, see who answers whom, and stop it."""

    def look(running: ours.Running) -> Mapping[str, float]:
        pids = (*running.hub_pids, *running.holders.values())
        memory = pss_mb_per_node(pids, nodes)
        found = verify(running.members, deadline_s=REACH_DEADLINE_S, neighbours=neighbours)
        return {"answered_share": found.answered / found.asked, "pss_mb": memory}

    warm_memory(WARM_BYTES)
    found = ours.cycle(nodes, segments, look)
    settle()
    return found


def settle() -> None:
    """Wait until the kernel has collected every namespace that has ended so far.

    It does so in order and out of sight; the links of a bare node that ends now go last.
    """
    with FloorLab(1, 1) as lab:
        lab.stop()


def _network_peer(peer: peers.NetworkPeer, max_rounds: int) -> Contender:
    def run() -> Metrics:
        warm_memory(WARM_BYTES)
        measured = dict(peer.measure(NODES))
        del measured["exec_ms"]
        return measured

    return Contender(peer.name, run, peer.missing, max_rounds)


def _once(measure: Callable[[int], float], times: int) -> Metrics:
    return {"start_ms": measure(times)}


def nodes_case() -> Benchmark:
    """Start and stop a node on a segment."""
    return Benchmark(
        name="nodes",
        title=f"start and stop a node on a segment, N = {NODES} (a node's share)",
        contenders=(
            Contender("hostlab", lambda: hostlab(NODES, 1), ours.lab_missing),
            Contender("floor", lambda: floor(NODES, 1)),
            _network_peer(peers.MININET, 5),
            _network_peer(peers.MUNET, 1),
            Contender(
                "runc run true", lambda: _once(peers.runc_run_true, EXECS), peers.runc_missing
            ),
            Contender(
                "bwrap true",
                lambda: _once(peers.bwrap_true, EXECS),
                lambda: peers.command_missing("bwrap", "bubblewrap"),
            ),
            Contender(
                "unshare true",
                lambda: _once(peers.unshare_true, EXECS),
                lambda: peers.command_missing("unshare", "util-linux"),
            ),
        ),
        targets=(
            Target("start_ms", 2.0, "floor"),
            Target("start_ms", 5.0, "mininet", at_least=True),
            Target("stop_ms", 20.0, "mininet", at_least=True),
            EVERYONE_ANSWERS,
        ),
    )


def segments_case() -> Benchmark:
    """Many small segments."""
    return Benchmark(
        name="segments",
        title=f"{MANY:,} nodes on {SEGMENTS} segments, every one seen to answer its neighbours",
        contenders=(
            Contender("hostlab", lambda: hostlab(MANY, SEGMENTS), ours.lab_missing),
            Contender("hostlab-10", lambda: hostlab(FEW, 1), ours.lab_missing),
            Contender("floor", lambda: floor(MANY, SEGMENTS)),
            Contender("floor-10", lambda: floor(FEW, 1)),
        ),
        targets=(
            Target("start_ms", 2.0, "floor"),
            Target("stop_ms", 2.0, "floor"),
            Target("start_ms", 1.5, "hostlab-10"),
            EVERYONE_ANSWERS,
        ),
        rounds=3,
    )


def segment_case() -> Benchmark:
    """One big segment."""
    return Benchmark(
        name="segment",
        title=f"{MANY:,} nodes on one segment, all reachable",
        contenders=(
            Contender("hostlab", lambda: hostlab(MANY, 1, NEIGHBOURS_ASKED), ours.lab_missing),
            Contender("floor", lambda: floor(MANY, 1)),
        ),
        targets=(Target("start_ms", 2.0, "floor"), EVERYONE_ANSWERS),
        rounds=3,
    )


def memory_case() -> Benchmark:
    """Memory of a node, with and without hub and job."""
    return Benchmark(
        name="memory",
        title=f"memory of a node in MB: sum of PSS ÷ N, N = {NODES}, hub included",
        contenders=(
            Contender("hostlab", _memory, ours.lab_missing),
            Contender("hostlab, hub gone", _memory_without_hub, ours.lab_missing),
            Contender("hostlab, one job", _memory_with_job, ours.lab_missing),
            Contender("floor", functools.partial(_only_memory, lambda: floor(NODES, 1))),
            Contender("mininet", _peer_memory(peers.MININET), peers.MININET.missing, 1),
            Contender("munet", _peer_memory(peers.MUNET), peers.MUNET.missing, 1),
        ),
        targets=(
            Target("pss_mb", 1.5),
            Target("pss_mb", 1.5, own="hostlab, hub gone"),
            Target("pss_mb", 8.0, own="hostlab, one job"),
        ),
        rounds=1,
    )


def _only_memory(measure: Callable[[], Metrics]) -> Metrics:
    return {key: value for key, value in measure().items() if key.startswith("pss")}


def _peer_memory(peer: peers.NetworkPeer) -> Callable[[], Metrics]:
    return functools.partial(_only_memory, lambda: peer.measure(NODES))


def _memory() -> Metrics:
    def look(running: ours.Running) -> Metrics:
        pids = (*running.hub_pids, *running.holders.values())
        return {"pss_mb": pss_mb_per_node(pids, NODES)}

    return _only_memory(lambda: ours.cycle(NODES, 1, look))


def _memory_without_hub() -> Metrics:
    def look(running: ours.Running) -> Metrics:
        holders = tuple(running.holders.values())
        ours.end_hub(running)
        return {"pss_mb": pss_mb_per_node(holders, NODES)}

    return _only_memory(lambda: ours.cycle(NODES, 1, look))


def _memory_with_job() -> Metrics:
    def look(running: ours.Running) -> Metrics:
        pids = {*running.hub_pids, *ours.descendants(running.holders.values())}
        return {"pss_mb": pss_mb_per_node(pids, NODES)}

    return _only_memory(lambda: ours.cycle(NODES, 1, look, job="sleep infinity"))


def exec_case() -> Benchmark:
    """Run `true` in a node that is up."""
    return Benchmark(
        name="exec",
        title="exec true in a running node",
        contenders=(
            Contender("hostlab", _exec_hostlab, ours.exec_missing),
            Contender("nsenter", _nsenter(peers.nsenter_by_subprocess), _nsenter_missing),
            Contender(
                "nsenter, posix_spawn", _nsenter(peers.nsenter_by_posix_spawn), _nsenter_missing
            ),
            Contender("runc exec", _exec_runc, peers.runc_missing),
            Contender("mininet cmd", _peer_exec(peers.MININET), peers.MININET.missing, 3),
            Contender("munet cmd", _peer_exec(peers.MUNET), peers.MUNET.missing, 3),
        ),
        targets=(Target("exec_ms", 1.5, "nsenter"),),
        rounds=7,
    )


def _nsenter_missing() -> str | None:
    return peers.command_missing("nsenter", "util-linux")


def _nsenter(measure: Callable[[int, int], float]) -> Callable[[], Metrics]:
    def run() -> Metrics:
        with FloorLab(1) as lab:
            return {"exec_ms": measure(lab.started.pids[0], EXECS)}

    return run


def _exec_hostlab() -> Metrics:
    with ours.staged(1, 1) as running:
        exec_true = running.exec_true()
        exec_true()
        return {"exec_ms": peers.mean_ms(exec_true, EXECS)}


def _exec_runc() -> Metrics:
    with peers.RuncContainer() as container:
        return {"exec_ms": container.exec_true(EXECS)}


def _peer_exec(peer: peers.NetworkPeer) -> Callable[[], Metrics]:
    return lambda: {"exec_ms": peer.measure(2, execs=EXECS)["exec_ms"]}


def startup_case() -> Benchmark:
    """The command line's own start."""
    bare = (sys.executable, "-I", "-c", "pass")
    return Benchmark(
        name="startup",
        title="start-up of the command line",
        contenders=(
            Contender("hostlab", _commands, ours.cli_missing),
            Contender("python -c pass", lambda: {"version_ms": ours.run_ms(bare)}),
        ),
        targets=(Target("version_ms", 120.0),),
        rounds=11,
        notes=ours.slowest_imports,
    )


def _commands() -> Metrics:
    with ours.staged(1, 1) as running:
        node = f"{running.name}/{next(iter(running.holders))}"
        return {
            "version_ms": ours.run_ms(ours.command("--version")),
            "exec_ms": ours.run_ms(ours.command("exec", node, "--", "true")),
            "status_ms": ours.run_ms(ours.command("status", running.name)),
        }


def validate_case() -> Benchmark:
    """Reading descriptions of growing size."""
    sizes = (10, 100, 1000, 4000)
    return Benchmark(
        name="validate",
        title="validate of 10, 100, 1,000 and 4,000 nodes",
        contenders=(
            Contender("hostlab", lambda: _validate(sizes), ours.cli_missing),
            Contender("read the file's YAML", lambda: _parse_yaml(sizes)),
        ),
        targets=(
            Target("nodes_1000_ms", 1000.0),
            Target("node_4000_ms", 1.5, "hostlab", against_metric="node_1000_ms"),
        ),
        rounds=5,
    )


def _validate(sizes: tuple[int, ...]) -> Metrics:
    return _of_sizes(sizes, lambda path: ours.run_ms(ours.command("validate", str(path))))


def _parse_yaml(sizes: tuple[int, ...]) -> Metrics:
    program = "import sys, yaml; yaml.compose(open(sys.argv[1]), Loader=yaml.CSafeLoader)"
    return _of_sizes(sizes, lambda path: ours.run_ms((sys.executable, "-c", program, str(path))))


def _of_sizes(sizes: tuple[int, ...], measure: Callable[[Path], float]) -> Metrics:
    """A file's time at each size, and a further node's share of it above the smallest size."""
    metrics = {}
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        for size in sizes:
            path = generate.write(Path(directory), f"nodes{size}", size, max(1, size // 10))
            metrics[f"nodes_{size}_ms"] = measure(path)
    least = sizes[0]
    for size in sizes[2:]:
        grown = metrics[f"nodes_{size}_ms"] - metrics[f"nodes_{least}_ms"]
        metrics[f"node_{size}_ms"] = grown / (size - least)
    return metrics


CASES: Mapping[str, Callable[[], Benchmark]] = {
    "nodes": nodes_case,
    "segments": segments_case,
    "segment": segment_case,
    "memory": memory_case,
    "exec": exec_case,
    "startup": startup_case,
    "validate": validate_case,
    **INIT_CASES,
    **SOCKET_CASES,
    **FIREWALL_CASES,
    **WIRE_CASES,
    **FAULT_CASES,
    **CHECK_CASES,
    **PAGE_CASES,
    **TESTING_CASES,
    **NETWORK_CASES,
    **PATH_CASES,
    **PROBE_CASES,
}
"""Every benchmark, in the order of the report."""
