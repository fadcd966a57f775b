"""While one ruleset takes the place of another, no packet meets neither, or less than one of them.

Both let a stream in and keep others out, each by other rules and by default: iptables keeps port
7001 out, nft 7002, legacy iptables 7003, so that none of them hides another. What comes and what
comes through is counted by a table of somebody else before and behind them. `HOSTLAB_SWITCHES` is
the number of switches.
"""

from __future__ import annotations

import os
import sys

import msgspec
import pytest

from hostlab.firewall.ruleset import Ruleset
from tests.netns.firewall.machine_site import Machine
from tests.netns.firewall.switch_over import PROGRAM, WITNESS, counted, sending

pytestmark = pytest.mark.netns
SHORT = 10
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
    with sending(host.admin.pid, "10.44.0.1") as sender:
        done = host.server.execute((*program, "switch", str(count)), stdin=order)
        out, _ = sender.communicate(b"", timeout=60)
    assert done.status == 0, done.stderr
    counts = counted(host.shell("nft list counters table inet witness"))
    report(f"{count} switches, {int(out)} packets sent: {counts}")
    assert counts["came"] > 0
    assert counts["came"] == counts["passed"]
    assert counts["closed"] == 0
