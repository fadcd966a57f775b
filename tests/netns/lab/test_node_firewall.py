"""A node's firewall in the description: there before its jobs, changed in place, taken away."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hostlab.errors import Failed, Problem
from hostlab.plan.firewall import render, text
from hostlab.spec.firewall import Verdict
from hostlab.spec.services import SERVICES
from hostlab.sync import Lab, Node
from tests.netns.firewall.switch_over import WITNESS, counted, sending
from tests.netns.lab import lab_site
from tests.netns.lab.lab_site import Site, wait_until
from tests.netns.lab.wall_site import Site as UserSite

pytestmark = pytest.mark.netns

LAB = """
segments: {{lan: [10.7.0.0/24, "fd07::/64"]}}
nodes:
  server:
    firewall: {firewall}
    jobs:
      early: {{task: true, exec: "sh -c 'nft list table inet hostlab >/tmp/early 2>&1'"}}
      echo: python3 /srv/echo.py
    files:
      /srv/echo.py: |
        import socketserver
        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line)
        socketserver.ThreadingTCPServer(("", 7000), Echo).serve_forever()
  client: {{}}
"""
SWITCHES = int(os.environ.get("HOSTLAB_SWITCHES", "10"))
HOSTLAB = str(Path(sys.executable).with_name("hostlab"))
OPEN = "{zones: [lan], allow: 7000 from lan}"
SHUT = "{zones: [lan], allow: ssh from lan}"
TALK = """
import os, socket
link = socket.create_connection(("server", 7000), 10)
file = link.makefile("rw")
for number in range(2):
    print(number, file=file, flush=True)
    assert file.readline() == f"{number}\\n"
    if number == 0:
        os.mkfifo("/tmp/go")
        open("/tmp/go").read()
print("both")
"""
TRY = "import socket; socket.create_connection(('server', 7000), 0.3)"
FOREIGN = "add table ip other; add chain ip other c; add rule ip other c counter packets 7 bytes 9"

report = print


def described(firewall: str) -> str:
    return LAB.format(firewall=firewall)


def filters(node: Node) -> str:
    return node.succeed("nft -s list ruleset")


def handles(node: Node) -> list[tuple[str, str]]:
    """The kernel's numbers of the table and its chains: one that is made anew has another."""
    listed = node.succeed("nft -a list table inet hostlab")
    return re.findall(r"(?:table inet|chain) (\w+) \{ # handle (\d+)", listed)


def connects(node: Node) -> bool:
    return not node.execute(["python3", "-c", TRY]).status


def test_it_is_there_before_the_first_job_and_changes_under_a_connection(place: Site) -> None:
    lab = place.up(described(OPEN))
    server, client = lab["server"], lab["client"]
    wait_until(lambda: not server.shell("test -s /tmp/early").status, "the first job has ended")
    assert "allow 7000 from lan" in server.succeed("cat /tmp/early")
    wait_until(lambda: connects(client), "the server listens")
    server.succeed(f"nft '{FOREIGN}'")
    server.succeed("nft add set inet hostlab strange '{ type ipv4_addr; }'")
    holder = server.pid
    talk = subprocess.Popen(
        [HOSTLAB, "exec", f"{lab.name}/client", "--", "python3", "-c", TALK],
        stdout=subprocess.PIPE,
        text=True,
    )
    with talk:
        wait_until(lambda: not client.shell("test -p /tmp/go").status, "they talk")
        changed = Lab(lab_site.described(place.name, described(SHUT)))
        plan = [operation.describe() for operation in changed.plan().operations]
        assert plan == ["change firewall server: allow changed"]
        changed.up()
        assert not connects(client)
        client.succeed("echo >/tmp/go")
        assert talk.communicate(timeout=30)[0] == "both\n"
    assert server.pid == holder
    now = filters(server)
    assert "allow ssh from lan" in now
    assert "7000" not in now
    assert "strange" not in now
    assert "table ip other" in now
    assert "packets 7 bytes 9" in server.succeed("nft list table ip other")


def test_a_refused_rule_names_its_line_and_leaves_the_old_ruleset_whole(place: Site) -> None:
    lab = place.up(described(OPEN))
    server = lab["server"]
    server.succeed(f"nft '{FOREIGN}'")
    before = filters(server)
    refused = described(
        "\n      allow: ssh\n      raw: |\n        chain own {\n          jump nowhere\n        }"
    )
    line = next(n for n, text in enumerate(refused.split("\n"), 2) if "jump nowhere" in text)
    with pytest.raises(
        Failed, match=rf"node server: test.yaml:{line}:\d+: its firewall is refused"
    ):
        place.up(refused)
    assert filters(server) == before
    assert not lab.plan()
    broken = described(SHUT) + "  zz: {files: {/x: {content: x, owner: nobodys-user}}}\n"
    with pytest.raises(Problem, match="nobodys-user"):
        place.up(broken)
    assert sorted(filters(server).split("}\n}\n")) == sorted(before.split("}\n}\n"))
    lab = place.up(described("{}").replace("    firewall: {}\n", ""))
    assert "hostlab" not in filters(server)
    assert "table ip other" in filters(server)
    lab.down()
    with pytest.raises(Failed, match="its firewall is refused"):
        place.up(refused)
    with pytest.raises(Problem, match="is not up"):
        lab.status()


STREAMED = """
segments: {{lan: 10.7.0.0/24}}
nodes:
  server:
    firewall:
      zones: [lan]
      allow: [{allow}]
      raw: |
        chain input {{
        {filling}
        }}
  client: lan
"""
FILLING = "\n        ".join(f"ip saddr 192.0.2.{n} drop" for n in range(1, 200))


def test_no_packet_of_a_stream_is_lost_or_let_in_while_it_changes(place: Site) -> None:
    """7000 is allowed by both descriptions, 7001 to 7003 by neither."""
    texts = [
        STREAMED.format(allow=allow, filling=FILLING)
        for allow in ("7000/udp from lan", "ssh, 7000/udp from lan")
    ]
    lab = place.up(texts[0])
    server, client = lab["server"], lab["client"]
    server.succeed(f"nft -f - <<'END'\n{WITNESS}END")
    made = handles(server)
    with sending(client.pid, "10.7.0.1") as sender:
        for number in range(SWITCHES):
            place.up(texts[(number + 1) % 2])
        out, _ = sender.communicate(b"", timeout=60)
    assert handles(server) == made
    counts = counted(server.succeed("nft list counters table inet witness"))
    report(f"{SWITCHES} changes, {int(out)} packets sent: {counts}")
    assert counts["came"] > 0
    assert counts["came"] == counts["passed"]
    assert counts["closed"] == 0


EVERY = """
segments: {{lan: [10.7.0.0/24, "fd07::/64"], far: [10.8.0.0/24, "fd08::/64"]}}
nodes:
  r:
    interfaces: [lan, far]
    forwarding: true
    firewall:
      zones: {{lan: {{default: {zone}}}, far: eth1}}
      default: {default}
      deny: {rules}
      allow: {rules}
      masquerade: [lan, far]
      publish: [80 to web, 53/udp from lan far to web:5353, "22 from lan to [fd08::9]:2222"]
      raw: |
        set s {{ type ipv4_addr; flags interval; }}
        chain input {{ ip saddr @s counter; }}
        chain forward {{ ip daddr @s counter; }}
        chain output {{ ip daddr @s counter; }}
        chain prerouting {{ ip daddr @s counter; }}
        chain postrouting {{ ip daddr @s counter; }}
  web: far
"""
WHO = ("lan, far", "web", "10.7.0.0/24, 10.7.0.0/16", "fd07::/64, 10.9.0.1", "lan, web", "any")


@pytest.mark.parametrize("default", Verdict)
def test_nft_takes_whatever_can_be_said(default: Verdict) -> None:
    lab_site.probe()
    rules = [f"ssh, dns, 20-30, ping, esp from {a} to {b}" for a in WHO for b in WHO]
    rules += [f"{service} to host, r, 10.7.0.1, fd07::1" for service in SERVICES]
    rules += [f"ssh, 20-30, ping from host to {who}" for who in WHO]
    zones = itertools.cycle(Verdict)
    for start in range(0, len(rules), 12):
        said = msgspec.json.encode(rules[start : start + 12]).decode()
        lab = lab_site.described(
            "every", EVERY.format(default=default, zone=next(zones), rules=said)
        )
        nft = ["unshare", "-Urn", "nft", "--check", "-f", "-"]
        script = text(render("r", lab.node("r").firewall))
        done = subprocess.run(nft, input=script, text=True, capture_output=True, check=False)
        assert not done.returncode, done.stderr


@pytest.fixture
def directory() -> Iterator[Path]:
    """On the machine's own file system, for all to enter."""
    with tempfile.TemporaryDirectory(prefix="hostlab-firewall-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_plain_users_node_has_one_too(directory: Path) -> None:
    tried = ["unshare", "-U", "-r", "-n", "-m", "true"]
    if os.geteuid() or subprocess.run(tried, user=65534, group=65534, check=False).returncode:
        pytest.skip("no plain user can stage a lab here")
    site = UserSite(directory, f"name: fw-{os.getpid()}\n" + described(OPEN), is_root=False)
    try:
        assert "allow 7000 from lan" in site.run("server", "nft", "list", "ruleset")
    finally:
        site.close()


def test_without_nft_the_machine_lacks_something(directory: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can hide a program from a lab")
    (directory / "lab.yaml").write_text(f"name: fw-{os.getpid()}\n" + described(OPEN))
    (directory / "sbin").mkdir()
    shutil.copy("/usr/sbin/ldconfig", directory / "sbin")  # which finds libraries
    hidden = f"mount --bind {directory}/sbin /usr/sbin && exec "
    command = f"{HOSTLAB} up {directory}/lab.yaml"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", hidden + command],
        env={**os.environ, "HOSTLAB_RUN": f"{directory}/run"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "node server has a firewall, and nft is not here" in done.stderr
    assert "apt-get install nftables" in done.stderr
