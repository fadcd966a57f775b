"""A real login in a node: Debian's sshd lets root in, who is then a session; and its bus' unit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ssh", "/usr/sbin/sshd"))), reason="no ssh and sshd here"
    ),
]

LAB = """\
nodes:
  box:
    jobs:
      opened: {start_on: login-session-opened SERVICE=sshd, task: true, exec: 'echo "$USER $UID $TYPE $TTY $REMOTE $RHOST"'}
      removed: {start_on: login-user-removed, task: true, exec: echo "$USER"}
      sshd:
        pre_start: |
          mkdir -p /run/sshd /root/.ssh /tmp/keys
          touch /run/utmp
          ssh-keygen -q -t ed25519 -N '' -f /tmp/keys/user
          ssh-keygen -q -t ed25519 -N '' -f /tmp/keys/host
          cp /tmp/keys/user.pub /root/.ssh/authorized_keys
          chmod 700 /root /root/.ssh
        exec: /usr/sbin/sshd -D -e -o UsePAM=no -o HostKey=/tmp/keys/host -o ListenAddress=127.0.0.1
        readiness: {port: 22}
"""  # noqa: E501
SSH = ("ssh", "-tt", "-i", "/tmp/keys/user", "-o", "StrictHostKeyChecking=no", "root@127.0.0.1")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def log(node: Node, job: str) -> str:
    path = Path(node.log_path(job))
    return path.read_text() if path.exists() else ""


def test_sshd_lets_somebody_in(place: Site) -> None:
    node = place.up(LAB)["box"]
    node.wait_settled()
    done = node.execute((*SSH, "tty"))
    assert b"/dev/pts/" in done.stdout, (done.stderr, log(node, "sshd"))
    wait_until(lambda: bool(log(node, "opened")), "the session's job")
    assert log(node, "opened").startswith("root 0 tty pts/")
    assert log(node, "opened").endswith(" 1 127.0.0.1\n")
    wait_until(lambda: log(node, "removed") == "root\n", "the last session's end")
