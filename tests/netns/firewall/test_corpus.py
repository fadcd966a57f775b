"""The corpus staged, ruleset by ruleset: each ends as it says itself, and never in a traceback.

`tests/corpus/firewall/README.md` tells how a ruleset says it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hostlab.errors import Place, Problem
from hostlab.firewall import beside
from hostlab.firewall.source import read_source
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.staged import Staged, stage_source
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from hostlab.firewall.troubles import Blame
from hostlab.linux import kconfig
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

CORPUS: Final = Path(__file__).parents[2] / "corpus" / "firewall"
_SAID: Final = re.compile(
    r"expect: ([023])(?: or ([023]))?(?: without (\w+))?(?: at (?:(\S+):)?(\d+))?(?:: (.+))?"
)
TARGET: Final = Target(
    interfaces=(
        TargetInterface(name="eth0", addresses=("203.0.113.10/24", "2001:db8::10/64")),
        TargetInterface(name="eth1", addresses=("10.0.0.1/24", "fd00::1/64")),
        TargetInterface(name="docker0", addresses=("172.17.0.1/16",)),
    ),
    routes=(
        TargetRoute(to="0.0.0.0/0", via="203.0.113.1", interface="eth0"),
        TargetRoute(to="::/0", via="2001:db8::1", interface="eth0"),
    ),
)
LEGACY: Final = """
for table in filter nat mangle raw security; do
    for tool in iptables-legacy ip6tables-legacy; do $tool -t $table -F; $tool -t $table -X; done
done
for chain in INPUT FORWARD OUTPUT; do
    iptables-legacy -P $chain ACCEPT; ip6tables-legacy -P $chain ACCEPT
done
"""
DESTROY: Final = """
ipset flush
for try in $(seq 500); do ipset destroy 2>/dev/null && break; done
"""
"""The kernel lets go of the sets that rules named a moment after the rules are gone."""


class Case(NamedTuple):
    """A ruleset, and how it says that it ends."""

    path: Path
    exit_codes: frozenset[int]
    file: str
    line: int
    reason: str


def cases(root: Path = CORPUS) -> Iterator[Case]:
    """Everything in a folder of a style that is no part of another: a file or a directory."""
    for path in sorted(root.glob("*/*")):
        if not path.name.startswith("_"):
            files = sorted(path.glob("*")) if path.is_dir() else [path]
            texts = (each.read_text(errors="replace") for each in files)
            said = next((found for each in texts if (found := _SAID.search(each))), None)
            assert said is not None, f"{path} does not say how it ends"
            yield _case(path, *said.groups())


def _case(path: Path, *said: str | None) -> Case:
    code, other, option, file, line, reason = said
    if option and kconfig.has(option):
        return Case(path, frozenset({0}), "", 0, "")
    codes = frozenset(int(each) for each in (code, other) if each)
    return Case(path, codes, file or path.name, int(line or 0), (reason or "").strip())


CASES: Final = tuple(cases())


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageNode]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("corpus") / "run"))
        patch.chdir(CORPUS)
        with Stage(TARGET) as stage:
            node = stage.nodes["stage"]
            node.shell("true")
            yield node


class End(NamedTuple):
    """How a source ended: its code, and what was told, each with its place."""

    exit_code: int
    told: Sequence[tuple[Place | None, str]]


def staged(node: StageNode, path: Path) -> End:
    """Stage what is at a path in a node that holds nothing, and leave it so."""
    try:
        found = stage_source(node, read_source(str(path)), time_limit_s=20)
    except Problem as problem:
        assert problem.exit_code in (2, 3), problem
        return End(int(problem.exit_code), [(problem.where, problem.message)])
    node.shell(_reset(found))
    told = [(each.place, each.message) for each in found.troubles if each.blame != Blame.REMARK]
    return End(found.exit_code, told)


def _reset(found: Staged) -> str:
    """What takes all of it back; the next ruleset has the same node."""
    held = found.ruleset
    undone = (each for each in reversed(found.operations) if each.kind is not beside.Kind.MAIN)
    return "\n".join(
        (
            *(shlex.join(each.undo) for each in undone),
            "nft flush ruleset",
            LEGACY if held.legacy_iptables or held.legacy_ip6tables else "",
            DESTROY if held.ipset else "",
        )
    )


@pytest.mark.parametrize("case", CASES, ids=[str(each.path.relative_to(CORPUS)) for each in CASES])
def test_a_ruleset_ends_as_it_says(node: StageNode, case: Case) -> None:
    end = staged(node, case.path)
    assert end.exit_code in case.exit_codes, end.told
    if end.exit_code:
        assert any(case.reason in message for _, message in end.told), end.told
    if case.line:
        places = [(Path(place.file).name, place.line) for place, _ in end.told if place]
        assert (case.file, case.line) in places, end.told
