"""Checks over ssh: real sshd in nodes, with keys of their own, good and bad."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hostlab.checks.judge import judge
from hostlab.checks.remote import OPTIONS, RemoteHost
from hostlab.checks.verdict import Outcome, Report
from hostlab.jobs.job_state import JobState
from hostlab.spec.model import Check
from hostlab.sync import Lab
from tests.netns.checks.conftest import SERVER, end
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, probe, wait_until

pytestmark = pytest.mark.netns

SSHD = "/usr/sbin/sshd"
HOSTS = 4
_DESCRIPTION = """
name: {name}
segments: [lan]
roles:
  server:
    files:
      /root/.ssh/authorized_keys: {{content: "{public}", mode: 0600}}
      /etc/ssh/test_config: |
        HostKey /etc/ssh/test_key
        PermitRootLogin prohibit-password
        UsePAM no
        StrictModes no
        PidFile none
      /etc/ssh/test_key: {{copy: key, mode: 0600}}
      /run/sshd/.keep: ""
    jobs: {{sshd: {{exec: "{sshd} -D -e -f /etc/ssh/test_config", readiness: {{port: 22}}}}}}
nodes:
  admin:
    files:
      /root/.ssh/id_ed25519: {{copy: key, mode: 0600}}
      /root/inventory: {{copy: inventory}}
      /root/fleet.yaml: {{copy: fleet.yaml}}
      /root/.ssh/known_hosts: {{content: "{known}"}}
{nodes}
"""
_FLEET = """
roles:
  all: {checks: [{package: dpkg}, {command: {run: hostname, matches: "^host[0-9]+$"}}]}
  odd: {checks: [{command: {run: hostname, stdout: host1}, within: 1s}]}
checks:
  - {on: all, listens: 22}
"""


class Site:
    """Nodes with sshd, and a node that may log in to them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.admin = lab["admin"]

    def host(self, name: str, *options: str, hello_s: float = 60.0) -> RemoteHost:
        """A way to a host from the admin's namespaces, by the machine's own ssh."""
        enter = ("nsenter", "-t", str(self.admin.pid), "-a", "--")
        said = OPTIONS | {"ConnectTimeout": "60"}
        words = [word for key, value in said.items() for word in ("-o", f"{key}={value}")]
        return RemoteHost(name, (*enter, "ssh", *options, *words, "--", name), hello_s=hello_s)

    def judged(self, host: RemoteHost, *checks: Check) -> Report:
        return judge(checks, {host.name: host})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    probe()
    needs_hostlab_in_nodes()
    if not os.path.exists(SSHD) or shutil.which("ssh") is None or os.getuid():
        pytest.skip("sshd, ssh or root is missing")
    place = tmp_path_factory.mktemp("ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)
    public = " ".join((place / "key.pub").read_text().split()[:2])
    names = [f"host{number}" for number in range(1, HOSTS + 1)]
    (place / "inventory").write_text("\n".join(["*: all", "host[13]: odd", *names, ""]))
    (place / "fleet.yaml").write_text(_FLEET)
    text = _DESCRIPTION.format(
        name=f"ssh-{os.getpid()}",
        public=public,
        known="\\n".join(f"{name} {public}" for name in names) + "\\n",
        sshd=SSHD,
        nodes="".join(f"  {name}: {{role: server}}\n" for name in names),
    )
    (place / "lab.yaml").write_text(text)
    old = os.environ.get("HOSTLAB_RUN")
    os.environ["HOSTLAB_RUN"] = str(place / "run")
    try:
        with Lab(place / "lab.yaml") as lab:
            lab["admin"].succeed("true")  # its supervisor is there from now on
            for name in names:
                _wait_for_sshd(lab, name)
            yield Site(lab)
    finally:
        if old is None:
            del os.environ["HOSTLAB_RUN"]
        else:
            os.environ["HOSTLAB_RUN"] = old


def _wait_for_sshd(lab: Lab, name: str) -> None:
    wait_until(lambda: lab[name].jobs()["sshd"].state is JobState.RUNNING, f"sshd of {name} runs")


def check(host: str, kind: str = "command", within_s: float = 60.0, **arguments: object) -> Check:
    arguments = arguments or {"run": "hostname", "stdout": host}
    return Check(nodes=(host,), kind=kind, arguments=arguments, within_s=within_s)


def test_a_fleet_is_judged_by_its_inventory(site: Site) -> None:
    command = f"{sys.executable} -m hostlab.cli.main check fleet.yaml --ssh inventory --json"
    done = site.admin.execute(["sh", "-c", f"cd /root && {command}"], timeout_s=90)
    assert done.status == 1, done.stderr.decode()
    import msgspec

    report = msgspec.json.decode(done.stdout, type=Report)
    assert len(report.rows) == 3 * HOSTS + 2
    wrong = [(row.node, row.check) for row in report.rows if not row.ok]
    assert wrong == [("host3", "command: hostname")]
    row = next(row for row in report.rows if not row.ok)
    assert row.log == ("host3",)
    assert row.repeat == "ssh -- host3 'sh -c hostname'"
    again = site.admin.execute(["sh", "-c", row.repeat], timeout_s=90)
    assert again.stdout == b"host3\n"


def test_many_checks_are_one_login(site: Site) -> None:
    before = site.lab["host2"].log_tail("sshd")
    absent: dict[str, Any] = {"is": "absent"}
    checks = [check("host2", "file", path=f"/none/{number}", **absent) for number in range(60)]
    report = site.judged(site.host("host2"), *checks)
    assert report.ok, report

    def logins() -> int:
        told = [line for line in site.lab["host2"].log_tail("sshd") if "Accepted" in line]
        return len(told) - len([line for line in before if "Accepted" in line])

    wait_until(lambda: logins() >= 1, "a login is in the log")
    assert logins() == 1


def test_hosts_that_are_not_reached_say_why(site: Site) -> None:
    nobody = site.judged(site.host("nobody"), check("nobody"))
    assert nobody.rows[0].outcome is Outcome.UNKNOWN
    assert "not reached: " in nobody.rows[0].seen
    assert "nobody" in nobody.rows[0].seen
    assert nobody.exit_code == 3
    closed = site.judged(site.host("host1", "-p", "24"), check("host1"))
    assert "Connection refused" in closed.rows[0].seen
    unknown = site.host("host1", "-o", "UserKnownHostsFile=/dev/null")
    assert "its key is not known" in site.judged(unknown, check("host1")).rows[0].seen
    denied = site.host("host1", "-o", "IdentityFile=/dev/null", "-o", "IdentitiesOnly=yes")
    assert "it does not let us in" in site.judged(denied, check("host1")).rows[0].seen


def test_a_key_that_has_changed_is_told(site: Site) -> None:
    site.lab["admin"].succeed(
        "ssh-keygen -q -t ed25519 -N '' -f /tmp/other && "
        "(printf 'host1 '; cut -d' ' -f1,2 /tmp/other.pub) > /tmp/changed"
    )
    host = site.host("host1", "-o", "UserKnownHostsFile=/tmp/changed")
    report = site.judged(host, check("host1"))
    assert "its key is not the one that is known" in report.rows[0].seen


def test_a_host_that_accepts_and_never_answers_is_told(site: Site) -> None:
    serve = [sys.executable, "-I", str(SERVER), "mute:tcp:any:2222"]
    server = subprocess.Popen(
        ["nsenter", "-t", str(site.lab["host4"].pid), "-n", *serve],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        report = site.judged(site.host("host4", "-p", "2222", hello_s=1.0), check("host4"))
    finally:
        end(server)
    assert report.rows[0].seen == "it accepts, and has not answered for 1 s"
    assert report.exit_code == 3


def test_a_host_that_dies_in_the_middle_disturbs_no_other(site: Site) -> None:
    dying = check("host3", run="kill -9 $PPID")
    access = {"host3": site.host("host3"), "host1": site.host("host1")}
    report = judge([dying, check("host1")], access)
    assert report.rows[0].seen.startswith("the connection has ended in the middle")
    assert report.rows[1].ok, report


def test_what_a_host_says_is_bounded(site: Site) -> None:
    report = site.judged(site.host("host1"), check("host1", run="yes '<script>'"), check("host1"))
    assert report.rows[0].seen.startswith("the command wrote more than")
    assert report.rows[0].log[-1].strip("<script>") == ""
    assert report.rows[1].ok
