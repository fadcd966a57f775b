"""Rulesets staged, asked, compared and switched, beside the kernel's own tools (issue 6, "Speed").

The tools run in a network namespace of their own, as the machine's root; nothing of the machine's
is touched. A stage's own start and end are told beside (`lab_ms`), not counted with the loading.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import kernel as namespaces
from bench.cpu_time import timed
from bench.firewall_switch import switch
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.peers import command_missing
from hostlab.firewall.difference import text_difference
from hostlab.firewall.kernel import tool
from hostlab.firewall.meaning import meaning_difference
from hostlab.firewall.ownership import own_part
from hostlab.firewall.packet import parse_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.source import read_source
from hostlab.firewall.stage import Stage
from hostlab.firewall.staged import Staged, stage_source
from hostlab.firewall.target import Target as Host
from hostlab.firewall.target import TargetInterface
from hostlab.firewall.transaction import transaction

RULES: Final = 10_000
CALLS: Final = 2_000
RULES_COMPARED: Final = 1_000
ELEMENTS: Final = 100_000
ASKED_ALONE: Final = 50
BATCH: Final = 200
TIME_LIMIT_S: Final = 3600.0
HOST: Final = Host(interfaces=(TargetInterface(name="eth0", addresses=("203.0.113.10/24",)),))


def restore_case(rules: int = RULES) -> Benchmark:
    """A dump with many rules."""
    text = saved(rules)
    return Benchmark(
        name="firewall-restore",
        title=f"stage {rules:,} rules from a file of iptables-save",
        contenders=(
            Contender("hostlab", lambda: _staged(Ruleset(iptables=text), text), _missing),
            Contender(
                "iptables-restore", lambda: _alone(("iptables-nft-restore",), text), _missing
            ),
        ),
        targets=(
            Target("load_ms", 1.2, "iptables-restore"),
            Target("load_and_read_ms", 2.5, "iptables-restore", "load_ms"),
            Target("load_and_read_cpu_ms", 2.5, "iptables-restore", "load_cpu_ms"),
        ),
        rounds=3,
    )


def set_case(elements: int = ELEMENTS) -> Benchmark:
    """An nft set with many elements."""
    text = nft_set(elements)
    return Benchmark(
        name="firewall-set",
        title=f"stage and apply an nft set of {elements:,} elements",
        contenders=(
            Contender("hostlab", lambda: _staged(Ruleset(nft=text), text), _missing),
            Contender("nft -f", lambda: _alone(("nft", "-f", "-"), text), _missing),
        ),
        targets=(
            Target("load_ms", 1.2, "nft -f"),
            Target("applied_ms", 1.2, "nft -f", "load_ms"),
        ),
        rounds=3,
    )


def script_case(calls: int = CALLS) -> Benchmark:
    """A script that calls iptables again and again."""
    text = script(calls)
    return Benchmark(
        name="firewall-script",
        title=f"stage a script of {calls:,} calls of iptables; load what it became by one restore",
        contenders=(
            Contender("hostlab", lambda: _script_staged(text), _missing),
            Contender("sh", lambda: _alone(("sh", "-s"), text, "script"), _missing),
        ),
        targets=(
            Target("script_ms", 1.05, "sh"),
            Target("script_cpu_ms", 1.05, "sh"),
            Target("restore_ms", 50.0, "sh", "script_ms", at_least=True),
        ),
        rounds=1,
    )


def ask_case(rules: int = RULES_COMPARED) -> Benchmark:
    """Packets through a ruleset that is staged."""
    return Benchmark(
        name="firewall-ask",
        title=f"ask what becomes of a packet, {rules:,} rules staged; alone, and {BATCH} at once",
        contenders=(Contender("hostlab", lambda: _ask(rules), _missing),),
        targets=(
            Target("ask_ms", 5.0),
            Target("batch_per_s", 2000.0, at_least=True),
            Target("legacy_batch_per_s", 2000.0, at_least=True),
        ),
        rounds=5,
    )


def diff_case(rules: int = RULES_COMPARED) -> Benchmark:
    """Two rulesets compared by meaning."""
    return Benchmark(
        name="firewall-diff",
        title=f"diff by text and by meaning of two sets of {rules:,} rules, both staged",
        contenders=(Contender("hostlab", lambda: _diff(rules), _missing),),
        targets=(Target("diff_ms", 10_000.0),),
        rounds=3,
    )


def switch_case(times: int = 100) -> Benchmark:
    """A stream of packets while the ruleset is changed for another."""
    return Benchmark(
        name="firewall-switch",
        title=f"{times} switches under 10,000 packets a second: packets in a wrong state",
        contenders=(Contender("hostlab", lambda: _switch(times), _missing),),
        targets=(Target("wrong_nft", 0.0), Target("wrong_iptables", 0.0)),
        rounds=1,
    )


def _missing() -> str | None:
    if os.geteuid():
        return "wants root: only the machine's root loads transactions of any size"
    return command_missing("nft", "nftables") or command_missing("iptables-nft", "iptables")


# What is loaded.


def saved(rules: int, *, first: int = 0) -> str:
    """As iptables-save prints it; every hundredth rule is for a port of its own."""
    lines = (f"-A INPUT {_match(first + number)} -j ACCEPT\n" for number in range(rules))
    heads = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
    return f"{heads}{''.join(lines)}COMMIT\n"


def _match(number: int) -> str:
    high, low = divmod(number, 250)
    return f"-s 10.{high // 250}.{high % 250}.{low + 1}/32 -p tcp -m tcp --dport {number // 100}"


def script(calls: int) -> str:
    """The same rules, a call each."""
    return "".join(f"iptables-nft -A INPUT {_match(number)} -j ACCEPT\n" for number in range(calls))


def nft_set(elements: int) -> str:
    """A table with a rule that looks a source up in a set."""
    named = ", ".join(
        f"10.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}" for n in range(0, elements)
    )
    return (
        "table inet bench {\n\tset many {\n\t\ttype ipv4_addr\n"
        f"\t\telements = {{ {named} }}\n\t}}\n\tchain input {{\n"
        "\t\ttype filter hook input priority filter; policy accept;\n"
        "\t\tip saddr @many drop\n\t}\n}\n"
    )


# Loaded by the kernel's own tools.


def _alone(argv: Sequence[str], text: str, name: str = "load") -> Metrics:
    def run() -> Metrics:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        data = text.encode()
        return timed(
            name, lambda: subprocess.run(argv, input=data, check=True, capture_output=True)
        )

    found: Metrics = namespaces.forked(run)
    return found


# Loaded by hostlab.


def _ms(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


@contextmanager
def _source(text: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        path = Path(directory, "rules")
        path.write_text(text, encoding="ascii")
        yield str(path)


def _staged(ruleset: Ruleset, text: str) -> Metrics:
    """Loaded as it is, and read back; staged from a file, so that each rule has its place, too;
    applied to a host that has none.
    """
    begin = time.perf_counter()
    with Stage(HOST, ("load", "stage", "apply")) as stage, _source(text) as path:
        lab_ms = (time.perf_counter() - begin) * 1e3
        node = stage.nodes["load"]
        loaded = timed("load", lambda: node.load(ruleset), (node.pid,))
        read = timed("load_and_read", node.read, (node.pid,))
        node = stage.nodes["stage"]
        rulesets: list[Ruleset] = []
        staged = timed(
            "staged",
            lambda: rulesets.append(stage_source(node, read_source(path)).require()),
            (node.pid,),
        )
        node = stage.nodes["apply"]
        steps = transaction(Ruleset(), Ruleset(), rulesets[0])

        def apply() -> None:
            for step in steps:
                tool(node.tool, step.argv, step.text)

        return {
            **loaded,
            "load_and_read_ms": loaded["load_ms"] + read["load_and_read_ms"],
            "load_and_read_cpu_ms": loaded["load_cpu_ms"] + read["load_and_read_cpu_ms"],
            **staged,
            "applied_ms": _ms(apply),
            "lab_ms": lab_ms,
        }


def _script_staged(text: str) -> Metrics:
    with Stage(HOST, ("stage", "load")) as stage, _source(f"#!/bin/sh\n{text}") as path:
        found: list[Staged] = []
        node = stage.nodes["stage"]
        took = timed(
            "script",
            lambda: found.append(stage_source(node, read_source(path), time_limit_s=TIME_LIMIT_S)),
            (node.pid,),
        )
        ruleset = found[0].require()
        return {
            **took,
            "restore_ms": _ms(lambda: stage.nodes["load"].load(ruleset)),
        }


def _ask(rules: int) -> Metrics:
    packets = [
        parse_packet(f"tcp 10.0.{number % 4}.7:{40000 + number} -> 203.0.113.10:{port} in eth0")
        for number in range(BATCH)
        for port in (number % 12,)
    ]
    metrics: dict[str, float] = {}
    with Stage(HOST, ("nft", "legacy")) as stage:
        stage.nodes["nft"].load(Ruleset(iptables=saved(rules)))
        stage.nodes["legacy"].load(Ruleset(legacy_iptables=saved(rules)))
        for node, start in (("nft", ""), ("legacy", "legacy_")):
            with Prober(stage, node) as prober:
                prober.ask(packets[:1])
                alone = _ms(lambda: [prober.ask((each,)) for each in packets[:ASKED_ALONE]])
                batch = timed("batch", functools.partial(prober.ask, packets))
            metrics[f"{start}ask_ms"] = alone / ASKED_ALONE
            metrics[f"{start}batch_per_s"] = BATCH / batch["batch_ms"] * 1e3
            metrics[f"{start}batch_per_cpu_s"] = BATCH / batch["batch_cpu_ms"] * 1e3
    return metrics


def _diff(rules: int) -> Metrics:
    """The second has ten rules less at its front and ten more at its end."""
    with Stage(HOST, ("old", "new")) as stage:
        stage.nodes["old"].load(Ruleset(iptables=saved(rules)))
        stage.nodes["new"].load(Ruleset(iptables=saved(rules, first=10)))
        before, after = stage.nodes["old"].read(), stage.nodes["new"].read()
        text_ms = _ms(lambda: text_difference(before, after))
        begin = time.perf_counter()
        found = meaning_difference(stage, "old", "new", rulesets=(before, after))
        diff_ms = text_ms + (time.perf_counter() - begin) * 1e3
    assert found.disagreements
    return {"diff_ms": diff_ms, "text_ms": text_ms, "packets": found.packets}


def _switch(times: int) -> Metrics:
    """Between two rulesets that agree of two ports and differ in the rest, as `apply` does it."""
    with Stage(HOST) as stage:
        node = stage.nodes["stage"]
        metrics: dict[str, float] = {}
        for part, pair in SWITCHED.items():
            node.load(pair[0])

            def go(wanted: Ruleset, other: Ruleset) -> None:
                present = node.read()
                own = own_part(present, ours=[other], wanted=wanted)
                for step in transaction(present, own, wanted):
                    tool(node.tool, step.argv, step.text)

            seen = switch(node.pid, times, go, pair)
            metrics[f"wrong_{part}"] = seen.wrong
            metrics[f"sent_{part}"] = seen.sent
            metrics[f"per_s_{part}"] = seen.sent / seen.took_s
            for step in transaction(node.read(), pair[times % 2], Ruleset()):
                tool(node.tool, step.argv, step.text)
    return metrics


def _nft(more: str) -> Ruleset:
    return Ruleset(
        nft="table inet bench {\n\tchain input {\n"
        "\t\ttype filter hook input priority filter; policy drop;\n"
        f"{more}\t\tudp dport 7007 accept\n\t}}\n}}\n"
    )


def _iptables(more: str) -> Ruleset:
    return Ruleset(
        iptables=f"*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
        f"{more}-A INPUT -p udp -m udp --dport 7007 -j ACCEPT\nCOMMIT\n"
    )


SWITCHED: Final = {
    "nft": (_nft(""), _nft("\t\ttcp dport { 22, 80 } accept\n" * 20)),
    "iptables": (_iptables(""), _iptables("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n" * 20)),
}
"""Both let 7007 in and drop the rest; what is between them does neither, or one of it."""

FIREWALL_CASES: dict[str, Callable[[], Benchmark]] = {
    "firewall-restore": restore_case,
    "firewall-script": script_case,
    "firewall-ask": ask_case,
    "firewall-diff": diff_case,
    "firewall-set": set_case,
    "firewall-switch": switch_case,
}
