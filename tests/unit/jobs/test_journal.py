"""Facts written down, and told again."""

from __future__ import annotations

from typing import get_args

import pytest

from hostlab.errors import DecodeError
from hostlab.jobs import facts
from hostlab.jobs.engine import Engine
from hostlab.jobs.facts import Fact
from hostlab.jobs.journal import AnyFact, decode_entries, encode_entry, replay
from hostlab.jobs.snapshot import capture
from hostlab.spec.upstart import load_conf

pytestmark = pytest.mark.unit


def test_every_fact_can_be_written_down() -> None:
    bases: list[type[Fact]] = [Fact, facts.JobRequest, facts.ProcessFact]
    kinds: set[type[Fact]] = set()
    for base in bases:
        kinds |= set(base.__subclasses__())
    assert set(get_args(AnyFact)) == kinds - set(bases)


def test_a_state_is_what_its_facts_make_it() -> None:
    job = load_conf("start on a and b\nexec x\n", file="j.conf", name="j")
    told: list[AnyFact] = [
        facts.Load(job=job),
        facts.Emit(name="a", environment=(("A", "1"),), request="r"),
        facts.Stop(job="none"),
        facts.Emit(name="b"),
        facts.Spawned(spawn=1, pid=5),
    ]
    first, second = Engine(), Engine()
    journal = b""
    for number, fact in enumerate(told):
        journal += encode_entry(fact, float(number))
        if not isinstance(fact, facts.Stop):
            first.handle(fact, float(number))
    replay(second, journal + encode_entry(facts.Elapsed(), 9.0)[:-3])
    assert capture(second) == capture(first)
    instance = second.instance("j")
    assert instance is not None
    assert str(instance.state) == "running"


def test_what_is_no_entry_is_an_error_with_its_line() -> None:
    good = encode_entry(facts.Elapsed(), 1.0)
    with pytest.raises(DecodeError, match="line 2"):
        list(decode_entries(good + b"{}\n" + good))
