"""Every command in the documents is run, in their order, and prints what they say.

A block marked `console` has commands after `$ ` and what they print; one marked `yaml title=NAME`
is a file. What differs from run to run (times, process ids, the order of verdicts) is not compared,
nor is what `…` stands for: a part of a line, or alone on a line, any lines. A process that a page
leaves in the background has its pid in `init.pid`.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0
"""Of a command, on a machine that is busy; `up` waits for routing that long, too."""
FENCE = re.compile(r"^```(?P<kind>\w+)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.M | re.S)
VARYING = (
    (re.compile(r"\b\d+(\.\d+)? (ms|s)\b"), "TIME"),
    (re.compile(r"\b\d+ tr(?:y|ies)\b"), "TRIES"),
    (re.compile(r"(?<=\s)\d{2,7}(?=\s+(-$|\w+ (running|stopped)))", re.M), "PID"),
)
LOOK = re.compile(
    r"hostlab (check|ls|path|routes|status|fault (campaign|measure|run|try)|devices|device list"
    r"|bus (names|tree|get)|probe|talk"
    r"|job (list|log|status|timers|waits)|task \S+ (check|dump|ls)"
    r"|exec \S+ -- (birdc show|cat|ip route show|ls|journalctl|systemctl is-active"
    r"|udisksctl mount)) "
    r"|cat "
)
"""What only looks, or does nothing where it fails: on a slow machine it may come too early."""
UP_AND_CHECK = re.compile(r"hostlab up --check \S+$")
UNSHARE = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x50000000))"


@dataclass(frozen=True)
class Step:
    """A command with what it is said to print, or (`command` empty) a file with its content."""

    command: str
    text: str
    name: str = ""


def steps(document: str) -> list[Step]:
    found: list[Step] = []
    for block in FENCE.finditer(document):
        if block["title"]:
            found.append(Step("", block["text"], block["title"]))
        elif block["kind"] == "console":
            _, *commands = re.split(r"^\$ ", block["text"], flags=re.M)
            found += [Step(*one.partition("\n")[::2]) for one in commands]
    return found


def lines(text: str) -> list[str]:
    """The lines of what a command printed; verdicts in the order of their text."""
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(("    repeat: ", "    | ")) and entries:
            entries[-1] += "\n" + line
        else:
            entries.append(line)
    verdicts = iter(sorted(e for e in entries if e[:1] in "✓✗"))
    ordered = [next(verdicts) if e[:1] in tuple("✓✗") else e for e in entries]
    return [" ".join(line.split()) for entry in ordered for line in entry.split("\n")]


def agrees(printed: str, said: str) -> bool:
    pattern = "".join(
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in lines(said)
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in lines(printed))) is not None


def without_warnings(text: str) -> str:
    """What this machine or user lacks is said on lines of their own, and not in the documents."""
    return "".join(e for e in text.splitlines(keepends=True) if not e.startswith("warning: "))


DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if steps(path.read_text())
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with the examples; every lab that was staged from it is taken down."""
    if subprocess.run([sys.executable, "-c", UNSHARE], check=False).returncode:
        pytest.skip("this user may make no namespaces")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    yield tmp_path
    labs = tmp_path / "labs"
    for lab in labs.read_text().split() if labs.exists() else ():
        run(f"hostlab down {lab}", tmp_path)
    background = tmp_path / "init.pid"
    if background.exists():
        end(int(background.read_text()))


def end(pid: int) -> None:
    """Ask a process to end, if it has not, and wait until it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(pidfd):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        assert select.select([pidfd], [], [], DEADLINE_S)[0], f"process {pid} does not end"


def run(command: str, directory: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env={**os.environ, "PATH": path, "HOSTLAB_RUN": str(directory / ".run")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.stdout


def printed_at_last(step: Step, place: Path) -> str:
    """What a command prints; a look is repeated until it is what the document says, or late."""
    printed = run(step.command, place)
    look, first = step.command, ""
    up = re.match(r"(\S+) is up.*\n", printed)
    if up and UP_AND_CHECK.match(step.command):
        # What is up is up; whether its checks hold can be asked again.
        look, first = f"hostlab check {up[1]}", up[0]
    elif not LOOK.match(f"{step.command} "):
        return printed
    deadline = time.monotonic() + DEADLINE_S
    while not agrees(without_warnings(printed), step.text) and time.monotonic() < deadline:
        printed = first + run(look, place)
    return printed


@pytest.mark.timeout(600)  # a session of many commands, each with a deadline of its own
@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_every_command_prints_what_the_document_says(path: Path, place: Path) -> None:
    for step in steps(path.read_text()):
        if not step.command:
            (place / step.name).write_text(step.text)
            continue
        printed = printed_at_last(step, place)
        with open(place / "labs", "a") as labs:
            labs.writelines(f"{name}\n" for name in re.findall(r"^(\S+) is up", printed, re.M))
        if not agrees(without_warnings(printed), step.text):
            # Last what was printed: of a long report the end is read first.
            pytest.fail(
                f"{path.name}: $ {step.command}\n--- said\n{step.text}--- printed\n{printed}",
                pytrace=False,
            )


@pytest.mark.parametrize(
    ("printed", "said", "same"),
    [
        ("a is up: 3 nodes, 241 ms\n", "a is up: 3 nodes, 5 ms\n", True),
        ("a is up: 4 nodes, 241 ms\n", "a is up: 3 nodes, 5 ms\n", False),
        ("✓ b: x\n✓ a: y\n", "✓ a: y\n✓ b: x\n", True),
        ("✓ b: x\n✓ a: y\n", "✓ a: y\n✗ b: x\n", False),
        (
            "✗ b\n    repeat: b\n✗ a\n    repeat: a\n",
            "✗ a\n    repeat: a\n✗ b\n    repeat: b\n",
            True,
        ),
        (
            "✗ b\n    | 1\n    repeat: b\n✓ a\n",
            "✓ a\n✗ b\n    | 1\n    repeat: b\n",
            True,
        ),
        ("one\ntwo\nthree\n", "one\n…\n", True),
        ("one\ntwo\nthree\n", "…\ntwo\n", False),
        ("one (a) two\n", "one … two\n", True),
        ("one\n", "", False),
        ("web up 123 -\n", "web up 4567 -\n", True),
        ("web up 123 -\n", "web down - -\n", False),
    ],
)
def test_what_is_compared_and_what_is_not(printed: str, said: str, *, same: bool) -> None:
    assert agrees(printed, said) is same
