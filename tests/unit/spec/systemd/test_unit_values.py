"""Values, names and specifiers of units; the times and escapes are what systemd 252 says."""

from __future__ import annotations

import pytest

from hostlab.spec.job import UNLIMITED
from hostlab.spec.source import Wrong
from hostlab.spec.systemd import values
from hostlab.spec.systemd.specifiers import Machine, expand_specifiers
from hostlab.spec.systemd.unit_names import (
    escape,
    escape_path,
    unescape,
    unescape_path,
    unit_name,
)
from tests.unit.spec.systemd.unit_site import service, warnings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5min 20s", 320), ("1.5h", 5400), ("2 weeks", 1209600), ("3month", 7889400), (".5s", 0.5),
        ("1y 2M", 36817200), ("10sec5", 15), ("infinity", None), ("0", 0),
    ],
)  # fmt: skip
def test_time_spans(text: str, seconds: float | None) -> None:
    assert values.seconds(text) == seconds


@pytest.mark.parametrize("text", ["5 foo", "", "s", "-1", "1..2"])
def test_no_time_span(text: str) -> None:
    with pytest.raises(Wrong):
        values.seconds(text)


def test_sizes_limits_and_ends() -> None:
    assert (values.size("1.5K"), values.size("infinity")) == (1536, None)
    assert values.limit("nofile", "1024:infinity") == (1024, UNLIMITED)
    assert values.limit("core", "1M") == (2**20, 2**20)
    assert values.limit("nice", "+5") == (15, 15)
    assert values.limit("nice", "0:40") == (0, 40)
    assert values.limit("cpu", "2min") == (120, 120)
    assert [values.end(word) for word in ("TEMPFAIL", "143", "SIGKILL", "RTMIN+1")] == [
        75, 143, 9 << 8, 35 << 8,
    ]  # fmt: skip
    with pytest.raises(Wrong):
        values.limit("nofile", "2:1")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("/dev/sda", "-dev-sda"), ("foo bar", r"foo\x20bar"), (".x", r"\x2ex"), ("a-b", r"a\x2db"),
     ("é", r"\xc3\xa9")],
)  # fmt: skip
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert unescape(escaped) == text


def test_paths_as_names() -> None:
    assert [escape_path(each) for each in ("/", "/dev//sda/", "/a-b/c")] == [
        "-", "dev-sda", r"a\x2db-c",
    ]  # fmt: skip
    assert [unescape_path(each) for each in ("-", "dev-sda")] == ["/", "/dev/sda"]


def test_the_parts_of_a_name() -> None:
    name = unit_name("foo-bar@a-b.service")
    assert (name.prefix, name.instance, name.template, name.stem) == (
        "foo-bar", "a-b", "foo-bar@.service", "foo-bar@a-b",
    )  # fmt: skip
    assert unit_name("foo@.service").is_template
    for wrong in ("foo", "foo.txt", ".service", "@.service", "a b.service", "x" * 250 + ".service"):
        with pytest.raises(Wrong):
            unit_name(wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("%i %I %p %P %j %J", "a-b a/b foo-bar foo/bar bar bar"),
        ("%n %N", "foo-bar@a-b.service foo-bar@a-b"),
        ("%f", "/a/b"),
        ("%t %S %C %L %E %T %V", "/run /var/lib /var/cache /var/log /etc /tmp /var/tmp"),
        ("%H %l %m %b %v", "h.example h mid bid 6.1"),
        ("%u %U %g %G %h %s", "root 0 root 0 /root /bin/sh"),
        ("%o %w %W", "debian 12 "),
        ("50%%", "50%"),
    ],
)
def test_specifiers(text: str, value: str) -> None:
    machine = Machine(
        hostname="h.example", machine_id="mid", boot_id="bid", kernel="6.1",
        os_release=(("ID", "debian"), ("VERSION_ID", "12")),
    )  # fmt: skip
    assert expand_specifiers(text, unit_name("foo-bar@a-b.service"), machine) == value


def test_an_unknown_specifier_is_told_and_its_line_left_out() -> None:
    text = "[Service]\nExecStart=/bin/a\nUser=%k\n"
    assert warnings(text) == ["x.service:3:6: User: `%k` is no specifier; ignored"]
    assert service("ExecStart=/bin/a\nUser=%k").user is None


def test_what_a_specifier_becomes_is_not_split_again() -> None:
    job = service("ExecStart=/bin/a %I x", name="a@b\\x20c.service")
    assert job.commands[0].argv == ("/bin/a", "b c", "x")
