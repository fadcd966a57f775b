"""`hostlab bus` on real buses: dbus-daemon with hostlab's init on it, and a node's."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.init.bus_site import Bus, bus, needs_bus
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import HOSTLAB, Alone, standing
from tests.netns.lab.lab_site import site

pytestmark = [pytest.mark.netns, needs_bus]

JOBS = {"one": "exec sleep 1000\n", "two": 'author "who"\nexec sleep 1000\n'}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Alone, Bus]]:
    root = tmp_path_factory.mktemp("bus")
    words = ["--bus", "--confdir", str(root / "jobs"), "--logdir", str(root / "logs")]
    with (
        bus(root / "b") as found,
        standing(root, JOBS, words=words, environment=found.variables) as alone,
    ):
        wait_until(lambda: "com.ubuntu.Upstart" in found.names(), "the name")
        yield alone, found


def ask(place: tuple[Alone, Bus], *words: str, status: int = 0) -> str:
    """What `hostlab bus …` prints."""
    alone, found = place
    got, out, err = alone("bus", *words, "--address", found.address)
    assert got == status, (out, err)
    return out if status == 0 else err


def test_the_four_things_are_found(place: tuple[Alone, Bus]) -> None:
    names = ask(place, "names")
    assert "com.ubuntu.Upstart " in names
    assert ":1." not in names.split("com.ubuntu")[0]
    rows = json.loads(ask(place, "names", "--json", "--all"))
    own = next(row for row in rows if row["name"] == "com.ubuntu.Upstart")
    assert own["pid"] == place[0].supervisor
    assert own["uid"] == os.getuid()
    tree = ask(place, "tree", "upstart")
    assert "/com/ubuntu/Upstart/jobs/two  com.ubuntu.Upstart0_6.Job\n" in tree
    members = ask(place, "tree", "Upstart", "--members")
    assert "method    com.ubuntu.Upstart0_6.GetJobByName(s name) → o job\n" in members
    assert ask(place, "call", "Upstart", "GetJobByName", "two") == "/com/ubuntu/Upstart/jobs/two\n"
    # The one of several that the others belong to; or the one that is named.
    assert ask(place, "get", "Upstart", "version").startswith("init (upstart ")
    assert ask(place, "get", "Upstart", "/com/ubuntu/Upstart/jobs/two", "author") == "who\n"
    values = json.loads(ask(place, "get-all", "Upstart", "/com/ubuntu/Upstart/jobs/two", "--json"))
    assert values["/com/ubuntu/Upstart/jobs/two"]["com.ubuntu.Upstart0_6.Job"]["author"] == "who"
    ask(place, "set", "Upstart", "log_priority", "info")
    assert ask(place, "get", "Upstart", "log_priority", "--json").split() == [
        "{", '"type":', '"s",', '"data":', "[", '"info"', "]", "}",
    ]  # fmt: skip
    started = ask(place, "call", "Upstart", "/com/ubuntu/Upstart/jobs/one", "Start", "[]", "true")
    assert started == "/com/ubuntu/Upstart/jobs/one/_\n"
    assert place[0].row("one")["state"] == "running"
    assert (
        ask(place, "call", "org.freedesktop.DBus", "GetNameOwner", "com.ubuntu.Upstart")[0] == ":"
    )


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["call", "Upstart", "EmitEvent", "a", "[A=1", "true"], 2, "argument 2:1:5: `,` is wanted"),
        (["call", "Upstart", "EmitEvent", "a"], 2, "3 arguments are wanted (s as b), not 1"),
        (["call", "Upstart", "GetJobByName", "no"], 1, "GetJobByName: Unknown job: no"),
        (["call", "Upstart", "Nothing"], 2, "nobody there has a method `Nothing`"),
        (["call", "Upstart", "GetAllInstances"], 2, "2 objects have `GetAllInstances`"),
        (["call", "Upstrat", "GetAllJobs"], 2, "did you mean 'Upstart'?"),
        (["call", "Upstart"], 2, "Missing argument"),
        (["get", "Upstart", "nothing"], 2, "nobody there has a property `nothing`"),
        (["get", "Upstart", "/com", "version"], 2, "nobody there has a property `version`"),
        (["set", "Upstart", "version", "x"], 1, "version cannot be set"),
        (["tree", "org.example.None"], 2, "no name on the bus"),
        (["monitor", "SIGNAL=a-b"], 2, "`a-b` cannot be a signal's name"),
        (["monitor", "--all", "SIGNAL=a"], 2, "--all is everything"),
    ],
)
def test_mistakes(place: tuple[Alone, Bus], words: list[str], status: int, text: str) -> None:
    assert text in ask(place, *words, status=status)


def test_without_a_bus_or_the_library(place: tuple[Alone, Bus], tmp_path: Path) -> None:
    alone, _ = place
    status, _, err = alone("bus", "names", "--address", f"unix:path={tmp_path}/none")
    assert (status, f"no bus at unix:path={tmp_path}/none" in err) == (1, True)
    status, _, err = alone("bus", "names", "--session", "--address", "unix:path=/x")
    assert status == 2
    (tmp_path / "dbus_fast.py").write_text("raise ImportError('none here')\n")
    status, _, err = alone("bus", "names", PYTHONPATH=str(tmp_path))
    assert (status, "pip install 'hostlab[dbus]'" in err) == (3, True)


def test_monitor(place: tuple[Alone, Bus]) -> None:
    """The signals that are asked for, as the same words in a job would hear them."""
    _, found = place
    words = ("bus", "monitor", "SIGNAL=Wanted", "ARG0=x*", "--count", "2", "--json")
    watching = subprocess.Popen(
        [*HOSTLAB, *words, "--address", found.address], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: any("Wanted" in rule for rule in found.rules()), "its rule")
        for text in ("y", "x1", "x2"):
            found.send("/a", "org.example.A.Wanted", f"string:{text}", "int32:5")
        out, _ = watching.communicate(timeout=100)
    finally:
        watching.kill()
        watching.wait()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["data"] for line in lines] == [["x1", 5], ["x2", 5]]
    assert (lines[0]["kind"], lines[0]["member"], lines[0]["path"]) == ("signal", "Wanted", "/a")


def test_everything_is_overheard(place: tuple[Alone, Bus]) -> None:
    """Calls and answers of others, and none of them is answered here."""
    _, found = place
    words = [*HOSTLAB, "bus", "monitor", "--all", "--count", "30", "--address", found.address]
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    try:
        seen = ""
        while "GetAllJobs" not in seen:
            found.call("--dest=com.ubuntu.Upstart", "/com/ubuntu/Upstart",
                       "com.ubuntu.Upstart0_6.GetAllJobs")  # fmt: skip
            if watching.poll() is not None:  # It has seen as many as it was to.
                seen += watching.stdout.read()
                break
            ready, _, _ = select.select([watching.stdout], [], [], 0)
            seen += os.read(watching.stdout.fileno(), 65536).decode() if ready else ""
        assert "method-call" in seen
        assert "GetAllJobs" in seen
    finally:
        watching.kill()
        watching.wait()
        watching.stdout.close()


def test_completion(place: tuple[Alone, Bus]) -> None:
    alone, found = place

    def completed(*words: str) -> list[str]:
        line = ["hostlab", "bus", *words]
        _, out, _ = alone.program(
            *HOSTLAB, COMP_WORDS=" ".join(line), COMP_CWORD=str(len(line) - 1),
            _HOSTLAB_COMPLETE="bash_complete", DBUS_SYSTEM_BUS_ADDRESS=found.address,
        )  # fmt: skip
        return [line.partition(",")[2] for line in out.splitlines() if line]

    def offers(*words: str) -> Callable[[str], None]:
        # Who types is not kept waiting: of a bus that is slow to answer nothing is offered.
        return lambda wanted: wait_until(
            lambda: completed(*words) == wanted.split(), f"{wanted} for {words}"
        )

    offers("call", "com.ub")("com.ubuntu.Upstart")
    wait_until(lambda: "Upstart" in completed("call", "Up"), "a short name")
    offers("call", "Upstart", "GetJ")("GetJobByName")
    two = "/com/ubuntu/Upstart/jobs/two"
    offers("call", "Upstart", "/com/ubuntu/Upstart/jobs/t")(two)
    offers("call", "Upstart", two, "GetI")("GetInstance GetInstanceByName")
    wait_until(lambda: "log_priority" in completed("get", "Upstart", "log"), "a property")
    assert completed("call", "Nobody", "Get") == []


LAB = """\
nodes:
  box:
    jobs:
      dbus:
        pre_start: mkdir -p /run/dbus
        exec: dbus-daemon --system --nofork --nopidfile
      hears:
        start_on: dbus SIGNAL=Changed
        task: true
        exec: echo "$ARG0"
"""


def test_a_nodes_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Debian's system bus with its own policy, a job of the node; asked from outside."""
    from hostlab.cli.main import run

    with site(tmp_path, monkeypatch) as labs:
        lab = labs.up(LAB)
        node = lab["box"]

        def names() -> str:
            capfd.readouterr()
            run(["bus", "names", "--node", "box"])
            return capfd.readouterr().out

        wait_until(lambda: "com.ubuntu.Upstart " in names(), "the init on its bus")
        assert run(["bus", "call", "Upstart", "GetAllJobs", "--node", "box"]) == 0
        assert "/com/ubuntu/Upstart/jobs/hears" in capfd.readouterr().out
        assert run(["bus", "call", "Upstart", "GetJobByName", "no", "--node", "box"]) == 1
        rules = ("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus",
                 "/org/freedesktop/DBus",
                 "org.freedesktop.DBus.Debug.Stats.GetAllMatchRules")  # fmt: skip
        wait_until(lambda: b"Changed" in node.execute(rules).stdout, "the rule of the job")
        send = ("dbus-send", "--system", "/a", "org.example.A.Changed", "string:hello")
        assert node.execute(send).status == 0
        log = Path(node.log_path("hears"))
        wait_until(lambda: log.exists() and bool(log.read_text()), "the job")
        assert log.read_text() == "hello\n"
