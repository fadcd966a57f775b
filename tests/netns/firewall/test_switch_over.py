"""While one ruleset takes the place of another, no packet meets neither, or less than one of them.

Both let a stream in and keep others out, each by other rules and by default: iptables keeps port
7001 out, nft 7002, legacy iptables 7003, so that none of them hides another. What comes and what
comes through is counted by a table of somebody else before and behind them. `HOSTLAB_SWITCHES` is
the number of switches.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hostlab.firewall.ruleset import Ruleset
from tests.netns.firewall.machine_site import Machine

pytestmark = pytest.mark.netns
PROGRAM = str(Path(__file__).with_name("switch_over.py"))
SHORT = 10
RATE = 10_000
WITNESS = """\
table inet witness {
	counter came { }
	counter passed { }
	counter closed { }
	chain first {
		type filter hook prerouting priority -500; policy accept;
		udp dport 7000 counter name came
	}
	chain last {
		type filter hook input priority 500; policy accept;
		udp dport 7000 counter name passed
		udp dport 7001-7003 counter name closed
	}
}
"""
FILLING = "".join(f"-A INPUT -s 192.0.2.{n}/32 -p udp -j DROP\n" for n in range(1, 200))
SAVED = "*filter\n:INPUT DROP [0:0]\n:{chain} - [0:0]\n{filling}-A INPUT -j {chain}\n{rule}COMMIT\n"
NFT = """\
table inet mine {{
	set {name} {{
		type inet_service
		elements = {{ {ports} }}
	}}

	chain input {{
		type filter hook input priority filter + 10; policy drop;
{filling}		udp dport @{name} accept
	}}
}}
"""


def ruleset(chain: str, match: str, more: str) -> Ruleset:
    """`match` with ports; `more` are ports that nobody asks for."""
    filling = "".join(f"\t\tip saddr 192.0.2.{n} drop\n" for n in range(1, 200))
    rule = f"-A {chain} {match} -j ACCEPT\n"
    return Ruleset(
        iptables=SAVED.format(
            chain=chain, filling=FILLING, rule=rule.format(f"{more}7000,7002,7003")
        ),
        legacy_iptables=SAVED.format(
            chain=chain, filling="", rule=rule.format(f"{more}7000,7001,7002")
        ),
        nft=NFT.format(name=chain.lower(), filling=filling, ports="7000, 7001, 7003"),
    )


RULESETS = (
    ruleset("OLD", "-p udp -m multiport --dports {}", ""),
    ruleset("NEW", "-p udp -m multiport --dports {}", "53,"),
)


report = print


def test_no_packet_of_a_stream_is_lost_or_let_in_between(host: Machine) -> None:
    count = int(os.environ.get("HOSTLAB_SWITCHES", SHORT))
    host.shell(f"nft -f - <<'END'\n{WITNESS}END")
    program = (sys.executable, "-P", PROGRAM)
    order = msgspec.json.encode(RULESETS)
    first = host.server.execute((*program, "switch", "2"), stdin=order)
    assert first.status == 0, first.stderr
    namespaces = [f"--{name}=/proc/{host.admin.pid}/ns/{name}" for name in ("user", "net")]
    sending = ("nsenter", *namespaces, *program, "send", "10.44.0.1", str(RATE))
    with subprocess.Popen(sending, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sender:
        done = host.server.execute((*program, "switch", str(count)), stdin=order)
        out, _ = sender.communicate(b"", timeout=60)
    assert done.status == 0, done.stderr
    listed = host.shell("nft list counters table inet witness")
    counted = {
        name: int(packets)
        for name, packets in re.findall(r"counter (\w+) \{\s+packets (\d+)", listed)
    }
    report(f"{count} switches, {int(out)} packets sent: {counted}")
    assert counted["came"] > 0
    assert counted["came"] == counted["passed"]
    assert counted["closed"] == 0
