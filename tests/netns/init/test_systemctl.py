"""systemctl and journalctl in a node: output, statuses, and the scripts of Debian's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.sync import Node
from tests.netns.init.test_readiness_in_nodes import supervisor
from tests.netns.init.test_units_in_nodes import put
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = pytest.mark.netns

LAB = """
nodes:
  box:
    units: [web]
    files:
      /etc/systemd/system/web.service: |
        [Unit]
        Description=A web server
        Documentation=man:web(8)
        [Service]
        ExecStart=/bin/sh -c 'echo hello; exec sleep 1000'
        ExecReload=/bin/sh -c 'echo reloads $MAINPID; test ! -e /run/reload-fails'
        [Install]
        WantedBy=multi-user.target
      /etc/systemd/system/needs.service: |
        [Unit]
        Requires=web.service
        After=web.service
        [Service]
        ExecStart=/bin/sleep 1001
      /etc/systemd/system/bad.service: |
        [Service]
        Type=oneshot
        ExecStart=/bin/sh -c 'exit 7'
      /etc/systemd/system/above-bad.service: |
        [Unit]
        Requires=bad.service
        After=bad.service
        [Service]
        ExecStart=/bin/sleep 1002
      /etc/systemd/system/wrong.service: |
        [Service]
        Type=simple
      /etc/systemd/system/skipped.service: |
        [Unit]
        ConditionPathExists=/no/such
        [Service]
        ExecStart=/bin/sleep 1003
      /etc/systemd/system/slow.service: |
        [Service]
        Type=notify
        NotifyAccess=all
        ExecStart=/bin/sh -c 'read -r line < /run/go; systemd-notify --ready; exec sleep 1004'
      /etc/systemd/system/only.target: |
        [Unit]
        AllowIsolate=yes
        Wants=needs.service
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with site(tmp_path, monkeypatch) as place:
        yield staged(place)


def staged(place: Site) -> Node:
    found = place.up(LAB).nodes()["box"]
    found.wait_settled(within_s=60)
    return found


class Ran:
    """What a command in a node printed, and its status."""

    def __init__(self, node: Node, command: str) -> None:
        done = node.shell(command, timeout_s=60)
        self.status = done.status
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    def __repr__(self) -> str:
        return f"{self.status}: {self.out!r} {self.err!r}"


def test_verbs_about_what_runs(node: Node) -> None:
    assert Ran(node, "systemctl is-active web bad no").out == "active\ninactive\ninactive\n"
    assert Ran(node, "systemctl --quiet is-active bad").status == 3
    assert Ran(node, "systemctl start needs web").status == 0
    pid = Ran(node, "systemctl show -p MainPID --value web").out
    assert Ran(node, "systemctl restart web").status == 0
    assert Ran(node, "systemctl show -p MainPID --value web").out != pid
    assert Ran(node, "systemctl is-active needs").out == "active\n", "what required it came back"
    assert Ran(node, "systemctl try-restart bad").status == 0
    assert Ran(node, "systemctl is-active bad").status == 3
    ran = Ran(node, "systemctl reload web; journalctl -u web -n1 -o cat")
    assert ran.out.startswith("reloads "), ran
    ran = Ran(node, "touch /run/reload-fails; systemctl reload web")
    assert (ran.status, ran.err.splitlines()[0]) == (1, "Job for web.service failed.")
    ran = Ran(node, "systemctl reload needs")
    assert ran.err == (
        "Failed to reload needs.service: "
        "Job type reload is not applicable for unit needs.service.\n"
    )
    assert Ran(node, "systemctl kill -s KILL needs; systemctl stop web").status == 0
    assert Ran(node, "systemctl is-active web needs").status == 3


def test_failures_are_told_as_systemd_tells_them(node: Node) -> None:
    ran = Ran(node, "systemctl start bad")
    assert (ran.status, ran.err) == (
        1,
        "Job for bad.service failed because the control process exited with error code.\n"
        'See "systemctl status bad.service" and "journalctl -xeu bad.service" for details.\n',
    )
    assert Ran(node, "systemctl is-failed bad").out == "failed\n"
    assert Ran(node, "systemctl show -p Result,ExecMainStatus bad").out == (
        "Result=exit-code\nExecMainStatus=7\n"
    )
    ran = Ran(node, "systemctl start above-bad")
    assert ran.err == (
        "A dependency job for above-bad.service failed. See 'journalctl -xe' for details.\n"
    )
    assert Ran(node, "systemctl reset-failed; systemctl is-failed bad").out == "inactive\n"
    ran = Ran(node, "systemctl start no")
    assert (ran.status, ran.err) == (
        5,
        "Failed to start no.service: Unit no.service not found.\n",
    )
    ran = Ran(node, "systemctl stop no")
    assert (ran.status, ran.err) == (
        5,
        "Failed to stop no.service: Unit no.service not loaded.\n",
    )
    ran = Ran(node, "systemctl start wrong")
    assert ran.status == 1
    assert "has a bad unit file setting" in ran.err
    assert Ran(node, "systemctl start skipped").status == 0
    assert Ran(node, "systemctl show -p ConditionResult skipped").out == "ConditionResult=no\n"
    assert Ran(node, "systemctl frobnicate").err == "Unknown command verb frobnicate.\n"
    assert Ran(node, "systemctl start").err == "Too few arguments.\n"
    assert Ran(node, "systemctl --bad").err == "systemctl: unrecognized option '--bad'\n"


def test_status_and_lists(node: Node) -> None:
    shown = "systemctl status web"
    # It is running as a shell before it says anything, and becomes `sleep`.
    wait_until(lambda: "(sleep)" in Ran(node, shown).out, "the main process")
    ran = Ran(node, shown)
    lines = [line.strip() for line in ran.out.splitlines()]
    assert ran.status == 0
    assert lines[0] == "● web.service - A web server"
    assert lines[1].startswith("Loaded: loaded (/etc/systemd/system/web.service; disabled; preset:")
    assert lines[2].startswith("Active: active (running) since ")
    assert any(line.startswith("Main PID: ") and line.endswith("(sleep)") for line in lines)
    assert lines[-1] == "hello"
    assert Ran(node, "systemctl status skipped").status == 3
    ran = Ran(node, "systemctl status no")
    assert (ran.status, ran.err) == (4, "Unit no.service could not be found.\n")
    ran = Ran(node, "systemctl list-units --no-legend --type=service --plain")
    assert ran.out.split() == ["web.service", "loaded", "active", "running", "A", "web", "server"]
    ran = Ran(node, "systemctl list-unit-files --no-legend 'b*'")
    assert "bad.service static -" in " ".join(ran.out.split())
    assert Ran(node, "systemctl cat web").out.startswith(
        "# /etc/systemd/system/web.service\n[Unit]\n"
    )
    assert Ran(node, "systemctl is-system-running").out == "running\n"
    shown = Ran(node, "systemctl show -p LoadState,CanReload,Triggers web no").out
    assert shown == "LoadState=loaded\nCanReload=yes\n\nLoadState=not-found\nCanReload=no\n"


def test_links_and_a_reboot(node: Node) -> None:
    ran = Ran(node, "systemctl enable --now needs web")
    assert ran.err == (
        "Created symlink /etc/systemd/system/multi-user.target.wants/web.service"
        " → /etc/systemd/system/web.service.\n"
    )
    assert Ran(node, "systemctl is-active needs").status == 0
    assert Ran(node, "systemctl is-enabled web needs").out == "enabled\nstatic\n"
    ran = Ran(node, "systemctl mask bad")
    assert ran.err == (
        "Failed to mask unit: File /etc/systemd/system/bad.service already exists.\n"
    )
    assert Ran(node, "systemctl mask other; systemctl start other").err.endswith(
        "Failed to start other.service: Unit other.service is masked.\n"
    )
    put(node, "/etc/systemd/system/late.service", "[Service]\nExecStart=/bin/sleep 9\n"
        "[Install]\nWantedBy=multi-user.target\n")  # fmt: skip
    assert Ran(node, "systemctl enable late").status == 0
    assert Ran(node, "systemctl is-active late").status == 3
    ran = Ran(node, "systemctl list-unit-files --state=enabled --no-legend 'late*' 'web*'")
    assert ran.out.split()[::3] == ["late.service", "web.service"]
    assert Ran(node, "systemctl disable web").err == (
        'Removed "/etc/systemd/system/multi-user.target.wants/web.service".\n'
    )
    assert Ran(node, "systemctl isolate only.target").status == 0
    assert Ran(node, "systemctl is-active needs web multi-user.target").out == (
        "active\nactive\ninactive\n"
    )
    before = node.job_table()
    # The caller hears of its end, though that comes after everything has stopped.
    ran = Ran(
        node,
        "pid=$(systemctl show -p MainPID --value web); systemctl reboot || exit 9\n"
        "while kill -0 $pid; do :; done 2> /dev/null\n"
        "i=0; until test $i = 99; do i=$((i + 1)); /bin/true; done; echo down",
    )
    assert (ran.status, ran.out) == (0, "down\n"), ran

    def has_late() -> bool:
        with contextlib.suppress(Failed):
            is_new = node.job_table() != before
            return is_new and Ran(node, "systemctl is-active late").status == 0
        return False

    wait_until(has_late, "what was enabled since is started by the next boot")
    assert Ran(node, "systemctl is-active needs").status == 3


def test_a_start_outlives_the_supervisor_that_was_asked(node: Node) -> None:
    node.succeed("mkfifo /run/go; (systemctl start slow; echo $? > /run/said) > /dev/null 2>&1 &")
    node.succeed("until systemctl is-active slow | grep -q activating; do :; done")
    os.kill(supervisor(node), signal.SIGKILL)
    node.succeed("echo x > /run/go; until test -s /run/said; do :; done")
    assert Ran(node, "cat /run/said; systemctl is-active slow").out == "0\nactive\n"


@pytest.mark.skipif(not shutil.which("deb-systemd-helper"), reason="no init-system-helpers here")
def test_what_maintainer_scripts_do(node: Node) -> None:
    script = """
        rm -f /usr/sbin/policy-rc.d
        test -d /run/systemd/system
        deb-systemd-helper unmask web.service
        deb-systemd-helper enable web.service
        deb-systemd-helper --quiet was-enabled web.service
        systemctl --system daemon-reload
        deb-systemd-invoke stop web.service
        ! systemctl is-active web
        deb-systemd-invoke start web.service
        systemctl is-active web
        printf '#!/bin/sh\\n' > /etc/init.d/web; chmod +x /etc/init.d/web
        invoke-rc.d web restart
        service web stop
        ! systemctl is-active web
        service web start
        service web status
        deb-systemd-helper disable web.service
        ! systemctl is-enabled web
    """
    path = "/run/script"
    put(
        node,
        path,
        "set -e\nexport DPKG_MAINTSCRIPT_PACKAGE=web PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        + textwrap.dedent(script),
    )
    ran = Ran(node, f"sh -x {path}")
    assert ran.status == 0, ran


def test_a_log_is_followed(node: Node) -> None:
    node.succeed("(journalctl -u web -f > /run/followed) > /dev/null 2>&1 & echo $! > /run/pid")
    node.succeed("until grep -q hello /run/followed; do :; done")
    node.succeed("systemctl restart web; until test $(grep -c hello /run/followed) = 2; do :; done")
    asked = "ls /run/hostlab/.init/initctl | grep -c args || true"
    node.succeed("kill $(cat /run/pid)")
    wait_until(lambda: Ran(node, asked).out == "0\n", "nobody is served any more")
    assert Ran(node, "journalctl -u web -o json -n1").out.startswith('{"MESSAGE": "hello"')
    assert Ran(node, "journalctl -u web --since=tomorrow").out == "-- No entries --\n"
    assert Ran(node, "journalctl -u web -n x").status == 1
