"""hosts(5), read without the resolver."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.probes.names import addresses, hosts_entries, is_address

pytestmark = pytest.mark.unit

HOSTS = """
# comment 10.0.0.9 web
10.0.0.1\tweb web.lab # db
fd00::1 WEB
10.0.0.2 db
nonsense web
10.0.0.1 web
fe80::1%eth0 near
"""


def test_every_address_of_a_name_in_order_once() -> None:
    lines = HOSTS.splitlines()
    assert hosts_entries(lines, "web") == ("10.0.0.1", "fd00::1")
    assert hosts_entries(lines, "Web.Lab.") == ("10.0.0.1",)
    assert hosts_entries(lines, "db") == ("10.0.0.2",)
    assert hosts_entries(lines, "near") == ("fe80::1%eth0",)
    assert hosts_entries(lines, "10.0.0.1") == ()


def test_addresses_are_their_own(tmp_path: Path) -> None:
    assert addresses("::1") == ("::1",)
    assert addresses("10.0.0.1") == ("10.0.0.1",)
    hosts = tmp_path / "hosts"
    hosts.write_bytes(HOSTS.encode() + b"\xff\xfe 10.0.0.3 odd\n")
    assert addresses("db", hosts=str(hosts)) == ("10.0.0.2",)


@given(st.lists(st.text()), st.text())
def test_any_text_gives_addresses_or_nothing(lines: list[str], name: str) -> None:
    assert all(is_address(address) for address in hosts_entries(lines, name))
