"""Judging: every check of a lab on every node it is about, at the same time, into one report.

What is looked at from inside a node goes to one process in that node, all its checks at once; what
asks the node's control runs in a thread here. A check's `within` begins when its node's turn comes:
`at_once` nodes are judged at a time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.base import Expectation, InsideExpectation, OutsideExpectation
from hostlab.checks.expectations import (
    KINDS,
    OUTPUT_LINES,
    Listens,
    attempt_inside,
    expectation,
    failed_jobs,
    line,
)
from hostlab.checks.inside import MESSAGE_BYTES, Crew, Inside
from hostlab.checks.patience import Patience, Seen, Waited
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.errors import Problem
from hostlab.spec.model import Check

AT_ONCE: Final = 128
QUESTIONS_AT_ONCE: Final = 32
"""As many checks of one node are looked at from inside it at the same time."""
GRACE_S: Final = 10.0
"""What an answer from inside may be late: entering, the last attempt, a busy machine. Nobody waits
for it but where a process that looks from inside hangs."""
HOPE_S: Final = 0.25
"""How long something may fail to listen before the node is asked whether its jobs have failed,
and how often from then on. Asking starts the node's supervisor."""

Progress = Callable[[Verdict], None]


class _Question(msgspec.Struct, frozen=True):
    """What goes into a node."""

    position: int
    kind: str
    arguments: dict[str, Any]
    within_s: float
    always_s: float | None = None
    never_s: float | None = None
    once: bool = False


class _Reply(msgspec.Struct, frozen=True):
    """What comes back."""

    position: int
    waited: Waited


@dataclass(frozen=True)
class _Row:
    """One check of one node: a cell of the report to come."""

    position: int
    check: Check
    node: str
    expectation: Expectation


@dataclass
class _Judging:
    """What the threads of one judgement share."""

    access: Mapping[str, NodeAccess]
    lab: str | None
    crew: Crew
    once: bool
    verdicts: queue.SimpleQueue[tuple[int, Verdict] | BaseException] = field(
        default_factory=queue.SimpleQueue
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    def say(self, row: _Row, waited: Waited) -> None:
        self.verdicts.put((row.position, _verdict(row, waited, self.lab, once=self.once)))

    def say_unknown(self, rows: Iterable[_Row], text: str, since: float) -> None:
        seen = Seen(ok=False, unknown=True, text=text)
        for row in rows:
            self.say(row, Waited(seen=seen, tries=1, took_s=time.monotonic() - since))


def judge(
    checks: Sequence[Check],
    access: Mapping[str, NodeAccess],
    *,
    lab: str | None = None,
    progress: Progress | None = None,
    at_once: int = AT_ONCE,
    once: bool = False,
) -> Report:
    """Judge every check on each of its nodes; `access` has the running nodes by name.

    Returns when every verdict is there; `progress` is told each as it is reached, in the calling
    thread. A node that is missing or dies gives UNKNOWN, and disturbs no other. `SpecError` when a
    check's kind or arguments do not exist, before anything is asked. `lab` is for the lines that
    repeat a check by hand. `once` is for a question instead of an expectation: the first attempt
    decides, has all of `within_s`, and its verdict has the whole log.
    """
    rows = _rows(checks)
    for row in rows:
        row.expectation.prepare()
    started = time.monotonic()
    found: dict[int, Verdict] = {}
    with Crew(answer_inside) as crew:
        judging = _Judging(access, lab, crew, once)
        with ThreadPoolExecutor(max_workers=max(1, at_once)) as pool:
            for work in _units(judging, rows):
                pool.submit(_guarded, judging, work)
            try:
                while len(found) < len(rows):
                    said = judging.verdicts.get()
                    if isinstance(said, BaseException):
                        raise said
                    found[said[0]] = said[1]
                    if progress:
                        progress(said[1])
            except BaseException:
                judging.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    ordered = tuple(found[row.position] for row in rows)
    return Report(rows=ordered, took_s=time.monotonic() - started)


def _rows(checks: Sequence[Check]) -> list[_Row]:
    """A row for each check and node, in the order of the description."""
    rows: list[_Row] = []
    for check in checks:
        typed = expectation(check.kind, check.arguments)
        rows += [_Row(len(rows) + i, check, node, typed) for i, node in enumerate(check.nodes)]
    return rows


def _units(judging: _Judging, rows: list[_Row]) -> Iterable[Callable[[], None]]:
    """What a thread does at a time: the inside of one node, or one question to a control."""
    inside: dict[str, list[_Row]] = {}
    for row in rows:
        if isinstance(row.expectation, InsideExpectation):
            inside.setdefault(row.node, []).append(row)
    for node, mine in inside.items():
        for first in range(0, len(mine), QUESTIONS_AT_ONCE):
            batch = mine[first : first + QUESTIONS_AT_ONCE]
            yield partial(_judge_inside, judging, node, batch)
    for row in rows:
        if isinstance(row.expectation, OutsideExpectation):
            yield partial(_judge_outside, judging, row)


def _guarded(judging: _Judging, work: Callable[[], None]) -> None:
    """Hand an error of ours to the caller's thread: a verdict that never comes would hang it."""
    try:
        work()
    except BaseException as error:
        judging.verdicts.put(error)


def _judge_outside(judging: _Judging, row: _Row) -> None:
    """A check that asks the node's control."""
    started = time.monotonic()
    outside = row.expectation
    assert isinstance(outside, OutsideExpectation)
    access = judging.access.get(row.node)
    if access is None:
        judging.say_unknown([row], f"the node {row.node} is not there", started)
        return
    patience = replace(_patience(row.check, outside), pause=judging.stopped.wait, once=judging.once)

    def attempt(timeout_s: float) -> Seen:
        if judging.stopped.is_set():
            return Seen(ok=False, unknown=True, hopeless=True, text="given up")
        try:
            return outside.attempt(access, timeout_s)
        except (Problem, OSError) as error:
            text = f"the node cannot be asked: {error}"
            return Seen(ok=False, unknown=True, hopeless=True, text=text)

    judging.say(row, patience.judged(attempt))


def _judge_inside(judging: _Judging, node: str, rows: list[_Row]) -> None:
    """The checks of a node that are looked at from inside it."""
    started = time.monotonic()
    pending = {row.position: row for row in rows}
    access = judging.access.get(node)
    if access is None:
        judging.say_unknown(rows, f"the node {node} is not there", started)
        return
    try:
        with judging.crew.enter(access.pid) as inside:
            _converse(judging, access, inside, pending)
    except (Problem, OSError) as error:
        judging.say_unknown(pending.values(), f"the node cannot be looked at: {error}", started)


def _converse(
    judging: _Judging, access: NodeAccess, inside: Inside, pending: dict[int, _Row]
) -> None:
    """Ask everything, and take answers until none is missing, in time or hopeless."""
    started = time.monotonic()
    for row in pending.values():
        arguments = msgspec.to_builtins(row.expectation)
        check = row.check
        question = _Question(
            row.position,
            check.kind,
            arguments,
            check.within_s,
            check.always_s,
            check.never_s,
            judging.once,
        )
        inside.submit(msgspec.json.encode(question))
    longest_s = (_patience(row.check, row.expectation).longest_s for row in pending.values())
    late = started + max(longest_s) + GRACE_S
    look_at_jobs = started + HOPE_S
    while pending:
        wakes = min(late, look_at_jobs) if _may_despair(pending) else late
        answer = inside.receive(wakes - time.monotonic())
        now = time.monotonic()
        if answer is not None:
            reply = msgspec.json.decode(answer, type=_Reply)
            if reply.position in pending:
                judging.say(pending.pop(reply.position), reply.waited)
        elif now >= late:
            judging.say_unknown(pending.values(), "no answer from inside the node", started)
            pending.clear()
        else:
            _despair(judging, access, pending, now - started)
            look_at_jobs = time.monotonic() + HOPE_S


def _may_despair(pending: dict[int, _Row]) -> bool:
    return any(_is_awaited(row) for row in pending.values())


def _is_awaited(row: _Row) -> bool:
    """Whether somebody is expected to listen."""
    return isinstance(row.expectation, Listens) and row.check.never_s is None


def _despair(
    judging: _Judging, access: NodeAccess, pending: dict[int, _Row], took_s: float
) -> None:
    """Decide at once what waits for a job that has failed."""
    seen = failed_jobs(access.jobs())
    if seen is None:
        return
    for position, row in list(pending.items()):
        if _is_awaited(row):
            del pending[position]
            judging.say(row, Waited(seen=seen, tries=1, took_s=took_s))


def answer_inside(request: bytes) -> bytes:
    """The crew's handler: one check, tried until it is decided. Runs inside a node."""
    question = msgspec.json.decode(request, type=_Question)
    judged = msgspec.convert(question.arguments, KINDS[question.kind])
    assert isinstance(judged, InsideExpectation)
    patience = _patience(question, judged)
    waited = patience.judged(lambda timeout_s: attempt_inside(judged, timeout_s))
    answer = msgspec.json.encode(_Reply(question.position, waited))
    if len(answer) >= MESSAGE_BYTES:
        short = msgspec.structs.replace(waited.seen, log=waited.seen.log[:OUTPUT_LINES], facts={})
        waited = msgspec.structs.replace(waited, seen=short)
        answer = msgspec.json.encode(_Reply(question.position, waited))
    return answer


def _patience(said: Check | _Question, judged: Expectation) -> Patience:
    return Patience(
        said.within_s,
        judged.attempt_s,
        lasting=judged.lasting,
        always_s=said.always_s,
        never_s=said.never_s,
        once=isinstance(said, _Question) and said.once,
    )


def _verdict(row: _Row, waited: Waited, lab: str | None, *, once: bool) -> Verdict:
    check, judged, seen = row.check, row.expectation, waited.seen
    outcome = Outcome.HOLDS if seen.ok else Outcome.UNKNOWN if seen.unknown else Outcome.FAILS
    return Verdict(
        node=row.node,
        kind=check.kind,
        check=line(check, judged),
        outcome=outcome,
        expected=_expected(check, judged),
        seen=seen.text,
        within_s=_patience(check, judged).longest_s,
        took_s=waited.took_s,
        tries=waited.tries,
        place=check.place,
        log=() if seen.ok and not once else seen.log,
        repeat=judged.repeat(lab, row.node, check.within_s),
        facts=seen.facts,
    )


def _expected(check: Check, judged: Expectation) -> str:
    if check.never_s is not None:
        return f"for {check.never_s:g} s not: {judged.expected()}"
    always = "" if check.always_s is None else f", and that for {check.always_s:g} s"
    return judged.expected() + always
