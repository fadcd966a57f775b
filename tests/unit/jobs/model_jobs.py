"""Random jobs for the model: every stanza that the state machine knows, and conditions that meet.

An `and` joins at most one event of a job with events that anybody can emit. So whatever waits for
the other half can be set free by emitting `ENDINGS`, as a person would whom `job waits` told.
"""

from __future__ import annotations

from hypothesis import strategies as st

from hostlab.spec.job import Job
from hostlab.spec.upstart import load_conf

JOBS = 4
PLAIN = ("a", "b", "c X=1", "c X!=1", "c X=${I:-0}", "c 1", "d", "e*", "a/failed")
ENDINGS = (
    ("a", ()), ("b", ()), ("d", ()), ("c", (("X", "0"),)), ("c", (("X", "1"),)),
    ("c", (("X", "2"),)), ("e*", ()), ("a/failed", ()),
)  # fmt: skip
"""Events that make every plain operand true."""
STANZAS = (
    "task",
    "respawn",
    "respawn limit 2 5",
    "respawn limit unlimited",
    "respawn delay 1 4",
    "expect stop",
    "expect fork",
    "expect daemon",
    "expect notify",
    "expect fd 3",
    "expect port 80",
    "expect file /x",
    "expect timeout 3",
    "expect timeout 0",
    "pre-start exec a",
    "post-start exec b",
    "pre-stop exec c",
    "post-stop exec d",
    "apparmor load p",
    "normal exit 1",
    "normal exit 0 TERM KILL",
    "instance ${I:-}",
    "instance $I",
    "usage I=…",
    "env I=0",
    "env Y",
    "export I JOB X",
    "manual",
    "kill timeout 0",
    "kill timeout 2",
    "kill signal INT",
    "kill mode process",
    "kill mode control-group",
    "kill mode mixed",
    "kill mode none",
    "reload signal USR1",
)
NAMES = st.integers(0, JOBS - 1).map(lambda number: f"j{number}")
VARIABLES = st.sampled_from([(), (("I", "0"),), (("I", "1"),), (("X", "1"), ("I", "2"))])


@st.composite
def conditions(draw: st.DrawFn) -> str:
    """A condition; its operands are events that anybody emits, and events of jobs."""
    operands = draw(st.lists(st.sampled_from(PLAIN), max_size=3))
    if not operands or draw(st.booleans()):
        kind = draw(st.sampled_from(["starting", "started", "stopping", "stopped"]))
        whose = draw(st.sampled_from(["", " j0", " j1", " JOB=j2", " j3", " JOB!=j1", " j2 0"]))
        failed = draw(st.sampled_from(["", "", " RESULT=failed"]))
        operands.append(kind + whose + failed)
        operands = draw(st.permutations(operands))
    text = operands[0]
    for operand in operands[1:]:
        text = f"({text}) {draw(st.sampled_from(['and', 'or']))} {operand}"
    return text


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """A job; what `and` joins is as the top of the file says."""
    lines = draw(st.lists(st.sampled_from(STANZAS), max_size=8))
    if draw(st.integers(0, 3)):
        lines.append("exec x")
    if draw(st.booleans()):
        lines.append(f"start on {draw(conditions())}")
    if draw(st.booleans()):
        lines.append(f"stop on {draw(conditions())}")
    return load_conf("\n".join(lines) + "\n", file="model.conf", name=draw(NAMES))
