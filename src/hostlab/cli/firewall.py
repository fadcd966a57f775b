"""Commands about packet filters: which one is where."""

from __future__ import annotations

from typing import Final

import click

from hostlab.cli.lazy import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "stage": ("firewall_stage", "Run a ruleset where it can do no harm; tell what is wrong."),
    "show": ("firewall_stage", "Print the ruleset that a script, dump or file becomes."),
    "save": ("firewall_stage", "Write a ruleset as files that load again."),
    # ask, prove, coverage, mutate: firewall_ask;
    # diff, translate: firewall_diff; apply, confirm, history, rollback, persist: firewall_apply.
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
