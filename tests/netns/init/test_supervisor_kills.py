"""A supervisor that is killed at random instants loses no job, no status and no line.

`HOSTLAB_KILLS` is the number of kills, `HOSTLAB_SEED` the seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Problem
from hostlab.sync import Node
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = pytest.mark.netns
SHORT = 15
SEED = 4
LONGEST_PAUSE_S = 0.08
ANSWERS_WITHIN_S = 60.0
STEADY = 20
FLAKY = 4
WRITERS = 3

WRITER = """
import os, select, sys
number = 0
while not os.path.exists("/tmp/enough"):
    lines = b"".join(b"%d line\\n" % n for n in range(number + 1, number + 51))
    number += 50
    while lines:
        lines = lines[os.write(1, lines):]
    select.select([], [], [], 0.01)
with open("/tmp/wrote-" + os.environ["UPSTART_JOB"], "w") as file:
    file.write(str(number))
"""
FLAKES = """
n=$(($(cat /tmp/runs-$UPSTART_JOB 2>/dev/null || echo 0) + 1))
echo $n > /tmp/runs-$UPSTART_JOB
echo run $n
if [ -e /tmp/enough ]; then
    touch /tmp/stays-$UPSTART_JOB
    exec sleep 100000
fi
sleep 0.02
exit 3
"""
EMITTER = """
n=0
while [ ! -e /tmp/enough ]; do
    n=$((n + 1))
    initctl emit go N=$n 2>/dev/null || :
done
echo $n > /tmp/emitted
"""


report = print


def description() -> str:
    return "\n".join(
        [
            "nodes:",
            "  a:",
            "    files:",
            "      /srv/writer:",
            "        content: |",
            *(f"          {line}" for line in WRITER.strip().splitlines()),
            "      /srv/flakes:",
            "        content: |",
            *(f"          {line}" for line in FLAKES.strip().splitlines()),
            "      /srv/emitter:",
            "        content: |",
            *(f"          {line}" for line in EMITTER.strip().splitlines()),
            "    jobs:",
            *(f"      steady{n}: sleep 100000" for n in range(STEADY)),
            *(
                f"      flaky{n}: {{exec: [sh, /srv/flakes], respawn: {{limit: 0}}}}"
                for n in range(FLAKY)
            ),
            *(f"      writer{n}: {{exec: [python3, /srv/writer]}}" for n in range(WRITERS)),
            "      emitter: {exec: [sh, /srv/emitter]}",
            "      work: {start_on: go, task: true, instance: $N, script: exit $((N % 3))}",
            "      record:",
            "        start_on: stopped work",
            "        task: true",
            "        instance: $INSTANCE",
            "        script: echo $INSTANCE $RESULT ${EXIT_STATUS:-0} >> /tmp/record",
        ]
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def supervisor(node: Node) -> int:
    """A pidfd of the node's supervisor: the holder's child that answers."""
    with node.control() as control:
        inside = control.call("ping")["pid"]
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    for pid in map(int, children):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if int(line.split()[-1]) == inside:
                return os.pidfd_open(pid)
    raise AssertionError(f"no child of {node.pid} has the pid {inside}")


def table(node: Node) -> dict[str, int | None]:
    """Job -> pid of its main process, as soon as a supervisor answers."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        try:
            return {row["name"]: row["pid"] for row in node.job_table()}
        except (Problem, ConnectionError):
            assert time.monotonic() < deadline, "no supervisor answers"


def test_nothing_is_lost(place: Site) -> None:
    seed = int(os.environ.get("HOSTLAB_SEED", SEED))
    kills = int(os.environ.get("HOSTLAB_KILLS", SHORT))
    pause = random.Random(seed)
    node = place.up(description())["a"]
    node.wait_settled(within_s=60)
    before = table(node)
    steady = {name: pid for name, pid in before.items() if name.startswith(("steady", "writer"))}
    assert None not in steady.values()
    took = []
    for number in range(kills):
        select.select([], [], [], pause.uniform(0, LONGEST_PAUSE_S))
        pidfd = supervisor(node)
        select.select([], [], [], pause.uniform(0, 0.01))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        started = time.monotonic()
        after = table(node)
        took.append(time.monotonic() - started)
        same = {name: pid for name, pid in after.items() if name in steady}
        assert same == steady, f"kill {number} of seed {seed}"
    report(f"seed {seed}: {kills} kills; answers after {statistics.median(took) * 1000:.0f} ms,")
    report(f"at worst {max(took) * 1000:.0f} ms")
    node.succeed("touch /tmp/enough")
    becomes_true(node, "test -s /tmp/emitted")
    judge_statuses(node)
    for n in range(FLAKY):
        judge_respawns(node, f"flaky{n}")
    for n in range(WRITERS):
        judge_lines(node, f"writer{n}")


def becomes_true(node: Node, command: str) -> None:
    """Wait until a shell command succeeds in the node."""
    wait_until(lambda: node.shell(command).status == 0, command)


def judge_statuses(node: Node) -> None:
    """Every `go` started its task once, and its end was told once, with its status."""
    emitted = int(node.succeed("cat /tmp/emitted"))
    becomes_true(node, f"test $(wc -l < /tmp/record) -ge {emitted}")
    lines = node.succeed("cat /tmp/record").splitlines()
    found = sorted(lines, key=lambda line: int(line.split()[0]))
    results = ("ok", "failed", "failed")
    assert found == [f"{n} {results[n % 3]} {n % 3}" for n in range(1, emitted + 1)]
    report(f"{emitted} tasks with their statuses")


def judge_respawns(node: Node, name: str) -> None:
    """Every run followed another, and wrote its line once."""
    becomes_true(node, f"test -e /tmp/stays-{name}")
    runs = int(node.succeed(f"cat /tmp/runs-{name}"))
    lines = [f"run {number}" for number in range(1, runs + 1)]
    wait_until(lambda: log(node, name) == lines, f"the lines of {name}")
    report(f"{name}: {runs} runs")


def judge_lines(node: Node, name: str) -> None:
    """Every line that was written is in the log, once, in its order."""
    becomes_true(node, f"test -s /tmp/wrote-{name}")
    wrote = int(node.succeed(f"cat /tmp/wrote-{name}"))
    wait_until(lambda: len(log(node, name)) >= wrote, f"the lines of {name}")
    assert log(node, name) == [f"{number} line" for number in range(1, wrote + 1)]
    report(f"{name}: {wrote} lines")


def log(node: Node, job: str) -> list[str]:
    """Everything that a job wrote, rotated files too."""
    path = Path(node.log_path(job))
    while True:
        older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
        # It may be rotated while it is read.
        with contextlib.suppress(FileNotFoundError):
            return [line for each in (*older, path) for line in each.read_text().splitlines()]
