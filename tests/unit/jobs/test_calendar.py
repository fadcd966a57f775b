"""Calendar expressions: the forms of systemd.time(7), places of mistakes, clocks that change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import Place, SpecError
from hostlab.jobs.calendar import EVERY_DAY, MAX_YEAR, SECOND, Calendar, Component, Part
from hostlab.jobs.calendar_form import show
from hostlab.jobs.calendar_text import parse

pytestmark = pytest.mark.unit

BERLIN = ZoneInfo("Europe/Berlin")
# The examples of systemd.time(7), and each shorthand.
FORMS = """
Sat,Thu,Mon..Wed,Sat..Sun → Mon..Thu,Sat,Sun *-*-* 00:00:00
Mon,Sun 12-*-* 2,1:23 → Mon,Sun 2012-*-* 01,02:23:00
Wed *-1 → Wed *-*-01 00:00:00
Wed..Wed,Wed *-1 → Wed *-*-01 00:00:00
Wed, 17:48 → Wed *-*-* 17:48:00
Wed..Sat,Tue 12-10-15 1:2:3 → Tue..Sat 2012-10-15 01:02:03
*-*-7 0:0:0 → *-*-07 00:00:00
10-15 → *-10-15 00:00:00
monday *-12-* 17:00 → Mon *-12-* 17:00:00
Mon,Fri *-*-3,1,2 *:30:45 → Mon,Fri *-*-01,02,03 *:30:45
12,14,13,12:20,10,30 → *-*-* 12,13,14:10,20,30:00
12..14:10,20,30 → *-*-* 12..14:10,20,30:00
mon,fri *-1/2-1,3 *:30:45 → Mon,Fri *-01/2-01,03 *:30:45
03-05 08:05:40 → *-03-05 08:05:40
08:05:40 → *-*-* 08:05:40
05:40 → *-*-* 05:40:00
Sat,Sun 12-05 08:05:40 → Sat,Sun *-12-05 08:05:40
Sat,Sun 08:05:40 → Sat,Sun *-*-* 08:05:40
2003-03-05 05:40 → 2003-03-05 05:40:00
05:40:23.4200004/3.1700005 → *-*-* 05:40:23.420000/3.170001
2003-02..04-05 → 2003-02..04-05 00:00:00
2003-03-05 05:40 UTC → 2003-03-05 05:40:00 UTC
2003-03-05 → 2003-03-05 00:00:00
03-05 → *-03-05 00:00:00
minutely → *-*-* *:*:00
hourly → *-*-* *:00:00
daily → *-*-* 00:00:00
daily UTC → *-*-* 00:00:00 UTC
monthly → *-*-01 00:00:00
weekly → Mon *-*-* 00:00:00
weekly Pacific/Auckland → Mon *-*-* 00:00:00 Pacific/Auckland
quarterly → *-01,04,07,10-01 00:00:00
semi-annually → *-01,07-01 00:00:00
yearly → *-01-01 00:00:00
annually → *-01-01 00:00:00
*:2/3 → *-*-* *:02/3:00
*:*:* → *-*-* *:*:*
*-*~7/1 → *-*~07/1 00:00:00
*-*~* → *-*-* 00:00:00
@1234567890 → 2009-02-13 23:31:30 UTC
Mon..Sun → *-*-* 00:00:00
99-1-1 → 1999-01-01 00:00:00
*:*:2/9,0/1 → *-*-* *:*:*
*:*:5..6,1..50/7.5 → *-*-* *:*:01..46/7.500000,05..06
"""
BAD = [
    ("*:*/5", 2, "write the first value, as `0/5`"),
    ("funday", 0, "did you mean `sunday`?"),
    ("daly", 0, "did you mean `daily`?"),
    ("12", 2, "write `HOUR:MINUTE`"),
    ("*-13-1", 2, None),
    ("Mon *-*-* 03:00 Europe/Berln", 16, "did you mean `Europe/Berlin`?"),
    ("Fri..Mon", 5, "write `Fri..Sun,Mon..Mon`"),
    ("Mon..Wed..Fri", 8, "separate ranges by `,`"),
    ("*-*~1~2", 5, None),
    ("*-*~29", 4, "at most the 28th day from the end is in every month"),
    ("*-*-0", 4, None),
    ("25:00", 0, None),
    ("1/50:00", 0, "leave out `/50`"),
    ("*:0/0", 4, None),
    ("10..5:00", 0, "write its lower end first"),
    ("10:00:0..0.5", 6, "write its step behind `/`"),
    ("", 0, "write `daily` or `Mon *-*-* 03:00`"),
    ("Mon,,Tue", 4, None),
    ("Mon..", 5, None),
    ("*-*-1 3:0:0x", 11, None),
    ("1969-1-1", 0, None),
    ("*:*:1.", 5, None),
    ("99999999999999999999-1-1", 0, None),
]  # fmt: skip


def shown(text: str, at: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    calendar, found = parse(text), []
    after: datetime | None = at
    for _ in range(count):
        assert after is not None
        after = calendar.next_elapse(after, zone)
        if after is None:
            break
        found.append(f"{after.astimezone(zone):%m-%d %H:%M %Z}")
    return found


def test_every_form_of_the_manual() -> None:
    for line in FORMS.strip().splitlines():
        text, _, normal = line.partition(" → ")
        assert show(parse(text)) == normal, text
        assert show(parse(normal)) == normal, text


@pytest.mark.parametrize(("text", "at", "hint"), BAD)
def test_a_mistake_has_its_place(text: str, at: int, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    where = caught.value.where
    assert where is not None
    assert where.column == at + 1
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_the_place_in_a_file() -> None:
    with pytest.raises(SpecError) as caught:
        parse("daly", where=Place("a.timer", 7, 12, "OnCalendar=daly"))
    assert str(caught.value.where) == "a.timer:7:12"


def test_summer_time_begins() -> None:
    """What is left out is skipped; what is not comes at its time."""
    at = datetime(2024, 3, 30, 12, tzinfo=BERLIN)
    assert shown("2:30", at, 2) == ["04-01 02:30 CEST", "04-02 02:30 CEST"]
    assert shown("2,3:10,40", at, 2) == ["03-31 03:10 CEST", "03-31 03:40 CEST"]
    at = datetime(2024, 3, 31, 1, 30, tzinfo=BERLIN)
    assert shown("*:0/30", at, 2) == ["03-31 03:00 CEST", "03-31 03:30 CEST"]


def test_summer_time_ends() -> None:
    """What comes twice counts once, but for those who ask within the second hour."""
    at = datetime(2024, 10, 27, 1, 50, tzinfo=BERLIN)
    assert shown("*:0/30", at, 3) == ["10-27 02:00 CEST", "10-27 02:30 CEST", "10-27 03:00 CET"]
    at = datetime(2024, 10, 27, 2, 10, tzinfo=BERLIN, fold=1)
    assert shown("2:30", at, 2) == ["10-27 02:30 CET", "10-28 02:30 CET"]


def test_a_day_that_a_zone_left_out() -> None:
    """Samoa had no 30th of December in 2011."""
    apia = ZoneInfo("Pacific/Apia")
    at = datetime(2011, 12, 29, 12, tzinfo=apia)
    assert shown("daily", at, 2, apia) == ["12-31 00:00 +14", "01-01 00:00 +14"]


def test_leap_years_and_ends_of_months() -> None:
    at = datetime(2023, 2, 1, tzinfo=UTC)
    assert parse("*-2-29").next_elapse(at, UTC) == datetime(2024, 2, 29, tzinfo=UTC)
    assert parse("*-2~1").next_elapse(at, UTC) == datetime(2023, 2, 28, tzinfo=UTC)
    assert parse("Mon *-5~7/1").next_elapse(at, UTC) == datetime(2023, 5, 29, tzinfo=UTC)
    # systemd 252 skips the third of March and of April: its step goes on beyond the month.
    days = [parse("*-*-3/12").next_elapse(datetime(2024, 12, 28, tzinfo=UTC), UTC)]
    assert days == [datetime(2025, 1, 3, tzinfo=UTC)]


def test_what_never_comes() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert parse("*-2-30").next_elapse(at, UTC) is None
    assert parse("2023-1-1").next_elapse(at, UTC) is None
    always_left_out = parse("Sun *-3-25..31 2:30")
    assert always_left_out.next_elapse(at, BERLIN) is None
    assert parse("2024-3-31 2:30").next_elapse(at, BERLIN) is None


def test_fractions_of_a_second() -> None:
    at = datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    found = parse("*:*:0/0.25").next_elapse(at, UTC)
    assert found == datetime(2024, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


@st.composite
def components(draw: st.DrawFn, low: int, high: int, unit: int = 1) -> Component:
    if draw(st.booleans()) and unit == 1:
        return None
    starts = draw(st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True))
    return tuple(Part(start * unit) for start in sorted(starts))


calendars = st.builds(
    Calendar,
    st.integers(1, EVERY_DAY),
    st.none(),
    components(1, 12),
    components(1, 28),
    components(0, 23),
    components(0, 59),
    components(0, 59, SECOND),
)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(calendars)
def test_the_normal_form_means_the_same(calendar: Calendar) -> None:
    assert parse(show(calendar)) == calendar


@given(calendars, instants)
def test_the_next_one_is_listed_and_none_is_before_it(calendar: Calendar, after: datetime) -> None:
    found = calendar.next_elapse(after, BERLIN)
    if found is None:
        return
    assert found > after
    assert found.year <= MAX_YEAR + 1
    local = found.astimezone(BERLIN).replace(tzinfo=None, fold=0)
    assert calendar.next_local(local) == local
    between = after + (found - after) / 2
    if between > after:
        assert calendar.next_elapse(between, BERLIN) == found or _is_doubled(between, found)


def _is_doubled(*instants_: datetime) -> bool:
    """Within the hours that come twice, whoever asks from the second gets more."""
    near = timedelta(hours=2)
    return any(
        (at - near).astimezone(BERLIN).utcoffset() != (at + near).astimezone(BERLIN).utcoffset()
        for at in instants_
    )
