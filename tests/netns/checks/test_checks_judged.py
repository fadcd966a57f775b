"""Every kind of check on real nodes, green and red, as root and in a user namespace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from hostlab.checks.access import JobStatus
from hostlab.checks.judge import judge
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.errors import SpecError
from hostlab.jobs.job_state import JobState
from hostlab.spec.model import Check, Condition, Place
from tests.netns.lab.lab_site import wait_until

if TYPE_CHECKING:
    from tests.netns.checks.conftest import Lab

pytestmark = pytest.mark.netns

SHORT_S = 0.15
PATIENCE_S = (SHORT_S, 1.0, 5.0, 20.0)
"""A machine that is too slow for an answer in the first of them may have the others."""
LONG_S = 60.0
"""Nothing waits for it: a test that did would run into pytest's own limit or its assertion."""


def one(lab: Lab, kind: str, within_s: float = SHORT_S, node: str = "web", **said: Any) -> Verdict:
    check = Check(nodes=(node,), kind=kind, arguments=said, within_s=within_s)
    report = judge([check], lab, lab="small")
    assert len(report.rows) == 1
    return report.rows[0]


def reds(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.FAILS, str(verdict)
    return verdict.seen


def red(lab: Lab, kind: str, wanted: str, node: str = "web", **said: Any) -> Verdict:
    """A check that fails for this reason, which takes an answer in time."""
    seen = []
    for within_s in PATIENCE_S:
        verdict = one(lab, kind, within_s, node, **said)
        seen.append(reds(verdict))
        if wanted in verdict.seen:
            return verdict
    raise AssertionError(f"{wanted!r} is in none of {seen}")


def tried_again(lab: Lab, kind: str, **said: Any) -> Verdict:
    """A check that is not decided by the first try, in as much time as a second one takes."""
    for within_s in PATIENCE_S:
        verdict = one(lab, kind, within_s, **said)
        if verdict.tries > 1:
            break
    assert verdict.tries > 1, verdict
    return verdict


def held(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.HOLDS, str(verdict)
    return verdict.seen


def green(lab: Lab, kind: str, within_s: float = LONG_S, node: str = "web", **said: Any) -> str:
    """What is seen where the check holds, however slow the machine is just now."""
    within_s = SHORT_S if kind == "not_reaches" else within_s
    return held(one(lab, kind, within_s, node, **said))


def unreached(lab: Lab, how: str, **said: Any) -> None:
    """That `not_reaches` holds, for this reason."""
    seen = []
    for within_s in PATIENCE_S:
        seen.append(held(one(lab, "not_reaches", within_s, **said)))
        if how in seen[-1]:
            return
    raise AssertionError(f"{how!r} is in none of {seen}")


def test_listens(lab: Lab) -> None:
    servers = ["mute:tcp:127.0.0.1:80", "mute:tcp:any6:81", "mute:tcp:any:82", "mute:udp:any:53"]
    with lab.serving("web", *servers):
        assert green(lab, "listens", port=80) == "listening on 127.0.0.1:80"
        assert green(lab, "listens", port=82, address="10.9.0.1") == "listening on [::]:82"
        green(lab, "listens", port=82, address="fd09::1")
        green(lab, "listens", port=81, address="fd09::1")
        green(lab, "listens", port=53, protocol="udp")
        only = "only 127.0.0.1:80 listens on that port"
        assert red(lab, "listens", only, port=80, address="10.9.0.1").seen == only
        reds(one(lab, "listens", port=81, address="10.9.0.1"))
        nothing = "nothing listens on tcp port 53; tcp ports that are: 80, 81, 82"
        assert red(lab, "listens", nothing, port=53).seen == nothing
        red(lab, "listens", "nothing", port=80, node="db")


def test_http(lab: Lab) -> None:
    with lab.serving("db", "web:any:80"):
        assert green(lab, "http", url="http://db/") == "status 200 OK from 10.9.0.2"
        assert green(lab, "http", url="http://db6/", body="from the node").endswith("fd09::2")
        green(lab, "http", url="http://[fd09::2]:80/none?x=1", status=404)
        moved = "status 302 Found from 10.9.0.2, to /"
        assert red(lab, "http", moved, url="http://db/moved").seen == moved
        green(lab, "http", url="http://db/moved", follow=True)
        verdict = red(lab, "http", "without that text", url="http://db/", body="goodbye")
        assert verdict.log == ("hello from the node",)
        assert red(lab, "http", "404", url="http://db/none").seen.startswith("status 404")
    refused = "no answer: fd09::2: Connection refused"
    assert red(lab, "http", refused, url="http://db6/").seen == refused
    red(lab, "http", "does not resolve", url="http://nobody.invalid/")


def test_http_is_given_up_at_its_deadline(lab: Lab) -> None:
    with lab.serving("db", "drip:any:80", "mute:tcp:any:81"):
        for url in ("http://db/", "http://db:81/"):
            verdict = one(lab, "http", url=url)
            assert "in time" in reds(verdict) or "timed out" in verdict.seen
            assert verdict.tries == 1  # one attempt took all there was, and no more
            assert verdict.took_s >= SHORT_S


def test_https(lab: Lab) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    pem = Path(lab.directory, "pem")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db"]
    words += ["-days", "2", "-keyout", "-", "-out", "-"]
    pem.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    with lab.serving("db", f"tls:any:443:{pem}"):
        green(lab, "http", url="https://db/", verify=False)
        refused = "the certificate is refused: self-signed certificate"
        assert red(lab, "http", refused, url="https://db/").seen == refused


@pytest.mark.parametrize("host", ["db", "DB2", "db.lab", "10.9.0.2", "fd09::2", "db6"])
def test_reaches(lab: Lab, host: str) -> None:
    servers = ["mute:tcp:any:5432", "echo:udp:any:7", "mute:udp:any:9"]
    with lab.serving("db", *servers):
        assert "answered" in green(lab, "reaches", host=host, port=5432)
        green(lab, "reaches", host=host, port=7, protocol="udp")
        green(lab, "reaches", host=host, port=None, protocol="icmp")
        assert "silent" in reds(one(lab, "reaches", host=host, port=9, protocol="udp"))
        red(lab, "reaches", "refused", host=host, port=8, protocol="udp")
        red(lab, "reaches", "refused", host=host, port=5433)


@pytest.mark.parametrize(
    ("host", "how"), [("silent", "silent"), ("prohibited", "unreachable"), ("blackhole", "unre")]
)
def test_not_reaches(lab: Lab, host: str, how: str) -> None:
    for protocol in ("tcp", "udp"):
        red(lab, "reaches", how, host=host, port=80, protocol=protocol)
        unreached(lab, how, host=host, port=80, protocol=protocol)
    unreached(lab, how, host=host, protocol="icmp")


def test_a_router_that_says_there_is_no_way_is_heard(own_lab: Lab) -> None:
    own_lab["web"].run("ip route add 10.9.1.1 via 10.9.0.2", timeout_s=LONG_S)
    no_way = "echo 1 > /proc/sys/net/ipv4/ip_forward && ip route add unreachable 10.9.1.1"
    own_lab["db"].run(no_way, timeout_s=LONG_S)
    asked: list[dict[str, Any]] = [{"protocol": "icmp"}, {"protocol": "udp", "port": 9}]
    for said in [*asked, {"port": 9}]:
        # As few times as may be: a router says it five times, and then once a second
        # (ip_rt_error_burst, net/ipv4/route.c).
        def is_heard(said: dict[str, Any] = said) -> bool:
            seen = held(one(own_lab, "not_reaches", 0.0, host="10.9.1.1", **said))
            return "No route to host" in seen

        wait_until(is_heard, f"what the router says: {said}")


def test_a_refusal_that_is_not_repeated_is_not_forgotten(own_lab: Lab) -> None:
    own_lab["db"].run("echo 1000 > /proc/sys/net/ipv4/icmp_ratelimit", timeout_s=LONG_S)
    verdict = one(own_lab, "reaches", 2.0, host="db", port=8, protocol="udp")
    assert reds(verdict).startswith("10.9.0.2: refused (Connection refused)")
    assert verdict.tries > 3


def test_not_reaches_what_answers(lab: Lab) -> None:
    with lab.serving("db", "mute:tcp:any:80"):
        verdict = one(lab, "not_reaches", LONG_S, host="db", port=80)
        assert "10.9.0.2: answered" in reds(verdict)
        assert verdict.tries == 1
    unreached(lab, "refused", host="db", port=80)
    verdict = tried_again(lab, "not_reaches", host="db", port=80)
    assert held(verdict)
    assert verdict.took_s >= SHORT_S
    red(lab, "not_reaches", "does not resolve", host="nobody.invalid", port=80)


def test_a_port_of_our_own_that_we_meet_by_chance_is_not_reached(lab: Lab) -> None:
    narrow = "echo 50000 50001 > /proc/sys/net/ipv4/ip_local_port_range"
    if lab["web"].run(narrow, timeout_s=LONG_S).status:
        pytest.skip("the range of local ports cannot be set here")
    for port in (50000, 50001):
        green(lab, "not_reaches", host="127.0.0.1", port=port)
    lab["web"].run("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range", timeout_s=LONG_S)


def test_what_comes_later_is_waited_for(lab: Lab) -> None:
    go = threading.Event()

    may_end = threading.Event()

    def serve() -> None:
        go.wait()
        with lab.serving("db", "web:any:80"):
            may_end.wait()

    def told(verdict: Verdict) -> None:
        if verdict.kind == "not_reaches":
            go.set()

    server = threading.Thread(target=serve)
    checks = [
        Check(nodes=("web",), kind="http", arguments={"url": "http://db/"}, within_s=LONG_S),
        Check(
            nodes=("web",), kind="reaches", arguments={"host": "db", "port": 80}, within_s=LONG_S
        ),
        Check(nodes=("db",), kind="listens", arguments={"port": 80}, within_s=LONG_S),
        Check(nodes=("web",), kind="not_reaches", arguments={"host": "db", "port": 81}),
    ]
    # The last check needs a second: the others have been tried in vain when the server starts.
    server.start()
    try:
        report = judge(checks, lab, progress=told)
    finally:
        go.set()
        may_end.set()
        server.join()
    assert report.ok, report
    assert all(row.tries > 1 for row in report.rows)


def test_command(lab: Lab) -> None:
    assert green(lab, "command", run="cat /etc/hosts", stdout="db.lab") == "exit status 0"
    green(lab, "command", run="exit 3", status=3)
    verdict = red(lab, "command", "exit status 4", run="echo why >&2; exit 4")
    assert verdict.log == ("why",)
    red(lab, "command", "its output is without that text", run="echo a", stdout="b")
    verdict = one(lab, "command", run="read never < /proc/self/fd/1")
    assert reds(verdict).startswith("still running")
    assert verdict.repeat.startswith("hostlab exec small/web -- sh -c ")


def test_file(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    note, link, fifo = tmp_path / "note", tmp_path / "link", tmp_path / "fifo"
    note.write_text("a release 7.2\n")
    note.chmod(0o640)
    link.symlink_to("note")
    os.mkfifo(fifo)
    owner = f"{os.getuid()}:{os.getgid()}"
    asked: list[dict[str, Any]] = [{}, {"is": "file"}, {"contains": "7.2", "mode": 0o640}]
    for said in asked:
        assert green(lab, "file", path=str(note), **said).startswith("file, mode 0640, owner root")
    green(lab, "file", path=str(note), owner="root:root")
    green(lab, "file", path=str(note), owner=owner if lab.is_root else ":0")
    green(lab, "file", path=str(link), target="note")
    green(lab, "file", path=str(link), contains="7.2")
    for path, kind in ((fifo, "fifo"), ("/dev/null", "device"), (tmp_path / "none", "absent")):
        a_kind: dict[str, Any] = {"path": str(path), "is": kind}
        green(lab, "file", **a_kind)
    red(lab, "file", "it is not there", path=str(tmp_path / "none"))
    red(lab, "file", "it is not there", path=str(note / "none"))
    red(lab, "file", "it is a file", path=str(note), **{"is": "directory"})
    red(lab, "file", "it is a link", path=str(link), **{"is": "absent"})
    red(lab, "file", "mode 0640", path=str(note), mode=0o644)
    red(lab, "file", "owner root:root", path=str(note), owner="www-data")
    red(lab, "file", "owner root:root", path=str(note), owner="root:www-data")
    red(lab, "file", "it leads to note", path=str(link), target="/note")
    red(lab, "file", "no regular file", path=str(fifo), contains="7.2")
    red(lab, "file", "no regular file", path="/dev/zero", contains="7.2")
    red(lab, "file", "no regular file", path="/etc", contains="7.2")
    red(lab, "file", "no regular file", path="/etc", sha256="0" * 64)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        red(lab, "file", "no regular file", path=str(tmp_path / "sock"), contains="7.2")
    lacks = red(lab, "file", "it is without that text", path=str(note), contains="7.3")
    assert lacks.log == ("a release 7.2",)
    assert lacks.check == f"file: {note} (contains '7.3')"
    assert lacks.repeat == f"hostlab exec small/web -- cat {note}"


def test_sysctl(lab: Lab) -> None:
    assert green(lab, "sysctl", name="net.ipv4.ip_forward", value="0") == "it is 0"
    several = lab["web"].run("cat /proc/sys/net/ipv4/tcp_rmem", timeout_s=LONG_S).stdout.decode()
    green(lab, "sysctl", name="net.ipv4.tcp_rmem", value="  ".join(several.split()))
    red(lab, "sysctl", "it is 0", name="net.ipv4.ip_forward", value="1")
    red(lab, "sysctl", "has no net.ipv4.none", name="net.ipv4.none", value="1")
    green(lab, "sysctl", name="net.ipv4.conf.eth0.forwarding", value="0")


def test_what_a_command_says(lab: Lab) -> None:
    green(lab, "command", run="echo 7.2; echo x >&2", matches="^7[.]", stderr="x", lacks="8")
    green(lab, "command", run="echo 3; echo 4", stdout=["3", "4"], matches=["^3$", "^4$"])
    assert green(lab, "command", run="echo 3548", above=0, below=4000) == "it is 3548"
    assert red(lab, "command", "it is", run="echo 2000", above=0, below=2000).seen == "it is 2000"
    red(lab, "command", "no number", run="echo many", above=0)
    red(lab, "command", "no match of /^8/", run="echo 7.2", matches="^8")
    red(lab, "command", "lacks '4'", run="echo 3", stdout=["3", "4"])
    red(lab, "command", "its output has '3'", run="echo 3", lacks="3")
    red(lab, "command", "its errors", run="echo 3", stderr="3")


def test_users_groups_and_packages(lab: Lab, tmp_path: Path) -> None:
    assert "shell /bin/" in green(lab, "user", name="root", uid=0, home="/root", groups=["root"])
    red(lab, "user", "no such user", name="nobody-here")
    assert red(lab, "user", "its uid", name="root", uid=1).seen == "its uid is 0"
    red(lab, "user", "its groups are root", name="root", groups=["root", "adm"])
    green(lab, "group", name="root", gid=0)
    red(lab, "group", "its members are none", name="root", members=["www-data"])
    red(lab, "group", "no such group", name="nobody-here")
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("dpkg is not here")
    words = ["dpkg-query", "-W", "-f", "${Version} ${Architecture}", "dpkg"]
    told = subprocess.run(words, capture_output=True, check=True, text=True).stdout
    version, architecture = told.split()
    assert green(lab, "package", name="dpkg", version=version) == f"version {version} is installed"
    green(lab, "package", name=f"dpkg:{architecture}", version=f"{version[0]}*")
    green(lab, "package", name="dpkg-none", installed=False)
    red(lab, "package", "is installed", name="dpkg", installed=False)
    red(lab, "package", f"version {version}", name="dpkg", version="0.1")
    red(lab, "package", "it is not installed", name="dpkg:none")


def test_mounts_and_processes(lab: Lab) -> None:
    green(lab, "mount", path="/proc", type="proc")
    red(lab, "mount", "nothing is mounted", path="/etc/passwd")
    red(lab, "mount", "its type is proc", path="/proc", type="ext4")
    red(lab, "mount", "its options are", path="/proc", options=["no-such"])
    with lab.serving("web", "mute:tcp:127.0.0.1:80"):
        name = Path(sys.executable).name
        some: dict[str, Any] = {"name": name, "args": "mute:tcp:127.0.0.1:80"}
        green(lab, "process", count=1, **some)
        green(lab, "process", user=str(os.getuid()) if lab.is_root else "root", **some)
        red(lab, "process", "none as said", name=name, args="no:such:words")
        assert red(lab, "process", "1 of them run", count=2, **some).log
        red(lab, "process", "1 of them run", count=0, **some)
    green(lab, "process", name="no-such-program", count=0)
    red(lab, "process", "no such process", name="no-such-program")


def test_interfaces_addresses_and_routes(lab: Lab) -> None:
    seen = green(lab, "interface", name="eth0", mac="02:00:00:00:00:01", mtu=1500)
    assert seen.startswith("it is up, mtu 1500, 02:00:00:00:00:01, 10.9.0.1/24, fd09::1/64")
    green(lab, "interface", name="eth0", addresses=["10.9.0.1", "fd09::1/64"])
    green(lab, "interface", name="eth7", state="absent")
    red(lab, "interface", "it is up", name="eth0", state="down")
    red(lab, "interface", "there is none", name="eth7")
    red(lab, "interface", "mtu 1500", name="eth0", mtu=9000)
    red(lab, "interface", "10.9.0.1/24", name="eth0", addresses=["10.9.0.9"])
    assert green(lab, "address", address="10.9.0.1") == "on eth0"
    green(lab, "address", address="fd09::1/64", interface="eth0")
    red(lab, "address", "only eth0 has it", address="10.9.0.1", interface="lo")
    red(lab, "address", "10.9.0.1/24 on eth0", address="10.9.0.1/8")
    assert green(lab, "route", to="10.9.0.0/24", interface="eth0") == "10.9.0.0/24 dev eth0"
    enter = ["nsenter", "-t", str(lab["web"].pid), "-n", *([] if lab.is_root else ["-U"])]
    words = ["ip", "route", "add", "10.8.0.0/16", "via", "10.9.0.2", "metric", "7"]
    subprocess.run([*enter, *words], check=True)
    green(lab, "route", to="10.8.0.0/16", via="db", metric=7)
    red(lab, "route", "only 10.8.0.0/16 via 10.9.0.2", to="10.8.0.0/16", via="web")
    red(lab, "route", "no route to default", to="default")


def test_services_are_jobs(lab: Lab) -> None:
    lab["web"].states = {
        "www": JobStatus(state=JobState.RUNNING, pid=1),
        "mail.service": JobStatus(state=JobState.FAILED, exit_status=1),
    }
    try:
        assert green(lab, "service", name="www", running=True) == "job www is running"
        green(lab, "service", name="mail", running=False)
        red(lab, "service", "is failed", name="mail", running=True)
    finally:
        lab["web"].states = {}


def test_what_is_asked_only_under_a_condition(lab: Lab) -> None:
    there = Condition(kind="file", arguments={"path": "/etc/hosts"})
    wrong = Condition(kind="command", arguments={"run": "test $(hostname) = nobody"})
    missing = Condition(kind="file", arguments={"path": "/none"})
    check = Check(nodes=("web", "db", "gone"), kind="listens", arguments={"port": 9},
                  within_s=SHORT_S, condition=there)  # fmt: skip
    told: list[Verdict] = []
    asked = [check, replace(check, condition=missing), replace(check, condition=wrong)]
    report = judge(asked, lab, progress=told.append)
    assert "".join(row.outcome[0] for row in report.rows) == "ffussussu"
    assert sorted(told, key=str) == sorted(report.rows, key=str)
    assert report.rows[3].seen == (
        "it is asked only under a condition: file: /none: it is not there"
    )
    assert report.rows[2].seen.startswith("its condition cannot be judged: file: /etc/hosts: ")
    assert (
        report.summary() == "0 of 5 checks hold, 2 do not, 3 could not be judged, 4 are not asked"
    )
    skipped = judge([replace(check, nodes=("web",), condition=missing)], lab)
    assert (skipped.ok, skipped.exit_code) == (True, 0)


def test_what_must_last_and_what_must_never_be(lab: Lab) -> None:
    there = Check(nodes=("web",), kind="file", arguments={"path": "/etc/hosts"}, within_s=LONG_S)
    absent = replace(there, arguments={"path": "/etc/hosts", "is": "absent"})
    asked = [replace(there, always_s=0.3), replace(absent, never_s=0.3)]
    lasts, never = judge(asked, lab, lab="small").rows
    assert lasts.check == "file: /etc/hosts always for 0.3 s"
    assert held(lasts).startswith("file, ")
    assert held(never) == "it is a file"
    assert never.check == "file: /etc/hosts (absent) never for 0.3 s"
    for verdict in (lasts, never):
        assert verdict.took_s >= 0.3
        assert verdict.tries > 1
    check = Check(nodes=("web",), kind="command", arguments={"run": "true"}, never_s=LONG_S)
    verdict = judge([check], lab).rows[0]
    assert reds(verdict) == "exit status 0"
    assert verdict.expected == "for 60 s not: exit status 0 from `true`"
    assert verdict.tries == 1


def test_job(lab: Lab) -> None:
    failed = JobStatus(state=JobState.FAILED, exit_status=2, log=("bind: in use",))
    lab["web"].states = {"www": JobStatus(state=JobState.RUNNING, pid=7), "bad": failed}
    assert green(lab, "job", name="www", state="running") == "www is running"
    green(lab, "job", name="bad", state="failed")
    waited = tried_again(lab, "job", name="www", state="stopped")
    assert reds(waited) == "www is running"
    hopeless = one(lab, "job", LONG_S, name="bad", state="running")
    assert reds(hopeless) == "bad is failed (exit status 2)"
    assert hopeless.log == ("bind: in use",)
    assert hopeless.tries == 1
    assert "its jobs are www, bad" in reds(one(lab, "job", LONG_S, name="w", state="running"))
    lab["web"].states = {}


def test_nothing_is_waited_for_from_a_job_that_failed(lab: Lab) -> None:
    lab["web"].states = {"www": JobStatus(state=JobState.FAILED, exit_status=-9, log=("oh",))}
    verdict = one(lab, "listens", LONG_S, port=80)
    lab["web"].states = {}
    assert "job www is failed (killed by signal 9)" in reds(verdict)
    assert verdict.log == ("oh",)
    assert verdict.took_s < LONG_S / 2


def test_a_node_that_is_not_there_is_unknown_and_disturbs_no_other(lab: Lab) -> None:
    place = Place(file="lab.yaml", line=3, column=5)
    said = {"host": "127.0.0.1"}
    check = Check(
        nodes=("none", "web", "db"), kind="reaches", arguments=said, place=place, within_s=LONG_S
    )
    gone = Check(nodes=("none",), kind="command", arguments={"run": "true"})
    told: list[Verdict] = []
    report = judge([check, gone], lab, progress=told.append)
    assert [row.node for row in report.rows] == ["none", "web", "db", "none"]
    assert [row.outcome.value for row in report.rows] == ["unknown", "holds", "holds", "unknown"]
    assert sorted(map(str, told)) == sorted(map(str, report.rows))
    assert report.exit_code == 3
    assert str(report.rows[0]).startswith("lab.yaml:3:5: none: reaches: 127.0.0.1: unknown")


def test_a_node_that_dies_is_unknown(own_lab: Lab) -> None:
    said = {"run": "true"}

    def kill(_: Verdict) -> None:
        own_lab.holders["db"].send_signal(signal.SIGKILL)

    checks = [
        Check(nodes=("db",), kind="listens", arguments={"port": 9}, within_s=LONG_S),
        Check(nodes=("web",), kind="command", arguments=said, within_s=LONG_S),
    ]
    report = judge(checks, own_lab, progress=kill)
    assert report.rows[0].outcome is Outcome.UNKNOWN
    assert "ended" in report.rows[0].seen
    assert report.rows[1].ok
    own_lab.holders["db"].wait()
    verdict = one(own_lab, "listens", LONG_S, node="db", port=9)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "No such process" in verdict.seen


def test_many_checks_of_one_node(lab: Lab) -> None:
    checks = [
        Check(nodes=("web", "db"), kind="not_reaches", arguments={"host": "db", "port": port})
        for port in range(1, 80)
    ]
    quick = [Check(nodes=c.nodes, kind=c.kind, arguments=c.arguments, within_s=0) for c in checks]
    report: Report = judge(quick, lab, at_once=2)
    assert report.ok
    assert [row.check for row in report.rows[::2]] == [f"not_reaches: db:{p}" for p in range(1, 80)]


def test_a_kind_that_does_not_exist_is_said_before_anything_is_asked(lab: Lab) -> None:
    with pytest.raises(SpecError, match="listen"):
        one(lab, "listen", port=80)
    with pytest.raises(SpecError, match="port"):
        one(lab, "listens", port=0)
    with pytest.raises(SpecError, match="protocol"):
        one(lab, "listens", port=1, protocol="icmp")
