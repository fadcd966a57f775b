"""A `.socket` as operands, and the service that they start."""

from __future__ import annotations

import pytest

from hostlab.spec.job import Expression, Job, Match
from hostlab.spec.sockets import parse
from hostlab.spec.systemd.loading import load_units
from hostlab.spec.systemd.unit import read_unit
from tests.unit.spec.systemd.unit_site import DATA, loaded

pytestmark = pytest.mark.unit


def listens(text: str) -> list[str]:
    """The operands of a socket, without what each of them has."""
    job = loaded(f"[Socket]\n{text}\n", "x.socket").job
    assert job is not None
    usual = ("NAME=x.socket", "FDNAME=x.socket", "LIMIT=20/2s", "TYPE=stream")
    for match in job.listens:
        parse(match.arguments)
    return [" ".join(w for w in match.arguments if w not in usual) for match in job.listens]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ListenStream=80", "PROTO=inet6 PORT=80"),
        ("ListenStream=80\nBindIPv6Only=both", "PROTO=inet6 PORT=80 IPV6ONLY=0"),
        ("ListenStream=127.0.0.1:80", "PROTO=inet PORT=80 ADDR=127.0.0.1"),
        ("ListenStream=[::1]:80", "PROTO=inet6 PORT=80 ADDR=::1"),
        ("ListenStream=[fe80::1]:80%%eth0", "PROTO=inet6 PORT=80 ADDR=fe80::1%eth0"),
        ("ListenDatagram=@name", "PROTO=unix TYPE=dgram SOCKET_PATH=@name"),
        ("ListenStream=/run/x\nSocketMode=0600\nSocketUser=web",
         "PROTO=unix SOCKET_PATH=/run/x MODE=0600 DIRMODE=0755 OWNER=web"),
        ("ListenFIFO=/run/f", "PROTO=fifo SOCKET_PATH=/run/f MODE=0666 DIRMODE=0755"),
        ("ListenNetlink=route 1361", "PROTO=netlink FAMILY=route GROUPS=1361"),
        ("ListenSpecial=/dev/kmsg", "PROTO=special SOCKET_PATH=/dev/kmsg"),
        ("ListenStream=vsock::99", "PROTO=vsock PORT=99"),
        ("ListenStream=vsock:2:99", "PROTO=vsock CID=2 PORT=99"),
        ("ListenStream=80\nKeepAlive=yes\nKeepAliveTimeSec=1min\nKeepAliveProbes=3",
         "PROTO=inet6 PORT=80 KEEPALIVE=1 KEEPTIME=60s KEEPPROBES=3"),
        ("ListenStream=80\nFreeBind=yes\nReusePort=yes\nBacklog=5\nNoDelay=yes",
         "PROTO=inet6 PORT=80 BACKLOG=5 FREEBIND=1 REUSEPORT=1 NODELAY=1"),
    ],
)  # fmt: skip
def test_a_line(line: str, words: str) -> None:
    assert listens(line) == [words]


def test_several_lines_keep_their_order() -> None:
    found = listens("ListenStream=80\nListenDatagram=53\nListenStream=443")
    assert found == [
        "PROTO=inet6 PORT=80 ORDER=0",
        "PROTO=inet6 TYPE=dgram PORT=53 ORDER=1",
        "PROTO=inet6 PORT=443 ORDER=2",
    ]


def test_a_line_that_cannot_be_meant_is_a_warning_with_its_place() -> None:
    text = "[Socket]\nListenStream=80\nListenStream=foo\nListenMessageQueue=/a\n"
    found = loaded(text, "x.socket")
    assert found.job is not None
    assert len(found.job.listens) == 1
    assert [(each.where.line, each.message) for each in found.warnings if each.where] == [
        (3, "ListenStream: `foo` is no address to listen on; ignored"),
        (4, "ListenMessageQueue: ListenMessageQueue= is not made here; ignored"),
    ]


def jobs(**texts: str) -> dict[str, Job]:
    names = {"x_socket": "x.socket", "x_service": "x.service", "x_at": "x@.service"}
    units = [read_unit(names[key], [(text, key)]) for key, text in texts.items()]
    return {job.name: job for job in load_units(units).jobs}


def test_its_service_starts_on_it() -> None:
    found = jobs(x_socket="[Socket]\nListenStream=80\n", x_service="[Service]\nExecStart=/x\n")
    start_on = found["x.service"].start_on
    assert start_on is not None
    assert Match("socket", ("NAME=x.socket",)) in start_on.matches


@pytest.mark.parametrize(
    ("stdin", "accept"), [("", "ACCEPT=1"), ("StandardInput=socket\n", "ACCEPT=inetd")]
)
def test_one_that_accepts_starts_its_template_for_each_connection(stdin: str, accept: str) -> None:
    found = jobs(
        x_socket="[Socket]\nListenStream=80\nAccept=yes\nMaxConnectionsPerSource=3\n",
        x_at=f"[Service]\nExecStart=/x\n{stdin}",
    )
    service = found["x@.service"]
    assert service.start_on == Expression((Match("socket", ("NAME=x.socket",)),))
    assert service.instance == "$CONNECTION"
    (operand,) = found["x.socket"].listens
    assert {accept, "MAXCONN=64", "PERSOURCE=3", "LIMIT=200/2s"} <= set(operand.arguments)


def test_ssh_as_debian_ships_it() -> None:
    job = loaded((DATA / "ssh.socket").read_text(), "ssh.socket").job
    assert job is not None
    (operand,) = job.listens
    assert {"NAME=ssh.socket", "PROTO=inet6", "PORT=22"} <= set(operand.arguments)
