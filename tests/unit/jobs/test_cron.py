"""Cron: grammar, changes of the clock and tables, as Debian's cron has them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError, SpecErrors
from hostlab.jobs import cron, crontab
from hostlab.jobs.cron import Cron

pytestmark = pytest.mark.unit

BERLIN = ZoneInfo("Europe/Berlin")
BAD = [
    ("* * * *", 7, "write minute, hour"),
    ("* * * * * *", 11, None),
    ("@dayly", 0, "did you mean `@daily`?"),
    ("@reboot", 0, "write `start on startup`"),
    ("61 * * * *", 0, None),
    ("0 0 30 2 *", 4, None),
    ("5/10 * * * *", 1, "write `5-59/10`, or only `5`"),
    ("* * * * fri-sun", 8, "Sunday is 7 too: write `5-7`"),
    ("* * * juni *", 6, "did you mean `jun`?"),
    ("*/0 * * * *", 2, "write `*/5`"),
    ("* 23-2 * * *", 2, "write `23-23,0-2`"),
    ("* * 0 * *", 4, None),
    ("1,,2 * * * *", 2, None),
    ("1,*/7,71 * * * *", 6, None),
    ("* * * * 2#1", 8, None),
    ("* * L * *", 4, None),
    ("", 0, None),
]
TABLE = r"""# of a user
MAILTO=paul
A = " x y "
0 22 * * 1-5   mail -s "It's 10pm" joe%Joe,%%Where are your kids?%
@reboot	date +\%s
SHELL=/bin/bash
CRON_TZ=Asia/Tokyo
5 4 * * sun	X=1 y
MAILTO=""
  1-9/2,30 0 1 JAN *   z
"""


def shown(text: str, at: datetime, count: int) -> list[str]:
    schedule, found = cron.parse(text), []
    after: datetime | None = at
    for _ in range(count):
        assert after is not None
        after = schedule.next_elapse(after, BERLIN)
        assert after is not None
        found.append(f"{after.astimezone(BERLIN):%m-%d %H:%M %Z}")
    return found


@pytest.mark.parametrize(("text", "at", "hint"), BAD)
def test_a_mistake_has_its_place(text: str, at: int, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        cron.parse(text)
    assert caught.value.where is not None
    assert caught.value.where.column == at + 1
    assert hint is None or hint in (caught.value.hint or "")


def test_what_time_is_meant() -> None:
    at = datetime(2024, 1, 31, 23, 59, 30, tzinfo=BERLIN)
    assert shown("*/20 * * * *", at, 2) == ["02-01 00:00 CET", "02-01 00:20 CET"]
    assert shown("@weekly", at, 1) == ["02-04 00:00 CET"]
    assert shown("0 0 29 2 *", at, 1) == ["02-29 00:00 CET"]
    # With both days given, either will do; with a star before one, both must hold.
    assert shown("0 0 13 * fri", at, 2) == ["02-02 00:00 CET", "02-09 00:00 CET"]
    assert shown("0 0 */2 * fri", at, 2) == ["02-09 00:00 CET", "02-23 00:00 CET"]
    assert shown("0 0 * * 7", at, 1) == shown("0 0 * * 0", at, 1)


def test_a_zone_of_its_own() -> None:
    found = cron.parse("0 9 * * *", zone="Asia/Tokyo").next_elapse(
        datetime(2024, 1, 1, 1, tzinfo=UTC), BERLIN
    )
    assert found == datetime(2024, 1, 2, 0, tzinfo=UTC)


def test_summer_time_begins() -> None:
    """What is left out runs behind the gap, once; what follows the clock is not moved."""
    at = datetime(2024, 3, 31, 1, 50, tzinfo=BERLIN)
    assert shown("30 2 * * *", at, 2) == ["03-31 03:00 CEST", "04-01 02:30 CEST"]
    assert shown("0,30 2 * * *", at, 2) == ["03-31 03:00 CEST", "04-01 02:00 CEST"]
    assert shown("*/30 * * * *", at, 2) == ["03-31 03:00 CEST", "03-31 03:30 CEST"]
    assert shown("*/30 2 * * *", at, 1) == ["04-01 02:00 CEST"]
    assert not cron.parse("0,30 2 * * *").follows_clock
    assert cron.parse("*/30 2 * * *").follows_clock
    assert cron.parse("@hourly").follows_clock


def test_summer_time_ends() -> None:
    """What comes twice runs the first time only, but for what follows the clock."""
    at = datetime(2024, 10, 27, 1, 50, tzinfo=BERLIN)
    assert shown("30 2 * * *", at, 2) == ["10-27 02:30 CEST", "10-28 02:30 CET"]
    assert shown("30 * * * *", at, 3) == [
        "10-27 02:30 CEST", "10-27 02:30 CET", "10-27 03:30 CET",
    ]  # fmt: skip
    in_second_hour = datetime(2024, 10, 27, 2, 10, tzinfo=BERLIN, fold=1)
    assert shown("30 2 * * *", in_second_hour, 1) == ["10-28 02:30 CET"]


def test_a_table_of_a_user() -> None:
    lines = crontab.parse(TABLE, "paul", has_users=False)
    mail, reboot, tokyo, last = lines
    assert mail.schedule == Cron("0 22 * * 1-5")
    assert (mail.command, mail.input) == (
        'mail -s "It\'s 10pm" joe',
        "Joe,\n\nWhere are your kids?\n",
    )
    assert dict(mail.environment)["A"] == " x y "
    assert (mail.shell, mail.mail_to, mail.user) == ("/bin/sh", "paul", None)
    assert (reboot.schedule, reboot.command, reboot.input) == (None, "date +%s", None)
    assert tokyo.schedule == Cron("5 4 * * sun", "Asia/Tokyo")
    assert (tokyo.shell, tokyo.command) == ("/bin/bash", "X=1 y")
    assert (last.mail_to, last.where.line, last.where.column) == ("", 10, 3)
    assert last.schedule == Cron("1-9/2,30 0 1 JAN *", "Asia/Tokyo")


def test_a_table_of_the_system() -> None:
    text = "PATH=/sbin\n17 *\t* * *\troot\tcd / && run-parts /etc/cron.hourly\n@daily  news a\n"
    first, second = crontab.parse(text, "/etc/crontab", has_users=True)
    assert (first.user, first.command) == ("root", "cd / && run-parts /etc/cron.hourly")
    assert dict(first.environment) == {"SHELL": "/bin/sh", "PATH": "/sbin"}
    assert (second.user, second.command) == ("news", "a")


def test_every_mistake_of_a_table() -> None:
    text = "* * * * * root\n  * * * * nobday root x\nCRON_TZ=Mars\n@hourli root x\n* * *\n@daily\n"
    with pytest.raises(SpecErrors) as caught:
        crontab.parse(text, "t", has_users=True)
    places = [str(error.where) for error in caught.value.errors]
    assert places == ["t:1:15", "t:2:11", "t:3:9", "t:4:1", "t:5:6", "t:6:7"]
    assert "the user stands before the command" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "command", "given"),
    [
        ("a", "a", None),
        (r"a\%b", "a%b", None),
        ("a%", "a", ""),
        ("a%b", "a", "b\n"),
        (r"a%b\%c%d", "a", "b%c\nd\n"),
        (r"a\\b", r"a\\b", None),
    ],
)
def test_percent_signs(text: str, command: str, given: str | None) -> None:
    assert crontab.split_input(text) == (command, given)


def test_which_files_of_cron_d_are_taken() -> None:
    assert crontab.is_taken("e2scrub_all")
    assert not crontab.is_taken("php.dpkg-old")
    assert not crontab.is_taken(".placeholder")


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda pair: f"{min(pair)}-{max(pair)}"
    )
    step = st.tuples(span | st.just("*"), st.integers(1, 30)).map(lambda p: f"{p[0]}/{p[1]}")
    return st.just("*") | st.lists(number | span | step, min_size=1, max_size=3).map(",".join)


lines = st.tuples(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 7)).map(
    " ".join
)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(lines, instants)
def test_the_next_one_is_ahead_and_none_is_before_it(line: str, after: datetime) -> None:
    schedule = cron.parse(line)
    found = schedule.next_elapse(after, UTC)
    assert found is not None
    assert found > after
    assert found.second == 0
    assert schedule.next_elapse(found - timedelta(seconds=1), UTC) == found


@given(st.text(alphabet='*/-, \t159@ajn=%\\\n"', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SpecError):
        cron.parse(text)
    with contextlib.suppress(SpecErrors):
        crontab.parse(text, "t", has_users=True)
