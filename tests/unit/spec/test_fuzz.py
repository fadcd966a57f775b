"""Whatever a file says, it is a Lab or errors with places; never anything else.

`HOSTLAB_FUZZ` is the number of inputs for each test; the long run has 100,000.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, load
from hostlab.spec.json_schema import tables
from hostlab.spec.segment_tables import KINDS
from hostlab.spec.shapes import Key, Table

pytestmark = pytest.mark.unit

RUNS = int(os.environ.get("HOSTLAB_FUZZ", "60"))
EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = {
    "motd": b"hello\n",
    "t.in": b"${node} $address\n",
    "bundle/config.json": b"{}",
    "profile.json": b'{"defaultAction": "SCMP_ACT_ALLOW"}',
}
fuzzed = settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory", path) from None


def must_hold(text: str | bytes) -> None:
    found = outcome(text)
    if isinstance(found, Lab):
        assert outcome(text) == found
        return
    assert found.errors
    lines = re.split("\r\n|[\r\n\x85\u2028\u2029]", _text(text))
    places = []
    for error in found.errors:
        assert error.where is not None
        assert str(error)
        if error.where.file == "lab.yaml":
            assert 1 <= error.where.line <= len(lines), error
            assert 1 <= error.where.column <= len(lines[error.where.line - 1]) + 1, error
            places.append((error.where.line, error.where.column))
    assert places == sorted(places)


def outcome(text: str | bytes) -> Lab | SpecErrors:
    try:
        return load(text, file="lab.yaml", read=read, directory="/labs")
    except SpecErrors as errors:
        return errors


def _text(text: str | bytes) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text.removeprefix("\ufeff")


SEEDS = [path.read_text() for path in sorted(EXAMPLES.glob("*.yaml"))]
_WORDS = (
    "lan dmz a b web r - : [ ] { } ~ null true 80 -1 0 80:80 10.0.0.1 10.0.0.1/24 fd00::1 "
    "fd00::/64 10.0.0.0/8 default 5s 64M ALL machine &x *x <<: *x !!str | > ' \" # % @ ` , ? "
    "99999999999999999999 0.0.0.0 ::/0 a:b /x ../x ./x \\ é \u2028"
)
WORDS = sorted(
    {word for table in tables() for word in table.by_word}
    | {key.example for table in tables() for key in table.keys}
    | set(_WORDS.split(" "))
    | {"\t", " ", "\n", "\n  ", "\n    ", "\n- ", "\r\n", ": ", "\x00", "\ud800", "\ufeff"}
)


@fuzzed
@given(st.text())
def test_any_text(text: str) -> None:
    must_hold(text)


@fuzzed
@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    must_hold(content)


@fuzzed
@given(st.lists(st.sampled_from(WORDS), max_size=40).map("".join))
def test_words_of_descriptions_in_any_order(text: str) -> None:
    must_hold(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """An example with some of its pieces removed, doubled, moved, or replaced."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            pieces = text.split("\n")
            joint = "\n"
        else:
            pieces = re.split(r"(\W)", text)
            joint = ""
        at = draw(st.integers(0, len(pieces) - 1))
        other = draw(st.integers(0, len(pieces) - 1))
        match draw(st.sampled_from(["remove", "double", "swap", "word", "words", "indent"])):
            case "remove":
                del pieces[at]
            case "double":
                pieces.insert(other, pieces[at])
            case "swap":
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case "word":
                pieces[at] = draw(st.sampled_from(WORDS))
            case "words":
                pieces[at] += draw(st.sampled_from(WORDS))
            case _:
                pieces[at] = " " * draw(st.integers(0, 4)) + pieces[at]
        text = joint.join(pieces)
    return text


@fuzzed
@given(mutated())
def test_mutated_descriptions(text: str) -> None:
    must_hold(text)


_SCALARS = st.sampled_from(WORDS) | st.text(max_size=8)


def _written(value: object) -> str:
    match value:
        case list():
            return "[" + ", ".join(_written(item) for item in value) + "]"
        case dict():
            pairs = (f"{_written(key)}: {_written(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case None:
            return "~"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + re.sub("[^ -~]", lambda m: f"\\U{ord(m[0]):08X}", escaped) + '"'


_TREES = st.recursive(
    st.none() | _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([w for w in WORDS if w.isidentifier()]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@fuzzed
@given(st.dictionaries(st.sampled_from(["name", "segments", "roles", "nodes", "checks"]), _TREES))
def test_good_yaml_that_is_nonsense(tree: dict[str, object]) -> None:
    must_hold(_written(tree))


@fuzzed
@given(st.sampled_from([(t, k) for t in tables() for k in t.keys]), st.data())
def test_each_key_with_nonsense(where: tuple[Table, Key], data: st.DataObject) -> None:
    table, key = where
    value = _written(data.draw(_TREES))
    word, name = key.name, table.name
    inside = {
        "lab": f"{word}: {value}",
        "node": f"segments: [lan]\nroles: {{r: {{{word}: {value}}}}}\nnodes: {{a: {{role: r}}}}",
        "segment": f"segments: {{lan: {{{word}: {value}}}}}\nnodes: [a, b]",
        **{
            kind: f"segments: {{lan: , t: {{{kind}: {{{word}: {value}}}}}}}\nnodes: {{a: [lan, t]}}"
            for kind in KINDS
        },
        "check": f"segments: [lan]\nnodes: {{a: {{checks: [{{{word}: {value}}}]}}}}",
        "fault": f"segments: [lan]\nnodes: [a, b]\nfaults: [{{{word}: {value}}}]",
    }.get(name)
    if name in KINDS:
        inside = f"segments: {{lan: {{{name}: {{{word}: {value}}}}}}}\nnodes: [a, b]"
    if inside is None:
        holders = {
            "interface": "interfaces: {eth0: {%s}}",
            "impairments": "interfaces: {eth0: {impair: {%s}}}",
            "impairment": "interfaces: {eth0: {impair: {out: {%s}}}}", "route": "routes: [{%s}]",
            "file": "files: {/x: {%s}}", "user": "users: {u: {%s}}",
            "volume": "volumes: [{%s}]", "publish": "publish: [{%s}]", "limits": "limits: {%s}",
            "capabilities": "capabilities: {%s}", "root": "root: {%s}",
            "namespaces": "namespaces: {%s}", "time namespace": "namespaces: {time: {%s}}",
            "job": "jobs: {j: {%s}}", "job namespaces": "jobs: {j: {exec: x, namespaces: {%s}}}",
            "listens": "checks: [{listens: {%s}}]", "http": "checks: [{http: {%s}}]",
            "command": "checks: [{command: {%s}}]", "checked file": "checks: [{file: {%s}}]",
            "boot": "boot: {%s}",
            "process": "jobs: {j: {start_on: x, pre_start: {%s}}}",
            "respawn": "jobs: {j: {exec: x, respawn: {%s}}}",
            "respawn delay": "jobs: {j: {exec: x, respawn: {delay: {%s}}}}",
            "readiness": "jobs: {j: {exec: x, readiness: {%s}}}",
            "kill": "jobs: {j: {exec: x, kill: {%s}}}",
            "job limits": "jobs: {j: {exec: x, limits: {%s}}}",
            "units": "units: {%s}", "firewall": "firewall: {%s}",
            "firewall rule": "firewall: {allow: [{%s}]}",
            "firewall port": "firewall: {publish: [{%s}]}",
            "zone": "firewall: {zones: {z: {%s}}}",
            "socket": "jobs: {j: {exec: x, sockets: {%s}}}",
            "job apparmor": "jobs: {j: {exec: x, apparmor: {%s}}}",
            "routing": "loopback: true, routing: {%s}", "OSPF": "routing: {ospf: {%s}}",
            "BFD": "routing: {bfd: {%s}}", "PIM": "routing: {pim: {%s}}",
            "BFD neighbour": "routing: {bfd: {neighbours: {b: {%s}}}}",
            "BGP": "routing: {bgp: {as: 1, %s}}",
            "BGP peer": "routing: {bgp: {as: 1, peers: {b: {as: 2, %s}}}}",
            "BGP network": "routing: {bgp: {as: 1, networks: {10.9.0.0/16: {%s}}}}",
            "route filter": "routing: {bgp: {as: 1, peers: {b: {as: 2, import: {%s}}}}}",
            "raw routing configuration": "routing: {raw: {%s}}",
            "static route": "routing: {engine: frr, static: [{%s}]}",
        }  # fmt: skip
        inside = "segments: [lan]\nnodes: {a: {" + holders[name] % f"{word}: {value}" + "}, b: }"
    must_hold(inside)
