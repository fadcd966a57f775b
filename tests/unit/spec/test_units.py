"""Times, sizes, addresses and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec import capabilities, forms, units
from hostlab.spec.source import Wrong

pytestmark = pytest.mark.unit

PARSERS: list[Callable[[str], Any]] = [
    units.flag, units.integer, units.number, units.signed_duration, units.duration, units.size,
    units.port, units.endpoint, units.cpus, units.mode, units.mac, units.address, units.prefixed,
    units.network, units.prefix, units.absolute_path, capabilities.capability,
    capabilities.file_capabilities, forms.hop, forms.link, forms.sysctl, forms.url, forms.target,
    forms.job_name,
]  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "word", "value"),
    [
        (units.duration, "5s", 5.0),
        (units.duration, "200ms", 0.2),
        (units.duration, "1.5m", 90.0),
        (units.duration, "2h", 7200.0),
        (units.duration, "0", 0.0),
        (units.signed_duration, "-1h", -3600.0),
        (units.size, "64M", 64 * 2**20),
        (units.size, "1GiB", 2**30),
        (units.size, "1.5K", 1536),
        (units.size, "5MB", 5_000_000),
        (units.size, "4096", 4096),
        (units.endpoint, "53/UDP", units.Endpoint(53, "udp")),
        (units.mode, "0o644", 0o644),
        (units.mode, "755", 0o755),
        (units.mac, "0A:00:00:00:00:01", "0a:00:00:00:00:01"),
        (units.absolute_path, "//etc//motd/", "/etc/motd"),
        (capabilities.capability, "cap_net_admin", "NET_ADMIN"),
        (capabilities.file_capabilities, "CAP_KILL,cap_chown=ep", "cap_kill,cap_chown=ep"),
        (forms.sysctl, "net/ipv4/conf/eth0.7/forwarding", "net.ipv4.conf.eth0/7.forwarding"),
        (forms.target, "web1:80", ("web1", 80, "tcp")),
        (forms.target, "web1", ("web1", None, "icmp")),
        (forms.target, "fd00::1", ("fd00::1", None, "icmp")),
        (forms.target, "[fd00::1]:53/udp", ("fd00::1", 53, "udp")),
        (forms.link, "db", ("db", "db")),
    ],
)
def test_good(parse: Callable[[str], Any], word: str, value: Any) -> None:
    assert parse(word) == value


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        (units.duration, "-1s"),
        (units.duration, "5 s"),
        (units.duration, "1e9"),
        (units.size, "0"),
        (units.size, "64X"),
        (units.size, "9999999999T"),
        (units.port, "0"),
        (units.port, "65536"),
        (units.port, "٣"),
        (units.endpoint, "53/sctp"),
        (units.mode, "888"),
        (units.mode, "77777"),
        (units.mac, "01:00:00:00:00:01"),
        (units.mac, "00:00:00:00:00:00"),
        (units.address, "10.0.0.01"),
        (units.address, "fe80::1%eth0"),
        (units.prefixed, "10.0.0.1/33"),
        (units.prefixed, "224.0.0.1/24"),
        (units.network, "10.0.0.0/31"),
        (units.network, "127.0.0.0/8"),
        (units.prefix, "10.0.0.1/24"),
        (units.absolute_path, "/etc/../x"),
        (units.flag, "maybe"),
        (units.number, "0"),
        (units.number, "nan"),
        (capabilities.file_capabilities, "net_raw+ep"),
        (capabilities.file_capabilities, "cap_net_raw"),
        (forms.url, "http://"),
        (forms.url, "http://a:99999/"),
        (forms.url, "http://a b/"),
        (forms.target, "web1/udp"),
        (forms.target, "1.2.3.999"),
        (forms.sysctl, "kernel.panic"),
        (forms.job_name, "../x"),
    ],
)
def test_bad(parse: Callable[[str], Any], word: str) -> None:
    with pytest.raises(Wrong):
        parse(word)


@pytest.mark.parametrize("parse", PARSERS)
@given(word=st.text() | st.from_regex(r"[0-9a-z:/.+,=%\[\]-]{1,40}", fullmatch=True))
def test_a_parser_gives_a_value_or_says_what_is_wrong(
    parse: Callable[[str], Any], word: str
) -> None:
    wrong = None
    try:
        parse(word)
    except Wrong as found:
        wrong = found
    assert wrong is None or (wrong.message and "\n" not in wrong.message)
