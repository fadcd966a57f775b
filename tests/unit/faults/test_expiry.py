"""A certificate that has expired is the old one in all else, and its signature is good."""

from __future__ import annotations

import base64
import contextlib
import functools
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.faults.expiry import Pem, expired, with_first

if TYPE_CHECKING:
    from hostlab.faults.expiry import PrivateKey

pytestmark = pytest.mark.unit

NOW = datetime(2026, 5, 6, 7, 8, 9, 10, UTC)
KINDS = ("rsa", "pss", "p256", "p384", "ed25519", "ed448")


@functools.cache
def made(kind: str, which: int = 0) -> PrivateKey:
    """A key of a kind; `which` tells one from another."""
    match kind:
        case "rsa" | "pss":
            return rsa.generate_private_key(65537, 2048)
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ed448.Ed448PrivateKey.generate()


def key_pem(key: PrivateKey, phrase: bytes = b"", *, is_old: bool = False) -> str:
    how: KeySerializationEncryption = BestAvailableEncryption(phrase) if phrase else NoEncryption()
    form = PrivateFormat.TraditionalOpenSSL if is_old else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, how).decode()


def name(common: str) -> x509.Name:
    words = [(NameOID.COUNTRY_NAME, "NL"), (NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(*word) for word in words])


def certificate(
    key: PrivateKey,
    *,
    signer: PrivateKey | None = None,
    is_pss: bool = False,
    since: timedelta = timedelta(days=40),
    left: timedelta = timedelta(days=50),
) -> str:
    """The server's, signed by itself or by `ca`."""
    by = signer or key
    subject, issuer = name("web"), name("ca") if signer else name("web")
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 7, NOW - since, NOW + left)
    usage = [ExtendedKeyUsageOID.SERVER_AUTH]
    names = [x509.DNSName("web"), x509.DNSName("*.web.example")]
    made_up = x509.ObjectIdentifier("1.3.6.1.4.1.99999.7")
    for value, is_critical in (
        (x509.SubjectAlternativeName(names), False),
        (x509.ExtendedKeyUsage(usage), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False),
        (x509.UnrecognizedExtension(made_up, b"\x04\x03abc"), False),
    ):
        builder = builder.add_extension(value, is_critical)
    if isinstance(by, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        found = builder.sign(by, None)
    elif is_pss and isinstance(by, rsa.RSAPrivateKey):
        how = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
        found = builder.sign(by, hashes.SHA384(), rsa_padding=how)
    else:
        found = builder.sign(by, hashes.SHA384())
    return found.public_bytes(Encoding.PEM).decode()


def read(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def authority(key: PrivateKey) -> x509.Certificate:
    """Of whoever has signed: what his name and key are good for."""
    builder = x509.CertificateBuilder(
        name("ca"), name("ca"), key.public_key(), 1, NOW - timedelta(900), NOW + timedelta(900)
    )
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(key, None if is_edwards else hashes.SHA256())


def extensions(found: x509.Certificate) -> set[tuple[str, bool, bytes]]:
    return {(e.oid.dotted_string, e.critical, e.value.public_bytes()) for e in found.extensions}


def assert_same_but_for_time(old: x509.Certificate, new: x509.Certificate) -> None:
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    assert new.subject.public_bytes() == old.subject.public_bytes()
    assert new.public_key().public_bytes(*spki) == old.public_key().public_bytes(*spki)
    assert new.not_valid_before_utc == old.not_valid_before_utc.replace(microsecond=0)
    assert new.not_valid_after_utc == datetime(2026, 5, 5, 7, 8, 9, tzinfo=UTC)
    assert new.serial_number != old.serial_number


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_signed_by_itself(kind: str) -> None:
    key = made(kind)
    text = certificate(key, is_pss=kind == "pss")
    old = read(text)
    for served, other in (
        (Pem(text, "web"), Pem(key_pem(key), "key")),
        (Pem(key_pem(key) + text, "web"), None),
    ):
        new = read(expired(served, other, None, NOW))
        assert_same_but_for_time(old, new)
        assert extensions(new) == extensions(old)
        assert new.signature_algorithm_oid == old.signature_algorithm_oid
        new.verify_directly_issued_by(new)


@pytest.mark.parametrize("kind", KINDS)
def test_its_issuer_signs_it_where_its_key_is_given(kind: str) -> None:
    ca = made(kind, 1)
    text = certificate(made("p256"), signer=ca, is_pss=kind == "pss")
    new = read(expired(Pem(text, "web"), None, Pem(key_pem(ca), "ca"), NOW))
    assert_same_but_for_time(read(text), new)
    assert extensions(new) == extensions(read(text))
    new.verify_directly_issued_by(authority(ca))


@pytest.mark.parametrize("kind", KINDS)
def test_else_the_server_issues_it_itself(kind: str) -> None:
    key = made(kind)
    text = certificate(key, signer=made("rsa", 1))
    new = read(expired(Pem(text, "web"), Pem(key_pem(key), "key"), None, NOW))
    assert_same_but_for_time(read(text), new)
    lost = extensions(read(text)) - extensions(new)
    assert [oid for oid, _, _ in lost] == [x509.AuthorityKeyIdentifier.oid.dotted_string]
    assert extensions(new) < extensions(read(text))
    new.verify_directly_issued_by(new)


def test_one_of_today_was_good_for_as_long_before() -> None:
    key = made("p256")
    for left, begins in (
        (timedelta(days=2), timedelta(days=3, hours=1)),
        (timedelta(days=36500), timedelta(days=366)),
    ):
        text = certificate(key, since=timedelta(hours=1), left=left)
        new = read(expired(Pem(text + key_pem(key), "web"), None, None, NOW))
        assert new.not_valid_after_utc == (NOW - timedelta(days=1)).replace(microsecond=0)
        assert NOW - new.not_valid_before_utc - begins < timedelta(seconds=2)


def test_all_else_in_the_file_stays() -> None:
    key = made("p256")
    first, second = certificate(key), certificate(made("ed25519"))
    before, between, after = "# caf\xe9\r\n" + key_pem(key), "# the next\n", "\n\n# end"
    new = expired(Pem(first, "web"), Pem(key_pem(key), "key"), None, NOW)
    text = with_first(before + first + between + second + after, new)
    assert text == before + new + "\n" + between + second + after
    assert new not in (first, second)


def test_what_cannot_be_is_said() -> None:
    key, other, ca = made("p256"), made("p256", 2), made("rsa", 1)
    own, of_ca = certificate(key), certificate(key, signer=ca)
    old = certificate(key, left=timedelta(0))
    locked = Pem(key_pem(key, b"word"), "key")
    locked_as_ever = Pem(key_pem(key, b"word", is_old=True), "key")
    broken = own.replace("\nM", "\nA", 1)
    no_key = key_pem(key).replace("\nM", "\nA", 1)
    for served, own_key, issuer_key, message, hint in (
        ("", None, None, "web has no certificate in PEM", "-inform der"),
        (key_pem(key), None, None, "web has no certificate in PEM", "-inform der"),
        (broken, Pem(key_pem(key), "key"), None, "the certificate in web cannot be read", ""),
        (own, None, None, "web has no private key in PEM", "key=FILE"),
        (of_ca, None, None, "web has no private key in PEM", "issuer_key=FILE"),
        (own, Pem(own, "key"), None, "key has no private key in PEM", "key=FILE"),
        (own, Pem(key_pem(other), "key"), None, "the key in key is not the one of", "key=FILE"),
        (own, Pem(key_pem(ca), "key"), None, "the key in key is not the one of", "key=FILE"),
        (own, locked, None, "the key in key has a pass phrase", "openssl pkey"),
        (own, locked_as_ever, None, "the key in key has a pass phrase", "openssl pkey"),
        (own, Pem(no_key, "key"), None, "the key in key cannot be read", ""),
        (of_ca, None, Pem(key_pem(key), "ca"), "the key in ca has not signed", "CN=ca"),
        (of_ca, None, Pem(key_pem(made("rsa")), "ca"), "the key in ca has not signed", "CN=ca"),
        (of_ca, None, Pem(key_pem(made("ed448")), "ca"), "the key in ca has not", "CN=ca"),
        (of_ca, None, Pem(of_ca, "ca"), "ca has no private key in PEM", ""),
    ):
        with pytest.raises(UsageError) as caught:
            expired(Pem(served, "web"), own_key, issuer_key, NOW)
        assert message in caught.value.message
        assert hint in (caught.value.hint or "")
    with pytest.raises(Failed, match=r"expired already, at 2026-05-06 07:08:09 UTC"):
        expired(Pem(old, "web"), Pem(key_pem(key), "key"), None, NOW)


def test_without_cryptography_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cryptography", "cryptography.x509"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported) as caught:
        expired(Pem("", "web"), None, None, NOW)
    assert caught.value.hint == f"{sys.executable} -m pip install 'hostlab[tls]'"


@given(st.data())
def test_of_bytes_that_nobody_wrote_it_is_said_too(data: st.DataObject) -> None:
    """One byte of the certificate or of the key is another."""
    der = bytearray(read(certificate(made("ed25519"))).public_bytes(Encoding.DER))
    at = data.draw(st.integers(0, len(der) - 1))
    der[at] ^= data.draw(st.integers(1, 255))
    text = pem_of("CERTIFICATE", bytes(der))
    key = list(key_pem(made("ed25519")))
    place = data.draw(st.integers(0, len(key) - 1))
    key[place] = chr(data.draw(st.integers(0, 255)))
    for each in (key_pem(made("ed25519")), "".join(key)):
        with contextlib.suppress(UsageError):
            read(expired(Pem(text, "web"), Pem(each, "key"), None, NOW))


def pem_of(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"
