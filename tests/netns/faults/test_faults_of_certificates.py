"""A web server's certificate expires and is good again; nothing of it is left."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.cli.main import run
from hostlab.errors import Failed, Problem, UsageError
from hostlab.faults import injecting, record, trials, witness
from hostlab.faults.site import Site
from hostlab.observe.snapshot import Snapshot
from tests.netns.faults.fault_site import (
    DEATHS,
    assert_whole,
    broken_lab,
    die_injecting,
    in_files,
    inject,
    node_of,
)
from tests.netns.lab.lab_site import wait_until
from tests.netns.probes.probe_site import PATIENT, needs

pytestmark = pytest.mark.netns

LAB = """
segments: {lan: 10.44.0.0/24}
nodes:
  client:
    interfaces: [lan]
    files: {/etc/ca.pem: {copy: DIRECTORY/ca.pem}, /etc/own.pem: {copy: DIRECTORY/own.pem}}
  ca:
    interfaces: [lan]
    files: {/etc/ca.key: {copy: DIRECTORY/ca.key, mode: 0600}}
  web:
    interfaces: [lan]
    jobs:
      nginx:
        exec: nginx -c /etc/lab.conf -g 'daemon off;'
        readiness: {port: 443, within: 60s}
      apart:
        exec: nginx -c /etc/apart.conf -g 'daemon off;'
        private_tmp: true
        read_only: /etc
        readiness: {port: 8443, within: 60s}
    units: [unit.service]
    files:
      /etc/systemd/system/unit.service: |
        [Service]
        ExecStart=/usr/sbin/nginx -c /etc/unit.conf -g 'daemon off;'
        ExecReload=/usr/sbin/nginx -c /etc/unit.conf -s reload
        [Install]
        WantedBy=multi-user.target
      /etc/unit.conf: |
        error_log stderr;
        pid /run/unit.pid;
        events {}
        http {
          access_log off;
          server { listen 9443 ssl; ssl_certificate web.pem; ssl_certificate_key web.key; }
        }
      /etc/web.pem: {copy: DIRECTORY/chain.pem, mode: 0640}
      /etc/web.key: {copy: DIRECTORY/web.key, mode: 0600}
      /etc/both.pem: {copy: DIRECTORY/both.pem, mode: 0600}
      /etc/lab.conf: |
        error_log stderr;
        pid /run/nginx.pid;
        events {}
        http {
          access_log off;
          server { listen 443 ssl; ssl_certificate web.pem; ssl_certificate_key web.key; }
        }
      /etc/apart.conf: |
        error_log stderr;
        pid /run/apart.pid;
        events {}
        http {
          access_log off;
          server { listen 8443 ssl; ssl_certificate both.pem; ssl_certificate_key both.pem; }
        }
checks:
  - {on: client, tls: {server: web, authorities: /etc/ca.pem}, within: 60s}
faults:
  - at: 0s
    do: certificate-expired
    on: web
    with: {path: /etc/web.pem, issuer_key: "ca:/etc/ca.key", job: nginx}
    for: 100ms
"""
WEB = "/etc/web.pem"
BY_CA = f"certificate-expired web path={WEB} issuer_key=ca:/etc/ca.key job=nginx"
BY_ITSELF = f"certificate-expired web path={WEB} key=/etc/web.key job=nginx"


def certificates(directory: Path) -> None:
    """An authority, a server's in a chain, and one that is signed by itself, by openssl."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
    named = ("-addext", "subjectAltName=DNS:web")
    for words in (
        ("req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"),
        ("req", *key, "web.key", "-out", "web.csr", "-subj", "/CN=web", *named),
        ("x509", "-req", "-in", "web.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "web.pem",
         "-copy_extensions", "copy", "-days", "30"),
        ("req", "-x509", *key, "own.key", "-out", "own.pem", "-subj", "/CN=web", *named),
    ):  # fmt: skip
        subprocess.run(("openssl", *words), cwd=directory, check=True, capture_output=True)
    for name, parts in (("chain", ("web.pem", "ca.pem")), ("both", ("own.key", "own.pem"))):
        whole = b"".join((directory / part).read_bytes() for part in parts)
        (directory / f"{name}.pem").write_bytes(whole)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs("nginx", "openssl")
    directory = tmp_path_factory.mktemp("certificates")
    certificates(directory)
    text = LAB.replace("DIRECTORY", str(directory))
    with pytest.MonkeyPatch.context() as patch, broken_lab(directory, patch, text) as found:
        # Whose it is comes back with it.
        node_of(found, "web").succeed(f"chown www-data:adm {WEB}")
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    """When each of the three has its worker, and both say who they are: first they are nginx."""
    taken: list[Snapshot] = []

    def has_begun() -> bool:
        taken[:] = [witness.take(site)]
        processes = "\n".join(taken[0][witness.PROCESS])
        return [processes.count(f"web: nginx: {each}") for each in ("master", "worker")] == [3, 3]

    wait_until(has_begun, "three servers")
    return taken[0]


@pytest.fixture
def asked(site: Site, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(site, capsys)


class Asked:
    """What `hostlab probe tls` says of a server, asked by the client."""

    def __init__(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self.lab, self._capsys = site.lab.name, capsys

    def __call__(self, server: str, authority: str, *words: str) -> tuple[int, str]:
        self._capsys.readouterr()
        status = run(["probe", "tls", server, "--from", f"{self.lab}/client", "--json", "--timeout",
                      PATIENT, "--authorities", authority, *words])  # fmt: skip
        (row,) = json.loads(self._capsys.readouterr().out)["rows"]
        return status, row["seen"]

    def good(self, server: str, authority: str) -> None:
        status, seen = self(server, authority, "--within", PATIENT, "--names", "web")
        assert status == 0, seen

    def bad(self, server: str, authority: str, why: str) -> None:
        """A server that was told to reload takes its time."""
        seen = ""

        def is_refused() -> bool:
            nonlocal seen
            status, seen = self(server, authority)
            return status == 1

        wait_until(is_refused, "the certificate is refused")
        assert why in seen


def kept(site: Site, path: str) -> object:
    """A file with all that tells whether it was touched."""

    def work() -> list[object]:
        found = os.stat(path)
        with open(path, "rb") as file:
            text = str(file.read(), "latin-1")
        return [text, found.st_mode, found.st_uid, found.st_gid, found.st_ino, found.st_mtime_ns]

    return in_files(site, "web", work)


def shown(site: Site, path: str) -> tuple[str, str]:
    """Mode and owner, and how many certificates and keys there are."""
    node = node_of(site, "web")
    said = node.succeed(f"stat -c '%a %U:%G' {path}; grep -c BEGIN {path}")
    first, count = said.splitlines()
    return first, count


@pytest.mark.parametrize(
    ("words", "server", "authority", "why"),
    [
        (f"{BY_CA} how=reload", "web", "/etc/ca.pem", "certificate has expired"),
        (f"{BY_CA[:-9]}job=unit.service", "web:9443", "/etc/ca.pem", "certificate has expired"),
        (BY_ITSELF, "web", "/etc/ca.pem", "self-signed certificate"),
        # It has mounts of its own, and its certificate in one file with the key; who trusts just
        # that one certificate does not know another.
        ("certificate-expired web path=/etc/both.pem job=apart", "web:8443", "/etc/own.pem",
         "good for -1.0 days"),
    ],
)  # fmt: skip
def test_clients_refuse_it_until_it_is_cleared(
    site: Site, before: Snapshot, asked: Asked, words: str, server: str, authority: str, why: str
) -> None:
    asked.good(server, authority)
    path = words.split("path=")[1].split()[0]
    old, outside = kept(site, path), shown(site, path)
    job = words.split("job=")[1].split()[0]
    pid = node_of(site, "web").jobs()[job].pid
    inject(site, words)
    asked.bad(server, authority, why)
    assert shown(site, path) == outside
    assert kept(site, path) != old
    journal = Path(record.path_of(site.directory)).read_text()
    assert "BEGIN CERTIFICATE" in journal
    assert "PRIVATE" not in journal
    injecting.clear(site)
    asked.good(server, authority)
    assert kept(site, path) == old
    goes_on = "how=reload" in words or job == "unit.service"
    assert (node_of(site, "web").jobs()[job].pid == pid) == goes_on
    assert_whole(site, before)


def test_in_a_timeline_the_check_fails_as_long_as_it_lasts(site: Site, before: Snapshot) -> None:
    moments = trials.play(site, site.lab.faults, judges=False)
    assert trials.judged(site).ok
    assert next(moments).what == "injected"
    # On a busy machine it may have no answer yet when its time is over.
    said: list[str] = []

    def is_refused() -> bool:
        said[:] = [row.seen for row in trials.judged(site, within_s=0.5).rows]
        return "certificate has expired" in said[0]

    wait_until(is_refused, "the check tells that it has expired")
    assert next(moments).what == "cleared"
    assert trials.judged(site).ok
    assert list(moments) == []
    assert_whole(site, before)


def test_an_inject_that_is_killed_is_cleared(site: Site, before: Snapshot, asked: Asked) -> None:
    old = kept(site, WEB)
    for die in DEATHS:
        die_injecting(site, f"{BY_CA} how=reload", die)
        injecting.clear(site)
    asked.good("web", "/etc/ca.pem")
    assert kept(site, WEB) == old
    assert_whole(site, before)


def test_a_server_that_has_ended_meanwhile_stays_so(site: Site, before: Snapshot) -> None:
    node = node_of(site, "web")
    inject(site, BY_CA)
    node.job("nginx", "stop")
    injecting.clear(site)
    with pytest.raises(Failed, match="job nginx of node web does not run"):
        inject(site, BY_CA)
    node.job("nginx", "start")
    assert injecting.injected(site) == ()
    assert_whole(site, before)


def test_what_cannot_be_is_said(site: Site, before: Snapshot) -> None:
    node = node_of(site, "web")
    node.succeed("mkfifo /run/pipe; head -c 2M /dev/zero > /run/large")
    refused: list[tuple[str, type[Problem], str]] = [
        ("path=/etc/none.pem", UsageError, "/etc/none.pem of node web: No such file or directory"),
        ("path=/etc", UsageError, "/etc of node web: is no file"),
        ("path=/run/pipe", UsageError, "/run/pipe of node web: is no file"),
        ("path=/run/large", UsageError, "/run/large of node web: is too large"),
        ("path=/etc/lab.conf", UsageError, "/etc/lab.conf of node web has no certificate in PEM"),
        (f"path={WEB}", UsageError, f"{WEB} of node web has no private key"),
        (f"path={WEB} key=ca:/etc/ca.key", UsageError, "ca.key of node ca is not the one of"),
        (f"path={WEB} issuer_key=/etc/web.key", UsageError, "has not signed the certificate in"),
        (f"path={WEB} key=/etc/web.key job=non", UsageError, "no job 'non' here"),
        ("path=/etc/both.pem job=apart how=reload", Failed, "has mounts of its own"),
    ]
    for words, kind, message in refused:
        with pytest.raises(kind, match=message):
            inject(site, f"certificate-expired web {words}")
    assert injecting.injected(site) == ()
    node.succeed("rm /run/pipe /run/large")
    assert_whole(site, before)


def test_of_a_dead_node_nothing_expires(site: Site) -> None:
    """The last one: a node that has died is not staged again here."""
    inject(site, f"certificate-expired web path={WEB} key=/etc/web.key")
    os.kill(site.nodes["ca"], 9)
    wait_until(functools.partial(site.is_dead, "ca"), "the node is dead")
    with pytest.raises(Failed, match="node ca of lab"):
        inject(site, "certificate-expired web path=/etc/both.pem issuer_key=ca:/etc/ca.key")
    os.kill(site.nodes["web"], 9)
    wait_until(functools.partial(site.is_dead, "web"), "the node is dead")
    with pytest.raises(Failed, match="node web of lab"):
        inject(site, "certificate-expired web path=/etc/both.pem")
    injecting.clear(site)
    assert injecting.injected(site) == ()
