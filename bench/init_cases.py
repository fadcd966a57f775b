"""How fast the init is (issue 4, "Speed"): events, starting, its memory, its death, its logs."""

from __future__ import annotations

import functools
import os
import signal
import statistics
import time
from collections.abc import Callable

from bench import flood, jobs_engine, ours, ours_init, peers
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.memory import pss_bytes
from bench.source_cases import files_case, idle_case, timers_case
from bench.unit_loading import units_case

LISTENERS = 1000
EMITS = 200
STARTS = 50
JOBS = 500
FLOOD_BYTES = 100_000_000
ELSEWHERE = ", start_on: elsewhere"
SANDBOXED = (
    "      sandboxed: {exec: /bin/true, task: true, manual: true, "
    "private_tmp: true, read_only: [/usr]}\n"
)
BARE = "      bare: {exec: /bin/true, task: true, manual: true}\n"


def events_case(jobs: int = LISTENERS) -> Benchmark:
    """Events through the engine alone."""

    def run() -> Metrics:
        return {f"{row.key}_per_s": row.rate for row in jobs_engine.rows(jobs, rounds=1)}

    return Benchmark(
        name="events",
        title=f"events a second that the job engine takes, {jobs:,} jobs",
        contenders=(Contender("hostlab", run),),
        targets=(
            *(
                Target(f"{each.key}_per_s", float(each.target), at_least=True)
                for each in jobs_engine.CASES
            ),
            # Flat: in proportion it would be 10.
            Target("nobody_tenth_per_s", 1.5, "hostlab", against_metric="nobody_per_s"),
        ),
    )


def emit_case(jobs: int = LISTENERS, times: int = EMITS) -> Benchmark:
    """An event from a client to a node's init and the answer back."""
    return Benchmark(
        name="emit",
        title=f"emit an event in a node with {jobs:,} jobs that wait for others, and hear of it",
        contenders=(Contender("hostlab", lambda: _emit(jobs, times), ours.lab_missing),),
        targets=(Target("kept_ms", 1.0),),
        rounds=3,
    )


def _emit(jobs: int, times: int) -> Metrics:
    """`kept` is on one connection, `anew` on a new one each time; both are medians."""
    with ours_init.node_with(ours_init.sleepers(jobs, ELSEWHERE)) as node, node.control() as one:
        arguments = {"name": "tick", "environment": [("N", "1")]}

        def kept() -> None:
            one.call("emit", **arguments)

        def anew() -> None:
            node.client.emit("tick", [("N", "1")])

        kept()
        return {
            "kept_ms": statistics.median(ours_init.timed_ms(kept) for _ in range(times)),
            "anew_ms": statistics.median(ours_init.timed_ms(anew) for _ in range(times)),
        }


def start_case(times: int = STARTS) -> Benchmark:
    """Start `true` until it is reaped.

    The sandbox of a job in a node that is up is a mount namespace with a /tmp and /var/tmp of its
    own and a read-only /usr; the node's other namespaces are there already. So a peer makes a mount
    namespace too. hostlab is asked over a connection, and answers when the engine has taken the
    process' end: socket, two cgroups, log and state are within its time.
    """
    mounts = "mount namespace"
    return Benchmark(
        name="start",
        title="start true with a private /tmp and a read-only /usr, until it is reaped",
        contenders=(
            Contender("hostlab", lambda: _start("sandboxed", times), ours.lab_missing),
            Contender("hostlab, no sandbox", lambda: _start("bare", times), ours.lab_missing),
            Contender(
                "unshare -m",
                _median(peers.unshare_mounts_true, times),
                lambda: peers.command_missing("unshare", "util-linux"),
            ),
            Contender(
                f"bwrap, {mounts}",
                _median(peers.bwrap_mounts_true, times),
                lambda: peers.command_missing("bwrap", "bubblewrap"),
            ),
            Contender(
                f"runc, {mounts}",
                _median(functools.partial(peers.runc_run_true, namespaces=("mount",)), times),
                peers.runc_missing,
            ),
            Contender(
                "systemd-run", _median(peers.systemd_run_true, times), peers.systemd_run_missing
            ),
        ),
        targets=(
            Target("start_ms", 1.5, "unshare -m"),
            Target("start_ms", 5.0, f"runc, {mounts}", at_least=True),
        ),
        rounds=7,
    )


def _median(measure: Callable[[int], float], times: int) -> Callable[[], Metrics]:
    return lambda: {"start_ms": measure(times)}


def _start(job: str, times: int) -> Metrics:
    with ours_init.node_with(SANDBOXED + BARE) as node, node.control() as control:

        def start() -> None:
            control.call("job", name=job, action="start")

        start()
        return {"start_ms": peers.mean_ms(start, times)}


def jobs_case(jobs: int = JOBS) -> Benchmark:
    """Many jobs at once."""
    return Benchmark(
        name="jobs",
        title=f"{jobs} jobs started by `startup`, all running; the init's own memory",
        contenders=(
            Contender("hostlab", lambda: _jobs_in_node(jobs), ours.lab_missing),
            Contender("hostlab init", lambda: _jobs_alone(jobs), ours.cli_missing),
            Contender("supervisord", lambda: _supervisord(jobs), peers.supervisord_missing),
        ),
        targets=(
            Target("running_ms", 3.0, "supervisord", at_least=True),
            Target("running_ms", 3.0, "supervisord", at_least=True, own="hostlab init"),
            Target("pss_mb", 1.0, "supervisord"),
            Target("pss_mb", 1.0, "supervisord", own="hostlab init"),
        ),
    )


def _jobs_in_node(jobs: int) -> Metrics:
    """From the description on, the hub's start included; `node_pss_mb` is without the hub."""
    begin = time.perf_counter()
    with ours_init.node_with(ours_init.sleepers(jobs)) as node:
        running_s = node.wait_running(jobs) - begin
        pids = (node.holder, node.supervisor())
        return {
            "running_ms": running_s * 1e3,
            "after_up_ms": (running_s - node.up_s) * 1e3,
            "pss_mb": pss_bytes((*node.hub_pids, *pids)) / 1e6,
            "node_pss_mb": pss_bytes(pids) / 1e6,
        }


def _jobs_alone(jobs: int) -> Metrics:
    with ours_init.Alone(jobs) as init:
        return {"running_ms": init.running_s * 1e3, "pss_mb": pss_bytes(init.pids()) / 1e6}


def _supervisord(jobs: int) -> Metrics:
    with peers.Supervisord(jobs) as peer:
        return {"running_ms": peer.running_s * 1e3, "pss_mb": pss_bytes((peer.pid,)) / 1e6}


def recovery_case(jobs: int = JOBS) -> Benchmark:
    """A supervisor's death."""
    return Benchmark(
        name="recovery",
        title=f"the supervisor of {jobs} jobs killed, until it answers again",
        contenders=(Contender("hostlab", lambda: _recovery(jobs), ours.lab_missing),),
        targets=(Target("answer_ms", 300.0),),
        rounds=3,
    )


def _recovery(jobs: int, times: int = 5) -> Metrics:
    with ours_init.node_with(ours_init.sleepers(jobs)) as node:
        node.wait_running(jobs)
        return {"answer_ms": statistics.median(_killed(node, jobs) for _ in range(times))}


def _killed(node: ours_init.Node, jobs: int) -> float:
    """Milliseconds until the next supervisor answers; every job still runs then."""
    pid = node.supervisor()
    begin = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    # A client that was let in by the dead one is hung up on; one that waits is served.
    while True:
        try:
            with node.control() as control:
                control.call("ping")
                break
        except ours_init.hung_up():
            continue
    took_ms = (time.perf_counter() - begin) * 1e3
    ours_init.must_run(node.client.job_table(), jobs)
    return took_ms


def flood_case(size_bytes: int = FLOOD_BYTES) -> Benchmark:
    """Much output at once."""
    return Benchmark(
        name="flood",
        title=f"{size_bytes / 1e6:g} MB of lines from one job, to a log in memory",
        contenders=(
            Contender("hostlab", lambda: flood.hostlab(size_bytes), ours.lab_missing),
            Contender("cat > file", lambda: flood.cat(size_bytes), ours.lab_missing),
        ),
        targets=(
            Target("flood_ms", 2.0, "cat > file"),
            Target("whole_share", 1.0, at_least=True),
            Target("others_whole_share", 1.0, at_least=True),
        ),
    )


INIT_CASES: dict[str, Callable[[], Benchmark]] = {
    "events": events_case,
    "emit": emit_case,
    "start": start_case,
    "jobs": jobs_case,
    "recovery": recovery_case,
    "flood": flood_case,
    "units": units_case,
    "timers": timers_case,
    "files": files_case,
    "idle": idle_case,
}
