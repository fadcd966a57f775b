"""The corpus staged, ruleset by ruleset: each ends as it says itself, and never in a traceback.

`tests/corpus/firewall/README.md` tells how a ruleset says it.
"""

from __future__ import annotations

import os
import random
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hostlab.errors import Place, Problem
from hostlab.firewall import beside
from hostlab.firewall.ruleset import Ruleset
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


def staged(node: StageNode, path: Path, time_limit_s: float = 20) -> End:
    """Stage what is at a path in a node that holds nothing, and leave it so."""
    try:
        found = stage_source(node, read_source(str(path)), time_limit_s=time_limit_s)
    except Problem as problem:
        return End(int(problem.exit_code), [(problem.where, problem.message)])
    if more := _reset(found):
        node.shell(more)
    if found.ruleset != Ruleset() or found.exit_code:
        node.tool(("nft", "flush", "ruleset"))
    if found.ruleset.ipset or found.exit_code:
        node.shell(DESTROY)
    told = [(each.place, each.message) for each in found.troubles if each.blame != Blame.REMARK]
    return End(found.exit_code, told)


def _reset(found: Staged) -> str:
    """What takes back what it did beside nf_tables and sets; the next ruleset has the same node."""
    held = found.ruleset
    undone = (each for each in reversed(found.operations) if each.kind is not beside.Kind.MAIN)
    legacy = LEGACY if held.legacy_iptables or held.legacy_ip6tables else ""
    return "\n".join(shlex.join(each.undo) for each in undone) + legacy


@pytest.mark.parametrize("case", CASES, ids=[str(each.path.relative_to(CORPUS)) for each in CASES])
def test_a_ruleset_ends_as_it_says(node: StageNode, case: Case) -> None:
    end = staged(node, case.path)
    assert end.exit_code in case.exit_codes, end.told
    if end.exit_code:
        assert any(case.reason in message for _, message in end.told), end.told
    if case.line:
        places = [(Path(place.file).name, place.line) for place, _ in end.told if place]
        assert (case.file, case.line) in places, end.told


SCRIPT: Final = b"#!/bin/sh\niptables -A INPUT -p tcp --dport 22 -j ACCEPT\n"
DUMP: Final = b"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
NFT: Final = b"table ip t {\n chain c {\n  tcp dport 22 accept\n }\n}\n"
BOM: Final = b"\xef\xbb\xbf"
LATIN: Final = "# Zugang f\xfcr B\xfcro, \xa9 M\xfcller\n".encode("latin-1")
NOTED: Final = b'-m comment --comment "B\xfcro" -j'
GEO: Final = [f"{10 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24" for n in range(50_000)]
ODD: Final[dict[str, tuple[bytes, int, str]]] = {
    "empty": (b"", 2, "no rule in it"),
    "blank.sh": (b" \n\t\n\n", 2, "no rule in it"),
    "only-comments.nft": (b"# nothing\n# at all\n", 2, "no rule in it"),
    "nothing-but-a-shell.sh": (b"#!/bin/sh\n", 0, ""),
    "nul-bytes": (b"\0" * 4096, 2, "is no text"),
    "program": (b"\x7fELF\x02\x01\x01" + b"\0" * 64, 2, "is no text"),
    "nul-in-a-script.sh": (SCRIPT + b"\0\n" + SCRIPT, 2, "is no text"),
    "utf-16.rules": (DUMP.decode().encode("utf-16"), 2, "byte order mark"),
    "garbage": (random.Random(6).randbytes(8192).replace(b"\0", b"\xff"), 2, ""),
    "garbage.sh": (random.Random(7).randbytes(8192).replace(b"\0", b"\xff"), 2, ""),
    "bom.rules": (BOM + DUMP, 2, "byte order mark"),
    "bom.nft": (BOM + NFT, 2, "byte order mark"),
    "bom.sh": (BOM + SCRIPT, 2, "byte order mark"),
    "crlf.rules": (DUMP.replace(b"\n", b"\r\n"), 2, ""),
    "crlf.nft": (NFT.replace(b"\n", b"\r\n"), 2, ""),
    "crlf.sh": (SCRIPT.replace(b"\n", b"\r\n"), 2, ""),
    "latin-1.rules": (LATIN + DUMP, 0, ""),
    "latin-1.nft": (LATIN + NFT, 0, ""),
    "latin-1.sh": (SCRIPT + LATIN, 0, ""),
    "latin-1-in-a-rule.rules": (
        DUMP.replace(b"-j", b'-m comment --comment "B\xfcro" -j'),
        2,
        "no UTF-8",
    ),
    "latin-1-in-a-rule.sh": (
        SCRIPT.replace(b"-j", b'-m comment --comment "B\xfcro" -j'),
        2,
        "no UTF-8",
    ),
    "huge-comment.sh": (SCRIPT + b"# " + b"x" * (1 << 20) + b"\n", 0, ""),
    "huge-word.sh": (b"#!/bin/sh\niptables -A INPUT -j " + b"X" * 100_000 + b"\n", 2, ""),
    "huge-line.rules": (DUMP.replace(b"tcp -m", b"tcp" + b" " * 100_000 + b"-m"), 2, ""),
    "huge-line.nft": (b"define x = { " + b"22, " * 50_000 + b"80 }\n" + NFT, 0, ""),
    "one-line-of-everything.sh": (
        b"#!/bin/sh\n" + SCRIPT[10:-1] + b"; true" * 300 + b"\n",
        0,
        "",
    ),
    "endless.sh": (SCRIPT + b"while :; do :; done\n", 2, "it was ended here"),
    "flood.sh": (SCRIPT + b"yes 0123456789\n", 2, "it was ended here"),
    "leaves-a-process.sh": (SCRIPT + b"sleep 600 >/dev/null 2>&1 &\n", 0, ""),
    "sources-itself.bash": (b'#!/bin/bash\n. "$0"\n', 2, ""),
    "includes-itself.nft": (b'include "includes-itself.nft"\n', 2, ""),
    "kills-its-shell.sh": (SCRIPT + b"kill -9 $$\n", 2, "status 137"),
    "cut.rules": (DUMP * 1000 + DUMP[:50], 2, ""),
    "geo.ipset": (
        b"create geo hash:net maxelem 65536\n"
        + "".join(f"add geo {net}\n" for net in GEO).encode(),
        0,
        "",
    ),
    "geo.nft": (
        b"table ip geo {\n set nets { type ipv4_addr; flags interval; elements = {\n"
        + ",\n".join(GEO).encode()
        + b" } }\n}\n",
        0,
        "",
    ),
}
"""What cannot say itself how it ends: its bytes, its exit code, something of the message."""


@pytest.mark.parametrize("name", ODD)
def test_odd_content_ends_as_it_should(node: StageNode, tmp_path: Path, name: str) -> None:
    data, exit_code, reason = ODD[name]
    path = tmp_path / name
    path.write_bytes(data)
    end = staged(node, path, time_limit_s=1 if name == "endless.sh" else 60)
    assert end.exit_code == exit_code, [message[:500] for _, message in end.told]
    assert not exit_code or any(reason in message for _, message in end.told), end.told


def test_what_is_no_file_is_told(node: StageNode, tmp_path: Path) -> None:
    (tmp_path / "empty.d").mkdir()
    (tmp_path / "names.d").mkdir()
    (tmp_path / "names.d" / "no such~").write_text("iptables -F\n")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("missing", "empty.d", "names.d", "dangling", "a\0b"):
        end = staged(node, tmp_path / name)
        assert (end.exit_code, len(end.told)) == (2, 1), name


CUTS: Final = int(os.environ.get("HOSTLAB_CORPUS_CUTS", "8"))


def test_rulesets_cut_and_spoilt_anywhere_never_end_in_a_traceback(
    node: StageNode, tmp_path: Path
) -> None:
    chance = random.Random(CUTS)
    files = [each.path for each in CASES if each.path.is_file()]
    for number in range(CUTS):
        path = chance.choice(files)
        data = bytearray(path.read_bytes())
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        spoilt = tmp_path / f"{number}-{path.name}"
        spoilt.write_bytes(data[: chance.randrange(len(data) + 1)])
        end = staged(node, spoilt)
        assert end.exit_code in (0, 2, 3), (path, bytes(data))
        assert not end.exit_code or end.told, (path, bytes(data))
