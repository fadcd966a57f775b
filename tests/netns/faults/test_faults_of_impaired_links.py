"""A cable that is impaired can be cut as well, whoever carries for it, and whichever came first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostlab.faults import injecting, witness
from hostlab.faults.site import Site
from hostlab.observe.snapshot import Snapshot
from hostlab.sync import Lab
from tests.netns.faults.fault_site import (
    HELLO,
    LAB,
    SHORT_S,
    asks,
    assert_whole,
    broken_lab,
    inject,
    node_of,
)

pytestmark = pytest.mark.netns

BY_WIRE = {"delay": 0.001, "seed": 1}
"""With a seed no kernel can do it."""
CABLE = "impair: {delay: 1ms, seed: 1}"
IMPAIRED = LAB.replace(
    "    interfaces: [right]\n    gateway: r2\n    limits",
    f"    interfaces: {{eth0: {{segment: right, {CABLE}}}}}\n    gateway: r2\n    limits",
).replace("c: {interfaces: [left],", f"c: {{interfaces: {{eth0: {{segment: left, {CABLE}}}}},")
"""The wire of c stays, so that the one of s is the same process whenever there is one."""
CUTS = (
    "one-way-loss s:eth0",
    "one-way-loss s:eth0 direction=out",
    "partition right apart=s",
    "node-cut-off s",
    "port-filtered s port=7000",
    "link-down s:eth0",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert IMPAIRED.count(CABLE) == 2
    with (
        pytest.MonkeyPatch.context() as patch,
        broken_lab(tmp_path_factory.mktemp("lab"), patch, IMPAIRED, kind="wired") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    assert asks(site, "d") == HELLO
    return witness.take(site)


def is_cut(site: Site) -> bool:
    return asks(site, "d", timeout_s=SHORT_S) != HELLO


@pytest.mark.parametrize("words", CUTS)
def test_what_the_wire_carries_is_cut_too(site: Site, before: Snapshot, words: str) -> None:
    inject(site, words)
    try:
        assert is_cut(site)
    finally:
        injecting.clear(site)
    assert asks(site, "d") == HELLO
    assert_whole(site, before)


@pytest.mark.parametrize("words", CUTS)
def test_it_stays_cut_when_the_wire_ends_and_begins(
    site: Site, before: Snapshot, words: str
) -> None:
    node = node_of(site, "s")
    inject(site, words)
    try:
        node.impair("eth0", clear=("out", "in"))
        assert Lab(site.lab.name).description.node("s").interfaces[0].is_impaired is False
        assert is_cut(site)
        node.impair("eth0", sending=BY_WIRE)
        assert is_cut(site)
    finally:
        node.impair("eth0", clear=("in",), sending=BY_WIRE)
        injecting.clear(site)
    assert asks(site, "d") == HELLO
    assert_whole(site, before)
