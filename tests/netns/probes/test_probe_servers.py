"""Probes against real daemons, with good answers and bad ones, in one lab."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.jobs.job_state import JobState
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import described, site, wait_until
from tests.netns.probes.probe_site import PATIENT, SHORT, Probe, needs

pytestmark = pytest.mark.netns

SERVER = Path(__file__).with_name("descriptor_server.py")
LAB = """
segments: {lan: 10.40.0.0/24, far: 10.41.0.0/24}
nodes:
  client: {interfaces: {eth0: {segment: lan, address: 10.40.0.10}}, gateway: gate}
  gate:
    forwarding: true
    interfaces: {lan: {segment: lan, address: 10.40.0.1}, far: {segment: far, address: 10.41.0.1}}
    jobs: {nat: {exec: nft -f /etc/nat.nft, respawn: false}}
    files:
      /etc/nat.nft: |
        table ip nat {
          chain in {
            type nat hook prerouting priority -100;
            meta l4proto 136 ip daddr 10.40.0.1 dnat to 10.41.0.2
          }
          chain out {
            type nat hook postrouting priority 100;
            oifname far masquerade
          }
        }
  inner: {interfaces: {eth0: {segment: far, address: 10.41.0.2}}, gateway: gate}
  web:
    interfaces: {eth0: {segment: lan, address: 10.40.0.2}}
    gateway: gate
    jobs:
      nginx: nginx -c /etc/nginx/lab.conf -g 'daemon off;'
      sshd: mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f /etc/ssh/lab.conf
      stream: socat UNIX-LISTEN:/run/stream.sock,fork EXEC:cat
      packets: socat UNIX-LISTEN:/run/packets.sock,type=5,fork EXEC:cat
      datagrams: socat UNIX-RECVFROM:/run/datagrams.sock,fork EXEC:cat
      descriptors: /usr/bin/python3 -I /etc/descriptor_server.py /run/descriptors.sock
      taker: socat -u UDP-RECV:9999 OPEN:/dev/null
      echo: socat UDP-RECVFROM:9998,fork EXEC:cat
      mute: socat -u TCP-LISTEN:9997,fork OPEN:/dev/null
      filter: {exec: nft -f /etc/filter.nft, respawn: false}
    files:
      /etc/web.pem: {copy: DIRECTORY/good.pem}
      /etc/old.pem: {copy: DIRECTORY/old.pem}
      /etc/key.pem: {copy: DIRECTORY/key.pem}
      /etc/host.key: {copy: DIRECTORY/host.key, mode: 0600}
      /etc/descriptor_server.py: {copy: SERVER}
      /etc/filter.nft: |
        table inet filter {
          chain in {
            type filter hook input priority 0;
            meta l4proto { tcp, udp } th dport 7777 drop
          }
        }
      /etc/ssh/lab.conf: |
        HostKey /etc/host.key
        PidFile none
        UsePAM no
      /etc/nginx/lab.conf: |
        error_log stderr;
        pid /run/nginx.pid;
        events {}
        http {
          access_log off;
          server { listen 80; return 301 https://web/there; }
          server {
            listen 443 ssl; server_name web; ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate /etc/web.pem; ssl_certificate_key /etc/key.pem;
            location / { return 200 "hello $request_method $http_x_word $host"; }
          }
          server {
            listen 8443 ssl; ssl_protocols TLSv1.2;
            ssl_certificate /etc/old.pem; ssl_certificate_key /etc/key.pem;
          }
        }
  dark:
    interfaces: {eth0: {segment: lan, address: 10.40.0.3}}
    jobs: {filter: {exec: nft -f /etc/filter.nft, respawn: false}}
    files:
      /etc/filter.nft: |
        table inet filter {
          chain in {
            type filter hook input priority 0; policy drop;
          }
        }
  clock:
    interfaces: {eth0: {segment: lan, address: 10.40.0.4}}
    jobs: {chrony: chronyd -x -d -u root -f /etc/lab.conf}
    files: {/etc/lab.conf: "local stratum 7\\nallow\\ncmdport 0\\npidfile /run/chrony.pid\\n"}
  lost:
    interfaces: {eth0: {segment: lan, address: 10.40.0.5}}
    jobs: {chrony: chronyd -x -d -u root -f /etc/lab.conf}
    files: {/etc/lab.conf: "allow\\ncmdport 0\\npidfile /run/chrony.pid\\n"}
  r1:
    interfaces: {eth0: {segment: lan, address: 10.40.0.21}}
    loopback: true
    routing: {ospf: {versions: 2, hello: 1s}, bgp: {as: 65001, peers: {r2: {family: ipv4}}}}
  r2:
    interfaces: {eth0: {segment: lan, address: 10.40.0.22}}
    loopback: true
    routing:
      engine: frr
      ospf: {versions: 2, hello: 1s}
      bgp: {as: 65002, peers: {r1: {family: ipv4}}}
"""


def certificates(directory: Path) -> None:
    """A good one, one that has expired, and a host key; made by their own programs."""
    key, request = directory / "key.pem", directory / "request.pem"
    names = "subjectAltName=DNS:web,DNS:www.example.com,IP:10.40.0.2"
    curve = ("-pkeyopt", "ec_paramgen_curve:prime256v1")
    for words in (
        ("openssl", "req", "-x509", "-newkey", "ec", *curve, "-nodes", "-keyout", str(key),
         "-out", str(directory / "good.pem"), "-days", "30", "-subj", "/CN=web",
         "-addext", names),
        ("openssl", "req", "-new", "-key", str(key), "-out", str(request), "-subj", "/CN=past"),
        ("openssl", "x509", "-req", "-in", str(request), "-signkey", str(key), "-days", "-1",
         "-out", str(directory / "old.pem")),
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host.key")),
    ):  # fmt: skip
        subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs("nginx", "sshd", "socat", "chronyd", "bird", "vtysh", "openssl", "nft")
    directory = tmp_path_factory.mktemp("probes")
    certificates(directory)
    text = LAB.replace("DIRECTORY", str(directory)).replace("SERVER", str(SERVER))
    with pytest.MonkeyPatch.context() as patch, site(directory, patch, kind="probes") as place:
        found = Lab(described(place.name, text))
        # Routing converges while other servers are asked.
        found.up(wait_s=0)
        for node, job in (("web", "filter"), ("dark", "filter"), ("gate", "nat")):
            # What refuses before it drops would be told as refusing.
            wait_until(functools.partial(is_done, found[node], job), f"{node} has its rules")
        yield found


def is_done(node: Node, job: str) -> bool:
    status = node.jobs()[job]
    return status.state is JobState.STOPPED and status.exit_status == 0


@pytest.fixture
def probe(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Probe:
    return Probe(lab, capsys)


def test_tcp_of_many_ports_and_what_is_wanted_of_them(probe: Probe) -> None:
    row = probe.awaited("tcp", "web:22,80,443")
    assert row["facts"]["hosts"] == {"web": {"answered": "22,80,443"}}
    row = probe("tcp", "web:79-81", "clock:22", "web:7777", "--want", "any", timeout=SHORT)
    assert row["facts"]["hosts"] == {
        "web": {"refused": "79,81", "answered": "80", "silent": "7777"},
        "clock": {"refused": "22"},
    }
    assert row["facts"]["counts"] == {"refused": 3, "answered": 1, "silent": 1}
    row = probe("tcp", "web:80,81", status=1)
    assert row["seen"] == "web:81 refused; 1 answered, 1 refused"
    assert row["repeat"].endswith(f"probe tcp web:80,81 --from {probe.lab}/client")
    assert row["log"][2].startswith(
        "web: nothing listens on tcp 81; sshd listens on 22 (0.0.0.0, ::), nginx on 80 (0.0.0.0), "
    )
    probe("tcp", "web:81", "--want", "closed")
    probe("tcp", "web:7777", "--want", "silent", timeout=SHORT)
    assert "does not resolve" in probe("tcp", "nobody.invalid:80", status=1)["seen"]


def test_no_more_handshakes_are_under_way_than_said(probe: Probe) -> None:
    """Ten silent ports, one at a time, take ten times as long as ten at once: both are found."""
    row = probe("tcp", "web:7777", "web:80", "--want", "any", "--at-once", "1", timeout=SHORT)
    assert row["facts"]["counts"] == {"answered": 1, "silent": 1}


def test_udp_tells_answered_refused_silent_and_filtered_apart(probe: Probe) -> None:
    row = probe.awaited("udp", "web:9998", "--send", "hello", "--answer", "hello")
    assert bytes.fromhex(row["facts"]["answer_hex"]) == b"hello"
    assert "without that text" in probe("udp", "web:9998", "--answer", "x", status=1)["seen"]
    assert "refused" in probe("udp", "web:9990", status=1)["seen"]
    probe("udp", "web:9990", "--want", "refused")
    row = probe("udp", "web:9999", "--want", "silent", timeout=SHORT)
    assert row["seen"].startswith("silent: the host refuses port 33437, so either somebody takes")
    row = probe("udp", "dark:9999", status=1, timeout=SHORT)
    assert row["seen"] == "filtered or silent: the host says nothing, to an echo neither"


def test_echoes_of_many_hosts(probe: Probe) -> None:
    row = probe("icmp", "web", "clock", "gate", "--count", "3")
    assert {host: facts["received"] for host, facts in row["facts"]["hosts"].items()} == {
        "web": 3, "clock": 3, "gate": 3,
    }  # fmt: skip
    row = probe("icmp", "web", "dark", status=1, timeout=SHORT)
    assert row["seen"] == "dark: 0 of 1 echoes (silent)"
    assert "ms" in probe("icmp", "web", "--rtt", "0.000001ms", status=1)["seen"]
    assert probe("icmp", "10.99.0.1", status=1)["seen"].endswith("(unreachable)")


def test_a_page_its_redirects_and_its_certificate(probe: Probe) -> None:
    row = probe.awaited("http", "http://web/", "--status", "301", "--location", "https://web/there")
    assert row["facts"]["location"] == "https://web/there"
    trusting = ("--authorities", "/etc/web.pem")
    row = probe("http", "http://10.40.0.2/", "--follow", "--no-verify", "--body", "hello GET")
    assert [hop[1] for hop in row["facts"]["hops"]] == [301]
    row = probe("http", "https://web/", "--no-verify", "--days", "20", "--method", "PUT",
                "--header", "X-Word: yes", "--body", "hello PUT yes web")  # fmt: skip
    assert row["facts"]["certificate"]["names"] == ["web", "www.example.com", "10.40.0.2"]
    assert 28 < row["facts"]["days_left"] < 31
    assert (
        "good for" in probe("http", "https://web/", "--no-verify", "--days", "60", status=1)["seen"]
    )
    row = probe("http", "https://www.example.com/", "--resolve", "www.example.com:10.40.0.2",
                *trusting, "--body", "www.example.com", node="web")  # fmt: skip
    assert row["facts"]["address"] == "10.40.0.2"
    assert "self-signed" in probe("http", "https://web/", status=1)["seen"]
    assert "status 301" in probe("http", "http://web/", status=1)["seen"]
    said = probe("http", "http://web:22/", status=1)["seen"]
    assert said.startswith("no HTTP answer: BadStatusLine SSH-2.0-")
    assert said.splitlines() == [said]


def test_tls_versions_names_and_dates(probe: Probe) -> None:
    row = probe.awaited("tls", "web", "--authorities", "/etc/web.pem", "--least", "TLSv1.3",
                        "--names", "www.example.com", node="web")  # fmt: skip
    assert row["facts"]["certificate"]["subject"] == "web"
    row = probe("tls", "web:8443", status=1)
    assert row["seen"].startswith("the certificate is refused: ")
    assert row["facts"]["certificate"]["subject"] == "past"
    assert row["facts"]["days_left"] < 0
    row = probe("tls", "web:8443", "--no-verify", "--least", "TLSv1.3", status=1)
    assert "TLSv1.2 is agreed on" in row["seen"]
    assert "it is good for -" in row["seen"]
    row = probe("tls", "web", "--no-verify", "--names", "other", "--days", "90", status=1)
    assert "it is not for other" in row["seen"]
    assert "no TLS" in probe("tls", "web:80", status=1)["seen"]
    assert "refused" in probe("tls", "web:444", status=1)["seen"].lower()
    assert "in time" in probe("tls", "web:9997", status=1, timeout=SHORT)["seen"]
    row = probe("tls", "web", "--authorities", "/nowhere.pem", status=3)
    assert row["outcome"] == "unknown"


def test_the_banner_of_ssh_and_what_it_offers(probe: Probe) -> None:
    row = probe.awaited("ssh", "web", "--banner", "SSH-2.0-OpenSSH", "--without", "ssh-dss")
    assert "ssh-ed25519" in row["facts"]["offers"]["host_keys"]
    assert "curve25519-sha256" in row["facts"]["offers"]["kex"]
    row = probe("ssh", "web", "--without", "ssh-ed25519", status=1)
    assert row["seen"] == "it offers ssh-ed25519"
    probe("ssh", "web", "--banner", "dropbear", status=1)
    # nginx waits for the rest of a request.
    assert "in time" in probe("ssh", "web:80", status=1, timeout=SHORT)["seen"]


def test_the_time(probe: Probe) -> None:
    row = probe.awaited("ntp", "clock", "--offset", "30s")
    assert row["facts"]["stratum"] == 7
    assert "stratum 7" in probe("ntp", "clock", "--stratum", "3", status=1)["seen"]
    assert probe.awaited("udp", "lost:123")["facts"]["answer_hex"]
    assert probe("ntp", "lost", status=1)["seen"] == "it is not synchronised"
    assert "refused" in probe("ntp", "web", status=1)["seen"]


@pytest.mark.parametrize(
    ("name", "kind"), [("stream", "stream"), ("packets", "seqpacket"), ("datagrams", "datagram")]
)
def test_a_unix_socket_whose_type_is_found(probe: Probe, name: str, kind: str) -> None:
    path = f"/run/{name}.sock"
    row = probe.awaited("unix", path, "--send", "ping", "--answer", "^ping$", node="web")
    assert row["facts"]["type"] == kind
    assert row["facts"]["answer"] == "ping"
    other = "stream" if kind != "stream" else "seqpacket"
    row = probe("unix", path, "--type", other, status=1, node="web")
    assert row["seen"].startswith(f"it is a {kind} socket")


def test_a_unix_socket_that_is_not_there(probe: Probe) -> None:
    seen = probe("unix", "/run/none.sock", status=1, node="web")["seen"]
    assert seen == "/run/none.sock: No such file or directory"
    assert "refused" in probe("unix", "@nobody", status=1, node="web")["seen"]


def test_udplite_and_its_damage(probe: Probe) -> None:
    a, b = f"{probe.lab}/client", f"{probe.lab}/web"
    for words in ((), ("--raw",)):
        said = probe.words("probe", "udplite", a, b, *words, "--timeout", PATIENT, status=0)
        assert said.splitlines()[1:5] == [
            "    | whole: arrived",
            "    | damaged outside the coverage: arrived",
            "    | damaged inside the coverage: did not arrive",
            "    | covered less than demanded: did not arrive",
        ]
    said = probe.words("probe", "udplite", a, b, "--coverage", "8", "--required", "9", status=2)
    assert "--required is more than --coverage" in said


def test_udplite_through_nat(probe: Probe, lab: Lab) -> None:
    """The translator mends the checksum, of what it covers, and only there.

    Linux 6.18 verifies it as UDP's when it tracks connections, so that none is translated unless
    that is switched off.
    """
    lab["gate"].succeed("sysctl -w net.netfilter.nf_conntrack_checksum=0")
    a, b = f"{probe.lab}/client", f"{probe.lab}/inner"
    words = ("probe", "udplite", a, b, "--to", "10.40.0.1", "--timeout", PATIENT)
    assert "all 4 datagrams fared" in probe.words(*words, status=0)


def test_a_scan_from_every_segment(probe: Probe) -> None:
    probe.awaited("tcp", "web:22,80,443,8443,9997")
    words = ("probe", "scan", f"{probe.lab}/web", "--ports", "20-25,7777", "--timeout", SHORT)
    said = probe.words(*words, status=0).splitlines()
    assert said[0].split() == ["PORT", "LISTENS", "client", "(lan)", "inner", "(far)"]
    assert [line.split() for line in said[1:-1]] == [
        [port, "yes", "open", "open"] for port in ("22", "80", "443", "8443", "9997")
    ]
    said_last = probe.words(*words, "--allow", "22,80,443,8443", status=1).splitlines()[-1]
    assert said_last == "✗ 5 open, 5 listened on; not allowed: 9997"


def test_talk_over_tcp_and_tls(probe: Probe) -> None:
    request = ["-e", "send GET / HTTP/1.0", "-e", "send", "-e", r"expect Location: (\S+)"]
    found = probe.talk("tcp", "web:80", *request)
    assert found["transcript"][0] == {
        "sender": ">", "text": "GET / HTTP/1.0\r\n", "hex": b"GET / HTTP/1.0\r\n".hex(),
    }  # fmt: skip
    request = ["-e", r"send GET / HTTP/1.0\r\nHost: web", "-e", "send", "-e", "expect ^hello GET"]
    probe.talk("tls", "web:443", "--authorities", str(trusted(probe)), *request)
    found = probe.talk("tcp", "web:80", "-e", "send x", "-e", "expect ^never", status=1)
    assert "the peer hung up" in found["problem"]
    said = probe.words("talk", "tls", "web:443", "--from", f"{probe.lab}/web", status=1)
    assert "the certificate is refused" in said
    said = probe.words("talk", "tcp", "web:81", "--from", f"{probe.lab}/web", status=1)
    assert "Connection refused" in said


def trusted(probe: Probe) -> Path:
    return Path(os.environ["HOSTLAB_RUN"]).parent / "good.pem"


@pytest.mark.parametrize("name", ["stream", "packets", "datagrams"])
def test_talk_to_a_unix_socket(probe: Probe, name: str) -> None:
    probe.awaited("unix", f"/run/{name}.sock", node="web")
    script = ["-e", 'send {"a": 1}', "-e", "expect {.*}"]
    found = probe.talk("unix", f"/run/{name}.sock", *script)
    assert [each["sender"] for each in found["transcript"]] == [">", "<"]
    words = ("talk", "unix", f"/run/{name}.sock", "--from", f"{probe.lab}/web", *script)
    assert '<   "a": 1' in probe.words(*words, "--show", "json", status=0)
    assert "< 000000  7b 22 61" in probe.words(*words, "--show", "hex", status=0)


def test_talk_shows_the_descriptors_that_come(probe: Probe) -> None:
    path = "/run/descriptors.sock"
    row = probe.awaited("unix", path, "--answer", "here", node="web")
    assert len(row["facts"]["descriptors"]) == 2
    found = probe.talk("unix", path, "-e", "expect here")
    told = [each["text"] for each in found["transcript"] if each["sender"] == "*"]
    assert told[0].startswith("descriptor: file ")
    assert told[0].endswith("/etc/hosts, open to read")
    assert told[1].startswith("descriptor: socket ")


def test_talk_by_hand(probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo")
    with open(lines) as file:
        monkeypatch.setattr("sys.stdin", file)
        words = ("talk", "unix", "/run/stream.sock", "--from", f"{probe.lab}/web")
        said = probe.words(*words, "--linger", PATIENT, status=0)
    assert said.splitlines() == ["one", "two", "* the peer has hung up"]
    monkeypatch.setattr("sys.stdin", None)  # closed: `<&-`
    assert probe.words(*words, "--linger", "0s", status=0) == ""


def test_probes_as_checks_of_a_description(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The same kinds, asked by `check`: one verdict type, one implementation."""
    from hostlab.checks.judge import judge
    from hostlab.spec.model import Check

    said: list[tuple[str, dict[str, object]]] = [
        ("ping", {"hosts": ["web"]}),
        ("tcp", {"targets": ["web:80"]}),
        ("udp", {"host": "web", "port": 9998}),
        ("ssh", {"server": "web"}),
        ("ntp", {"server": "clock"}),
        ("tls", {"server": "web", "verify": False}),
    ]
    checks = [
        Check(nodes=("client",), kind=kind, arguments=arguments, within_s=60.0)
        for kind, arguments in said
    ]
    report = judge(checks, lab.nodes())
    assert report.ok, "\n".join(map(str, report.rows))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("tcp", "web"), "has no port"),
        (("tcp", "web:0"), "0"),
        (("tcp", "web:90-80"), "runs backwards"),
        (("udp", "web:80,81"), "81"),
        (("icmp", "not a host"), "host"),
        (("http", "ftp://web/"), "not a URL of HTTP"),
        (("http", "http://web/", "--resolve", "web"), "HOST[:PORT]:ADDRESS"),
        (("dns", "a..b"), "no name of the DNS"),
        (("dns", "a", "A", "--subnet", "10.0.0.1/99"), "99"),
        (("smtp", "web", "--user", "x"), "--user needs a password"),
        (("unix", "/x", "--answer", "("), "--answer"),
        (("ntp", "web", "--timeout", "soon"), "soon"),
        (("tcpp", "web:80"), "did you mean"),
    ],
)
def test_what_cannot_be_meant_is_said(probe: Probe, words: tuple[str, ...], text: str) -> None:
    assert text in probe.words("probe", *words, status=2)


@pytest.mark.parametrize(
    ("act", "text"),
    [("wait 5", "no act is called 'wait'"), ("expect (", "expect: "), ("sendhex zz", "sendhex: "),
     (r"send \q", "no escape")],
)  # fmt: skip
def test_a_script_that_cannot_be_meant_is_said(probe: Probe, act: str, text: str) -> None:
    where = ("--from", f"{probe.lab}/web")
    said = probe.words("talk", "unix", "/run/stream.sock", *where, "-e", act, status=2)
    assert "-e:1:" in said
    assert text in said


def test_a_probe_of_this_machine_itself(probe: Probe) -> None:
    said = probe.words("probe", "unix", "/nowhere.sock", status=1)
    assert said.startswith("✗ unix: /nowhere.sock: fails: ")
    assert "repeat: hostlab probe unix /nowhere.sock\n" in said


def test_sessions_of_bgp_and_ospf_from_bird_and_frr(probe: Probe) -> None:
    for node, peer in (("r1", "10.40.0.22"), ("r2", "10.40.0.21")):
        row = probe.awaited("bgp", f"{probe.lab}/{node}", peer)
        assert row["facts"]["peers"] == {peer: "Established"}
        row = probe.awaited("ospf", f"{probe.lab}/{node}")
        (neighbour,) = row["facts"]["neighbours"]
        assert neighbour["interface"] == "eth0"
        assert neighbour["state"].startswith("Full")
    row = probe("bgp", f"{probe.lab}/r1", "--down", status=1)
    assert row["seen"] == "10.40.0.22: Established"
    row = probe("bgp", f"{probe.lab}/r1", "10.40.0.99", status=1)
    assert row["seen"] == "no session with 10.40.0.99; there are 10.40.0.22"
    row = probe("ospf", f"{probe.lab}/r1", "192.0.2.99", status=1)
    assert row["seen"] == "the daemon does not hear 192.0.2.99"
    row = probe("bgp", f"{probe.lab}/web", status=1)
    assert row["seen"] == "no daemon of routing answers in the node"
