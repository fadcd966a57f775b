"""The journal: written a line at a time, read after a crash at any byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.plan.journal import Entry, What, entries, line

pytestmark = pytest.mark.unit

ENTRIES = st.lists(st.builds(Entry, st.sampled_from(What), st.text(), st.text()))


@given(ENTRIES, st.data())
def test_a_journal_cut_anywhere_has_every_whole_line(
    written: list[Entry], data: st.DataObject
) -> None:
    whole = b"".join(map(line, written))
    cut = data.draw(st.integers(0, len(whole)))
    assert list(entries(whole[:cut])) == written[: whole[:cut].count(b"\n")]


def test_what_a_torn_line_was_joined_to_is_lost_and_the_rest_is_not() -> None:
    first, second = Entry(What.LAB, "a", "b"), Entry(What.CGROUP, "/c")
    assert list(entries(line(first)[:-5] + line(first) + line(second))) == [second]
    assert list(entries(b"")) == []
