"""Whether a mail server carries strangers' mail to strangers: an open relay.

Each form is an envelope that some server has once taken for its own: routes in addresses (RFC 5321
appendix C), the percent hack, UUCP's paths, quoted addresses, senders who pretend to be at home. A
server that takes the recipient of any of them is open; nothing is sent unless that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes.smtp import Dialogue, Line, Refused, Reply, Session

A_CONNECTION: Final = 4
"""Forms tried on one connection: servers slow down or end one on which much was refused."""
CONTROL: Final = "a mailbox that is not there"
"""No relaying, but it tells whether the server takes whatever looks like a mailbox of its own."""
MESSAGE: Final = (
    "Subject: relay test\n\n"
    "This mail was sent to find out whether this server relays strangers' mail. It does.\n"
)


class Form(msgspec.Struct, frozen=True):
    """An envelope; `recipient` is what stands between the brackets, or all of it without them."""

    name: str
    sender: str
    recipient: str
    brackets: bool = True
    may_be_local: bool = False
    """A server may take it for a mailbox of its own, which is no relaying."""


class Tried(msgspec.Struct, frozen=True):
    """A form, and what the server said to it."""

    form: Form
    reply: Reply
    """To RCPT; to MAIL where that was refused; to the mail, where one was sent and refused."""
    is_taken: bool

    def line(self) -> str:
        """The form in a line."""
        taken = "taken" if self.is_taken else "refused"
        form = self.form
        return f"{taken}: {form.name}: <{form.sender}> to {form.recipient}: {self.reply}"


def forms(*, ours: str, address: str, sender: str, recipient: str) -> tuple[Form, ...]:
    """The forms against a server that calls itself `ours` and has `address`.

    `sender` and `recipient` are strangers to it, as `someone@a.example`.
    """
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    user, _, domain = recipient.rpartition("@")
    home = f"postmaster@{ours}"

    def local(name: str, recipient: str) -> Form:
        return Form(name, sender, recipient, may_be_local=True)

    return (
        Form(CONTROL, sender, f"hostlab-no-such-user@{ours}"),
        Form("plain", sender, recipient),
        Form("no brackets", sender, recipient, brackets=False),
        Form("empty sender", "", recipient),
        Form("sender without a domain", "postmaster", recipient),
        Form("sender of the server's name", home, recipient),
        Form("sender at the server's address", f"postmaster@{literal}", recipient),
        Form("sender at localhost", "postmaster@localhost", recipient),
        Form("sender is the recipient", recipient, recipient),
        local("percent, at the server's name", f"{user}%{domain}@{ours}"),
        local("percent, at the server's address", f"{user}%{domain}@{literal}"),
        local("percent, at localhost", f"{user}%{domain}@localhost"),
        local("percent alone", f"{user}%{domain}"),
        local("quoted percent", f'"{user}%{domain}"'),
        local("quoted", f'"{recipient}"'),
        local("quoted, at the server's name", f'"{recipient}"@{ours}'),
        local("quoted, at the server's address", f'"{recipient}"@{literal}'),
        local("two at-signs, the server's name", f"{recipient}@{ours}"),
        local("two at-signs, the server's address", f"{recipient}@{literal}"),
        Form("route by the server's name", sender, f"@{ours}:{recipient}"),
        Form("route by the server's address", sender, f"@{literal}:{recipient}"),
        local("UUCP", f"{domain}!{user}"),
        local("UUCP, at the server's name", f"{domain}!{user}@{ours}"),
        local("UUCP, at the server's address", f"{domain}!{user}@{literal}"),
    )


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All forms."""

    tried: tuple[Tried, ...]
    transcript: tuple[Line, ...]
    problem: str = ""
    """Why the rest was not tried; empty when all were."""

    @property
    def taken(self) -> tuple[Tried, ...]:
        """Those by which it is open."""
        return tuple(each for each in self._taken() if not self._is_doubtful(each))

    @property
    def doubtful(self) -> tuple[Tried, ...]:
        """Those that were taken by a server that takes any mailbox of its own, as it may be one."""
        return tuple(filter(self._is_doubtful, self._taken()))

    def _taken(self) -> Iterator[Tried]:
        return (each for each in self.tried if each.is_taken and each.form.name != CONTROL)

    def _is_doubtful(self, each: Tried) -> bool:
        takes_any = any(one.is_taken for one in self.tried if one.form.name == CONTROL)
        return takes_any and each.form.may_be_local


def test(session: Session, *, sender: str, recipient: str, send: bool, timeout_s: float) -> Result:
    """Try every form, with a new connection every few; `send` goes on to a mail.

    OSError, UnknownName, Refused and DecodeError where there is no dialogue at all.
    """
    until = time.monotonic() + timeout_s
    tried: list[Tried] = []
    transcript: list[Line] = []
    left: list[Form] | None = None
    problem = ""
    while left is None or left:
        dialogue = Dialogue(session, timeout_s=until - time.monotonic())
        try:
            dialogue.hello()
            if left is None:
                ours = dialogue.greeting.lines[0].split(" ")[0] or session.host
                left = list(
                    forms(ours=ours, address=dialogue.address, sender=sender, recipient=recipient)
                )
            for form in left[:A_CONNECTION]:
                tried.append(_try(dialogue, form, send=send))  # noqa: PERF401 (kept on an error)
            left = left[A_CONNECTION:]
            dialogue.quit()
        except (OSError, DecodeError, Refused) as error:
            if not tried:
                raise
            problem = f"after {len(tried)} forms: {str(error) or 'no answer in time'}"
            break
        finally:
            transcript += dialogue.transcript
            dialogue.close()
    return Result(tried=tuple(tried), transcript=tuple(transcript), problem=problem)


def _try(dialogue: Dialogue, form: Form, *, send: bool) -> Tried:
    reply = dialogue.say(f"MAIL FROM:<{form.sender}>")
    is_taken = False
    if reply.is_good:
        recipient = f"<{form.recipient}>" if form.brackets else form.recipient
        reply = dialogue.say(f"RCPT TO:{recipient}")
        is_taken = reply.is_good
        if is_taken and send:
            try:
                dialogue.send(MESSAGE)
            except Refused as refused:
                reply, is_taken = refused.reply, False
    dialogue.say("RSET")
    return Tried(form, reply, is_taken)
