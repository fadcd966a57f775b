"""`apt-get install` inside a node, from a folder of packages, maintainer scripts and all.

What these packages do to a host: tinyproxy makes a user and a group, enables its unit, has files
made by systemd-tmpfiles and directories of its user's; mtr gets a capability on a file; at has
programs with set-user-ID bits that are another user's. All of it needs that the machine lacks them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.lab.lab_site import site
from tests.packages import repository

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]
"""apt-get installs packages with all their scripts."""

PACKAGES = ("at", "mtr-tiny", "tinyproxy")
OF_THE_MACHINE = "cron"
APT_S = 300.0
ACCOUNTS = ("/etc/group", "/etc/passwd", "/etc/shadow", "/var/lib/dpkg/status")


def description(folder: Path) -> str:
    return f"""\
nodes:
  box:
    volumes: ['{folder}:/srv/packages:ro']
    files:
      /etc/apt/sources.list: "deb [trusted=yes] file:/srv/packages ./\\n"
      /etc/apt/apt.conf.d/99-lab: |
        Dir::Etc::SourceParts "-";
        DPkg::Use-Pty "0";
        APT::Install-Recommends "0";
      /usr/sbin/policy-rc.d: {{content: "#!/bin/sh\\nexit 0\\n", mode: '0755'}}
    units: []
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node in which the packages were installed."""
    directory = tmp_path_factory.mktemp("apt")
    if os.geteuid():
        pytest.skip("only root's lab has the users that own the machine's files")
    folder = directory / "packages"
    folder.mkdir()
    repository(folder, PACKAGES)
    with pytest.MonkeyPatch.context() as patch, site(directory, patch) as place:
        node = place.up(description(folder))["box"]
        said = apt(node, f"install {' '.join(PACKAGES)}")
        assert "Setting up tinyproxy" in said
        yield node


def apt(node: Node, words: str) -> str:
    command = f"DEBIAN_FRONTEND=noninteractive apt-get -y {words} 2>&1 </dev/null"
    return node.succeed(f"apt-get -qq update && {command}", timeout_s=APT_S)


def test_dpkg_is_content(box: Node) -> None:
    assert box.succeed("dpkg --audit") == ""
    shown = box.succeed(f"dpkg-query -W -f '${{Package}} ${{Status}}\\n' {' '.join(PACKAGES)}")
    assert shown == "".join(f"{name} install ok installed\n" for name in PACKAGES)


def test_the_machine_has_nothing_of_it(box: Node) -> None:
    names = " ".join(PACKAGES)
    listed = box.succeed(f"dpkg -L {names} | sort -u | xargs stat -L -c '%F:%n'").splitlines()
    files = [line.partition(":")[2] for line in listed if not line.startswith("directory:")]
    assert len(files) > 20
    assert [path for path in files if os.path.lexists(path)] == []
    for path in ACCOUNTS:
        assert "tinyproxy" not in Path(path).read_text()


def test_a_user_and_a_group_are_made(box: Node) -> None:
    assert box.succeed("id -un tinyproxy && id -gn tinyproxy") == "tinyproxy\ntinyproxy\n"
    assert box.succeed("stat -c %U:%G /run/tinyproxy") == "tinyproxy:tinyproxy\n"


def test_files_get_other_owners_and_bits(box: Node) -> None:
    assert box.succeed("stat -c '%U:%G %a' /usr/bin/at") == "daemon:daemon 6755\n"
    spool = box.succeed("stat -c '%U:%G %a' /var/spool/cron/atjobs")
    assert spool == "daemon:daemon 1770\n"


def test_a_file_gets_a_capability(box: Node) -> None:
    """It is worth something: a user without any may open a raw socket."""
    assert box.succeed("getcap /usr/bin/mtr-packet") == "/usr/bin/mtr-packet cap_net_raw=ep\n"
    probe = "echo 7 send-probe ip-4 127.0.0.1 | setpriv --reuid 65534 mtr-packet"
    assert box.succeed(probe).startswith("7 reply ip-4 127.0.0.1 ")


def test_the_units_are_enabled(box: Node) -> None:
    wants = "/etc/systemd/system/multi-user.target.wants"
    link = box.succeed(f"readlink {wants}/tinyproxy.service")
    assert link == "/lib/systemd/system/tinyproxy.service\n"
    helper = "DPKG_MAINTSCRIPT_PACKAGE=tinyproxy deb-systemd-helper --quiet"
    box.succeed(f"{helper} was-enabled tinyproxy.service")
    box.succeed("test -e /etc/rc2.d/S01tinyproxy")


def test_the_linker_knows_new_libraries(box: Node) -> None:
    """Triggers have run: libc-bin's, for the library that logrotate needs."""
    assert "/libpopt.so.0" in box.succeed("ldconfig -p")


def test_its_daemon_runs(box: Node) -> None:
    """The package has started it itself, by deb-systemd-invoke; and it serves."""
    assert box.succeed("systemctl is-enabled tinyproxy") == "enabled\n"
    assert box.succeed("systemctl is-active tinyproxy atd") == "active\nactive\n"
    box.succeed("systemctl restart tinyproxy")
    ask = (
        "import socket; s = socket.create_connection(('127.0.0.1', 8888)); "
        "s.sendall(b'GET http://tinyproxy.stats/ HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99))"
    )
    assert "200 Statistic requested" in box.succeed(f'python3 -c "{ask}"')
    box.succeed("systemctl stop tinyproxy")
    box.fail("systemctl is-active tinyproxy")


def test_packages_are_purged_in_the_node_alone(box: Node) -> None:
    """One that came here, and one that the machine has."""
    apt(box, f"purge at {OF_THE_MACHINE}")
    for path in ("/usr/bin/at", "/etc/init.d/cron", "/usr/sbin/cron"):
        box.fail(f"test -e {path}")
    wants = "/etc/systemd/system/multi-user.target.wants"
    assert "cron.service" not in box.succeed(f"ls {wants}").split()
    assert box.succeed("dpkg --audit") == ""
    assert Path("/usr/sbin/cron").exists()
