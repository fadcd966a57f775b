"""Command lines, states, names and times of systemctl and journalctl."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.errors import SpecError
from hostlab.init.initctl.answer_pipe import pieces
from hostlab.init.systemctl import reference
from hostlab.init.systemctl.line import JOURNALCTL, SYSTEMCTL, Refused, read_line
from hostlab.init.systemctl.manager import mangled
from hostlab.init.systemctl.state import state_of
from hostlab.init.systemctl.texts import _ago
from hostlab.init.systemctl.times import when
from hostlab.init.units.generators import PASSED_OVER
from hostlab.init.units.replaced import why_passed_over
from hostlab.jobs import facts
from hostlab.spec.systemd.loading import load_unit
from hostlab.spec.systemd.unit import read_unit
from tests.unit.jobs.jobs_world import World
from tests.unit.spec.systemd.unit_site import linked

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        ("start a b", {}, ["start", "a", "b"]),
        ("-p Id,Names --value show a", {"property": ["Id,Names"], "value": [""]}, ["show", "a"]),
        ("show --property=Id --property Names",
         {"property": ["Id", "Names"]}, ["show"]),
        ("-pId -qa stop -- -x", {"property": ["Id"], "quiet": [""], "all": [""]}, ["stop", "-x"]),
        ("--no-bl start", {"no-block": [""]}, ["start"]),
    ],
)  # fmt: skip
def test_options_stand_anywhere(words: str, options: dict[str, list[str]], rest: list[str]) -> None:
    line = read_line("systemctl", words.split(), SYSTEMCTL)
    assert (line.options, line.words) == (options, rest)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--bad", "systemctl: unrecognized option '--bad'"),
        ("--no", "systemctl: ambiguous option '--no'"),
        ("-Z", "systemctl: invalid option -- 'Z'"),
        ("--property", "systemctl: option '--property' requires an argument"),
        ("-p", "systemctl: option requires an argument -- 'p'"),
        ("--quiet=yes", "systemctl: option '--quiet' doesn't allow an argument"),
    ],
)
def test_a_wrong_option_is_told_as_getopt_tells_it(words: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_line("systemctl", words.split(), SYSTEMCTL)
    assert (refused.value.text, refused.value.status) == (text, 1)


@pytest.mark.parametrize(
    ("words", "lines"), [("-n5 -u a", "5"), ("-n 5", "5"), ("-n -u a", ""), ("--lines=7", "7")]
)
def test_lines_may_be_counted_or_not(words: str, lines: str) -> None:
    line = read_line("journalctl", words.split(), JOURNALCTL)
    assert line.last("lines") == lines
    assert line.words == []


def test_names_as_people_write_them() -> None:
    assert mangled("web") == "web.service"
    assert mangled("a@b.c") == "a@b.c.service"
    assert mangled("x.timer") == "x.timer"
    assert mangled("/srv/data") == "srv-data.mount"
    with pytest.raises(Refused, match="Invalid unit name"):
        mangled("@")


def test_states_in_systemds_words() -> None:
    w = World()
    jobs = linked(
        m_target="",
        a_service="[Service]\nExecStartPre=/pre\nExecStart=/a\nExecReload=/r",
    )
    for job in jobs.values():
        w.tell(facts.Load(job=job))
    unit = load_unit(read_unit("a.service", [("[Service]\nExecStart=/a\n", "a.service")]))

    def state() -> tuple[str, str]:
        found = state_of(w.engine, "a.service", unit)
        return found.active, found.sub

    assert state() == ("inactive", "dead")
    w.start("a.service")
    assert state()[0] in ("activating", "active")
    target = load_unit(read_unit("m.target", [("", "m.target")]))
    w.start("m.target")
    found = state_of(w.engine, "m.target", target)
    assert (found.active, found.sub) == ("active", "active")
    assert state_of(w.engine, "no.service", None).active == "inactive"


def test_how_long_ago() -> None:
    assert [_ago(each) for each in (0, 59, 61, 3600, 3720, 86400, 180000)] == [
        "0s", "59s", "1min 1s", "1h", "1h 2min", "1 day", "2 days 2h",
    ]  # fmt: skip


def test_times_of_since() -> None:
    now = 1_800_000_000.0
    assert when("now", now=now) == now
    assert when("-1h", now=now) == when("1h ago", now=now) == now - 3600
    assert when("@5") == 5
    assert when("yesterday", now=now) == when("today", now=now) - 86400
    assert when("2027-01-15 08:00", now=now) < now + 86400
    with pytest.raises(SpecError):
        when("some day")


def test_what_is_fed_is_whole_lines_of_a_pipes_size() -> None:
    text = "".join(f"line {number} {'x' * 300}\n" for number in range(100)) + "y" * 9000
    found = list(pieces(text))
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in found)
    lines = b"".join(found).splitlines()
    assert all(line.startswith(b"o ") for line in lines)
    assert lines[0] == b"o line 0 " + b"x" * 300
    assert b"".join(line[2:] for line in lines[100:]) == b"y" * 9000


def test_what_stands_for_systemds_own_daemons() -> None:
    assert why_passed_over("systemd-journald.service")
    assert why_passed_over("getty@tty1.service")
    assert why_passed_over("nginx.service") is None
    assert "systemd-fstab-generator" in PASSED_OVER
    assert "postfix-instance-generator" not in PASSED_OVER


def test_every_verb_is_on_the_page() -> None:
    page = reference.page()
    for verb in ("start", "is-enabled", "daemon-reload", "list-unit-files", "isolate"):
        assert f"| `{verb}" in page


def test_a_state_survives_json() -> None:
    fact = facts.Forget(name="a.service")
    assert msgspec.json.decode(msgspec.json.encode(fact), type=facts.Forget) == fact
