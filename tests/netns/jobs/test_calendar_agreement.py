"""Calendar expressions elapse when systemd says so: 2,000 made at random, in many zones.

What systemd 252 gets wrong is kept out of the comparison, and nothing else is:

- an open step (`3/12`) makes it skip the first days of a month, or hours of its first day, when the
  step leads beyond the end of the month before; so it is asked for `3..31/12`, which is the same;
- of the elements of a list behind `~` each has a range that is three days shorter than that of the
  one before it; so the days of such lists are taken from the 22 that the third may have;
- of a local time that comes twice it takes the first one or the second, as mktime(3) guesses;
- now and then it gives up (`Resource deadlock avoided`) near a change of a zone's clock.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from hostlab.errors import SpecError
from hostlab.jobs import calendar_form, calendar_text, zones

pytestmark = pytest.mark.netns

SEED = int(os.environ.get("HOSTLAB_SEED", "20261121"))
EXPRESSIONS = 2000
BATCH = 50
ITERATIONS = 6
DEADLINE_S = 60
LOCAL_ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe",
    "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca", "America/St_Johns",
)  # fmt: skip
NAMED_ZONES = ("UTC", "Asia/Tokyo", "Europe/London", "Pacific/Auckland")
TRANSITIONS = (
    datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 1, tzinfo=UTC),
    datetime(2024, 3, 10, 5, tzinfo=UTC),
    datetime(2024, 11, 3, 6, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2024, 2, 28, 23, 59, 59, tzinfo=UTC),
)
SHORT = ("minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "Mon")
DAYS = ("Mon", "tuesday", "Wed", "thu", "Fri", "Saturday", "sun")


GAVE_UP = re.compile("Failed to determine next elapse for '(.*)': Resource deadlock avoided")


class Said(NamedTuple):
    """What systemd says of one expression."""

    normal: str
    elapses: tuple[str, ...]
    """In UTC, to the second."""


NOTHING = Said("", ())
"""What is said of an expression that is refused."""


class Made(NamedTuple):
    """A part of an expression, and the same without open steps."""

    text: str
    closed: str


def number(random_: random.Random, low: int, high: int) -> str:
    return random_.choice((str(random_.randint(low, high)), f"{random_.randint(low, high):02}"))


def element(random_: random.Random, low: int, high: int, end: int) -> Made:
    match random_.randrange(6):
        case 0:
            first, last = sorted((random_.randint(low, high), random_.randint(low, high)))
            text = f"{first}..{last}"
        case 1:
            start = random_.randint(low, (low + high) // 2)
            step = random_.randint(1, (high - low) // 2)
            if end < low:
                return Made(f"{start + 1}/1", f"1..{start + 1}/1")
            return Made(f"{start}/{step}", f"{start}..{end}/{step}")
        case 2:
            first, last = sorted((random_.randint(low, high), random_.randint(low, high)))
            text = f"{first}..{last}/{random_.randint(1, max(1, last - first))}"
        case _:
            text = number(random_, low, high)
    return Made(text, text)


def component(
    random_: random.Random, low: int, high: int, star: float = 0.4, end: int | None = None
) -> Made:
    """`end` is where an open step leads to; 0 is the end of the month, for days counted from it."""
    if random_.random() < star:
        return Made("*", "*")
    count = random_.choice((1, 1, 1, 2, 3))
    parts = [element(random_, low, high, high if end is None else end) for _ in range(count)]
    return Made(",".join(part.text for part in parts), ",".join(part.closed for part in parts))


def weekdays(random_: random.Random) -> str:
    parts = []
    for _ in range(random_.choice((1, 1, 2))):
        first, last = sorted((random_.randrange(7), random_.randrange(7)))
        parts.append(f"{DAYS[first]}..{DAYS[last]}" if random_.random() < 0.4 else DAYS[first])
    return ",".join(parts)


def expression(random_: random.Random) -> Made:
    """One that is meant to be right; some are none, which must be agreed upon too."""
    if random_.random() < 0.03:
        return Made(*[random_.choice(SHORT)] * 2)
    words: list[tuple[str | Made, ...]] = []
    if random_.random() < 0.35:
        words.append((weekdays(random_),))
    has_date, has_time = random_.choice(((True, True), (True, False), (False, True)))
    if has_date:
        year = component(random_, 2010, 2040, 0.85, end=2199)
        month = component(random_, 1, 12, 0.6)
        sign, last = random_.choice((("-", 31), ("-", 31), ("~", 22)))
        day = component(random_, 1, last, end=0 if sign == "~" else last)
        date = (month, sign, day)
        words.append((year, "-", *date) if random_.random() < 0.8 else date)
    if has_time:
        time = (component(random_, 0, 23), ":", component(random_, 0, 59, 0.2))
        seconds = component(random_, 0, 59, 0.1)
        words.append((*time, ":", seconds) if random_.random() < 0.5 else time)
    if random_.random() < 0.15:
        words.append((random_.choice(NAMED_ZONES),))
    return Made(_join(words, 0), _join(words, 1))


def _join(words: list[tuple[str | Made, ...]], which: int) -> str:
    return " ".join(
        "".join(part if isinstance(part, str) else part[which] for part in word) for word in words
    )


def base(random_: random.Random) -> datetime:
    if random_.random() < 0.6:
        return random_.choice(TRANSITIONS) + timedelta(seconds=random_.randint(-9000, 9000))
    return datetime(2012, 1, 1, tzinfo=UTC) + timedelta(seconds=random_.randrange(600_000_000))


def ask(expressions: list[str], at: datetime, zone: str) -> dict[str, Said | None]:
    """What systemd-analyze says of those that it takes; None where it gave up."""
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--iterations={ITERATIONS}",
         f"--base-time={at:%Y-%m-%d %H:%M:%S} UTC", "--", *expressions],
        env={**os.environ, "TZ": zone, "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=DEADLINE_S,
        check=False,
    )  # fmt: skip
    said: dict[str, Said | None] = dict.fromkeys(GAVE_UP.findall(done.stderr))
    for block in done.stdout.split("\n\n"):
        fields = [line.strip().partition(": ")[::2] for line in block.splitlines()]
        elapses: list[str] = []
        for name, value in fields:
            if (name == "Next elapse" and value != "never") or name.startswith("Iter. #"):
                elapses.append(value)
            elif name == "(in UTC)":
                elapses[-1] = value
        forms = [value for name, value in fields if name.endswith(" form")]
        if forms:
            # One that is in normal form already is said once.
            said[forms[0]] = Said(forms[-1], tuple(elapses))
    return said


def ours(text: str, at: datetime, zone: str) -> Said | None:
    try:
        calendar = calendar_text.parse(text)
    except SpecError:
        return None
    local = zones.find(zone)
    assert local is not None
    elapses: list[str] = []
    after: datetime | None = at
    while len(elapses) < ITERATIONS:
        assert after is not None
        after = calendar.next_elapse(after, local)
        if after is None:
            break
        elapses.append(f"{after:%a %Y-%m-%d %H:%M:%S} UTC")
    return Said(calendar_form.show(calendar), tuple(elapses))


def is_doubled(own: Said, theirs: Said, text: str, zone: str) -> bool:
    """Whether the first elapses that differ are one local time, at its two instants."""
    name = calendar_text.parse(text).zone or zone
    for one, other in zip(own.elapses, theirs.elapses, strict=False):
        if one != other:
            return local(one, name) == local(other, name)
    return False


def local(elapse: str, zone: str) -> datetime:
    at = datetime.strptime(elapse, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    return at.astimezone(zones.find(zone)).replace(tzinfo=None)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="here: no systemd-analyze")
def test_systemd_agrees() -> None:
    random_ = random.Random(SEED)
    different: list[str] = []
    counts = dict.fromkeys(("agreed", "refused by both", "given up", "doubled"), 0)
    for _ in range(EXPRESSIONS // BATCH):
        at, zone = base(random_), random_.choice(LOCAL_ZONES)
        made = [expression(random_) for _ in range(BATCH)]
        said = ask([text for pair in made for text in pair], at, zone)
        for text, closed in made:
            own = ours(text, at, zone)
            normal, theirs = said.get(text, NOTHING), said.get(closed, NOTHING)
            if theirs is None:
                counts["given up"] += 1
            elif own is None and NOTHING == theirs == normal:
                counts["refused by both"] += 1
            elif (
                own is not None
                and own.elapses == theirs.elapses
                and (normal is None or own.normal == normal.normal)
            ):
                counts["agreed"] += 1
            elif own is not None and is_doubled(own, theirs, text, zone):
                counts["doubled"] += 1
            else:
                different.append(f"{text!r} at {at} in {zone}: {normal}, {theirs}, here {own}")
    assert not different, f"{len(different)} of {EXPRESSIONS}: " + "\n".join(different[:20])
    assert sum(counts.values()) == EXPRESSIONS
    assert counts["agreed"] > EXPRESSIONS * 9 // 10
    assert counts["given up"] + counts["doubled"] < EXPRESSIONS // 50
