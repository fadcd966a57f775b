"""`.socket` units in a node: they listen, their services start on a connection."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.init.test_readiness_in_nodes import supervisor
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = pytest.mark.netns

LAB = """
nodes:
  box:
    units: [web.socket, line.socket, taken.socket]
    files:
      /etc/systemd/system/web.socket:
        content: |
          [Socket]
          ListenStream=8001
          ListenStream=/run/web.sock
          SocketMode=0600
          FileDescriptorName=web
      /etc/systemd/system/web.service:
        content: |
          [Service]
          ExecStart=/usr/bin/python3 /srv/web.py
      /srv/web.py:
        content: |
          import os, select, socket
          count = int(os.environ["LISTEN_FDS"])
          sockets = [socket.socket(fileno=3 + n) for n in range(count)]
          while True:
              for each in select.select(sockets, [], [])[0]:
                  connection = each.accept()[0]
                  connection.recv(100)
                  said = f"{os.getpid()} {count} {os.environ['LISTEN_FDNAMES']}"
                  connection.sendall(said.encode())
                  connection.close()
      /etc/systemd/system/line.socket:
        content: |
          [Socket]
          ListenStream=127.0.0.1:8002
          Accept=yes
      /etc/systemd/system/line@.service:
        content: |
          [Service]
          ExecStart=-/bin/sh -c 'read line; echo got $line from $$REMOTE_ADDR'
          StandardInput=socket
      /etc/systemd/system/taken.socket:
        content: |
          [Unit]
          After=web.socket
          [Socket]
          ListenStream=8001
      /etc/systemd/system/taken.service:
        content: |
          [Service]
          ExecStart=/bin/true
      /srv/ask.py:
        content: |
          import socket, sys
          where = sys.argv[1]
          if where.isdigit():
              client = socket.create_connection(("127.0.0.1", int(where)), 60)
          else:
              client = socket.socket(socket.AF_UNIX)
              client.connect(where)
          client.settimeout(60)
          client.sendall(b"words\\n")
          said = b""
          while more := client.recv(1000):
              said += more
          print(said.decode().strip())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def ask(node: Node, where: str) -> str:
    return node.succeed(f"python3 /srv/ask.py {where}").strip()


def row(node: Node, name: str) -> dict[str, object]:
    return next(row for row in node.job_table() if row["name"] == name)


def test_units_that_listen(place: Site) -> None:
    node = place.up(LAB).nodes()["box"]
    node.wait_settled()
    assert row(node, "web.socket")["state"] == "running", row(node, "web.socket")["reason"]
    assert row(node, "web.service")["state"] == "waiting"
    assert node.succeed("stat -c %a /run/web.sock").strip() == "600"
    pid, count, names = ask(node, "8001").split()
    assert (count, names) == ("2", "web:web")
    assert ask(node, "/run/web.sock").split()[0] == pid
    # A port in use fails the socket, and says so.
    taken = row(node, "taken.socket")
    assert taken["state"] == "failed"
    assert "Address already in use" in str(taken["reason"])
    # An instance a connection, with inetd's standard input and output.
    assert ask(node, "8002") == "got words from 127.0.0.1"
    assert ask(node, "8002") == "got words from 127.0.0.1"
    wait_until(
        lambda: row(node, "line@.service")["state"] == "stopped", "the connections are closed"
    )
    # A killed supervisor costs nothing.
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor(node), signal.SIGKILL)
    assert ask(node, "8001").split()[0] == pid
    assert ask(node, "8002") == "got words from 127.0.0.1"
    # Its service stopped, the socket starts it anew; the socket stopped, nobody is let in.
    node.succeed("initctl stop web.service")
    assert ask(node, "8001").split()[0] != pid
    node.succeed("initctl stop web.service; initctl stop web.socket")
    # The holder may still have to let go of it: who waits there is cut off then.
    said = node.shell("python3 /srv/ask.py 8001 2>&1").stdout.decode().lower()
    assert "refused" in said or "reset" in said, said
