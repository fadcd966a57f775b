"""The commands of a script as they are written: lines, patterns, what is expected to fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.firewall.shell_lines import Command, commands

pytestmark = pytest.mark.unit

SCRIPT = r"""#!/bin/sh
IPT=/sbin/iptables   # a comment; iptables -F
$IPT -N X 2>/dev/null || true
if ! iptables -C INPUT -j X >/dev/null 2>&1; then $IPT -A "INPUT" -j X; fi
for p in 22 $(cat ports); do
   $IPT -A INPUT -p tcp \
     --dport "$p" -j ACCEPT -m comment --comment 'a "b" c'
done
iptables-restore <<EOF
*filter
-A INPUT -j $X
COMMIT
EOF
echo 1 > /proc/sys/net/ipv4/ip_forward; echo "a > b" >> "$F/x"
f() { iptables "$@" &> /dev/null; }
iptables-restore < /etc/rules
last
"""


def one(line: int, first: str = "") -> Command:
    return next(c for c in commands(SCRIPT) if c.line == line and c.first.startswith(first))


def test_a_command_is_what_its_expansion_can_be() -> None:
    rule = one(6)
    assert (rule.line, rule.end_line) == (6, 7)
    assert rule.can_be('iptables -A INPUT -p tcp --dport 22 -j ACCEPT -m comment --comment a "b" c')
    assert not rule.can_be("iptables -A OUTPUT -p tcp --dport 22 -j ACCEPT")
    assert one(2).can_be("IPT=/sbin/iptables")
    assert one(17).first == "last"


def test_what_a_script_expects_to_fail() -> None:
    assert one(3).is_guarded
    assert one(3).is_silenced
    assert one(4, "iptables").is_guarded
    assert one(4, "iptables").is_silenced
    assert not [c for c in commands(SCRIPT) if c.line == 4][1].is_guarded
    assert one(15, "iptables").is_silenced
    assert one(15, "iptables").passes_on
    assert not one(6).is_guarded


def test_redirections_and_here_documents() -> None:
    assert one(9).here == (10, 12)
    assert [c.writes for c in commands(SCRIPT) if c.line == 14] == [
        ("/proc/sys/net/ipv4/ip_forward",),
        ("*/x",),
    ]
    assert one(16).reads == "/etc/rules"


@given(st.text(alphabet="ab $`'\"\\\n#|&;<>(){}!0\t*", max_size=60))
def test_any_text_is_read_to_its_end(text: str) -> None:
    lines = text.count("\n") + 1
    assert all(1 <= found.line <= found.end_line <= lines for found in commands(text))


@given(st.lists(st.sampled_from(["a -b", " c=d\te,f ", "then x", "! y", "", "{ z", "done"])))
def test_a_plain_line_is_read_as_one_that_is_not(lines: list[str]) -> None:
    """A line without any quoting is taken at once."""
    quoted = [f"{line[:-1]}\\{line[-1]}" if line else "" for line in lines]
    plain = commands("".join(f"{line}\n" for line in lines))
    assert plain == commands("".join(f"{line}\n" for line in quoted))
    assert len(plain) == sum(line not in ("", "done") for line in lines)


def test_many_expansions_do_not_take_long() -> None:
    (found,) = commands(" ".join(["$a"] * 40) + " DROP")
    assert not found.can_be("x " * 4000 + "ACCEPT")
