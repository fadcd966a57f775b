"""`apply`: what changes is changed, what does not is not touched, what fails is taken back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from hostlab.errors import Failed, Problem
from hostlab.sync import Lab
from tests.netns.lab.lab_site import Site, wait_until

pytestmark = pytest.mark.netns

TEN = """
segments: {{lan: [10.7.0.0/24, "fd07::/64"]}}
nodes:
  server:
    jobs: {{web: python3 -m http.server 80 --directory /srv}}
    files: {{/srv/small: hello}}
  client: {{}}
{rest}
"""
UPLOAD = """
import socket
listener = socket.create_server(("", 99))
sock, _ = listener.accept()
number = 0
try:
    while True:
        sock.sendall(b"%015d\\n" % number * 1)
        number += 1
except OSError:
    pass
"""
DOWNLOAD = """
import os, socket
file = socket.create_connection(("server", 99)).makefile("rb")
number = 0
while not os.path.exists("/tmp/enough"):
    line = file.readline()
    assert line == b"%015d\\n" % number, (line, number)
    number += 1
    if number == 1000:
        open("/tmp/begun", "w").close()
print("whole")
"""


def test_a_download_survives_that_nodes_come_go_and_change(place: Site) -> None:
    """Issue 3, "Done when" 3."""
    others = [f"  n{number}: {{}}" for number in range(8)]
    lab = place.up(TEN.format(rest="\n".join(others)))
    results: list[str] = []

    def serve() -> None:
        lab["server"].execute(["python3", "-c", UPLOAD], timeout_s=100)

    def download() -> None:
        done = lab["client"].execute(["python3", "-c", DOWNLOAD], timeout_s=100)
        results.append((done.stdout + done.stderr).decode())

    threads = [threading.Thread(target=serve), threading.Thread(target=download)]
    threads[0].start()
    wait_until(lambda: ":99 " in lab["server"].succeed("ss -Hltn"), "the server listens")
    threads[1].start()
    wait_until(lambda: not lab["client"].shell("test -e /tmp/begun").status, "the download runs")
    others[0] = "  n0: {files: {/etc/new: x}}"
    others[1] = "  added: {}"
    operations = Lab(place.up(TEN.format(rest="\n".join(others))).description).plan()
    assert not operations
    lab["client"].succeed("touch /tmp/enough")
    for thread in reversed(threads):
        thread.join()
    assert results == ["whole\n"]
    assert "n1" not in lab.nodes()
    assert lab["added"].succeed("cat /etc/hosts").count("n1") == 0
    assert lab["n0"].succeed("cat /etc/new") == "x"


ONE = """
segments: {lan: [10.7.0.0/24, "fd07::/64"], far: [10.8.0.0/24]}
nodes:
  peer: {interfaces: {eth0: {segment: lan, addresses: [10.7.0.9/24, "fd07::9/64"]}}}
  node:
"""
NETWORKS = [
    "    interfaces: {eth0: {segment: lan, addresses: [10.7.0.2/24, 10.7.0.3/24, fd07::2/64]}}",
    "    interfaces: {eth0: {segment: lan, addresses: [10.7.0.3/24, fd07::5/64]}}",
    "    interfaces: {eth0: {segment: lan, addresses: [10.7.0.3/24], mtu: 1400}}",
    """    interfaces:
      eth0: {segment: lan, addresses: [10.7.0.3/24]}
      eth1: {segment: far, addresses: [10.8.0.3/24]}
    forwarding: true
    routes: [{to: 10.99.0.0/16, via: 10.7.0.9}]""",
    """    interfaces:
      eth0: {segment: lan, addresses: [10.7.0.4/24], mac: "02:00:00:00:00:99"}
    routes: [{to: 10.98.0.0/16, via: 10.7.0.9}]
    sysctls: {net.ipv4.conf.eth0.rp_filter: 2}""",
    "    interfaces: {eth0: {segment: far, addresses: [10.8.0.3/24]}}",
]
LOOK = """
ip -o addr show scope global | awk '{print $2, $4}' | sort
ip route | grep -v 'proto kernel' | awk '{print $1, $3}'
ip -o link show dev eth0 | grep -o 'mtu [0-9]*'
for key in net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv4/conf/eth0/rp_filter
do cat /proc/sys/$key; done
"""


def seen(lab: Lab) -> str:
    found = lab["node"].succeed(LOOK)
    peers = lab["node"].succeed("ip -o neigh show nud reachable extern_learn 2>/dev/null || true")
    return found + "\n".join(sorted(line.split(" ", 1)[0] for line in peers.splitlines()))


def test_every_network_change_in_place_ends_where_a_fresh_start_would(place: Site) -> None:
    fresh = []
    for network in NETWORKS:
        lab = place.up(ONE + network)
        fresh.append(seen(lab))
        lab.down()
    lab = place.up(ONE + NETWORKS[0])
    holder = lab["node"].pid
    for number in (1, 2, 3, 4, 5, 3, 0, 4, 2, 1, 0):
        lab = place.up(ONE + NETWORKS[number])
        assert lab["node"].pid == holder
        assert seen(lab) == fresh[number], f"network {number}"
    assert lab["node"].succeed("ping -c1 -W60 10.7.0.9 >/dev/null && echo ok") == "ok\n"


BASE = """
segments: {lan: [10.7.0.0/24]}
nodes:
  web:
    files: {/etc/motd: before}
    environment: {COLOUR: red}
    limits: {pids: 100}
    jobs: {a: sleep 1000, b: sleep 2000}
    interfaces: {eth0: {segment: lan, addresses: [10.7.0.2/24]}}
  other: {}
"""


def account(lab: Lab) -> object:
    """Everything of the lab that a test can tell apart."""
    web = lab["web"]
    jobs = [(job["name"], job["state"], job["pid"]) for job in web.wait_settled(within_s=60)]
    return (
        lab.status()["nodes"],
        jobs,
        web.succeed(
            "cat /etc/motd /etc/hosts; ip -o -4 addr; ip route; sysctl net.ipv4.ip_forward"
        ),
        web.succeed("ls /etc | sha256sum"),
    )


BROKEN = """
  zz:
    files: {/etc/zz: {content: x, owner: nobodys-user}}
"""
CHANGES = [
    ("environment: {COLOUR: red}", "environment: {COLOUR: red}\n    forwarding: true"),
    ("{/etc/motd: before}", "{/etc/motd: after, /etc/second: new}"),
    ("[10.7.0.2/24]", "[10.7.0.7/24]"),
    ("{pids: 100}", "{pids: 50, memory: 64M}"),
    ("  other: {}", "  other: {}\n  third: {}"),
]


@pytest.mark.parametrize(("was", "becomes"), CHANGES)
def test_an_apply_whose_last_step_fails_changes_nothing(
    place: Site, was: str, becomes: str
) -> None:
    before = place.up(BASE)
    told = account(before)
    with pytest.raises(Problem, match="nobodys-user"):
        place.up(BASE.replace(was, becomes) + BROKEN)
    assert account(before) == told
    assert not before.plan()
    place.up(BASE.replace(was, becomes))


def test_a_change_that_stops_half_way_is_taken_back(place: Site) -> None:
    before = place.up(BASE)
    told = account(before)
    changed = BASE.replace(
        "{/etc/motd: before}", "{/etc/motd: after, /etc/zz: {content: x, owner: nobodys-user}}"
    )
    with pytest.raises(Failed, match="nobodys-user"):
        place.up(changed)
    assert account(before) == told


def test_segments_of_a_failed_apply_go_again(place: Site) -> None:
    place.up(BASE)
    more = BASE.replace("segments: {", "segments: {new: [10.9.0.0/24], ") + BROKEN
    for _ in range(2):
        with pytest.raises(Problem, match="nobodys-user"):
            place.up(more)
    lab = place.up(more.replace("nobodys-user", "root"))
    assert set(lab.nodes()) == {"web", "other", "zz"}


def pids(lab: Lab) -> dict[str, int | None]:
    return {job["name"]: job["pid"] for job in lab["web"].wait_settled(within_s=60)}


def test_only_jobs_that_changed_are_restarted(place: Site) -> None:
    lab = place.up(BASE)
    before = pids(lab)
    lab = place.up(BASE.replace("b: sleep 2000", "b: sleep 3000, c: sleep 4000"))
    after = pids(lab)
    assert None not in after.values()
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert "sleep\x004000" in lab["web"].succeed(f"cat /proc/{after['c']}/cmdline")
    for _ in range(3):
        lab["web"].job("b", "restart")
        assert lab["web"].succeed(f"cat /proc/{pids(lab)['b']}/comm") == "sleep\n"
    lab = place.up(BASE.replace("a: sleep 1000, ", ""))
    assert [job["name"] for job in lab["web"].job_table()] == ["b"]
    # What ends meanwhile cannot be read any more.
    assert "sleep\x001000" not in lab["web"].succeed("cat /proc/[0-9]*/cmdline 2>/dev/null || :")
    place.up(BASE.replace("red", "blue"))
    for name, pid in pids(lab).items():
        assert "COLOUR=blue" in lab["web"].succeed(f"cat /proc/{pid}/environ"), name


def test_a_limit_that_is_lifted_is_lifted(place: Site) -> None:
    limited = BASE.replace("{pids: 100}", "{pids: 100, memory: 64M, cpu: 0.5}")
    hog = "python3 -c 'b\"x\" * (200 << 20)'"
    lab = place.up(BASE)
    lab["web"].succeed(hog)
    holder = lab["web"].pid
    lab = place.up(limited)
    lab["web"].fail(hog)
    lab = place.up(BASE)
    assert lab["web"].pid == holder
    lab["web"].succeed(hog)
    assert place.up(limited.replace("memory: 64M", "disk: 1M"))["web"].pid != holder


def test_names_follow_the_lab(place: Site) -> None:
    lab = place.up(BASE)
    linked = BASE.replace("  other: {}", '  other: {links: ["web:shop"]}')
    lab = place.up(linked)
    assert lab["other"].succeed("getent hosts shop").split()[0] == "10.7.0.2"
    lab = place.up(linked.replace("[10.7.0.2/24]", "[10.7.0.8/24]"))
    assert lab["other"].succeed("getent hosts shop").split()[0] == "10.7.0.8"
    assert lab["web"].succeed("getent hosts web").split()[0] == "10.7.0.8"
    lab = place.up(BASE)
    lab["other"].fail("getent hosts shop")


def test_a_node_that_died_takes_those_along_that_live_in_its_namespaces(place: Site) -> None:
    pod = BASE + "  side: {namespaces: {net: web}}\n"
    lab = place.up(pod)
    os.kill(lab["web"].pid, signal.SIGKILL)
    wait_until(lambda: "web" not in lab.nodes(), "the hub hears of it")
    lab = place.up(pod)
    where = "readlink /proc/self/ns/net"
    assert lab["side"].succeed(where) == lab["web"].succeed(where)
