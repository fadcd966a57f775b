"""JUnit, TAP, Prometheus' text and the page: whole, and no text of a host gets out of its place."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html import escape
from html.parser import HTMLParser

import msgspec
import pytest
import yaml

from hostlab.checks.formats import junit, prometheus, tap
from hostlab.checks.page import MOST_TOLD, page, table
from hostlab.checks.patience import Step
from hostlab.checks.run import Excerpt
from hostlab.checks.verdict import Outcome
from hostlab.spec.model import Place
from tests.unit.checks.run_site import HARM, a_run, verdict

pytestmark = pytest.mark.unit
RUN = a_run(
    verdict("web1", "listens: 80"),
    verdict("web1", "listens: 80", "f"),
    verdict("web2", f"command: {HARM}", "f", HARM),
    verdict(f"db{HARM}", "listens: 5432", "u", HARM),
    lab=f"shop{HARM}",
)


def test_junit_has_a_suite_for_each_host() -> None:
    top = ElementTree.fromstring(junit(RUN))
    assert {key: top.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "2",
        "errors": "1",
    }
    suites = top.findall("testsuite")
    assert [suite.get("tests") for suite in suites] == ["2", "1", "1"]
    names = [case.get("name") for case in suites[0].findall("testcase")]
    assert names == ["listens: 80", "listens: 80 (2)"]
    assert suites[0].find("testcase/failure") is not None
    assert suites[2].find("testcase/error") is not None
    case = suites[0].find("testcase")
    assert case is not None
    assert (case.get("file"), case.get("line"), case.get("time")) == ("lab.yaml", "2", "0.250")


def test_what_is_not_asked_is_skipped() -> None:
    skipped = msgspec.structs.replace(
        verdict("web1", "file: /x"), outcome=Outcome.SKIPPED, seen="no bond0"
    )
    run = a_run(verdict("web1", "listens: 80"), skipped)
    suite = ElementTree.fromstring(junit(run)).find("testsuite")
    assert suite is not None
    assert (suite.get("skipped"), suite.get("failures")) == ("1", "0")
    case = suite.find("testcase/skipped")
    assert case is not None
    assert case.get("message") == "no bond0"
    assert tap(run).splitlines()[-1] == "ok 2 - web1: file: /x # SKIP no bond0"
    assert "/x" not in prometheus(run).partition("hostlab_check_unknown")[0]
    (group,) = table(run)["groups"]
    assert group["hosts"][0]["states"] == "hs"
    assert "What does not hold" not in page(run)


def test_tap_has_a_line_for_each_verdict_and_says_why() -> None:
    lines = tap(RUN).splitlines()
    assert lines[:3] == ["TAP version 14", "1..4", "ok 1 - web1: listens: 80"]
    told = [line for line in lines if line.startswith(("ok ", "not ok "))]
    assert [line.partition(" - ")[0] for line in told] == [
        "ok 1",
        "not ok 2",
        "not ok 3",
        "not ok 4",
    ]
    assert not re.search(r"(?<!\\)#", "".join(told))
    blocks = re.findall(r"^  ---\n(.*?)^  \.\.\.$", tap(RUN), re.M | re.S)
    assert len(blocks) == 3
    assert yaml.safe_load(blocks[1]) == {
        "outcome": "fails",
        "expected": HARM,
        "seen": HARM,
        "at": "lab.yaml:2",
        "log": [HARM],
    }


def test_prometheus_has_what_holds_and_what_is_not_known() -> None:
    text = prometheus(RUN)
    samples = [line for line in text.split("\n") if line and not line.startswith("#")]
    sample = r'\w+\{(?:\w+="(?:[^"\\]|\\[\\"n])*",?)+\} [0-9.e+-]+'
    assert all(re.fullmatch(sample, line) for line in samples)
    values = [line.rpartition(" ")[2] for line in samples if line.startswith("hostlab_check_holds")]
    assert values == ["1", "0", "0"]
    unknown = [each for each in samples if each.startswith("hostlab_check_unknown")]
    assert [each.rpartition(" ")[2] for each in unknown] == ["0", "0", "0", "1"]


class Elements(HTMLParser):
    """Which elements there are, with what attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] == "script":
            self.scripts.append(data)


def test_the_page_needs_nothing_else_and_runs_no_script_but_its_own() -> None:
    found = Elements(page(RUN))
    assert found.names.count("script") == 2
    assert not {"link", "img", "iframe", "base"} & set(found.names)
    assert not {name for name, _ in found.attributes if name in {"src", "href"}}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "://" not in page(RUN)
    assert "innerHTML" not in page(RUN)


def test_the_page_has_the_data_of_the_table_as_they_are() -> None:
    data = json.loads(Elements(page(RUN)).scripts[0])
    assert data == msgspec.json.decode(msgspec.json.encode(table(RUN)))
    assert data["columns"] == [
        "listens: 80",
        "listens: 80 (2)",
        f"command: {HARM}",
        "listens: 5432",
    ]
    hosts = [host for group in data["groups"] for host in group["hosts"]]
    assert [host["states"] for host in hosts] == ["hf--", "--f-", "---u"]
    assert data["texts"][hosts[1]["seen"][2]] == HARM
    assert data["places"][hosts[0]["at"][0]] == ["lab.yaml", 2]
    assert hosts[1]["more"]["2"]["log"] == [HARM]


def test_what_does_not_hold_is_told_without_scripts_and_failures_first() -> None:
    text = page(RUN).partition("<script")[0]
    told = re.findall(r"<li class=(\w)>", text)
    assert told == ["f", "f", "u"]
    assert f"<bdi>{escape(f'db{HARM}')}</bdi> <code>listens: 5432</code>" in text
    assert "<span class=here>" in text


def test_all_that_is_told_of_a_failure_is_text() -> None:
    """Also what few have: a trace, what jobs said, packets, a place of such a name."""
    told = msgspec.structs.replace(
        verdict("web1", "listens: 80", "f"),
        place=Place(file=f"{HARM}.yaml", line=2, column=1),
        trace=(Step(at_s=0.5, text=f"step {HARM}"),),
        jobs_said=(f"job {HARM}",),
        packets=(f"packet {HARM}",),
    )
    run = msgspec.structs.replace(a_run(told), version=f"9{HARM}")
    found = Elements(page(run))
    assert found.names.count("script") == 2
    assert found.names.count("details") == 2
    for word in (f"{HARM}.yaml:2", f"step {HARM}", f"job {HARM}", f"packet {HARM}", f"9{HARM}"):
        assert escape(word) in page(run)
    (group,) = table(run)["groups"]
    (more,) = group["hosts"][0]["more"].values()
    assert (more["jobs"], more["packets"]) == ((f"job {HARM}",), (f"packet {HARM}",))
    assert more["trace"] == [[0.5, f"step {HARM}"]]
    assert group["hosts"][0]["took"] == [250]


def test_a_failure_has_the_lines_round_its_check() -> None:
    run = msgspec.structs.replace(
        a_run(
            msgspec.structs.replace(
                verdict("web1", "listens: 80", "f"),
                place=Place(file="lab.yaml", line=25, column=1),
            )
        ),
        excerpts=(
            Excerpt(file="other.yaml", first=20, lines=("of another file",) * 10),
            Excerpt(file="lab.yaml", first=1, lines=("too early",) * 9),
            Excerpt(file="lab.yaml", first=20, lines=tuple(f"line {n}" for n in range(20, 40))),
        ),
    )
    (source,) = re.findall(r"<pre class=source>(.*?)</pre>", page(run), re.S)
    lines = re.findall(r"<span( class=here)?> +([0-9]+)  (.*)", source)
    assert lines == [
        (" class=here" if number == 25 else "", str(number), f"line {number}")
        for number in range(22, 29)
    ]


@pytest.mark.parametrize(("more", "said"), [(0, ""), (3, "and 3 more, in the table")])
def test_the_first_failures_are_told_in_full_and_the_rest_counted(more: int, said: str) -> None:
    number = MOST_TOLD + more
    run = a_run(
        *(verdict(f"web{n}", "listens: 80", "f") for n in range(number)), verdict("db", "x")
    )
    text = page(run).partition("<script")[0]
    assert text.count("<li class=f>") == MOST_TOLD
    assert "".join(re.findall(r"and -?[0-9]+ more, in the table", text)) == said
    assert (
        f"<b>{number}</b>do not hold</li><li><b>1</b>hold</li><li><b>{number + 1}</b>hosts" in text
    )


def test_a_judgement_without_checks_has_a_page() -> None:
    assert "0 of 0 checks hold" in page(a_run())
