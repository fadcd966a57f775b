"""The code of checks on a host that has Python's standard library and nothing else."""

from __future__ import annotations

import ast
import json
import os
import select
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from hostlab.checks import agent_msgspec, bundle
from hostlab.checks.access import CommandResult, TooMuch
from hostlab.checks.agent import OwnHost
from hostlab.checks.judge import judge
from hostlab.checks.patience import Seen, Waited
from hostlab.checks.questions import Question, Reply
from hostlab.checks.remote import NotReached, RemoteHost
from hostlab.cli.probing import Here
from hostlab.spec.model import Check

pytestmark = pytest.mark.unit


def check(kind: str, **arguments: object) -> Check:
    return Check(nodes=("here",), kind=kind, arguments=arguments, within_s=20.0)


class Runs(Here):
    """This machine, without another process of Python."""

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        return OwnHost().run(command, timeout_s=timeout_s)


def test_checks_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("7.2\n")
    asked = [
        check("file", path=str(tmp_path / "note"), **{"is": "file", "contains": "7.2"}),
        check("command", run="echo 5; exit 3", status=3, above=4),
        check("interface", name="lo", state="absent"),
        check("job", name="web", state="running"),
        check("command", run=f"cat {tmp_path}/none >&2"),
    ]
    asked[2] = Check(nodes=("here",), kind="interface", arguments=asked[2].arguments, within_s=0.0)
    asked[4] = Check(nodes=("here",), kind="command", arguments=asked[4].arguments, within_s=0.5)
    report = judge(asked, {"here": RemoteHost("here", None)})
    assert [row.outcome[0] for row in report.rows] == ["h", "h", "f", "u", "f"], report
    assert report.rows[3].seen == "the host cannot be asked: no init of hostlab runs on this host"
    assert "No such file" in report.rows[4].log[0]
    assert report.rows[0].repeat == f"cat {tmp_path}/note"


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[int]:
    """The port on this machine's loopback of a server with a certificate of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    pem = tmp_path / "pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db"]
    words += ["-days", "2", "-keyout", "-", "-out", "-"]
    pem.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_certificate_is_told_from_there(tls_server: int) -> None:
    asked = [
        check("tls", server=f"127.0.0.1:{tls_server}", verify=False, days=1),
        check("http", url=f"https://127.0.0.1:{tls_server}/none", verify=False, status=404),
    ]
    tls, http = judge(asked, {"here": RemoteHost("here", None)}).rows
    assert (tls.outcome, http.outcome) == ("holds", "holds"), (tls, http)
    here = {"here": Here()}
    for there, own in zip((tls, http), judge(asked, here).rows, strict=True):
        certificates = [
            row.facts["certificate"]["not_after"] if isinstance(row.facts, dict) else None
            for row in (there, own)
        ]
        assert certificates[0] == certificates[1]
        assert certificates[0]


def test_a_check_that_raises_is_not_judged_and_disturbs_no_other() -> None:
    asked = [
        check("file", path="/etc/passwd", matches="["),
        check("command", run="echo 1", matches="["),
        check("file", path="/etc/passwd"),
        check("command", run="echo 1"),
    ]
    for access in (RemoteHost("here", None), Runs()):
        rows = judge(asked, {"here": access}).rows
        assert "".join(row.outcome[0] for row in rows) == "uuhh", rows
        for row in rows[:2]:
            assert row.seen.startswith("the check itself ended with error: unterminated character")


def test_dnspython_is_found_where_it_is_installed() -> None:
    asked = check("dns", name="a.example", servers=["127.0.0.1:1"])
    (row,) = judge([asked], {"here": RemoteHost("here", None)}, once=True).rows
    assert row.seen == "127.0.0.1: refused on udp port 1: Connection refused"


def test_a_host_without_its_python_says_so() -> None:
    host = RemoteHost("far", ("env", "--", "sh", "-c"), python="python-none")
    report = judge([check("file", path="/")], {"far": host, "here": host})
    lacks = "it lacks python-none (checks need Python 3.11 or later there)"
    assert report.rows[0].seen == lacks
    assert report.exit_code == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo hello; cat >/dev/null", "it answers with something else: 'hello'"),
        ("echo who >&2; exit 7", "not reached: who"),
        ("exit 7", "not reached: exit status 7"),
        ("cat >/dev/null", "it accepts, and has not answered for 0.1 s"),
        ("echo Permission denied >&2", "not reached: it does not let us in: Permission denied"),
    ],
)
def test_a_host_that_does_not_begin_says_why(command: str, message: str) -> None:
    host = RemoteHost("here", ("sh", "-c", command, "sh"), hello_s=0.1 if "cat" in command else 30)
    if "hello" in command:
        host.hello_s = 30
    report = judge([check("file", path="/")], {"here": host})
    assert report.rows[0].seen == message
    assert report.exit_code == 3


def test_a_host_that_dies_in_the_middle_is_told() -> None:
    asked = [check("command", run="kill -9 $PPID"), check("command", run="read x <&1")]
    report = judge(asked, {"here": RemoteHost("here", None)})
    for row in report.rows:
        assert row.seen.startswith("the connection has ended in the middle"), row
    assert report.exit_code == 3


def test_a_command_is_bounded_and_ended_with_all_it_started(tmp_path: Path) -> None:
    with pytest.raises(TooMuch):
        OwnHost().run("yes", timeout_s=60)
    with pytest.raises(TimeoutError):
        OwnHost().run(f"sleep 1000 & echo $! >{tmp_path}/p; wait", timeout_s=1)
    try:
        child = os.pidfd_open(int((tmp_path / "p").read_text()))
    except ProcessLookupError:
        return
    with os.fdopen(child):
        assert select.select([child], [], [], 60)[0], "what the command started goes on"


def test_the_bundle_imports_nothing_but_the_standard_library() -> None:
    program = bundle.BOOT.replace("main()\n", "print(sorted(m for m in sys.modules))\n")
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-ISBc", program],
        input=bundle.bundle(),
        capture_output=True,
        check=True,
    )
    modules = ast.literal_eval(done.stdout.decode())
    ours = [name for name in modules if name.startswith("hostlab.")]
    assert "hostlab.checks.expectations" in ours
    assert not [name for name in modules if name.split(".")[0] in ("yaml", "click")]


def test_the_stand_in_reads_and_writes_what_msgspec_does() -> None:
    import msgspec

    question = Question(position=1, kind="listens", arguments={"port": 80}, within_s=1.0)
    reply = Reply(1, Waited(seen=Seen(ok=True, text="é", log=("a",)), tries=1, took_s=0.5))

    class MyReply(agent_msgspec.Struct, rename={"place": "position"}):
        place: int
        waited: dict[str, object]
        extra: int = 3

    mine = agent_msgspec.json.Decoder(MyReply).decode(msgspec.json.encode(reply))
    assert mine.place == 1
    written = json.loads(agent_msgspec.json.encode(mine))
    assert written == {**json.loads(msgspec.json.encode(reply)), "extra": 3}
    assert agent_msgspec.structs.replace(mine, extra=4).extra == 4
    assert mine == MyReply(1, mine.waited)
    with pytest.raises(agent_msgspec.ValidationError, match="more"):
        agent_msgspec.convert({"more": 1}, MyReply)
    with pytest.raises(TypeError, match="lacks place"):
        MyReply(waited={})
    assert question.kind == "listens"


def test_an_answer_that_is_none_ends_the_conversation() -> None:
    hello = """'{"hello": 1}'"""
    host = RemoteHost("here", ("sh", "-c", f"echo {hello}; echo no; cat >/dev/null", "sh"))
    with host.connected() as talk, pytest.raises(NotReached, match="no answer"):
        talk.receive(30.0)
