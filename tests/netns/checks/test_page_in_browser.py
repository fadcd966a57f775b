"""The page of a judgement in Chromium: mouse, keyboard, filter, links, size, and no text of theirs.

`HOSTLAB_SCREENSHOTS=docs make test` writes the pictures that the documents show.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.checks.page import page
from hostlab.checks.run import Excerpt, Host, Run
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.spec.model import Place
from tests.chromium import Browser, browser, program

pytestmark = pytest.mark.netns

HARM = "<script>document.title='harm'</script>\u202e"
CHECKS = 200


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if program() is None:
        pytest.skip("no chromium: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def verdict(node: str, check: str, outcome: str, seen: str = "as it is") -> Verdict:
    return Verdict(
        node=node,
        kind="listens",
        check=check,
        outcome=Outcome(outcome),
        expected="something",
        seen=seen,
        within_s=5.0,
        took_s=0.5,
        place=Place(file="fleet.yaml", line=3, column=5),
        repeat="hostlab exec fleet/web1 -- ss -lnt" if outcome == "fails" else "",
    )


def small() -> Run:
    rows = [
        verdict(f"web{number}", check, "holds")
        for number in range(1, 9)
        for check in ("listens: 80", "package: nginx", "route: default")
    ]
    rows += [verdict("db1", "listens: 5432", "fails", HARM), verdict("db1", HARM, "unknown")]
    rows += [verdict("db2", "listens: 5432", "skipped", "there is no bond0")]
    return run_of_rows(rows)


def run_of_rows(rows: list[Verdict]) -> Run:
    names = dict.fromkeys(row.node for row in rows)
    hosts = tuple(
        Host(name=name, roles=(name.rstrip("0123456789"),), segments=("lan",)) for name in names
    )
    lines = ("roles:", "  db:", "    checks: [{listens: 5432}]", "nodes:")
    excerpt = Excerpt(file="fleet.yaml", first=1, lines=lines)
    report = Report(rows=tuple(rows), took_s=1.0)
    return Run(lab="fleet", began=1.0, hosts=hosts, report=report, excerpts=(excerpt,))


def shown(chromium: Browser, run: Run, place: Path) -> str:
    file = place / "index.html"
    file.write_text(page(run))
    chromium.size(1400, 900)
    chromium.open(f"file://{file}")
    return f"file://{file}"


def test_a_click_tells_all_of_a_cell_and_its_address_leads_there(
    chromium: Browser, tmp_path: Path
) -> None:
    url = shown(chromium, small(), tmp_path)
    assert chromium.tell("document.title").startswith("fleet: 24 of 26 checks hold")
    chromium.click("#scroll td .f")
    detail = chromium.tell("document.querySelector('#detail').innerText")
    for word in (
        "db1",
        "listens: 5432",
        "expected",
        "something",
        "fleet.yaml:3",
        "0.5 s",
        "ss -lnt",
    ):
        assert word in detail, detail
    assert chromium.tell("document.querySelector('#detail .here').textContent").strip() == (
        "3      checks: [{listens: 5432}]"
    )
    assert HARM in chromium.tell("document.querySelector('#detail').textContent")
    address = chromium.tell("location.href")
    assert address == f"{url}#db1/listens%3A%205432"
    chromium.press("Escape")
    assert chromium.tell("document.querySelector('#detail').hidden")
    chromium.open("about:blank")
    chromium.open(address)
    assert "db1" in chromium.tell("document.querySelector('#detail h3').textContent")
    assert chromium.tell("document.activeElement.ariaLabel").startswith("db1, listens: 5432: does")
    assert chromium.errors() == []


def test_all_of_it_by_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, small(), tmp_path)
    label = "document.activeElement.ariaLabel"
    chromium.tell("document.querySelector('td[tabindex=\"0\"]').focus()")
    assert chromium.tell(label) == "web1, listens: 80: holds"
    chromium.press("ArrowDown")
    chromium.press("ArrowRight")
    assert chromium.tell(label) == "web2, package: nginx: holds"
    chromium.press("Enter")
    assert "web2" in chromium.tell("document.querySelector('#detail h3').textContent")
    chromium.press("Escape")
    chromium.press("/")
    assert chromium.tell("document.activeElement.id") == "search"
    chromium.type("db1")
    assert chromium.tell("document.querySelector('#count').textContent") == "1 host, 5 checks"
    assert chromium.errors() == []


def test_what_holds_can_be_hidden(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, small(), tmp_path)
    chromium.click("#only")
    assert chromium.tell("document.querySelector('#count').textContent") == "1 host, 2 checks"
    cells = "[...document.querySelectorAll('#scroll td')].map(cell => cell.innerText).join('')"
    assert chromium.tell(cells) == "✗?"
    # no colour alone: each state has a sign, and a word for who hears it
    assert chromium.tell("document.querySelector('#scroll td').ariaLabel").endswith("does not hold")


def test_the_topology_has_the_same_verdicts(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, small(), tmp_path)
    nodes = "[...document.querySelectorAll('#topology .node')].map(node => node.textContent)"
    assert chromium.tell(nodes)[-2:] == ["✗ db1", "✓ db2"]
    chromium.click("#topology .node.f")
    assert "listens: 5432" in chromium.tell("document.querySelector('#detail h3').textContent")
    assert chromium.errors() == []


def test_no_text_of_a_host_is_more_than_text(chromium: Browser, tmp_path: Path) -> None:
    run = run_of_rows([verdict(HARM, HARM, outcome, HARM) for outcome in ("fails", "holds")])
    shown(chromium, run, tmp_path)
    chromium.click("#scroll td .f")
    assert chromium.tell("document.title").startswith("fleet: ")
    assert chromium.tell("document.querySelectorAll('#detail script, #scroll script').length") == 0
    assert chromium.errors() == []


def large() -> Run:
    rows = [
        verdict(f"{role}{host}", f"check {check:03}", _outcome(host, check))
        for role in ("web", "db", "mail", "cache")
        for host in range(1, 251)
        for check in range(CHECKS)
    ]
    return run_of_rows(rows)


def _outcome(host: int, check: int) -> str:
    number = host * 7919 + check * 104729
    return "fails" if number % 97 == 0 else "unknown" if number % 211 == 0 else "holds"


def test_a_thousand_hosts_are_drawn_where_they_are_looked_at(
    chromium: Browser, tmp_path: Path
) -> None:
    shown(chromium, large(), tmp_path)
    assert chromium.tell("document.querySelector('#count').textContent") == (
        f"1000 hosts, {CHECKS} checks"
    )
    drawn = chromium.tell("document.querySelectorAll('#scroll td').length")
    assert drawn < 60 * CHECKS, "rows out of sight are drawn"
    chromium.tell("document.querySelector('#scroll').scrollTop = 1e6")
    chromium.drawn()
    last = "[...document.querySelectorAll('#scroll tbody th')].pop().textContent"
    assert chromium.tell(last) == "cache250"
    assert chromium.errors() == []
    pictures = os.environ.get("HOSTLAB_SCREENSHOTS")
    if pictures:
        chromium.tell("document.querySelector('.controls').scrollIntoView()")
        chromium.tell("document.querySelector('#scroll').scrollTop = 0")
        chromium.drawn()
        chromium.picture(Path(pictures, "report-1000.png"))
