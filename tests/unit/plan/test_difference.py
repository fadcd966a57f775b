"""Plans: from any lab to any other, in an order that works, each step with its reason."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hostlab.plan.difference import NETWORK, NOT_STAGED, REPLACING, difference
from hostlab.plan.operations import INVERSE, Kind, Operation, Plan
from hostlab.spec.condition import parse_condition
from hostlab.spec.firewall import Firewall, Verdict
from hostlab.spec.job import Job, Kill, Process, Respawn, Said
from hostlab.spec.model import (
    Boot,
    File,
    Interface,
    Lab,
    Limits,
    Link,
    Node,
    Publish,
    Route,
    Segment,
    Volume,
)

pytestmark = pytest.mark.unit

NAMES = ("a", "b", "c", "d")
SEGMENTS = ("lan", "far")
T = TypeVar("T")


def optional(value: T) -> st.SearchStrategy[tuple[T, ...]]:
    choices: list[tuple[T, ...]] = [(), (value,)]
    return st.sampled_from(choices)


@st.composite
def nodes(draw: st.DrawFn, name: str, present: tuple[str, ...]) -> Node:
    number = NAMES.index(name) + 1
    interface = Interface(
        name="eth0",
        segment=draw(st.sampled_from(present)),
        addresses=(draw(st.sampled_from([f"10.0.0.{number}/24", f"10.0.0.{number + 50}/24"])),),
        mac=f"02:00:00:00:00:0{number}",
        mtu=draw(st.sampled_from([1500, 1400])),
    )
    return Node(
        name=name,
        hostname=draw(st.sampled_from([name, f"{name}.lab"])),
        interfaces=draw(optional(interface)),
        routes=draw(optional(Route(to="0.0.0.0/0", via="10.0.0.9"))),
        sysctls=draw(
            st.sampled_from([(), (("net.ipv4.ip_forward", "1"),), (("kernel.shmmax", "9"),)])
        ),
        files=draw(optional(File(path="/x", content=b"y"))),
        environment=draw(optional(("A", "b"))),
        volumes=draw(optional(Volume(source="v", target="/v"))),
        publish=draw(optional(Publish(port=8000, inner=80))),
        links=draw(optional(Link(node="a", alias="z"))),
        firewall=draw(st.sampled_from([None, *(Firewall(default=verdict) for verdict in Verdict)])),
        limits=draw(st.sampled_from([Limits(), Limits(pids=9), Limits(disk=1 << 20)])),
        jobs=draw(st.sampled_from([(), (Job(name="j", exec="x"),), (Job(name="j", exec="y"),)])),
        job_files=draw(optional("/etc/init")),
        crontabs=draw(optional("/etc/crontab")),
        boot=draw(st.sampled_from([Boot(), Boot(events=())])),
    )


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    present = draw(st.sampled_from([("lan",), ("far",), SEGMENTS]))
    segments = tuple(
        Segment(
            name=name,
            subnets=("10.0.0.0/24",),
            mtu=draw(st.sampled_from([1500, 9000])),
            machine=draw(optional("10.0.0.254")),
        )
        for name in present
    )
    named = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    found = [draw(nodes(name, present)) for name in named]
    for index in range(1, len(found)):
        if draw(st.booleans()):
            shared = (("net", found[index - 1].name),)
            found[index] = replace(found[index], namespaces=shared, interfaces=())
    return Lab(name="l", segments=segments, nodes=tuple(found))


CHANGED_BY = {
    Kind.CHANGE_NETWORK: ("interfaces", "loopbacks", "routes", "sysctls"),
    Kind.CHANGE_FIREWALL: ("firewall",),
    Kind.CHANGE_LIMITS: ("limits",),
    Kind.CHANGE_FILES: ("files",),
    Kind.CHANGE_JOBS: ("jobs", "environment", "job_files", "crontabs", "units"),
    Kind.CHANGE_PUBLISHED: ("publish",),
}
WRITTEN_ANYWAY = ("links", "roles", "unsupported")
"""Tables of names are compared by content at every `up`."""


def carried_out(plan: Plan, old: Lab, new: Lab) -> tuple[dict[str, Segment], dict[str, Node]]:
    """What the operations do to a model, failing where the kernel would."""
    segments = {segment.name: segment for segment in old.segments}
    there = {node.name: node for node in old.nodes}
    wanted = {segment.name: segment for segment in new.segments}
    for operation in plan.operations:
        name = operation.subject
        match operation.kind:
            case Kind.ADD_SEGMENT:
                assert name not in segments
                segments[name] = wanted[name]
            case Kind.REMOVE_SEGMENT:
                del segments[name]
            case Kind.CHANGE_SEGMENT:
                assert name in segments
                segments[name] = wanted[name]
            case Kind.ADD_NODE:
                assert name not in there
                node = new.node(name)
                assert all(interface.segment in segments for interface in node.interfaces)
                # Published ports have an operation of their own, for a new node as well.
                there[name] = replace(node, publish=())
            case Kind.REMOVE_NODE:
                del there[name]
            case kind:
                fields = {field: getattr(new.node(name), field) for field in CHANGED_BY[kind]}
                there[name] = replace(there[name], **fields)
    for name, node in there.items():
        fields = {field: getattr(new.node(name), field) for field in WRITTEN_ANYWAY}
        there[name] = replace(node, **fields)
    return segments, there


@given(labs(), labs())
def test_a_plan_leads_from_any_lab_to_any_other(old: Lab, new: Lab) -> None:
    segments, there = carried_out(difference(old, new), old, new)
    assert segments == {segment.name: segment for segment in new.segments}
    assert there == {node.name: node for node in new.nodes}


@given(labs())
def test_nothing_is_done_to_a_lab_that_is_as_described(lab: Lab) -> None:
    assert not difference(lab, lab)


@given(labs(), labs())
def test_what_goes_goes_before_what_comes_and_every_step_has_a_reason(old: Lab, new: Lab) -> None:
    operations = difference(old, new).operations
    kinds = [operation.kind for operation in operations]
    gone = [i for i, kind in enumerate(kinds) if kind in (Kind.REMOVE_NODE, Kind.REMOVE_SEGMENT)]
    come = [i for i, kind in enumerate(kinds) if kind in (Kind.ADD_NODE, Kind.ADD_SEGMENT)]
    assert not gone or not come or max(gone) < min(come)
    assert all(operation.reason for operation in operations)
    assert len({(o.kind, o.subject) for o in operations}) == len(operations)


@given(labs(), labs())
def test_a_node_shares_the_fate_of_the_one_whose_namespace_it_is_in(old: Lab, new: Lab) -> None:
    made = {operation.subject for operation in difference(old, new).of(Kind.ADD_NODE)}
    for node in new.nodes:
        if any(other in made for _, other in node.namespaces):
            assert node.name in made


@given(labs())
def test_from_nothing_everything_is_added(lab: Lab) -> None:
    plan = difference(None, lab)
    assert {o.subject for o in plan.of(Kind.ADD_NODE)} == {node.name for node in lab.nodes}
    assert not plan.of(Kind.REMOVE_NODE, Kind.REMOVE_SEGMENT, Kind.CHANGE_NETWORK)


def test_the_inverse_of_an_inverse_is_the_same_kind() -> None:
    assert set(INVERSE) == set(Kind)
    assert all(INVERSE[INVERSE[kind]] is kind for kind in Kind)
    operation = Operation(Kind.CHANGE_JOBS, "web", "changed", ("a",))
    assert operation.inverse().restart == ("a",)
    assert "changed" in operation.inverse().reason


JOB = Job(name="j", exec="x", start_on=parse_condition("startup"))
ONLY_SAID = [
    {"start_on": parse_condition("started db")},
    {"start_on": None, "manual": True},
    {"emits": ("login",)},
    {"description": "a web server"},
    {"usage": "TTY"},
]
RUNNING = [
    {"exec": "y"},
    {"stop_on": parse_condition("stopping db")},
    {"environment": (("A", "b"),)},
    {"kill": Kill(timeout_s=1)},
    {"respawn": Respawn(enabled=True)},
    {"pre_start": Process(exec="true")},
    {"export": ("A",)},
]


def jobs_change(was: Job, now: Job) -> Operation | None:
    """The one operation between two labs of one node with one job each."""
    before, after = (
        Lab(name="l", nodes=(Node(name="a", hostname="a", jobs=(j,)),)) for j in (was, now)
    )
    operations = difference(before, after).operations
    assert all(operation.kind is Kind.CHANGE_JOBS for operation in operations)
    assert len(operations) < 2
    return operations[0] if operations else None


@pytest.mark.parametrize("fields", ONLY_SAID, ids=lambda fields: next(iter(fields)))
def test_what_a_running_job_does_not_feel_is_only_taken_up_anew(fields: dict[str, Any]) -> None:
    operation = jobs_change(JOB, replace(JOB, **fields))
    assert operation is not None
    assert (operation.reason, operation.restart) == ("j changed", ())


@pytest.mark.parametrize("fields", RUNNING, ids=lambda fields: next(iter(fields)))
def test_what_a_running_job_feels_restarts_it(fields: dict[str, Any]) -> None:
    operation = jobs_change(JOB, replace(JOB, **fields))
    assert operation is not None
    assert operation.restart == ("j",)


def test_a_job_that_only_moved_in_its_file_is_the_same() -> None:
    moved = replace(JOB, said=(Said(stanza="start on", file="lab.yaml", line=9),))
    assert jobs_change(JOB, moved) is None
    operation = jobs_change(JOB, replace(moved, description="a web server"))
    assert operation is not None
    assert operation.restart == ()


def test_a_job_that_reads_something_else_is_told_to_where_it_can_be() -> None:
    job = replace(JOB, reads="one", reload=Process(exec="r"))
    operation = jobs_change(job, replace(job, reads="two", description="other"))
    assert operation is not None
    assert (operation.restart, operation.reload) == ((), ("j",))
    assert operation.inverse().reload == ("j",)
    for other in (replace(job, reads="two", nice=3), replace(job, reads="two", reload=None)):
        operation = jobs_change(job, other)
        assert operation is not None
        assert (operation.restart, operation.reload) == (("j",), ())


def test_of_several_jobs_those_that_come_and_go_are_not_restarted() -> None:
    def lab(*jobs: Job, files: tuple[str, ...] = ()) -> Lab:
        node = Node(name="a", hostname="a", jobs=jobs, job_files=files)
        return Lab(name="l", nodes=(node,))

    one, two, three = (Job(name=name, exec="x") for name in ("one", "two", "three"))
    other = replace(two, exec="y")
    (operation,) = difference(lab(one, two), lab(three, other, files=("/etc/init",))).operations
    assert operation.reason == "one, three, two, `job_files` changed"
    assert operation.restart == ("two",)
    (operation,) = difference(lab(one), lab(one, files=("/etc/init",))).operations
    assert (operation.reason, operation.restart) == ("`job_files` changed", ())


def test_another_boot_is_another_start_of_the_host() -> None:
    def lab(boot: Boot) -> Lab:
        return Lab(name="l", nodes=(Node(name="a", hostname="a", boot=boot),))

    kinds = [o.kind for o in difference(lab(Boot()), lab(Boot(runlevel="3"))).operations]
    assert kinds == [Kind.REMOVE_NODE, Kind.ADD_NODE]


def test_every_field_of_a_node_has_its_way_of_changing() -> None:
    assert sorted((*REPLACING, *NETWORK, *NOT_STAGED)) == sorted(Node.__struct_fields__)
