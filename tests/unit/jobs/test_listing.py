"""What `initctl show-config` prints, as Upstart's own tests have it, and the way back."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecErrors
from hostlab.jobs.listing import read_listing, show_config
from hostlab.jobs.relations import relate
from hostlab.spec.job import Said
from hostlab.spec.upstart import load_conf

pytestmark = pytest.mark.unit

CONF = """\
emits bong
stop on runlevel [!2345] colour=blue or starting rocket
author foo
emits bar
start on (starting JOB=boo P=Q or (runlevel [016] and (stopped gdm or stopped kdm A=B JOB=x)))
"""
PLAIN = """\
foo
  emits bong
  emits bar
  start on (starting JOB=boo P=Q or (runlevel [016] and (stopped gdm or stopped kdm A=B JOB=x)))
  stop on (runlevel [!2345] colour=blue or starting rocket)
"""
ENUMERATED = """\
foo
  emits bong
  emits bar
  start on starting (job: boo, env: P=Q)
  start on runlevel (job:, env: [016])
  start on stopped (job: gdm, env:)
  start on stopped (job: kdm, env: A=B JOB=x)
  stop on runlevel (job:, env: [!2345] colour=blue)
  stop on starting (job: rocket, env:)
"""


def test_plain_and_enumerated() -> None:
    job = load_conf(CONF, file="foo.conf", name="foo")
    assert show_config([job]) == PLAIN
    assert show_config([job], enumerate_events=True) == ENUMERATED


def test_a_job_without_events_is_its_name() -> None:
    job = load_conf("start on x\nmanual\n", file="a.conf", name="net/a")
    assert show_config([job]) == "net/a\n"


def test_a_word_that_would_not_be_read_again_is_quoted() -> None:
    text = 'start on a "B=c d" and started "(e)"\n'
    job = load_conf(text, file="a.conf", name="a")
    assert show_config([job]) == 'a\n  start on (a "B=c d" and started "(e)")\n'
    listing = show_config([job], enumerate_events=True)
    assert listing == 'a\n  start on a (job:, env: "B=c d")\n  start on started (job: (e), env:)\n'
    assert relate(read_listing(listing, file="-")) == relate([job])


@pytest.mark.parametrize("listing", [PLAIN, ENUMERATED])
def test_either_kind_is_read_again(listing: str) -> None:
    (job,) = read_listing(listing, file="-")
    assert relate([job]) == relate([load_conf(CONF, file="foo.conf", name="foo")])
    if listing is PLAIN:
        assert show_config([job]) == PLAIN
    else:
        assert show_config([job], enumerate_events=True) == ENUMERATED


def test_an_edited_listing() -> None:
    text = (
        "# mine\na\n    emits  x\n\n--\nb\n  start on (x\n    or y)\n  stop   on z\na\n emits y\n"
    )
    a, b = read_listing(text, file="-")
    assert a.emits == ("y",)
    assert a.said == (Said(stanza="emits", file="-", line=11, words=("y",)),)
    assert b.stop_on is not None
    assert show_config([b]) == "b\n  start on (x or y)\n  stop on z\n"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('  start on x (job: a, env: b "c)', "-:2:30"),
        ("  start on x (job:, env: A=1 b)", "-:2:1"),
        ("  start on x (job:, env: b\0)", "-:2:27"),
    ],
)
def test_an_error_of_an_enumerated_operand_has_its_place(line: str, place: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        read_listing(f"a\n{line}\n", file="-")
    assert [str(each.where) for each in caught.value.errors] == [place]


def test_every_error_of_a_listing_has_its_place() -> None:
    text = "  emits x\na b\na\n  start on and\n  stops on x\n  emits x y\n  emits z\n"
    with pytest.raises(SpecErrors) as caught:
        read_listing(text, file="-")
    assert [str(each.where) for each in caught.value.errors] == [
        "-:1:1",
        "-:2:1",
        "-:4:12",
        "-:5:1",
        "-:6:11",
    ]
