"""A check of a mail server: a dialogue that it takes part in, or refuses; and open relays."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from hostlab.checks.kind import Asked, ProbeExpectation, options, unanswered
from hostlab.checks.patience import Seen
from hostlab.errors import DecodeError
from hostlab.probes import relay, smtp
from hostlab.probes.names import UnknownName
from hostlab.probes.stream import parse_server

SENDER = "hostlab@sender.example"
RECIPIENT = "hostlab@recipient.example"
"""Strangers to every server: RFC 2606."""
NOBODY = "hostlab.invalid"
"""What the client calls itself."""


class Smtp(ProbeExpectation, frozen=True, kw_only=True):
    """A mail server goes along with a dialogue, up to the envelope; or relays for nobody."""

    kind = "smtp"

    server: str
    tls: str = "none"
    """none, starttls or implicit."""
    verify: bool = True
    helo: bool = False
    name: str = NOBODY
    user: str | None = None
    password: str | None = None
    auth: str | None = None
    """PLAIN or LOGIN; None: the first that is offered."""
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    size_bytes: int | None = None
    eight_bit: bool = False
    content: str | None = None
    """The mail to send; None: nothing is sent."""
    refused: bool = False
    """Some step of it must be refused, for good or for now."""
    offers: tuple[str, ...] = ()
    """Extensions that EHLO must name."""
    relay: bool = False
    """Try every way to have strangers' mail carried to strangers; none may be taken."""

    def text(self) -> str:
        if self.relay:
            return f"{self.server}: relay"
        to = f" to {', '.join(self.recipients)}" if self.recipients else ""
        user = f" as {self.user}" if self.user is not None else ""
        return f"{self.server}{user}{to}"

    def expected(self) -> str:
        if self.relay:
            return f"{self.server} to relay nothing for strangers"
        return f"{self.server} to {'refuse' if self.refused else 'take'} it"

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(*parse_server(self.server, smtp.PORTS[self.tls])),)

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        said = {
            "--tls": None if self.tls == "none" else self.tls,
            "--user": self.user,
            "--mail-from": self.sender,
            "--rcpt-to": self.recipients,
            "--relay": self.relay,
            "--helo": self.helo,
            "--no-verify": not self.verify,
            "--refused": self.refused,
            "--name": None if self.name == NOBODY else self.name,
            "--auth": self.auth,
            "--size": self.size_bytes,
            "--8bitmime": self.eight_bit,
            "--offers": self.offers,
        }
        return ("smtp", self.server, *options(said))

    def attempt(self, timeout_s: float) -> Seen:
        host, port = parse_server(self.server, smtp.PORTS[self.tls])
        session = smtp.Session(
            host=host,
            port=port,
            tls=self.tls,
            name=self.name,
            helo=self.helo,
            verify=self.verify,
            user=self.user,
            password=self.password,
            mechanism=self.auth,
        )
        try:
            if self.relay:
                return self._relayed(session, timeout_s)
            return self._talked(session, timeout_s)
        except smtp.Refused as refused:
            return Seen(ok=False, text=f"refused: {refused}")
        except DecodeError as error:
            return Seen(ok=False, text=error.message)
        except (UnknownName, OSError) as error:
            return unanswered(error)

    def _talked(self, session: smtp.Session, timeout_s: float) -> Seen:
        until = time.monotonic() + timeout_s
        dialogue = smtp.Dialogue(session, timeout_s=until - time.monotonic())
        problem, is_refused = "", False
        try:
            self._say(dialogue)
            dialogue.quit()
        except smtp.Refused as refused:
            problem, is_refused = f"refused: {refused}", True
            dialogue.quit()
        except DecodeError as error:
            problem = error.message
        except OSError as error:
            problem = unanswered(error).text
        finally:
            dialogue.close()
        facts = self._facts(dialogue)
        log = smtp.transcript_lines(dialogue.transcript)
        missing = [each for each in self.offers if each.upper() not in dialogue.extensions]
        if missing and not problem:
            problem = f"it does not offer {', '.join(missing)}"
        if self.refused:
            text = problem or "it takes all of it"
            return Seen(ok=is_refused, text=text, log=log, facts=facts)
        under = f" under {dialogue.tls_version}" if dialogue.tls_version else ""
        text = problem or f"{dialogue.greeting.lines[0]} at {dialogue.address}{under}"
        return Seen(ok=not problem, text=text, log=log, facts=facts)

    def _say(self, dialogue: smtp.Dialogue) -> None:
        dialogue.hello()
        if self.user is not None:
            dialogue.authenticate()
        if self.sender is not None or self.recipients:
            envelope = smtp.Envelope(
                sender=SENDER if self.sender is None else self.sender,
                recipients=self.recipients,
                size_bytes=self.size_bytes,
                eight_bit=self.eight_bit,
                content=self.content,
            )
            dialogue.offer(envelope)

    def _facts(self, dialogue: smtp.Dialogue) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "address": dialogue.address,
            "greeting": str(dialogue.greeting),
            "extensions": dialogue.extensions,
            "transcript": [str(line) for line in dialogue.transcript],
        }
        if dialogue.certificate is not None:
            facts["tls"] = dialogue.tls_version
            facts["certificate"] = msgspec.to_builtins(dialogue.certificate)
        return facts

    def _relayed(self, session: smtp.Session, timeout_s: float) -> Seen:
        result = relay.test(
            session,
            sender=self.sender or SENDER,
            recipient=self.recipients[0] if self.recipients else RECIPIENT,
            send=self.content is not None,
            timeout_s=timeout_s,
        )
        taken = result.taken
        tried = len(result.tried) - 1
        facts = {
            "forms": [
                {
                    "form": each.form.name,
                    "sender": each.form.sender,
                    "recipient": each.form.recipient,
                    "reply": str(each.reply),
                    "taken": each in taken,
                }
                for each in result.tried
            ],
        }
        log = tuple(each.line() for each in result.tried)
        doubt = f", {len(result.doubtful)} may be its own mailboxes" if result.doubtful else ""
        if taken:
            names = ", ".join(each.form.name for each in taken[:4])
            more = f" and {len(taken) - 4} more" if len(taken) > 4 else ""
            text = f"an open relay: it takes {len(taken)} of {tried} forms: {names}{more}{doubt}"
            return Seen(ok=False, hopeless=True, text=text, log=log, facts=facts)
        if result.problem:
            return Seen(ok=False, text=result.problem, log=log, facts=facts)
        return Seen(ok=True, text=f"none of {tried} forms is taken{doubt}", log=log, facts=facts)
