"""A handshake of TLS: what was agreed on, and whose certificate it was."""

from __future__ import annotations

import ssl
import time
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes import certificate
from hostlab.probes.stream import connect, over_tls, tls_context

PORT: Final = 443


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask."""

    host: str
    port: int = PORT
    name: str
    """What is asked for (SNI), and must be in the certificate."""
    verify: bool = True
    authorities: str | None = None
    alpn: tuple[str, ...] = ()


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    address: str
    version: str
    cipher: str
    alpn: str | None
    certificate: certificate.Certificate
    refused: str = ""
    """Why the certificate is not good; empty when it is, or was not to be verified."""

    def lines(self) -> tuple[str, ...]:
        """The certificate, for people."""
        seen = self.certificate
        return (
            f"subject: {seen.subject}",
            f"names: {', '.join(seen.names)}",
            f"issuer: {seen.issuer}",
            f"good from {seen.not_before:%Y-%m-%d %H:%M} to {seen.not_after:%Y-%m-%d %H:%M} UTC",
            f"SHA-256: {seen.sha256}",
        )


def ask(question: Question, *, timeout_s: float) -> Handshake:
    """One handshake, or two: a certificate that is refused is looked at by a second one.

    UnknownName, OSError with ssl.SSLError, DecodeError.
    """
    until = time.monotonic() + timeout_s
    try:
        return _once(question, until, verify=question.verify)
    except ssl.SSLCertVerificationError as error:
        found = _once(question, until, verify=False)
        return msgspec.structs.replace(found, refused=error.verify_message)


def _once(question: Question, until: float, *, verify: bool) -> Handshake:
    context = tls_context(verify=verify, authorities=question.authorities)
    if question.alpn:
        context.set_alpn_protocols(list(question.alpn))
    sock, address = connect(question.host, question.port, until)
    with sock:
        wrapped = over_tls(sock, question.name, until, context)
        with wrapped:
            der = wrapped.getpeercert(binary_form=True)
            if der is None:
                raise DecodeError("tls", f"{address} shows no certificate")
            cipher = wrapped.cipher()
            return Handshake(
                address=address,
                version=wrapped.version() or "",
                cipher=cipher[0] if cipher else "",
                alpn=wrapped.selected_alpn_protocol(),
                certificate=certificate.decode(der),
            )
