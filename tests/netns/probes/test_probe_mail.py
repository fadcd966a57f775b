"""The shipped lab of mail servers, one an open relay, and one more with TLS and users."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.checks.verdict import Outcome
from hostlab.sync import Lab
from tests.netns.daemons.unit_site import needs_units
from tests.netns.lab.lab_site import site, wait_until
from tests.netns.probes.probe_site import Probe, needs

pytestmark = pytest.mark.netns

EXAMPLE = Path(__file__).parents[3] / "examples" / "smtp-relay" / "relay.yaml"
SECURE = """
  secure:
    role: mailer
    jobs:
      dovecot: dovecot -F -c /etc/dovecot/lab.conf
      implicit: socat OPENSSL-LISTEN:465,cert=/etc/mail.pem,verify=0,fork TCP:127.0.0.1:25
    files:
      /etc/mail.pem: {copy: PEM}
      /etc/postfix/main.cf: |
        compatibility_level = 3.6
        myhostname = secure.example.com
        mydestination = secure.example.com
        mynetworks = 127.0.0.2
        inet_interfaces = all
        alias_maps =
        message_size_limit = 100000
        smtpd_tls_cert_file = /etc/mail.pem
        smtpd_tls_key_file = /etc/mail.pem
        smtpd_tls_security_level = may
        smtpd_sasl_auth_enable = yes
        smtpd_sasl_type = dovecot
        smtpd_sasl_path = private/auth
      /etc/dovecot/lab.conf: |
        protocols =
        ssl = no
        log_path = /dev/stderr
        disable_plaintext_auth = no
        auth_mechanisms = plain login
        passdb {
          driver = static
          args = password=secret
        }
        userdb {
          driver = static
          args = uid=nobody gid=nogroup home=/tmp
        }
        service auth {
          unix_listener /var/spool/postfix/private/auth {
            mode = 0666
          }
        }

checks:
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs("postfix", "dovecot", "socat", "openssl")
    needs_units("postfix.service")
    directory = tmp_path_factory.mktemp("mail")
    key, certificate, pem = (directory / name for name in ("key", "certificate", "both.pem"))
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
    subject = ["-subj", "/CN=secure", "-addext", "subjectAltName=DNS:secure"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*words.split(), *files, *subject], check=True, capture_output=True)
    pem.write_bytes(key.read_bytes() + certificate.read_bytes())
    text = EXAMPLE.read_text().replace("name: smtp-relay\n", "")
    text = text.replace("\nchecks:\n", SECURE.replace("PEM", str(pem)))
    with pytest.MonkeyPatch.context() as patch, site(directory, patch, kind="mail") as place:
        yield place.up(text)


@pytest.fixture
def probe(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Probe:
    return Probe(lab, capsys)


def queue(lab: Lab, node: str) -> str:
    return lab[node].succeed("postqueue -p")


def test_the_checks_of_the_example_find_the_open_relay(lab: Lab) -> None:
    report = lab.check()
    assert [row.outcome for row in report.rows] == [
        Outcome.HOLDS, Outcome.FAILS, Outcome.HOLDS, Outcome.HOLDS,
    ], "\n".join(map(str, report.rows))  # fmt: skip
    assert report.rows[0].seen == "none of 23 forms is taken"
    assert report.rows[1].seen.startswith("an open relay: it takes 23 of 23 forms: plain, ")
    assert "Mail queue is empty" in queue(lab, "open")


def test_an_open_relay_is_sent_to_only_when_that_is_asked_for(
    probe: Probe, lab: Lab, tmp_path: Path
) -> None:
    probe.awaited("tcp", "open:25", "mail:25", node="stranger")
    row = probe("smtp", "open", "--relay", node="stranger", status=1)
    assert sum(form["taken"] for form in row["facts"]["forms"]) == 23
    assert "Mail queue is empty" in queue(lab, "open")
    mail = tmp_path / "mail"
    mail.write_text("Subject: x\n\n.\nHello\n")
    words = ("smtp", "open", "--rcpt-to", "someone@recipient.example", "--data", str(mail))
    row = probe(*words, node="stranger")
    assert "C: ." in row["facts"]["transcript"]
    # There is nobody to deliver it to, so it stays.
    wait_until(lambda: "someone@recipient.example" in queue(lab, "open"), "the mail is queued")
    row = probe("smtp", "mail", "--relay", "--data", str(mail), node="stranger")
    assert not any(form["taken"] for form in row["facts"]["forms"])


def test_a_dialogue_word_for_word(probe: Probe) -> None:
    probe.awaited("tcp", "mail:25", node="stranger")
    words = ("--mail-from", "a@b.example", "--rcpt-to", "root@mail.example.com")
    row = probe("smtp", "mail", "--helo", "--name", "whatever", *words, node="stranger")
    assert row["facts"]["transcript"] == [
        "S: 220 mail.example.com ESMTP Postfix",
        "C: HELO whatever",
        "S: 250 mail.example.com",
        "C: MAIL FROM:<a@b.example>",
        "S: 250 2.1.0 Ok",
        "C: RCPT TO:<root@mail.example.com>",
        "S: 250 2.1.5 Ok",
        "C: QUIT",
        "S: 221 2.0.0 Bye",
    ]
    row = probe("smtp", "mail", "--size", "1000", "--8bitmime", *words, node="stranger")
    assert "C: MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME" in row["facts"]["transcript"]
    words = ("smtp", "mail", "--rcpt-to", "someone@recipient.example")
    probe(*words, "--refused", node="stranger")
    assert "Relay access denied" in probe(*words, node="stranger", status=1)["seen"]
    row = probe(*words, "--refused", node="colleague", status=1)
    assert row["seen"] == "it takes all of it"
    row = probe("smtp", "mail", "--offers", "STARTTLS", node="stranger", status=1)
    assert row["seen"] == "it does not offer STARTTLS"
    row = probe("smtp", "mail", "--tls", "starttls", node="stranger", status=1)
    assert row["seen"] == "refused: STARTTLS: the server does not offer it"


def test_tls_and_users(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTLAB_PASSWORD", "secret")
    words = ("--no-verify", "--user", "alice", "--rcpt-to", "someone@recipient.example")
    for way, port, mechanism in (("starttls", 25, "PLAIN"), ("implicit", 465, "LOGIN")):
        probe.awaited("smtp", f"secure:{port}", "--tls", way, "--no-verify", "--offers", "AUTH",
                      node="stranger")  # fmt: skip
        row = probe("smtp", "secure", "--tls", way, "--auth", mechanism, *words, node="stranger")
        assert row["facts"]["certificate"]["names"] == ["secure"]
        assert row["facts"]["tls"] == "TLSv1.3"
        transcript = "\n".join(row["facts"]["transcript"])
        assert "********" in transcript
        assert "c2VjcmV0" not in transcript  # "secret" in base64
        assert "AGFsaWNlAHNlY3JldA==" not in transcript
    row = probe("smtp", "secure", "--tls", "starttls", node="stranger", status=1)
    assert "the certificate is refused: self-signed" in row["seen"]
    monkeypatch.setenv("HOSTLAB_PASSWORD", "wrong")
    row = probe("smtp", "secure", *words, node="stranger", status=1)
    assert row["seen"].startswith("refused: AUTH PLAIN: 535 ")
    row = probe(
        "smtp", "secure", "--mail-from", "a@b", "--size", "200000", node="stranger", status=1
    )
    assert row["seen"].startswith("refused: MAIL: 552 ")


def test_a_server_of_something_else_and_none(probe: Probe) -> None:
    assert "refused" in probe("smtp", "colleague", node="stranger", status=1)["seen"].lower()
    row = probe("smtp", "secure:465", node="stranger", status=1, timeout="1s")
    assert row["seen"] in ("no whole answer in time", "no answer: the server hung up")
