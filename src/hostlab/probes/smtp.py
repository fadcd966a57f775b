"""A dialogue with a mail server, word for word; RFC 5321, and its extensions by their own RFCs.

Written out here rather than by smtplib, which keeps no transcript, and corrects what a probe has to
be able to say wrong.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes import certificate
from hostlab.probes.stream import Stream, connect, over_tls, tls_context

PORTS: Final = {"none": 25, "starttls": 25, "implicit": 465}
"""The port by the way to TLS; RFC 8314."""
_LINES: Final = 1000
"""Of one reply."""
MASKED: Final = "********"


class Line(NamedTuple):
    """Of a transcript."""

    sender: str
    """C or S, as RFC 5321 writes them."""
    text: str

    def __str__(self) -> str:
        return f"{self.sender}: {self.text}"


class Reply(msgspec.Struct, frozen=True):
    """A server's, or what is said in its place."""

    code: int
    """0: the server has not said it."""
    lines: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """2yz or 3yz: it was done, or goes on."""
        return 200 <= self.code < 400

    def __str__(self) -> str:
        return f"{self.code or ''} {' / '.join(self.lines)}".strip()


class Refused(Exception):
    """The server did not do what it was asked; the message has its words."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what}: {reply}")
        self.what = what
        self.reply = reply


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A mail, as far as it is to be offered."""

    sender: str = ""
    recipients: tuple[str, ...] = ()
    size_bytes: int | None = None
    eight_bit: bool = False
    content: str | None = None
    """None: stop before DATA."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """How to get there."""

    host: str
    port: int
    tls: str = "none"
    """none, starttls or implicit."""
    name: str = "hostlab.invalid"
    """What we call ourselves."""
    helo: bool = False
    """HELO instead of EHLO."""
    verify: bool = True
    user: str | None = None
    password: str | None = None
    mechanism: str | None = None
    """PLAIN or LOGIN; None: the first that the server offers."""


class Dialogue:
    """A connection to a mail server, and everything that was said on it."""

    def __init__(self, session: Session, *, timeout_s: float) -> None:
        """Connect and read the greeting; OSError, UnknownName, Refused, DecodeError."""
        self.session = session
        self.transcript: list[Line] = []
        self.extensions: dict[str, str] = {}
        self.certificate: certificate.Certificate | None = None
        self.tls_version = ""
        until = time.monotonic() + timeout_s
        sock, self.address = connect(session.host, session.port, until)
        self._stream = Stream(sock, until)
        try:
            if session.tls == "implicit":
                context = tls_context(verify=session.verify)
                self._secure(over_tls(sock, session.host, until, context))
            self.greeting = self._good("the greeting", self._reply())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up without a word."""
        self._stream.close()

    def quit(self) -> None:
        """Say good-bye; it does not matter what the server says to it."""
        try:
            self.say("QUIT")
        except (OSError, DecodeError):
            return

    def say(self, command: str, *, masked: str | None = None) -> Reply:
        """Send a line and read the reply; the transcript has `masked` instead, where given."""
        self.transcript.append(Line("C", command if masked is None else masked))
        self._stream.send(command.encode("utf-8", errors="surrogateescape") + b"\r\n")
        return self._reply()

    def hello(self) -> None:
        """EHLO or HELO, and STARTTLS with another EHLO where that is the way; Refused."""
        self._introduce()
        if self.session.tls == "starttls":
            if "STARTTLS" not in self.extensions:
                raise Refused("STARTTLS", Reply(0, ("the server does not offer it",)))
            self._good("STARTTLS", self.say("STARTTLS"))
            context = tls_context(verify=self.session.verify)
            self._secure(self._stream.over_tls(self.session.host, context))
            self._introduce()

    def _introduce(self) -> None:
        word = "HELO" if self.session.helo else "EHLO"
        reply = self._good(word, self.say(f"{word} {self.session.name}"))
        self.extensions = {}
        for line in reply.lines[1:]:
            keyword, _, rest = line.partition(" ")
            self.extensions[keyword.upper()] = rest.strip()

    def _secure(self, wrapped: ssl.SSLSocket) -> None:
        self._stream.socket = wrapped
        der = wrapped.getpeercert(binary_form=True)
        self.certificate = certificate.decode(der) if der else None
        self.tls_version = wrapped.version() or ""
        self.transcript.append(Line("-", f"from here on under {self.tls_version}"))

    def authenticate(self) -> None:
        """AUTH PLAIN (RFC 4616) or LOGIN; Refused also when neither is offered."""
        user, password = self.session.user or "", self.session.password or ""
        offered = self.extensions.get("AUTH", "").upper().split()
        ways = [way for way in ("PLAIN", "LOGIN") if way in offered]
        mechanism = self.session.mechanism or (ways[0] if ways else None)
        if mechanism is None:
            said = ", ".join(offered) or "none at all"
            raise Refused("AUTH", Reply(0, (f"neither PLAIN nor LOGIN is offered: {said}",)))
        if mechanism == "PLAIN":
            word = _base64(f"\0{user}\0{password}")
            reply = self.say(f"AUTH PLAIN {word}", masked=f"AUTH PLAIN {MASKED}")
        else:
            reply = self._good("AUTH LOGIN", self.say("AUTH LOGIN"))
            reply = self._good("the user", self.say(_base64(user)))
            reply = self.say(_base64(password), masked=MASKED)
        self._good(f"AUTH {mechanism}", reply)

    def offer(self, envelope: Envelope) -> None:
        """MAIL, RCPT for each, and with a content DATA; Refused with the command that was."""
        parameters = ""
        if envelope.size_bytes is not None:
            parameters += f" SIZE={envelope.size_bytes}"
        if envelope.eight_bit:
            parameters += " BODY=8BITMIME"
        self._good("MAIL", self.say(f"MAIL FROM:<{envelope.sender}>{parameters}"))
        for recipient in envelope.recipients:
            self._good(f"RCPT {recipient}", self.say(f"RCPT TO:<{recipient}>"))
        if envelope.content is not None:
            self.send(envelope.content)

    def send(self, content: str) -> None:
        """DATA and the mail, its dots doubled (RFC 5321 §4.5.2); Refused."""
        self._good("DATA", self.say("DATA"))
        lines = content.splitlines()
        self.transcript += [Line("C", line) for line in (*lines, ".")]
        doubled = ("." + line if line.startswith(".") else line for line in lines)
        text = "".join(f"{line}\r\n" for line in doubled) + ".\r\n"
        self._stream.send(text.encode("utf-8", errors="surrogateescape"))
        self._good("the mail", self._reply())

    def _good(self, what: str, reply: Reply) -> Reply:
        if not reply.is_good:
            raise Refused(what, reply)
        return reply

    def _reply(self) -> Reply:
        lines: list[str] = []
        while len(lines) < _LINES:
            try:
                line = self._stream.line().decode("utf-8", errors="replace")
            except ValueError as error:
                raise DecodeError("smtp", str(error)) from None
            self.transcript.append(Line("S", line))
            code = line[:3]
            if not (code.isascii() and code.isdigit()) or line[3:4] not in ("", " ", "-"):
                raise DecodeError("smtp", f"this is not SMTP: {line[:200]!r}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(code), tuple(lines))
        raise DecodeError("smtp", f"a reply of more than {_LINES} lines")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def transcript_lines(lines: Sequence[Line]) -> tuple[str, ...]:
    """A transcript as text."""
    return tuple(map(str, lines))
