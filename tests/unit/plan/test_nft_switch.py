"""A table in the place of another: which of its chains stay, and when the others go."""

from __future__ import annotations

import pytest

from hostlab.plan.nft_switch import Around, around
from hostlab.plan.nft_text import parse_nft

pytestmark = pytest.mark.unit

TABLE = """\
table ip t {{
	map ways {{
		type inet_service : verdict
		elements = {{ 22 : jump own }}
	}}

	chain own {{
		accept
	}}

	chain here {{
		{head}
		tcp dport vmap @ways
	}}
}}
"""
DROP = "type filter hook input priority filter + 10; policy drop;"
FLUSH = "flush table ip t"
GONE = ("delete map ip t ways", "delete chain ip t own")


def switched(head: str, **new: str) -> Around:
    (old,) = parse_nft(TABLE.format(head=head))
    return around(old, new)


@pytest.mark.parametrize(
    "new",
    [
        DROP,
        "type filter hook input priority 10; policy accept;",
        "type filter hook input priority filter+10;\n\tpolicy drop;",
        "type filter  hook input priority security - 40; policy drop;",
    ],
)
def test_a_base_chain_of_the_same_hook_and_priority_stays(new: str) -> None:
    assert switched(DROP, here=new) == Around((FLUSH, *GONE))


@pytest.mark.parametrize(
    "new",
    [
        "type filter hook input priority 11; policy drop;",
        "type filter hook forward priority 10; policy drop;",
        "type nat hook input priority 10; policy drop;",
        # It would keep the policy that it has.
        "type filter hook input priority 10;",
        "",
    ],
)
def test_a_chain_that_cannot_be_changed_so_is_made_anew(new: str) -> None:
    before = (FLUSH, *GONE, "delete chain ip t here")
    assert switched(DROP, here=new) == Around(before)


def test_a_chain_that_accepts_may_be_said_without_a_policy() -> None:
    accept = DROP.replace("drop", "accept")
    assert switched(accept, here="type filter hook input priority 10;").before == (FLUSH, *GONE)


def test_a_base_chain_that_goes_does_so_behind_what_comes() -> None:
    found = switched(DROP, own="", other=DROP)
    assert found == Around((FLUSH, *GONE), ("delete chain ip t here",))


def test_the_hook_of_a_device_is_another_than_that_of_the_next() -> None:
    head = 'type filter hook ingress device "eth0" priority 0; policy accept;'
    assert switched(head, here=head).before == (FLUSH, *GONE)
    assert len(switched(head, here=head.replace("eth0", "eth1")).before) == 4
