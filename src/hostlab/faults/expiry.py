"""A server's certificate as it will be one day: the same in everything, but it has expired.

Who signs it again is whoever did at first, where its key is at hand; else the server itself does,
and then clients have two complaints. The cryptography package, which knows all of X.509, is an
extra (`hostlab[tls]`), loaded when it is needed.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from hostlab.errors import Failed, Unsupported, UsageError, extra

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    PublicKey = (
        rsa.RSAPublicKey
        | ec.EllipticCurvePublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey
    )
    PrivateKey = (
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | ed448.Ed448PrivateKey
    )

AGO: Final = timedelta(days=1)
"""How long ago it has expired: more than what clocks that are a little off would hide."""
LONGEST: Final = timedelta(days=365)
"""For how long it was good, where it cannot have been from when the old one is."""
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)
_PRIVATE: Final = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----[^-]+(?:-(?!----)[^-]+)*-----END (?P=kind)-----"
)


@dataclass(frozen=True, slots=True)
class Pem:
    """A file's text, and how it is called when something is wrong with it."""

    text: str
    where: str


def load() -> None:
    """Import cryptography; Unsupported when it is not installed."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        message = "making a certificate needs cryptography"
        raise Unsupported("tls", message, hint=extra("tls")) from None


def expired(served: Pem, key: Pem | None, issuer_key: Pem | None, now: datetime) -> str:
    """A PEM block for the file's first certificate, with the same names, extensions and key.

    `issuer_key` signs it where it is given, else the server's own key, which is in `key` or beside
    the certificate. `now` has a time zone. UsageError for what is no PEM, has no key, a wrong one
    or one with a pass phrase; Failed when the certificate has expired already.
    """
    load()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding

    wrong = (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    )
    try:
        # What a certificate has in it is read when it is asked for, and may be wrong only then.
        with warnings.catch_warnings(action="ignore"):
            new = _remade(served, key, issuer_key, now)
    except wrong as error:
        message = f"the certificate in {served.where} cannot be made again: {error}"
        raise UsageError("fault", message) from None
    return new.public_bytes(Encoding.PEM).decode().rstrip("\n")


def _remade(
    served: Pem, key: Pem | None, issuer_key: Pem | None, now: datetime
) -> x509.Certificate:
    from cryptography import x509

    old = _first(served)
    until = old.not_valid_after_utc
    if until <= now:
        message = f"the certificate in {served.where} has expired already, at {until:%F %T} UTC"
        raise Failed("fault", message)
    end = now.replace(microsecond=0) - AGO
    start = old.not_valid_before_utc
    if start >= end:
        start = end - min(until - start, LONGEST)
    signer = _signer(served, old, key, issuer_key)
    issuer = old.subject if issuer_key is None else old.issuer
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=old.subject,
        public_key=_certified(old),
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=end,
    )
    for each in old.extensions:
        # It names the key of who had signed it.
        if issuer == old.issuer or not isinstance(each.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(each.value, each.critical)
    return _signed(builder, old, signer)


def with_first(text: str, block: str) -> str:
    """The text with another first certificate; all else in it stays."""
    return _CERTIFICATE.sub(lambda _: block, text, count=1)


def _first(served: Pem) -> x509.Certificate:
    from cryptography import x509

    found = _CERTIFICATE.search(served.text)
    if found is None:
        message = f"{served.where} has no certificate in PEM"
        hint = "`openssl x509 -inform der -in FILE` makes PEM of what is in DER"
        raise UsageError("fault", message, hint=hint)
    try:
        return x509.load_pem_x509_certificate(found[0].encode())
    except ValueError as error:
        message = f"the certificate in {served.where} cannot be read: {error}"
        raise UsageError("fault", message) from None


def _certified(old: x509.Certificate) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    key = old.public_key()
    if not isinstance(
        key,
        rsa.RSAPublicKey
        | ec.EllipticCurvePublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey,
    ):
        raise ValueError("its key is none of RSA, ECDSA, Ed25519 and Ed448")
    return key


def _signer(
    served: Pem, old: x509.Certificate, key: Pem | None, issuer_key: Pem | None
) -> PrivateKey:
    if issuer_key is not None:
        found = _private(issuer_key, "")
        if not _has_signed(found, old):
            message = f"the key in {issuer_key.where} has not signed the certificate in"
            hint = f"its issuer is {old.issuer.rfc4514_string() or 'not named'}"
            raise UsageError("fault", f"{message} {served.where}", hint=hint)
        return found
    hint = "key=FILE has the certificate's own, issuer_key=FILE the one that has signed it"
    found = _private(key or served, hint)
    if found.public_key() != old.public_key():
        where = (key or served).where
        message = f"the key in {where} is not the one of the certificate in {served.where}"
        raise UsageError("fault", message, hint=hint)
    return found


def _private(pem: Pem, hint: str) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    block = _PRIVATE.search(pem.text)
    if block is None:
        message = f"{pem.where} has no private key in PEM"
        raise UsageError("fault", message, hint=hint or None)
    try:
        found = load_pem_private_key(block[0].encode(), None)
    except TypeError:
        message = f"the key in {pem.where} has a pass phrase"
        hint = "`openssl pkey -in FILE -out OTHER` asks for it, and writes the key without"
        raise UsageError("fault", message, hint=hint) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"the key in {pem.where} cannot be read: {error}"
        raise UsageError("fault", message) from None
    if not isinstance(
        found,
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | ed448.Ed448PrivateKey,
    ):
        message = f"the key in {pem.where} is none of RSA, ECDSA, Ed25519 and Ed448"
        raise UsageError("fault", message)
    return found


def _has_signed(key: PrivateKey, old: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    public = key.public_key()
    signed, text = old.signature, old.tbs_certificate_bytes
    try:
        how = old.signature_algorithm_parameters
        digest = old.signature_hash_algorithm
        match public:
            case rsa.RSAPublicKey():
                if digest is None or not isinstance(how, padding.PKCS1v15 | padding.PSS):
                    return False
                public.verify(signed, text, how, digest)
            case ec.EllipticCurvePublicKey():
                if not isinstance(how, ec.ECDSA):
                    return False
                public.verify(signed, text, how)
            case _:
                if how is not None or digest is not None:
                    return False
                public.verify(signed, text)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _signed(
    builder: x509.CertificateBuilder, old: x509.Certificate, signer: PrivateKey
) -> x509.Certificate:
    """By the algorithm of the old one, where the key fits it and it is still good for anything."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if not isinstance(signer, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return builder.sign(signer, None)
    digest = old.signature_hash_algorithm
    if not isinstance(digest, hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        digest = hashes.SHA256()
    how = old.signature_algorithm_parameters
    if isinstance(signer, rsa.RSAPrivateKey) and isinstance(how, padding.PSS):
        length = padding.PSS.DIGEST_LENGTH
        return builder.sign(signer, digest, rsa_padding=padding.PSS(padding.MGF1(digest), length))
    return builder.sign(signer, digest)
