"""Commands about packet filters: which one is where."""

from __future__ import annotations

from typing import Final

import click

from hostlab.cli.lazy import LazyGroup

COMMANDS: Final = {
    "stage": ("firewall_stage", "Run a ruleset where it can do no harm; tell what is wrong."),
    "show": ("firewall_stage", "Print the ruleset that a script, dump or file becomes."),
    "save": ("firewall_stage", "Write a ruleset as files that load again."),
    "ask": ("firewall_ask", "Send packets through a ruleset; tell what became of each."),
    "prove": ("firewall_ask", "Send every packet that something is expected of; exit 1 if not."),
    "coverage": ("firewall_ask", "List the rules that no expectation has anything to do with."),
    "mutate": ("firewall_ask", "Change each rule: which change does no expectation notice?"),
    "matrix": ("firewall_matrix", "Who may reach what: as it is meant beside as it is."),
    "diff": ("firewall_diff", "Tell how two rulesets differ: by text, and by packets."),
    "translate": ("firewall_diff", "Write iptables' rules as nft's, proved by packets."),
    "apply": ("firewall_apply", "Put a ruleset live, with a way back that is verified."),
    "confirm": ("firewall_apply", "Keep what has been applied; from a new connection."),
    "revert": ("firewall_apply", "Take back what has been applied and not been confirmed."),
    "status": ("firewall_apply", "Tell whether a change is under way."),
    "history": ("firewall_history", "List what was applied and confirmed."),
    "rollback": ("firewall_history", "Put the rules before a change live, with the same care."),
    "persist": ("firewall_history", "Write what is confirmed where Debian loads it at boot."),
}
"""Command -> (module, one line of help)."""


@click.group(
    "firewall",
    cls=LazyGroup,
    lazily=COMMANDS,
    epilog="Example: hostlab firewall stage /etc/firewall/rules.d",
)
def firewall_command() -> None:
    """Stage, compare, prove and apply packet filters."""
