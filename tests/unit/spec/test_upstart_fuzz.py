"""Whatever a job file, an expression, a listing, a journal or a state says: no crash.

What is accepted survives being written and read again; what is rejected has its place. The
inputs are good ones with pieces removed, doubled, moved or replaced. `HOSTLAB_FUZZ` is how many
there are in all, the long run has 1,000,000; `HOSTLAB_SEED` starts elsewhere, and a failure prints
the number to repeat it with.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from hostlab.errors import DecodeError, SpecError, SpecErrors, UsageError
from hostlab.jobs import facts
from hostlab.jobs.journal import AnyFact, decode_entries, encode_entry, replay
from hostlab.jobs.listing import read_listing, show_config
from hostlab.jobs.relations import relate
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.spec.condition import parse_condition, print_condition
from hostlab.spec.job import Job
from hostlab.spec.stanzas import STANZAS
from hostlab.spec.upstart import find_errors, load_conf
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

RUNS = int(os.environ.get("HOSTLAB_FUZZ", "300"))
SEED = int(os.environ.get("HOSTLAB_SEED", "1"))
DATA = Path(__file__).parents[2] / "data"

CONF = """\
# a job with everything
description "all of it"
author 'me <me@example.org>'
version 1.0
usage "VAR=x"
env A=1
env B
export A B
instance ${A:-x}
start on (runlevel [2345] and (started db JOB=x or net-up IFACE!=lo)
          or stopped rc RESULT="o k")  # here
stop on runlevel [!2345]
emits one two-*
expect daemon
respawn
respawn limit 5 10
respawn delay 1 30
normal exit 0 1 TERM SIGKILL
kill timeout 20
kill signal INT
kill mode mixed
reload signal USR1
console log
umask 027
nice -5
oom score never
limit nofile 1024 unlimited
chroot /c
chdir /d
setuid u
setgid g
apparmor switch prof
cgroup memory $UPSTART_CGROUP limit_in_bytes 52428800
task
pre-start script
\tif [ -e /x ]; then
\t    stop; exit 0
\tfi
end script
post-stop exec rm -f "/run/$A" \\
    /run/b
exec /usr/sbin/daemon --flag='a b' $A
"""
CONDITIONS = (
    "a",
    "a or b and c",
    "(a and (b X=1 Y!=2 or c $D)) or starting JOB=\"x y\" INSTANCE='[!a]*'",
    '"and" or "(" and \\\nx # c',
)
WORDS = (
    *STANZAS, "on", "and", "or", "end script", "limit", "unlimited", "signal", "timeout", "exec ",
    "(", ")", '"', "'", "\\", "\\\n", "#", "\n", "\r\n", "\r", "\t", " ", "=", "!=", "$", "${", "}",
    "${A:-", "*", "[", "]", "-", "0", "-1", "99999999999999999999", "\0", "\ufeff", "\ud800",
    "\u2028", "é", "../..", "/", "JOB=", "(job: x, env:", "(job:, env: a)", "--", "emits ", "\x85",
)  # fmt: skip
JSON_WORDS = (
    "null", "0", "-1", "1e308", "1e400", "NaN", "true", '""', "[]", "{}", '"x"', ",", ":", "[", "]",
    "{", "}", '"', "\n", "\\u0000", '"start on"', '"stop on"', '"job"', '"running"', '"killed"',
    "99999999999999999999999", '"type":"Emit"', '"type":"Exited"', '"extra":', "\ud83d", "1.5",
)  # fmt: skip


def runs(share: int) -> range:
    """Numbers of inputs; each test has its share of the hundred."""
    return range(SEED, SEED + max(1, RUNS * share // 100))


def mutated(number: int, seeds: Sequence[str], words: Sequence[str], split: str) -> str:
    """One of these texts, changed in some places."""
    choose = random.Random(number)
    text = choose.choice(seeds)
    for _ in range(choose.randint(1, 5)):
        pieces = text.split("\n") if choose.random() < 0.3 else re.split(split, text)
        joint = "\n" if len(pieces) == text.count("\n") + 1 else ""
        at, other = (choose.randrange(len(pieces)) for _ in range(2))
        match choose.randrange(6):
            case 0:
                del pieces[min(at, other) : max(at, other) if choose.random() < 0.2 else at + 1]
            case 1:
                pieces.insert(other, pieces[at])
            case 2:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 3:
                pieces[at] = choose.choice(words)
            case 4:
                pieces[at] += choose.choice(words)
            case _:
                cut = choose.randrange(len(pieces[at]) + 1)
                pieces[at] = pieces[at][:cut] + choose.choice(words) + pieces[at][cut:]
        text = joint.join(pieces)
    return text


def fuzz(share: int, text_of: Callable[[int], str], check: Callable[[str], None]) -> None:
    for number in runs(share):
        text = text_of(number)
        try:
            check(text)
        except Exception as error:
            error.add_note(f"repeat with HOSTLAB_FUZZ=1 HOSTLAB_SEED={number}: {text!r}")
            raise


def has_place(error: SpecError, text: str) -> None:
    lines = text.split("\n")
    where = error.where
    assert where is not None
    assert 1 <= where.line <= len(lines), error
    assert 1 <= where.column <= len(lines[where.line - 1]) + 1, error
    assert str(error)


def test_job_files() -> None:
    def check(text: str) -> None:
        errors = find_errors(text, file="t.conf")
        for error in errors:
            has_place(error, text)
        places = [(each.where.line, each.where.column) for each in errors if each.where]
        assert all(before <= after for before, after in pairwise(places))
        if errors:
            with pytest.raises(SpecError, match=re.escape(str(errors[0]))):
                load_conf(text, file="t.conf", name="t")
        else:
            again(load_conf(text, file="t.conf", name="t"))

    fuzz(40, lambda number: mutated(number, (CONF,), WORDS, r"(\s+|\W)"), check)


def again(job: Job) -> None:
    """A job that was accepted is the same when it has been written down."""
    try:
        data = msgspec.json.encode(job)
    except UnicodeEncodeError:
        return
    assert msgspec.json.decode(data, type=Job) == job
    for condition in (job.start_on, job.stop_on):
        if condition is not None:
            assert parse_condition(print_condition(condition)) == condition


def test_conditions() -> None:
    def check(text: str) -> None:
        try:
            condition = parse_condition(text, file="t")
        except SpecError as error:
            has_place(error, text)
        else:
            assert parse_condition(print_condition(condition)) == condition

    fuzz(20, lambda number: mutated(number, CONDITIONS, WORDS, r"(\W)"), check)


def test_listings() -> None:
    listing = (DATA / "show-config-startup.txt").read_text().split("\n")
    plain = ["\n".join(listing[at : at + 12]) + "\n" for at in range(0, len(listing), 12)]
    jobs = [job for text in plain for job in read_listing(_whole(text), file="-")]
    seeds = [*plain, show_config(jobs[:9], enumerate_events=True)]

    def check(text: str) -> None:
        try:
            jobs = read_listing(text, file="-")
        except SpecErrors as errors:
            for error in errors.errors:
                has_place(error, text)
        else:
            assert relate(read_listing(show_config(jobs), file="-")) == relate(jobs)

    fuzz(15, lambda number: mutated(number, seeds, WORDS, r"(\W)"), check)


def _whole(text: str) -> str:
    """A piece of a listing from its first job on."""
    lines = text.split("\n")
    while lines and lines[0].startswith(" "):
        del lines[0]
    return "\n".join(lines)


def busy() -> World:
    """A world with something in every part of its state."""
    world = World(
        half="start on a and b\nexec x\n",
        up="instance $I\nexec x\nstop on a and c\nkill mode control-group\n",
        waits="exec y\n",
        held="start on starting waits\npre-start exec z\n",
        delayed="exec x\nrespawn\nrespawn delay 5 9\n",
    )
    world.start("up", I="1")
    world.runs("up", name="1")
    world.start("waits", request="w")
    world.running("delayed")
    world.exits("delayed", status=1)
    world.load("up", "exec new\n")
    world.tell(facts.Emit(name="a", environment=(("A", "1"),), request="r", timeout_s=50.0))
    return world


MORE: tuple[AnyFact, ...] = (
    facts.Emit(name="b"),
    facts.Emit(name="c"),
    facts.Stop(job="up", instance="1"),
    facts.Start(job="half"),
    *(facts.Spawned(spawn=spawn, pid=spawn + 10) for spawn in range(1, 8)),
    *(facts.Exited(spawn=spawn, status=0) for spawn in range(1, 8)),
    facts.Emptied(spawn=1),
    facts.Unload(name="half"),
    facts.Elapsed(),
)


def test_journals() -> None:
    before = encode(capture(busy().engine))
    half = load_conf(CONF, file="half.conf", name="half")
    good = b"".join(
        encode_entry(fact, 100.0 + number)
        for number, fact in enumerate(
            (*MORE, facts.ExtendDeadline(spawn=3, seconds=4.0), facts.Load(job=half))
        )
    ).decode()

    def check(text: str) -> None:
        data = text.encode(errors="replace")
        try:
            list(decode_entries(data))
        except DecodeError as error:
            place = re.search("line ([0-9]+):", error.message)
        else:
            replay(restore(decode(before)), data)
            return
        assert place is not None
        assert 1 <= int(place[1]) <= text.count("\n")

    fuzz(15, lambda number: mutated(number, (good,), JSON_WORDS, r'([\[\]{}:,"])'), check)


def test_states() -> None:
    good = encode(capture(busy().engine)).decode()

    def check(text: str) -> None:
        try:
            engine = restore(decode(text.encode(errors="replace")))
        except DecodeError:
            return
        state = capture(engine)
        assert decode(encode(state)) == state
        for fact in MORE:
            try:
                engine.handle(fact, engine.now + 1.0)
            except UsageError:
                continue

    fuzz(10, lambda number: mutated(number, (good,), JSON_WORDS, r'([\[\]{}:,"])'), check)
    assert json.loads(good)
