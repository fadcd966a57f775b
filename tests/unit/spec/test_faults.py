"""Faults as they are written: kinds, targets, options, what contradicts what, timelines."""

from __future__ import annotations

import textwrap

import msgspec
import pytest

from hostlab.errors import SpecErrors, UsageError
from hostlab.spec import load
from hostlab.spec.fault_conflicts import contradiction, silenced, touched
from hostlab.spec.fault_timeline import steps
from hostlab.spec.faults import KINDS, links, option, parse
from hostlab.spec.model import Fault, Lab, TimedFault

pytestmark = pytest.mark.unit

TEXT = """
name: l
segments: {lan: 10.1.0.0/24, cable: 10.2.0.0/24, out: {subnet: 10.3.0.0/24, machine: 10.3.0.9}}
roles: {router: {forwarding: true}}
nodes:
  r1: {roles: router, interfaces: [lan, cable], routes: [10.9.0.0/16 via 10.2.0.2]}
  r2: {roles: router, interfaces: [lan, cable]}
  a: {interfaces: [lan], jobs: {web: sleep 1}, routing: {bgp: {as: 1}}}
  lan: {interfaces: [lan, out]}
"""
LAB = load(TEXT, file="l.yaml")


def one(words: str) -> Fault:
    (fault,) = parse(words.split(), LAB)
    return fault


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("link-dwn r1:eth0", "there is no fault `link-dwn`", "did you mean link-down?"),
        ("link-down", "a fault is KIND TARGET", "hostlab fault kinds"),
        ("link-down r9:eth0", "has no node `r9`", "there are: r1"),
        ("link-down r1:eth9", "r1 has no interface `eth9`", "did you mean eth1?"),
        ("link-down r1", "done to NODE:INTERFACE or SEGMENT, not to `r1`", "link-down NODE:"),
        ("node-frozen cable", "done to NODE, not to `cable`", "node-frozen NODE"),
        ("node-frozen tree", "no node or segment `tree`", "there are: r1, r2"),
        ("job-killed a/wen", "a has no job `wen`", "did you mean web?"),
        ("partition lan", "partition needs apart", "apart=…: the nodes of one set"),
        ("partition lan apart=a+z", "z is not on segment lan", "nodes on it: a, lan, r1, r2"),
        ("partition cable apart=r1+r2", "needs nodes on both sides", ""),
        ("one-way-loss r1:eth0 los=3%", "has no option `los`", "did you mean loss?"),
        ("one-way-loss r1:eth0 loss=0%", "loss: `0` ", ""),
        ("one-way-loss r1:eth0 loss=101%", "`101%` is no share", "write `30%`"),
        ("one-way-loss r1:eth0 direction=up", "neither in nor out", "seen from the node"),
        ("one-way-loss r1:eth0 loss", "`loss` is not NAME=VALUE", "hostlab fault kinds"),
        ("dns-slow a delay=1.5s", "not 1 to 30 whole seconds", ""),
        ("dns-slow a delay=31s", "not 1 to 30 whole seconds", ""),
        ("port-filtered a port=0", "`0` is not a port", ""),
        ("file-present a", "file-present needs path", "path=…"),
        ("file-present a path=off", "path: `off` is not an absolute path", ""),
        ("dns-wrong a", "dns-wrong needs name", ""),
        ("flap r1:eth0 times=1001", "times: ", ""),
        ("flap r1:eth0 period=0s", "period: `0s` is no time at all", ""),
        ("link-down router", "done to NODE:INTERFACE or SEGMENT, not to `r1`", ""),
        ("bgp-session-reset r1", "r1 has no BGP by `routing:`", "job-killed"),
        ("bgp-session-reset a how=so", "`so` is neither hard nor soft", ""),
        ("announcement-withdrawn a prefix=10.9.0.1/16", "prefix: ", ""),
        ("certificate-expired a", "certificate-expired needs path", "path=…: its file"),
        ("certificate-expired a path=/c key=k", "key: `k` is not an absolute path", ""),
        ("certificate-expired a path=/c key=z:/k", "has no node `z`", "there are: r1"),
        ("certificate-expired a path=/c issuer_key=b:/k", "has no node `b`", ""),
        ("certificate-expired a path=/c job=wen", "a has no job `wen`", "did you mean web?"),
        ("certificate-expired a path=/c job=web how=x", "`x` is neither reload nor res", ""),
        ("certificate-expired a path=/c how=reload", "no job is named", "job=NAME"),
        ("link-down r1:eth0 x=1", "link-down has no option `x`", ""),
    ],
)
def test_what_cannot_be_meant_is_said_with_a_way_out(words: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split(), LAB)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_set_is_a_fault_for_each_target() -> None:
    assert [f.on for f in parse(("node-frozen", "router,a"), LAB)] == ["r1", "r2", "a"]
    assert [f.on for f in parse(("node-frozen", "*"), LAB)] == ["r1", "r2", "a", "lan"]
    with pytest.raises(UsageError, match="more than 1000 targets"):
        parse(("node-frozen", ",".join(["a"] * 1001)), LAB)


def test_a_role_stands_for_its_nodes_in_links_and_jobs_too() -> None:
    assert [f.on for f in parse(("link-down", "router:eth0"), LAB)] == ["r1:eth0", "r2:eth0"]
    assert [f.on for f in parse(("node-frozen", "a,router"), LAB)] == ["a", "r1", "r2"]
    text = "name: l\nroles: {w: {jobs: {x: sleep 1}}}\nnodes: {a: {role: w}, b: {role: w}}\n"
    web = load(text, file="l.yaml")
    assert [f.on for f in parse(("job-down", "w/x"), web)] == ["a/x", "b/x"]
    assert [f.on for f in parse(("job-down", "*/x"), web)] == ["a/x", "b/x"]


def test_a_segment_with_the_name_of_a_role_is_what_the_kind_takes() -> None:
    text = "name: l\nsegments: [core]\nroles: {core: }\nnodes: {a: {role: core}, b: core}\n"
    lab = load(text, file="l.yaml")
    assert [f.on for f in parse(("link-down", "core"), lab)] == ["core"]
    assert [f.on for f in parse(("node-frozen", "core"), lab)] == ["a"]


WITHOUT_CABLES = load(
    """
name: l
segments:
  lan: 10.1.0.0/24
  blue: {subnets: 10.2.0.0/24, vxlan: {vni: 4}}
  out: {subnets: 192.0.2.0/24, macvlan: {device: eno2}}
nodes:
  a: {interfaces: {eth0: lan, blue: blue}}
  b: {interfaces: {eth0: lan, blue: blue, eth1: out}}
""",
    file="l.yaml",
)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("link-down a:blue", "a:blue is the end of a vxlan, which has no cable", "carries it"),
        ("one-way-loss a:blue", "a:blue is the end of a vxlan", "break a link"),
        ("link-down blue", "segment blue is a vxlan, which has no cables", "carries it"),
        ("partition blue apart=a", "segment blue is a vxlan", "break a segment"),
        ("flap out", "segment out is a macvlan, which has no cables", ""),
        ("link-down b:eth1", "b:eth1 is on the machine's eno2, which is no cable", ""),
        ("node-cut-off b", "b:eth1 is on the machine's eno2, which is no cable", ""),
        ("port-filtered b port=1", "b:eth1 is on the machine's eno2, which is no cable", ""),
    ],
)
def test_what_has_no_cable_is_not_cut(words: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split(), WITHOUT_CABLES)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_node_with_a_tunnel_is_cut_off_by_its_cables() -> None:
    (fault,) = parse(("node-cut-off", "a"), WITHOUT_CABLES)
    assert links(fault, WITHOUT_CABLES) == (("a", "eth0"),)
    (fault,) = parse(("link-down", "a:eth0"), WITHOUT_CABLES)
    assert links(fault, WITHOUT_CABLES) == (("a", "eth0"), ("b", "eth0"))


def test_options_have_defaults_and_are_read() -> None:
    assert option(one("one-way-loss r1:eth0"), "loss") == 1.0
    assert option(one("one-way-loss r1:eth0 loss=30%"), "loss") == 0.3
    assert option(one("one-way-loss r1:eth0 loss=0.3"), "loss") == 0.3
    assert option(one("memory-pressure a room=1M"), "room") == 1 << 20
    assert option(one("partition lan apart=a+r1"), "apart") == ("a", "r1")
    assert option(one("route-withdrawn r1 to=default"), "to") == ("0.0.0.0/0", "::/0")
    assert option(one("dns-wrong a name=WEB"), "name") == "web"
    assert str(one("one-way-loss r1:eth0 loss=30%")) == "one-way-loss r1:eth0 loss=30%"


def test_a_segment_of_two_is_a_cable_with_both_its_ends() -> None:
    assert links(one("link-down r1:eth1"), LAB) == (("r1", "eth1"), ("r2", "eth1"))
    assert links(one("link-down cable"), LAB) == links(one("link-down r2:eth1"), LAB)
    assert links(one("link-down r1:eth0"), LAB) == (("r1", "eth0"),)
    assert links(one("link-down lan:eth1"), LAB) == (("lan", "eth1"),)  # The machine is there.
    assert links(one("one-way-loss r1:eth1"), LAB) == (("r1", "eth1"),)
    assert links(one("node-cut-off r1"), LAB) == (("r1", "eth0"), ("r1", "eth1"))
    assert len(links(one("link-down lan"), LAB)) == 4


def test_a_name_of_a_node_and_a_segment_is_what_the_kind_takes() -> None:
    assert touched(one("node-frozen lan"), LAB) == {"lan"}
    assert touched(one("link-down lan"), LAB) == {"r1", "r2", "a", "lan"}


@pytest.mark.parametrize(
    ("there", "new", "why"),
    [
        ("link-down lan", "link-down r1:eth0", "holds link r1:eth0 already"),
        ("link-down cable", "link-down r2:eth1", "holds link r1:eth1 already"),
        ("link-down cable", "link-down r2:eth0", None),
        ("node-killed r1", "node-frozen r1", "r1 is dead on purpose"),
        ("node-killed r1", "link-down cable", "r1 is dead on purpose"),
        ("node-killed r1", "link-down a:eth0", None),
        ("node-killed r1", "node-killed r2", None),
        ("dns-slow r1", "node-killed r1", "r1 has another fault"),
        ("link-down cable", "node-killed r1", "r1 has another fault"),
        ("node-frozen a", "job-killed a/web", "a is frozen on purpose"),
        ("node-frozen a", "cpu-slow a", None),
        ("job-stopped a/web", "job-killed a/web", "holds job a/web already"),
        ("job-stopped a/web", "descriptors-exhausted a/web", None),
        ("disk-full a", "read-only a path=/tmp", "holds files a already"),
        ("port-filtered a port=1", "port-filtered a port=2", None),
        ("port-filtered a port=1", "port-filtered a port=1", "holds port a tcp 1"),
        ("port-filtered a port=1", "port-filtered a port=1 protocol=udp", None),
        ("one-way-loss a:eth0", "one-way-loss a:eth0 direction=out", None),
        ("one-way-loss a:eth0", "one-way-loss a:eth0 loss=1%", "holds loss a:eth0 in"),
        ("partition lan apart=a", "partition lan apart=r1", "holds partition lan"),
        ("file-present a path=/x", "file-present a path=/y", None),
        ("file-present a path=/x", "file-present a path=/x", "holds file a /x"),
        ("job-down a/web", "job-killed a/web", "holds job a/web already"),
        ("route-withdrawn r1 to=10.9.0.0/16", "route-withdrawn r1 to=10.9.0.0/16", "holds route"),
    ],
)
def test_what_contradicts_what(there: str, new: str, why: str | None) -> None:
    found = contradiction([one(there)], one(new), LAB)
    assert found is None if why is None else why in str(found)


def test_checks_of_a_silenced_node_are_known() -> None:
    every = [one("node-killed r1"), one("node-frozen a"), one("link-down r2:eth0")]
    assert silenced(every) == {"r1", "a"}


def test_every_kind_has_a_usage_that_its_reader_takes() -> None:
    targets = {"NODE": "a", "NODE:INTERFACE": "r1:eth0", "SEGMENT": "cable", "NODE/JOB": "a/web"}
    said = {"apart": "r1", "path": "/x", "name": "web", "port": "80", "to": "default"}
    said["prefix"] = "10.9.0.0/16"
    for kind in KINDS.values():
        needed = [f"{o.name}={said[o.name]}" for o in kind.options if o.default is None]
        for form in kind.forms:
            assert one(" ".join((kind.name, targets[form], *needed))).kind == kind.name


def timeline(text: str) -> Lab:
    return load(TEXT + "faults:\n" + textwrap.indent(textwrap.dedent(text), "  "), file="l.yaml")


def test_a_timeline_is_read() -> None:
    lab = timeline(
        """
        - {at: 5s, do: link-down, on: "r1:eth0", for: 3s}
        - {do: one-way-loss, on: ["a:eth0", "r2:eth0"], with: {loss: 30%}}
        """
    )
    assert lab.faults == (
        TimedFault(at_s=5, fault=Fault(kind="link-down", on="r1:eth0"), for_s=3),
        *(
            TimedFault(at_s=0, fault=Fault(kind="one-way-loss", on=on, options=(("loss", "30%"),)))
            for on in ("a:eth0", "r2:eth0")
        ),
    )
    assert msgspec.json.decode(msgspec.json.encode(lab), type=Lab) == lab


def test_what_is_wrong_in_a_timeline_has_its_place() -> None:
    with pytest.raises(SpecErrors) as caught:
        timeline(
            """
            - {do: link-dwn, on: lan}
            """
        )
    (error,) = caught.value.errors
    assert "did you mean `link-down`?" in str(error.hint)
    with pytest.raises(SpecErrors) as caught:
        timeline(
            """
            - {at: 1s, do: link-down, on: lan, for: 3s}
            - {at: 2s, do: link-down, on: "r1:eth0", for: 3s}
            - {at: 2s, do: node-frozen, on: [a, z]}
            - {at: 4s, do: link-down, on: "r1:eth0", for: 3s}
            """
        )
    found = [(e.where.line, e.message) for e in caught.value.errors if e.where is not None]
    assert [line for line, _ in found] == [13, 14]
    assert "holds link r1:eth0 already" in found[0][1]
    assert "no node or segment `z`" in found[1][1]


def test_how_long_a_fault_lasts_is_more_than_nothing() -> None:
    with pytest.raises(SpecErrors) as caught:
        timeline(
            """
            - {do: link-down, on: lan, for: 0s}
            - {do: flap, on: cable, for: 2s}
            """
        )
    assert [error.message for error in caught.value.errors] == [
        "a fault that lasts no time at all is none",
        "how long a flap lasts is its `times` by its `period`",
    ]


def test_the_steps_of_a_timeline_clear_before_they_break() -> None:
    lab = timeline(
        """
        - {at: 2s, do: node-frozen, on: a}
        - {at: 1s, do: link-down, on: lan, for: 1s}
        """
    )
    found = [(s.at_s, s.clears, s.fault.kind) for s in steps(lab.faults)]
    assert found == [
        (1.0, False, "link-down"),
        (2.0, True, "link-down"),
        (2.0, False, "node-frozen"),
    ]


def test_a_flap_is_a_cable_that_is_pulled_several_times() -> None:
    flap = TimedFault(at_s=1, fault=one("flap r1:eth0 times=2 period=1s"))
    assert [(s.at_s, s.clears, str(s.fault)) for s in steps([flap])] == [
        (1.0, False, "link-down r1:eth0"),
        (1.5, True, "link-down r1:eth0"),
        (2.0, False, "link-down r1:eth0"),
        (2.5, True, "link-down r1:eth0"),
    ]
