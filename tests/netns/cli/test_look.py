"""The commands that look at a lab that is up."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from click.testing import CliRunner

from hostlab.cli import look
from hostlab.observe import in_node
from hostlab.observe.finding import tried
from tests.netns.cli.cli_site import LIMIT_S, NOBODY, Hostlab, plain_users_python
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

Site = tuple[Hostlab, str]
FETCH = "import urllib.request; urllib.request.urlopen('http://alice/').read()"


LAB = """
segments: [lan]
nodes:
  alice:
    jobs: {web: python3 -m http.server 80}
  bob: {interfaces: {wire: lan}}
  carol: {jobs: {broken: "false"}}
checks: [{on: bob, http: "http://alice/", within: 60s}]
"""


@contextmanager
def _site(user: int | None) -> Iterator[tuple[Hostlab, str]]:
    directory = Path(tempfile.mkdtemp(prefix="hostlab-test-"))
    try:
        if user is not None:
            os.chown(directory, user, user)
        hostlab = Hostlab(directory / "run", user)
        if user is not None:
            hostlab.python, hostlab.path = plain_users_python()
        try:
            name = hostlab.up("looked-at", LAB)
            hostlab("check", name)
            drawn = ("graph", name, "--format", "ascii")
            wait_until(lambda: "[failed]" in hostlab(*drawn).stdout, "carol's job has failed")
            yield hostlab, name
        finally:
            hostlab.end()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Hostlab, str]]:
    """(hostlab, name of a lab that is up)."""
    with _site(None) as found:
        yield found


@pytest.fixture(scope="module")
def plain_site() -> Iterator[tuple[Hostlab, str]]:
    """The same as a plain user."""
    if not tried(lambda: None, is_rooted=True, as_nobody=True).is_ok:
        pytest.skip("a plain user cannot have a user namespace here")
    with _site(NOBODY if os.geteuid() == 0 else None) as found:
        yield found


def opened(stream: IO[bytes] | None) -> bytes:
    """What a capture writes first: it is attached then."""
    assert stream is not None
    return stream.read(8)


def packets(data: bytes) -> list[bytes]:
    """The bodies of the packet blocks; tests/netns/observe judges the rest of the format."""
    found = []
    while data:
        kind, length = struct.unpack_from("=II", data)
        if kind == 6:
            found.append(data[8 : length - 4])
        data = data[length:]
    return found


def fetch(hostlab: Hostlab, name: str) -> None:
    hostlab("exec", f"{name}/bob", "--", "python3", "-c", FETCH)


def ended(capture: subprocess.Popen[bytes], first: bytes) -> tuple[bytes, str]:
    out, errors = capture.communicate(timeout=LIMIT_S)
    return first + out, errors.decode()


@pytest.mark.parametrize("which", ["site", "plain_site"])
def test_capture_writes_what_passes(which: str, request: pytest.FixtureRequest) -> None:
    hostlab, name = request.getfixturevalue(which)
    capture = hostlab.start("capture", f"{name}/bob", "wire")
    first = opened(capture.stdout)
    fetch(hostlab, name)
    capture.send_signal(signal.SIGINT)
    data, errors = ended(capture, first)
    assert capture.returncode == 0
    seen = packets(data)
    assert any(b"GET / HTTP" in one for one in seen)
    assert errors == f"{len(seen)} packets captured on bob wire\n"


def test_capture_ends_by_itself(site: Site) -> None:
    hostlab, name = site
    if shutil.which("tcpdump", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("no tcpdump to compile a filter")
    capture = hostlab.start("capture", f"{name}/bob", "-c", "4", "-f", "tcp port 80")
    first = opened(capture.stdout)
    fetch(hostlab, name)
    data, errors = ended(capture, first)
    assert (capture.returncode, errors) == (0, "4 packets captured on bob wire\n")
    assert len(packets(data)) == 4


def test_capture_ends_when_nobody_reads(site: Site) -> None:
    hostlab, name = site
    capture = hostlab.start("capture", f"{name}/bob")
    opened(capture.stdout)
    assert capture.stdout is not None
    capture.stdout.close()
    capture.stdout = None
    assert capture.wait(LIMIT_S) == 0
    assert capture.stderr is not None
    assert b"captured on bob wire" in capture.stderr.read()
    capture.stderr.close()


def test_capture_names_the_interfaces_there_are(site: Site) -> None:
    hostlab, name = site
    done = hostlab("capture", f"{name}/bob", "eth7", "-w", os.devnull, status=2)
    assert "node bob has no interface 'eth7'" in done.stderr
    assert "its interfaces: lo, wire" in done.stderr


def test_capture_spares_terminals(site: Site) -> None:
    hostlab, name = site
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            hostlab.argv("capture", f"{name}/bob"),
            env=hostlab.environment,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert f"hostlab capture {name}/bob | wireshark -k -i -" in done.stderr


def test_a_file_gets_the_capture(site: Site) -> None:
    hostlab, name = site
    file = hostlab.run_directory.parent / "pipe.pcapng"
    os.mkfifo(file)
    capture = hostlab.start("capture", f"{name}/bob", "-c", "1", "-w", str(file))
    with open(file, "rb", buffering=0) as pipe:
        data = pipe.read(8)
        fetch(hostlab, name)
        while more := pipe.read(1 << 16):
            data += more
    _, errors = ended(capture, b"")
    assert errors == "1 packet captured on bob wire\n"
    assert len(packets(data)) == 1


@pytest.mark.parametrize("kind", ["ascii", "dot", "mermaid", "svg"])
def test_graph_knows_the_states(site: Site, kind: str) -> None:
    hostlab, name = site
    picture = hostlab("graph", name, "--format", kind).stdout
    begins = {"ascii": f"lab {name}", "dot": "graph ", "mermaid": "---", "svg": "<"}
    assert picture.startswith(begins[kind])
    failed = {
        "ascii": "[failed]",
        "dot": "#cf222e",
        "mermaid": ":::failed",
        "svg": "#cf222e",
    }
    assert failed[kind] in picture


def test_graph_of_a_lab_that_is_not_up_has_no_states(site: Site) -> None:
    hostlab, _ = site
    picture = hostlab("graph", "-", stdin="nodes: [a, b]\nsegments: [lan]\n").stdout
    assert "[running]" not in picture


def test_namespaces_of_a_lab_and_of_the_machine(site: Site) -> None:
    hostlab, name = site
    found = json.loads(hostlab("namespaces", name, "--json").stdout)
    networks = [one for one in found if one["kind"] == "net"]
    assert sorted(one["who"] for one in networks) == [["(hub)"], ["alice"], ["bob"], ["carol"]]
    alice = next(one for one in found if one["kind"] == "pid" and one["who"] == ["alice"])
    assert len(alice["pids"]) >= 2, "its first process and its job"
    machine = json.loads(hostlab("namespaces", "--machine", "--json").stdout)
    assert {one["inode"] for one in networks} < {one["inode"] for one in machine}
    assert any(name in one["who"] for one in machine)
    assert "(machine)" in hostlab("namespaces", name).stdout
    hostlab("namespaces", name, "--machine", status=2)


@pytest.mark.parametrize("which", ["site", "plain_site"])
def test_capabilities_of_a_nodes_processes(which: str, request: pytest.FixtureRequest) -> None:
    hostlab, name = request.getfixturevalue(which)
    rows = json.loads(hostlab("capabilities", f"{name}/alice", "--json").stdout)
    job = next(row for row in rows if row["command"].startswith("python3"))
    assert "NET_ADMIN" in job["effective"]
    assert "SYS_ADMIN" not in job["bounding"]
    (first,) = json.loads(hostlab("capabilities", f"{name}/alice:1", "--json").stdout)
    assert first["pid"] == min(row["pid"] for row in rows)
    done = hostlab("capabilities", f"{name}/alice:4194000", status=2)
    assert "it has: 1, 2" in done.stderr


def test_a_process_that_ends_while_they_are_looked_at_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    monkeypatch.setattr(in_node, "pids_in", lambda _: {1: gone.pid, 2: os.getpid()})
    monkeypatch.setattr(look, "one_node", lambda _: SimpleNamespace(pid=gone.pid))
    shown = CliRunner().invoke(
        look.capabilities_command, ["alice", "--json"], standalone_mode=False
    )
    assert [row["pid"] for row in json.loads(shown.stdout)] == [os.getpid()]


def test_capabilities_of_a_nodes_file(site: Site) -> None:
    hostlab, name = site
    script = "cp /bin/true /tmp/t && python3 -c '{}'".format(
        'import os; os.setxattr("/tmp/t", "security.capability",'
        ' bytes.fromhex("0100000200040000000000000000000000000000"))'
    )
    hostlab("exec", f"{name}/alice", "--", "sh", "-c", script)
    done = hostlab("capabilities", f"{name}/alice:/tmp/t")
    assert done.stdout == "/tmp/t: cap_net_bind_service=ep\n"
    done = hostlab("capabilities", f"{name}/alice:/nowhere", status=2)
    assert "/nowhere: No such file" in done.stderr


def test_capabilities_wants_one_thing(site: Site) -> None:
    hostlab, _ = site
    hostlab("capabilities", status=2)
    done = hostlab("capabilities", "--pid", str(os.getpid()))
    assert done.stdout.startswith(f"{os.getpid()} (")
    assert hostlab("capabilities", "--file", "/bin/sh").stdout == "/bin/sh: none\n"


def test_differences_of_a_node(site: Site) -> None:
    hostlab, name = site
    rows = json.loads(hostlab("differences", f"{name}/bob", "--json").stdout)
    topics = [row["topic"] for row in rows]
    assert {"kernel", "PID 1", "interfaces"} <= set(topics)
    text = hostlab("differences", f"{name}/bob").stdout
    assert all(topic in text for topic in topics if not topic.startswith("CAP_"))
    assert max(map(len, text.splitlines())) <= 100


def test_bash_completes_commands_and_nodes(site: Site) -> None:
    hostlab, _ = site
    directory = hostlab.run_directory.parent / "bin"
    directory.mkdir()
    program = directory / "hostlab"
    program.write_text(f'#!/bin/sh\nexec {" ".join(hostlab.argv())} "$@"\n')
    program.chmod(0o755)
    script = hostlab("completion", "bash").stdout
    script += """
    try() { COMP_WORDS=(hostlab "$@"); COMP_CWORD=$#; COMPREPLY=(); _hostlab_completion hostlab
            echo "${COMPREPLY[*]}"; }
    try diff
    try shell ca
    try capture bob w
    """
    path = f"{directory}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**hostlab.environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["differences", "carol", "wire"], done.stderr
