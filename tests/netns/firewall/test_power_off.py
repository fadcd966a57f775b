"""A machine that loses its power while a change waits for a word has the rules it had persisted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns.firewall.machine_site import machine
from tests.netns.firewall.test_apply import GOOD, LOCK_OUT

pytestmark = pytest.mark.netns


def test_who_loses_power_finds_nothing_of_what_was_not_confirmed(tmp_path: Path) -> None:
    with machine(tmp_path) as host, ThreadPoolExecutor(1) as host.pool:
        host.put(GOOD, check="true")
        history = host.firewall("history", "--json").stdout
        files = (
            "find /etc/nftables.conf /etc/iptables -type f -exec sha256sum {} + 2>/dev/null || true"
        )
        persisted = host.shell(files)
        host.begin(LOCK_OUT)
        refused = host.firewall("persist")
        assert (refused.status, b"not confirmed, so it is not kept" in refused.stderr) == (1, True)
        assert host.shell(files) == persisted
        assert host.firewall("history", "--json").stdout == history
        host.power_off()
        assert host.change() is None
        assert "10.44.0.0" not in host.read().iptables
        assert not host.read().nft
        assert host.firewall("status").stdout == b"nothing was applied since the machine booted\n"
