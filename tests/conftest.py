"""What holds for every test: it has a tier, and it leaves nothing behind.

`HOSTLAB_EXPECT_TIERS="unit netns"` makes a run fail in which a test of these tiers was skipped,
or in which one of them had no test: where everything is installed, a skip is a mistake. A skip
whose reason begins with "here: " is about the machine's kernel and is only counted.
"""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import gc
import os
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

import hostlab
from hostlab.lab import remains
from hostlab.lab.paths import INIT
from hostlab.tasks.survey import task_cgroups

TIERS = ("unit", "netns", "vm")
ALONE = "test_documents.py"
"""Its tests are long and share nothing."""
TOKEN = f"HOSTLAB_TEST_RUN={os.getpid()}"
"""In the environment of every process that a test starts, and so of every lab's hub and nodes."""
EXPECTED_SKIP = "here: "
PF_EXITING = 0x4
DIES_WITHIN_S = 60.0
MOST_LOOKS = 100
"""At this process' threads; each look is repeated only when one has ended during it."""
LEAVES_S = 10.0
"""So long something may take to go, before it is taken for left behind."""
OUTCOMES = Counter[tuple[str, str]]()
"""Tier and how it went -> tests; of several processes only the one that tells of them counts."""


# How long something takes on a busy machine is no property of it. The same examples each time: new
# ones are looked for by `make fuzz`, where who changes something is not stopped by what is old.
CAMPAIGN = next(filter(None, map(os.environ.get, ("HOSTLAB_EXAMPLES", "HOSTLAB_FUZZ"))), "")
settings.register_profile(
    "hostlab",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("HOSTLAB_EXAMPLES", "25")),
    derandomize=not CAMPAIGN and "HOSTLAB_MODEL" not in os.environ,
)
settings.load_profile("hostlab")


def pytest_configure() -> None:
    name, _, value = TOKEN.partition("=")
    os.environ[name] = value
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores it, and so would whatever a test starts and interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _keep_bytecode()


def _keep_bytecode() -> None:
    """Thousands of processes load hostlab, most where they could not keep what they compile.

    Some machines tell Python to keep nothing at all; then pytest compiles its tests anew, too.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(hostlab.__path__[0], quiet=2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of one tier alone the others' folders are not read, which takes longer than many tests."""
    wanted, parent = config.option.markexpr, Path(__file__).parent
    is_other = collection_path.parent == parent and collection_path.name in {*TIERS} - {wanted}
    return True if wanted in TIERS and is_other else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test without its folder's tier, or with two, would run where it should not, or nowhere."""
    wrong = [item.nodeid for item in items if _tiers(item) != [_folder(item)]]
    if wrong:
        raise pytest.UsageError(
            "exactly the mark of its folder, of "
            + ", ".join(TIERS)
            + ", is needed: "
            + ", ".join(wrong[:5])
        )


def pytest_collection_finish() -> None:
    """The tests themselves are no garbage, and need not be looked through for any."""
    gc.collect()
    gc.freeze()


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped.
    """Where tests run side by side, those of a module stay together, as they may share a lab.

    In the order of the folders: many small modules come last, and so all end at about one time.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::", 1)[0]
        return nodeid if module.endswith(ALONE) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    config.option.loadscopereorder = False
    return ByModule(config, log)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def _tiers(item: pytest.Item) -> list[str]:
    return [tier for tier in TIERS if item.get_closest_marker(tier)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what was run and what was skipped, by tier."""
    (tier,) = (each for each in TIERS if each in report.keywords)
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        expected = reason.removeprefix("Skipped: ").startswith(EXPECTED_SKIP)
        OUTCOMES[tier, "allowed" if expected else "skipped"] += 1
    elif report.when == "call":
        OUTCOMES[tier, "run"] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail when a tier that is expected was not run in full."""
    side_by_side = hasattr(session.config, "workerinput")
    if _incomplete() and not side_by_side and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _incomplete() -> list[str]:
    expected = os.environ.get("HOSTLAB_EXPECT_TIERS", "").split()
    return [t for t in expected if OUTCOMES[t, "skipped"] or not OUTCOMES[t, "run"]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line a tier; before pytest's own closing line."""
    for tier in TIERS:
        run, skipped, allowed = (OUTCOMES[tier, k] for k in ("run", "skipped", "allowed"))
        if run or skipped or allowed:
            terminalreporter.write_line(f"{tier}: {run} run, {skipped + allowed} skipped")
    for tier in _incomplete():
        terminalreporter.write_line(f"{tier}: expected in full, and was not", red=True)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """As `tmp_path`, for a test in which other users go there.

    pytest's own are in a directory that is closed to others, and closed again by each pytest that
    starts on the machine: those, too, that tests run.
    """
    with tempfile.TemporaryDirectory(prefix="hostlab-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """No descriptor, child, thread or task outlives a test; nor, of its labs, anything at all."""
    kernel = "netns" in _tiers(request.node)
    before, machine_before = _held(), Machine.now() if kernel else None
    yield
    left = _left(lambda: _held() - before)
    if machine_before is not None and machine_before.left():
        machine_before.wait_for_the_dying()
        left |= _left(machine_before.left)
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)


def _left(look: Callable[[], frozenset[str]]) -> frozenset[str]:
    """What stays. What has been told to end may take its time where the machine is busy."""
    deadline = time.monotonic() + LEAVES_S
    while left := look():
        if time.monotonic() > deadline:
            break
        gc.collect()
        select.select([], [], [], 0.02)
    return left


def _held() -> frozenset[str]:
    """What this process holds."""
    fds = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds.append(f"descriptor {fd} ({os.readlink(f'/proc/self/fd/{fd}')})")
        except FileNotFoundError:  # The one that listed them.
            continue
    children = [f"child {pid}" for pid in _children()]
    threads = [f"thread {thread.name}" for thread in threading.enumerate()]
    tasks = []
    with contextlib.suppress(RuntimeError):  # No loop runs.
        tasks = [f"task {task.get_name()}" for task in asyncio.all_tasks()]
    return frozenset((*fds, *children, *threads, *tasks))


def _children() -> set[str]:
    """The pids of this process' children, whichever of its threads started them."""
    for _ in range(MOST_LOOKS):
        try:
            found: set[str] = set()
            for task in os.listdir("/proc/self/task"):
                with open(f"/proc/self/task/{task}/children") as pids:
                    found.update(pids.read().split())
            return found
        except (FileNotFoundError, ProcessLookupError):
            # `Thread.join` returns a moment before the kernel's task is gone; then its children
            # are another thread's, perhaps of one that was read already: look again.
            continue
    raise AssertionError(f"threads came and went during {MOST_LOOKS} looks at them")


class Machine(NamedTuple):
    """What was on the machine before a test. Others may run labs at the same time.

    Of the processes only those are looked into that came since: there are many, and every test of
    the kernel looks twice.
    """

    pids: frozenset[int]
    things: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        return cls(frozenset(_pids()), frozenset(_things()))

    def left(self) -> frozenset[str]:
        """What this run's labs have there since then."""
        found = {thing: lab for thing, lab in _things().items() if thing not in self.things}
        ours = self._processes()
        if not (found or ours):
            return frozenset()
        labs = remains.marked_processes()
        # A lab of the module's may have begun the supervisor of a node when the test began.
        standing = {labs.get(pid) for pid in self.pids} - {None, INIT}
        ours = [pid for pid in ours if labs.get(pid) not in standing]
        others = {*labs.values()} - {lab for pid, lab in labs.items() if _is_ours(pid)}
        return frozenset(
            (
                *(f"process {pid} {labs.get(pid, '')}".rstrip() for pid in ours),
                *(thing for thing, lab in found.items() if not _is_others(lab, others)),
            )
        )

    def wait_for_the_dying(self) -> None:
        """Whoever was killed, or is in its `exit`, leaves nothing behind: the end is awaited."""
        for pid in self._processes():
            if not _is_dying(pid):
                continue
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    select.select([pidfd], [], [], DIES_WITHIN_S)
                finally:
                    os.close(pidfd)

    def _processes(self) -> list[int]:
        """Those that were started in this run since then."""
        return [pid for pid in _pids() if pid not in self.pids and _is_ours(pid)]


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _is_ours(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return pid != os.getpid() and TOKEN.encode() in environment.split(b"\0")


def _things() -> dict[str, str]:
    """What is no process -> the lab that it is of, or ""."""
    groups = {path: remains.lab_of_cgroup(path) for path in remains.lab_cgroups()}
    # Inits without a lab are all called the same: whose one is, `standalone_site.end` knows.
    groups = {path: lab for path, lab in groups.items() if lab != INIT}
    # A test's task namespace is named after its process. A page's has the page's name, and the page
    # shows that it is taken away: beside it other tests end.
    named = {path: os.path.basename(path).split(":")[1] for path in task_cgroups()}
    groups |= {path: name for path, name in named.items() if name.endswith(f"-{os.getpid()}")}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return (
        {f"cgroup {path}": lab for path, lab in groups.items()}
        | {f"link {name}": name.split(":")[1] for name in remains.marked_links().values()}
        | {f"mount {line.split()[4]}": "" for line in mounts}
    )


def _is_others(lab: str, others: set[str]) -> bool:
    """Whether a lab is another run's: its processes are, or it is named after a process of it."""
    pid = re.search(r"(\d+)(:\w+)?$", lab)
    named_after = (
        pid is not None and pid[1] != str(os.getpid()) and os.path.exists(f"/proc/{pid[1]}")
    )
    return lab in others or named_after


def _is_dying(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
    except OSError:
        return True
    pending = [int(word, 16) for word in re.findall(r"(?:SigPnd|ShdPnd):\s*(\w+)", status)]
    return bool(flags & PF_EXITING) or any(each & 1 << signal.SIGKILL - 1 for each in pending)
