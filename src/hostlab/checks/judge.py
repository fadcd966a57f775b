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
from typing import Final

import msgspec

from hostlab import typed
from hostlab.checks.access import (
    Conversation,
    HostAccess,
    NodeAccess,
    OutsideAccess,
    failed_jobs,
)
from hostlab.checks.expectations import (
    Listens,
    expectation,
    line,
)
from hostlab.checks.inside import MESSAGE_BYTES, Crew
from hostlab.checks.kind import (
    Asked,
    Expectation,
    InsideExpectation,
    OutsideExpectation,
)
from hostlab.checks.patience import OUTPUT_LINES, Patience, Seen, Waited
from hostlab.checks.questions import Question, Reply, answered, attempt_outside, failed
from hostlab.checks.secrets import Masking
from hostlab.checks.targets import LOOK, Targets, who_listens
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.errors import Problem, in_a_line
from hostlab.spec.model import Check, Lab

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


@dataclass(frozen=True)
class _Row:
    """One check of one node: a cell of the report to come."""

    position: int
    check: Check
    node: str
    expectation: Expectation
    once: bool = False
    """The first attempt decides: it is a condition, or a question."""

    @property
    def question(self) -> Question:
        return Question(
            position=self.position,
            kind=self.check.kind,
            arguments=msgspec.to_builtins(self.expectation),
            within_s=self.check.within_s,
            always_s=self.check.always_s,
            never_s=self.check.never_s,
            once=self.once,
        )

    @property
    def patience(self) -> Patience:
        return self.question.patience(self.expectation)


@dataclass
class _Judging:
    """What the threads of one judgement share."""

    access: Mapping[str, NodeAccess | HostAccess]
    lab: str | None
    crew: Crew
    masking: Masking
    at_once: int
    progress: Progress | None
    targets: Targets | None
    verdicts: queue.SimpleQueue[tuple[int, Verdict] | BaseException] = field(
        default_factory=queue.SimpleQueue
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    def decide(self, rows: list[_Row], found: dict[int, Verdict]) -> None:
        """Judge these rows; their verdicts go to `found` by position."""
        wanted = len(found) + len(rows)
        with ThreadPoolExecutor(max_workers=self.at_once) as pool:
            for work in _units(self, rows):
                pool.submit(_guarded, self, work)
            try:
                while len(found) < wanted:
                    said = self.verdicts.get()
                    if isinstance(said, BaseException):
                        raise said
                    found[said[0]] = said[1]
                    if self.progress:
                        self.progress(said[1])
            except BaseException:
                self.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def say(self, row: _Row, waited: Waited) -> None:
        verdict = _verdict(row, waited, self.repeat(row))
        if self.targets is not None and verdict.outcome is Outcome.FAILS:
            blamed = row.expectation.blamed(verdict.facts)
            verdict = msgspec.structs.replace(
                verdict,
                log=(*verdict.log, *self._why(self.targets, row, waited.seen, blamed)),
                asks=self.targets.names(row.node, blamed),
            )
        self.verdicts.put((row.position, self.masking.of(verdict)))

    def _why(
        self, targets: Targets, row: _Row, seen: Seen, blamed: tuple[Asked, ...]
    ) -> tuple[str, ...]:
        """What is so in the nodes that have not answered a check as it wants."""
        if isinstance(row.expectation, Listens) and seen.log:
            return ()  # it says which job has failed
        # Of these alone a verdict knows facts without any answer.
        answered = bool(seen.facts) and row.check.kind not in ("tcp", "udp")
        return targets.lines(row.node, blamed, answered=answered)

    def repeat(self, row: _Row) -> str:
        """A command line that asks the same by hand."""
        access, within_s = self.access.get(row.node), row.check.within_s
        if isinstance(access, OutsideAccess):
            return access.repeat(row.expectation.on_the_host(within_s))
        return row.expectation.repeat(self.lab, row.node, within_s)

    def say_unknown(self, rows: Iterable[_Row], text: str, since: float) -> None:
        seen = Seen(ok=False, unknown=True, text=text)
        for row in rows:
            self.say(row, Waited(seen=seen, tries=1, took_s=time.monotonic() - since))


def judge(
    checks: Sequence[Check],
    access: Mapping[str, NodeAccess | HostAccess],
    *,
    lab: str | None = None,
    secrets: Sequence[str] = (),
    progress: Progress | None = None,
    at_once: int = AT_ONCE,
    once: bool = False,
    described: Lab | None = None,
) -> Report:
    """Judge every check on each of its nodes; `access` has the running nodes by name.

    Returns when every verdict is there; `progress` is told each as it is reached, in the calling
    thread. A node that is missing or dies gives UNKNOWN, and disturbs no other. `SpecError` when a
    check's kind or arguments do not exist, before anything is asked. `lab` is for the lines that
    repeat a check by hand; `secrets` are in no verdict. `once` is for a question instead of an
    expectation: the first attempt decides, has all of `within_s`, and its verdict the whole log.
    With the lab as it is `described`, the log of what fails says what is so in the nodes asked.
    """
    rows = _rows(checks, once=once)
    for row in rows:
        row.expectation.prepare()
    started = time.monotonic()
    with Crew(answer_inside) as crew:
        masking = Masking(secrets)
        targets = None
        if described is not None:
            inside = {k: v for k, v in access.items() if not isinstance(v, HostAccess)}
            targets = Targets(described, inside, partial(_listening, crew))
        judging = _Judging(access, lab, crew, masking, max(1, at_once), progress, targets)
        found = _unasked(judging, rows)
        judging.decide([row for row in rows if row.position not in found], found)
    ordered = tuple(found[row.position] for row in rows)
    return Report(rows=ordered, took_s=time.monotonic() - started)


def _unasked(judging: _Judging, rows: Sequence[_Row]) -> dict[int, Verdict]:
    """The verdicts of rows whose condition does not hold, or cannot be judged."""
    conditions = _conditions(rows)
    said: dict[int, Verdict] = {}
    replace(judging, progress=None).decide([row for row, _ in conditions], said)
    found: dict[int, Verdict] = {}
    for row, waiting in conditions:
        seen = said[row.position]
        if seen.outcome is Outcome.HOLDS:
            continue
        unknown = seen.outcome is Outcome.UNKNOWN
        why = "its condition cannot be judged" if unknown else "it is asked only under a condition"
        waited = Waited(
            seen=Seen(ok=False, unknown=unknown, text=f"{why}: {seen.check}: {seen.seen}"),
            tries=1,
            took_s=seen.took_s,
        )
        for each in waiting:
            verdict = judging.masking.of(_verdict(each, waited, judging.repeat(each)))
            if not unknown:
                verdict = msgspec.structs.replace(verdict, outcome=Outcome.SKIPPED)
            found[each.position] = verdict
            if judging.progress:
                judging.progress(verdict)
    return found


def _conditions(rows: Sequence[_Row]) -> list[tuple[_Row, list[_Row]]]:
    """The conditions, each once for a node, and the rows that wait for it."""
    found: dict[bytes, tuple[_Row, list[_Row]]] = {}
    for row in rows:
        condition = row.check.condition
        if condition is None:
            continue
        key = msgspec.json.encode((row.node, condition))
        if key not in found:
            check = Check(nodes=(row.node,), kind=condition.kind, arguments=condition.arguments)
            typed = expectation(condition.kind, condition.arguments)
            found[key] = (_Row(len(found), check, row.node, typed, once=True), [])
        found[key][1].append(row)
    return list(found.values())


def _rows(checks: Sequence[Check], *, once: bool) -> list[_Row]:
    """A row for each check and node, in the order of the description."""
    rows: list[_Row] = []
    for check in checks:
        typed = expectation(check.kind, check.arguments)
        rows += [
            _Row(len(rows) + i, check, node, typed, once=once) for i, node in enumerate(check.nodes)
        ]
    return rows


def _units(judging: _Judging, rows: list[_Row]) -> Iterable[Callable[[], None]]:
    """What a thread does at a time: the inside of one node, or one question to a control."""
    inside: dict[str, list[_Row]] = {}
    there: dict[str, list[_Row]] = {}
    for row in rows:
        if isinstance(judging.access.get(row.node), HostAccess):
            there.setdefault(row.node, []).append(row)
        elif isinstance(row.expectation, InsideExpectation):
            inside.setdefault(row.node, []).append(row)
    for node, mine in there.items():
        yield partial(_judge_there, judging, node, mine)
    for node, mine in inside.items():
        for first in range(0, len(mine), QUESTIONS_AT_ONCE):
            batch = mine[first : first + QUESTIONS_AT_ONCE]
            yield partial(_judge_inside, judging, node, batch)
    for row in rows:
        is_there = isinstance(judging.access.get(row.node), HostAccess)
        if isinstance(row.expectation, OutsideExpectation) and not is_there:
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
    assert not isinstance(access, HostAccess)
    if access is None:
        judging.say_unknown([row], f"the node {row.node} is not there", started)
        return
    patience = replace(row.patience, pause=judging.stopped.wait)

    def attempt(timeout_s: float) -> Seen:
        if judging.stopped.is_set():
            return Seen(ok=False, unknown=True, hopeless=True, text="given up")
        return attempt_outside(outside, access, timeout_s)

    try:
        waited = patience.judged(attempt)
    except Exception as error:  # of this check alone
        waited = failed(row.question, error).waited
    judging.say(row, waited)


def _judge_inside(judging: _Judging, node: str, rows: list[_Row]) -> None:
    """The checks of a node that are looked at from inside it."""
    started = time.monotonic()
    pending = {row.position: row for row in rows}
    access = judging.access.get(node)
    assert not isinstance(access, HostAccess)
    if access is None:
        judging.say_unknown(rows, f"the node {node} is not there", started)
        return
    try:
        with judging.crew.enter(access.pid) as inside:
            _converse(judging, access, inside, pending)
    except (Problem, OSError) as error:
        judging.say_unknown(
            pending.values(), f"the node cannot be looked at: {in_a_line(error)}", started
        )


def _judge_there(judging: _Judging, host: str, rows: list[_Row]) -> None:
    """All checks of a host outside of a lab, by one connection."""
    started = time.monotonic()
    pending = {row.position: row for row in rows}
    access = judging.access[host]
    assert isinstance(access, HostAccess)
    try:
        with access.connected() as conversation:
            _converse(judging, None, conversation, pending)
    except (Problem, OSError) as error:
        judging.say_unknown(pending.values(), in_a_line(error), started)


def _converse(
    judging: _Judging,
    access: NodeAccess | None,
    inside: Conversation,
    pending: dict[int, _Row],
) -> None:
    """Ask everything, and take answers until none is missing, in time or hopeless."""
    started = time.monotonic()
    for row in pending.values():
        inside.submit(msgspec.json.encode(row.question))
    longest_s = (row.patience.longest_s for row in pending.values())
    late = started + max(longest_s) + GRACE_S
    look_at_jobs = started + HOPE_S
    while pending:
        despairs = access is not None and _may_despair(pending)
        wakes = min(late, look_at_jobs) if despairs else late
        answer = inside.receive(wakes - time.monotonic())
        now = time.monotonic()
        if answer is not None:
            reply = typed.decode(answer, Reply)
            if reply.position in pending:
                judging.say(pending.pop(reply.position), reply.waited)
        elif now >= late:
            judging.say_unknown(pending.values(), "no answer from inside the node", started)
            pending.clear()
        elif access is not None:
            _despair(judging, access, pending, now - started)
            look_at_jobs = time.monotonic() + HOPE_S


def _may_despair(pending: dict[int, _Row]) -> bool:
    return any(_is_awaited(row) for row in pending.values())


def _is_awaited(row: _Row) -> bool:
    """Whether somebody is expected to listen."""
    return isinstance(row.expectation, Listens) and row.check.never_s is None and not row.once


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


def _listening(crew: Crew, pid: int) -> bytes:
    """Who listens in the namespaces of a process; Problem or OSError when nobody can tell."""
    with crew.enter(pid) as inside:
        found = inside.call(LOOK, GRACE_S)
    if found is None:
        raise Problem("inside", "no answer from inside the node")
    return found


def answer_inside(request: bytes) -> bytes:
    """The crew's handler: one check, tried until it is decided. Runs inside a node."""
    if request == LOOK:
        return who_listens()
    question = typed.decode(request, Question)
    try:
        reply = answered(question, None)
    except Exception as error:  # of this check alone
        reply = failed(question, error)
    answer = msgspec.json.encode(reply)
    if len(answer) < MESSAGE_BYTES:
        return answer
    seen = reply.waited.seen
    seen = msgspec.structs.replace(seen, log=seen.log[:OUTPUT_LINES], facts={})
    waited = msgspec.structs.replace(reply.waited, seen=seen)
    return msgspec.json.encode(Reply(reply.position, waited))


def _verdict(row: _Row, waited: Waited, repeat: str) -> Verdict:
    check, judged, seen = row.check, row.expectation, waited.seen
    outcome = Outcome.HOLDS if seen.ok else Outcome.UNKNOWN if seen.unknown else Outcome.FAILS
    return Verdict(
        node=row.node,
        kind=check.kind,
        check=line(check, judged),
        outcome=outcome,
        expected=_expected(check, judged),
        seen=seen.text,
        within_s=row.patience.longest_s,
        took_s=waited.took_s,
        tries=waited.tries,
        place=check.place,
        log=() if seen.ok and not row.once else seen.log,
        repeat=repeat,
        trace=waited.trace if len(waited.trace) > 1 else (),
        facts=seen.facts,
    )


def _expected(check: Check, judged: Expectation) -> str:
    if check.never_s is not None:
        return f"for {check.never_s:g} s not: {judged.expected()}"
    always = "" if check.always_s is None else f", and that for {check.always_s:g} s"
    return judged.expected() + always
