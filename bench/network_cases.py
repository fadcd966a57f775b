"""Whole networks with real daemons, beside the same built by others (issue 7, "Speed").

Each is the same network, with the same configuration of the same daemons, up to the instant when
every kernel has a route to every router; that instant is read by one and the same program. What
hostlab takes longer than the daemons by hand is its own share.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import cleaning, drawings, ours
from bench.convergence import wait_routes, wanted
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.memory import pss_bytes
from bench.peers.building import BY_HAND, MININET_NETWORK, MUNET_NETWORK, Builder, built
from hostlab import api
from hostlab.spec.model import Lab
from hostlab.spec.routing import Engine

NETWORKS: Final = ("Abilene", "Belnet2003", "AttMpls", "Geant2012", "Uunet", "TataNld")
"""Of the corpus, by their size."""
LARGEST: Final = "TataNld"
OWN_SHARE: Final = 0.1
DAEMONS: Final = ("bird", "zebra", "ospfd", "ospf6d")


@dataclass(frozen=True, slots=True)
class Network:
    """What is built: the same nodes, with daemons or bare."""

    name: str
    make: Callable[[Engine | None], Lab]
    missing: Callable[[], str | None] = lambda: None


def of_corpus(name: str) -> Network:
    """A network of the corpus."""
    return Network(
        name,
        functools.partial(drawings.corpus, name),
        functools.partial(drawings.corpus_missing, name),
    )


def frr_case(network: Network) -> Benchmark:
    """One network with FRR, and bare."""
    name = network.name
    return Benchmark(
        name=f"networks-frr-{name.lower()}",
        title=f"{name} with OSPF by FRR: staged, and all routes in all kernels",
        contenders=(
            _contender("hostlab", network, Engine.FRR),
            _contender("by hand", network, Engine.FRR, BY_HAND),
            _contender("munet", network, Engine.FRR, MUNET_NETWORK, max_rounds=1),
            _contender("hostlab, bare", network, None),
            _contender("mininet, bare", network, None, MININET_NETWORK),
        ),
        targets=(
            Target("converged_s", round(1 / (1 - OWN_SHARE), 2), "by hand"),
            Target("staged_s", 5.0, "munet", at_least=True),
            Target("staged_s", 5.0, "mininet, bare", at_least=True, own="hostlab, bare"),
        ),
        rounds=3,
    )


def bird_case(network: Network) -> Benchmark:
    """One network with BIRD."""
    return Benchmark(
        name=f"networks-bird-{network.name.lower()}",
        title=f"{network.name} with OSPF by BIRD: staged, and all routes in all kernels",
        contenders=(
            _contender("hostlab", network, Engine.BIRD),
            _contender("by hand", network, Engine.BIRD, BY_HAND),
        ),
        targets=(Target("converged_s", 1.2, "by hand"),),
        rounds=3,
    )


def _contender(
    who: str,
    network: Network,
    engine: Engine | None,
    builder: Builder | None = None,
    *,
    max_rounds: int = 1000,
) -> Contender:
    """Who builds a network; nobody else does where there is no `builder`."""

    def missing() -> str | None:
        if engine is Engine.BIRD and shutil.which("bird", path="/usr/sbin:/usr/bin") is None:
            return "apt-get install bird2"
        if engine is Engine.FRR and not Path("/usr/lib/frr/ospfd").exists():
            return "apt-get install frr"
        lacking = ours.lab_missing() if builder is None else builder.missing()
        return network.missing() or lacking

    def run() -> Metrics:
        lab = network.make(engine)
        cleaning.wait_cleaned()
        return _hostlab(lab, engine) if builder is None else _peer(lab, engine, builder)

    return Contender(who, run, missing, max_rounds)


def _hostlab(description: Lab, engine: Engine | None) -> Metrics:
    lab = api.Lab(description)
    begin = time.perf_counter()
    try:
        lab.up(wait_s=0)
        staged_s = time.perf_counter() - begin
        if engine is None:
            return {"staged_s": staged_s}
        running = ours.Staged(lab.name)
        names = {node.name: f"n{at}" for at, node in enumerate(description.nodes)}
        holders = {names[node]: pid for node, pid in running.holders.items()}
        networks = {node: f"/proc/{pid}/ns/net" for node, pid in holders.items()}
        wait_routes(networks, wanted(drawings.drawing(description)))
        converged_s = time.perf_counter() - begin
        pids = {*running.hub_pids, *ours.descendants(holders.values())}
        return _metrics(staged_s, converged_s, pids, len(networks))
    finally:
        lab.down()


def _peer(lab: Lab, engine: Engine | None, builder: Builder) -> Metrics:
    drawing = drawings.drawing(lab)
    with built(drawing, builder) as network:
        if engine is None:
            return {"staged_s": network.staged_s}
        since = time.perf_counter()
        wait_routes(network.networks, wanted(drawing))
        converged_s = network.staged_s + time.perf_counter() - since
        return _metrics(network.staged_s, converged_s, network.pids, len(drawing.hosts))


def _metrics(staged_s: float, converged_s: float, pids: Iterable[int], nodes: int) -> Metrics:
    """Memory is a node's share of all there is, and of its daemons."""
    every = set(pids)
    daemons = [pid for pid in every if _command(pid) in DAEMONS]
    return {
        "staged_s": staged_s,
        "converged_s": converged_s,
        "node_mb": pss_bytes(every) / nodes / 1e6,
        "daemons_mb": pss_bytes(daemons) / nodes / 1e6,
    }


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()


NETWORK_CASES: Mapping[str, Callable[[], Benchmark]] = {
    f"networks-bird-{LARGEST.lower()}": lambda: bird_case(of_corpus(LARGEST)),
    **{
        f"networks-frr-{name.lower()}": functools.partial(
            lambda name: frr_case(of_corpus(name)), name
        )
        for name in NETWORKS
    },
}
