"""The init as com.ubuntu.Upstart on a real bus, asked by the clients that people have."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from hostlab.init.dbus import objects
from hostlab.init.dbus.link import call, connect
from tests.netns.init.bus_site import Bus, needs_bus
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = [pytest.mark.netns, needs_bus]

DEADLINE_S = 60.0
NAME = "com.ubuntu.Upstart"
ROOT = "/com/ubuntu/Upstart"
MANAGER = "com.ubuntu.Upstart0_6"
SERVER = """\
description "serves"
author "somebody"
version "1.2"
usage "WHO=name"
emits served*
start on go A=1 and (started other or stopped other)
stop on runlevel [016]
instance ${WHO:-}
exec sleep 1000
"""
FAILS = "task\nexec sh -c 'exit 3'\n"
FILE = "start on with-file\ntask\nexec sh -c 'cat <&$UPSTART_FDS'\n"
JOBS = {"server": SERVER, "fails": FAILS, "file": FILE, "net/with-dash": "exec sleep 1000\n"}


def dbus_job(place: Bus) -> str:
    words = f"--nofork --nopidfile --config-file={place.configuration}"
    return f"start on startup\nexec dbus-daemon {words}\n"


@contextmanager
def on_bus(root: Path, **jobs: str) -> Iterator[tuple[Alone, Bus]]:
    """An init with a bus among its jobs, once it answers there."""
    place = Bus(root / "bus")
    files = {**JOBS, **jobs, "dbus": dbus_job(place)}
    with standing(root, files, environment=place.variables) as alone:
        wait_name(place)
        yield alone, place


def wait_name(place: Bus) -> None:
    wait_until(lambda: "true" in has_owner(place), "the name on the bus")


def has_owner(place: Bus) -> str:
    driver = "/org/freedesktop/DBus"
    member = "org.freedesktop.DBus.NameHasOwner"
    return place.call("--dest=org.freedesktop.DBus", driver, member, f"string:{NAME}")


def owner(place: Bus) -> str:
    """The unique name of whoever has the name; empty for nobody."""
    driver = ("--dest=org.freedesktop.DBus", "/org/freedesktop/DBus")
    text = place.call(*driver, "org.freedesktop.DBus.GetNameOwner", f"string:{NAME}")
    found = re.search(r'string "(:[^"]*)"', text)
    return found[1] if found else ""


def busctl(place: Bus, *words: str) -> str:
    return place.run("busctl", f"--address={place.address}", *words)


def upstart(place: Bus, path: str, member: str, *arguments: str) -> str:
    return place.call(f"--dest={NAME}", path, f"{MANAGER}{member}", *arguments)


def test_busctl_and_dbus_send_find_everything(tmp_path: Path) -> None:
    with on_bus(tmp_path) as (alone, place):
        tree = busctl(place, "tree", "--list", NAME)
        assert f"{ROOT}/jobs/server\n" in tree
        assert f"{ROOT}/jobs/net_2fwith_2ddash\n" in tree
        assert "ao 5 " in busctl(place, "call", NAME, ROOT, MANAGER, "GetAllJobs")
        found = busctl(place, "introspect", NAME, ROOT)
        for member in (*objects.METHODS[MANAGER], *objects.SIGNALS[MANAGER], "log_priority"):
            assert f".{member} " in found
        job = f"{ROOT}/jobs/server"
        assert job in upstart(place, ROOT, ".GetJobByName", "string:server")
        said = json.loads(busctl(place, "--json=short", "call", NAME, job,
            "org.freedesktop.DBus.Properties", "GetAll", "s", f"{MANAGER}.Job"))  # fmt: skip
        values = {name: each["data"] for name, each in said["data"][0].items()}
        assert values == {
            "name": "server",
            "description": "serves",
            "author": "somebody",
            "version": "1.2",
            "usage": "WHO=name",
            "emits": ["served*"],
            "start_on": [
                ["go", "A=1"],
                ["started", "other"],
                ["stopped", "other"],
                ["/OR"],
                ["/AND"],
            ],
            "stop_on": [["runlevel", "[016]"]],
        }
        path = upstart(place, job, ".Job.Start", "array:string:WHO=a b", "boolean:true")
        assert f"{job}/a_20b" in path
        assert f"{job}/a_20b" in upstart(place, job, ".Job.GetInstance", "array:string:WHO=a b")
        assert f"{job}/a_20b" in upstart(place, job, ".Job.GetAllInstances")
        pid = next(row["pid"] for row in alone.table() if row["instance"] == "a b")
        instance = ("get-property", NAME, f"{job}/a_20b", f"{MANAGER}.Instance")
        assert busctl(place, *instance, "processes", "state", "goal", "name").splitlines() == [
            f'a(si) 1 "main" {pid}',
            's "running"',
            's "start"',
            's "a b"',
        ]
        assert upstart(place, f"{job}/a_20b", ".Instance.Stop", "boolean:true").startswith(
            "method return"
        )
        assert "UnknownObject" in upstart(place, f"{job}/a_20b", ".Instance.Stop", "boolean:true")


@pytest.mark.parametrize(
    ("path", "member", "arguments", "error"),
    [
        ("", ".GetJobByName", ["string:nothing"], f"{MANAGER}.Error.UnknownJob: Unknown job"),
        ("", ".GetJobByName", ["string:"], "InvalidArgs: Name may not be empty string"),
        ("", ".GetJobByName", ["int32:1"], "InvalidArgs: GetJobByName takes `s`, not `i`"),
        ("", ".EmitEvent", ["string:", "array:string:", "boolean:true"], "InvalidArgs: Name may"),
        ("", ".EmitEvent", ["string:a", "array:string:x", "boolean:true"], "InvalidArgs: Env"),
        ("", ".Nothing", [], "UnknownMethod"),
        ("/nothing", ".Nothing", [], "UnknownObject"),
        ("/jobs/fails", ".Job.Start", ["array:string:", "boolean:true"], "Error.JobFailed: Job"),
        ("/jobs/server", ".Job.Stop", ["array:string:", "boolean:true"], "Error.UnknownInstance"),
        ("/jobs/server", ".Job.GetInstanceByName", ["string:x"], "UnknownInstance: Unknown"),
        ("", ".NotifyDBusAddress", ["string:unix:path=/x"], "Error.PermissionDenied"),
        ("", ".GetEnv", ["array:string:", "string:NO"], "InvalidArgs: No such variable: NO"),
    ],
)  # fmt: skip
def test_errors_are_upstarts(
    shared: tuple[Alone, Bus], path: str, member: str, arguments: list[str], error: str
) -> None:
    assert error in upstart(shared[1], f"{ROOT}{path}", member, *arguments)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Alone, Bus]]:
    with on_bus(tmp_path_factory.mktemp("shared")) as found:
        yield found


def test_variables_and_state(shared: tuple[Alone, Bus]) -> None:
    alone, place = shared
    nobody = "array:string:"
    upstart(place, ROOT, ".SetEnvList", nobody, "array:string:A=1,B=x y", "boolean:true")
    upstart(place, ROOT, ".SetEnv", nobody, "string:A=2", "boolean:false")
    assert 'string "1"' in upstart(place, ROOT, ".GetEnv", nobody, "string:A")
    assert 'string "B=x y"' in upstart(place, ROOT, ".ListEnv", nobody)
    upstart(place, ROOT, ".UnsetEnv", nobody, "string:A")
    assert "No such variable" in upstart(place, ROOT, ".GetEnv", nobody, "string:A")
    upstart(place, ROOT, ".ResetEnv", nobody)
    assert "B=x y" not in upstart(place, ROOT, ".ListEnv", nobody)
    state = json.loads(busctl(place, "--json=short", "call", NAME, ROOT, MANAGER, "GetState"))
    assert "classes" in json.loads(state["data"][0])
    assert alone.initctl("version")[1].strip() in busctl(
        place, "get-property", NAME, ROOT, MANAGER, "version"
    )
    busctl(place, "set-property", NAME, ROOT, MANAGER, "log_priority", "s", "debug")
    assert alone.initctl("log-priority")[1] == "debug\n"
    wrong = busctl(place, "set-property", NAME, ROOT, MANAGER, "log_priority", "s", "loud")
    assert "not recognised" in wrong
    alone.job("late", "exec sleep 1000\n")
    upstart(place, ROOT, ".ReloadConfiguration")
    assert "jobs/late" in upstart(place, ROOT, ".GetJobByName", "string:late")


def test_what_it_says_of_itself_is_what_it_does(shared: tuple[Alone, Bus]) -> None:
    """Each method that an object lists is there: it refuses bad arguments, and is not unknown."""
    _, place = shared
    text = place.call(f"--dest={NAME}", ROOT, "org.freedesktop.DBus.Introspectable.Introspect")
    tree = ET.fromstring(re.sub(r".*?<node>", "<node>", text, count=1, flags=re.S).rstrip(' \n"'))
    listed = {
        (interface.get("name"), method.get("name"))
        for interface in tree.iter("interface")
        for method in interface.iter("method")
    }
    assert (MANAGER, "EmitEventWithFile") in listed
    for interface, member in sorted(listed, key=str):
        answer = place.call(f"--dest={NAME}", ROOT, f"{interface}.{member}", "byte:1", "byte:2")
        assert "InvalidArgs" in answer, (interface, member, answer)


async def heard(bus: MessageBus, rule: str) -> asyncio.Queue[Message]:
    queue: asyncio.Queue[Message] = asyncio.Queue()
    bus.add_message_handler(lambda message: queue.put_nowait(message))
    await call(bus, "AddMatch", "s", [rule])
    return queue


async def wait_signal(queue: asyncio.Queue[Message], member: str, body: list[object]) -> Message:
    seen = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                message = await queue.get()
                seen.append((message.member, message.body))
                if message.member == member and message.body == body:
                    return message
    except TimeoutError:
        raise AssertionError(f"no {member} {body} among {seen}") from None


def test_signals_in_upstarts_order(tmp_path: Path) -> None:
    """What upstart-monitor subscribes to, and what bridges do: events, jobs, instances."""

    async def main(alone: Alone, place: Bus) -> None:
        bus = await connect(place.address)
        queue = await heard(bus, f"type='signal',sender='{NAME}'")
        monitor = f"type='signal',interface='{MANAGER}',member='EventEmitted'"
        await call(bus, "AddMatch", "s", [monitor])
        alone.job("new", "start on greet\nexec sleep 1000\n")
        path = f"{ROOT}/jobs/new"
        await wait_signal(queue, "JobAdded", [path])
        body = ["greet", ["WHO=alice"], True]
        await call(bus, "EmitEvent", "sasb", body, to=NAME, path=ROOT, interface=MANAGER)
        for member, arguments in (
            ("InstanceAdded", [f"{path}/_"]),
            ("GoalChanged", ["start"]),
            ("StateChanged", ["starting"]),
            ("StateChanged", ["spawned"]),
            # Behind what it let go on, as in event_finished().
            ("EventEmitted", ["starting", ["JOB=new", "INSTANCE="]]),
            ("StateChanged", ["running"]),
            ("EventEmitted", ["greet", ["WHO=alice"]]),
        ):
            await wait_signal(queue, member, list(arguments))
        (alone.jobs / "new.conf").unlink()
        await call(bus, "Stop", "asb", [[], True], to=NAME, path=path, interface=f"{MANAGER}.Job")
        await wait_signal(queue, "InstanceRemoved", [f"{path}/_"])
        await wait_signal(queue, "JobRemoved", [path])
        fails = f"{ROOT}/jobs/fails"
        job = f"{MANAGER}.Job"
        with pytest.raises(Exception, match="Job failed"):
            await call(bus, "Start", "asb", [[], True], to=NAME, path=fails, interface=job)
        failed = await wait_signal(queue, "Failed", [3])
        assert failed.path == f"{fails}/_"
        await _replaced(alone, queue)
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it

    async def _replaced(alone: Alone, queue: asyncio.Queue[Message]) -> None:
        """A supervisor that comes says so, under the same name."""
        os.kill(alone.supervisor, signal.SIGKILL)
        await wait_signal(queue, "Restarted", [])

    with on_bus(tmp_path) as (alone, place):
        asyncio.run(main(alone, place))


def test_a_descriptor_goes_with_an_event(shared: tuple[Alone, Bus]) -> None:
    alone, place = shared

    async def main() -> None:
        bus = await connect(place.address, passes_fds=True)
        reader, writer = os.pipe()
        os.write(writer, b"through the bus\n")
        os.close(writer)
        message = Message(
            destination=NAME, path=ROOT, interface=MANAGER, member="EmitEventWithFile",
            signature="sasbh", body=["with-file", [], False, 0], unix_fds=[reader],
        )  # fmt: skip
        reply = await bus.call(message)
        assert reply is not None
        assert reply.error_name is None, reply.body
        os.close(reader)
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it

    asyncio.run(main())
    log = alone.logs / "file.log"
    wait_until(lambda: log.exists() and bool(log.read_text()), "what the job read")
    assert log.read_text() == "through the bus\n"


def test_a_name_that_is_taken_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        other = await connect(place.address)
        await other.request_name(NAME)
        with standing(tmp_path, JOBS, words=words, environment=place.variables) as alone:
            await asyncio.to_thread(
                wait_until, lambda: "another has the name" in alone.own_log, "a warning"
            )
            other.disconnect()
            await other.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it

            def has_answered() -> bool:
                return "ao 4 " in busctl(place, "call", NAME, ROOT, MANAGER, "GetAllJobs")

            # The bus may not yet have seen that the other one has gone.
            await asyncio.to_thread(wait_until, has_answered, "an answer under the name")

    place = Bus(tmp_path / "bus")
    words = ["--bus", "--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs")]
    place.start()
    try:
        asyncio.run(main())
    finally:
        place.kill()


def test_the_bus_restarts_as_a_job_does(tmp_path: Path) -> None:
    with on_bus(tmp_path) as (alone, place):
        before = alone.pid("dbus")
        alone("job", "restart", "dbus", "--init")
        assert alone.pid("dbus") != before
        wait_name(place)
        assert "ao 5 " in busctl(place, "call", NAME, ROOT, MANAGER, "GetAllJobs")


def test_a_session_answers_on_its_own_bus(tmp_path: Path) -> None:
    """Whose address a job tells, as Ubuntu's sessions did; and `EndSession` ends it."""
    place, other = Bus(tmp_path / "bus"), Bus(tmp_path / "other")
    environment = {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "runtime"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "DBUS_SESSION_BUS_ADDRESS": "",
    }
    jobs = tmp_path / "config" / "upstart"
    jobs.mkdir(parents=True)
    (tmp_path / "runtime").mkdir()
    words = f"--nofork --nopidfile --config-file={place.configuration}"
    (jobs / "bus.conf").write_text(f"start on startup\nexec dbus-daemon {words}\n")
    hears = 'start on dbus SIGNAL=Changed BUS=session\ntask\nexec echo "$ARG0"\n'
    (jobs / "hears.conf").write_text(hears)
    other.start()
    try:
        with standing(tmp_path, words=["--user"], environment=environment) as alone:
            status, _, err = alone.initctl("notify-dbus-address", place.address)
            assert status == 0, err
            wait_name(place)
            wait_until(lambda: any("Changed" in rule for rule in place.rules()), "a rule")
            place.send("/a", "org.example.A.Changed", "string:told")
            log = tmp_path / "cache" / "upstart" / "hears.log"
            wait_until(lambda: log.exists() and log.read_text() == "told\n", "the job")
            # The next supervisor knows it too; and another address is another bus.
            before = owner(place)
            os.kill(alone.supervisor, signal.SIGKILL)
            wait_until(lambda: owner(place) not in ("", before), "the next supervisor")
            address = f"string:{other.address}"
            upstart(place, ROOT, ".NotifyDBusAddress", address)
            wait_name(other)
            upstart(other, ROOT, ".EndSession")
            assert alone.ended() == 0
    finally:
        other.kill()
