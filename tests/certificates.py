"""Certificates for tests, made here: an authority's, and those that it gave or should not have given."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "bitcoin's": lambda: ec.generate_private_key(ec.SECP256K1()),
}
MAIL, SERVER = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH


class Authority:
    """Gives certificates, which are valid from yesterday unless ``days`` says otherwise."""

    def __init__(self) -> None:
        self._key = KEYS["p256"]()
        uses = dict.fromkeys(("key_cert_sign", "crl_sign"), True)
        self._own = self._signed("an authority", self._key, (-9, 9), [x509.BasicConstraints(True, None), usage(**uses)])

    @property
    def pem(self) -> bytes:
        return self._own.public_bytes(serialization.Encoding.PEM)

    def give(
        self, folder: Path, kind: str = "p256", days: tuple[int, int] = (-1, 2), use: Any = MAIL
    ) -> tuple[Path, Path]:
        """The files of a certificate, with the authority's after it, and of its key."""
        key = KEYS[kind]()
        extensions = [x509.BasicConstraints(False, None), usage(digital_signature=True), x509.ExtendedKeyUsage([use])]
        own = self._signed("a studio", key, days, extensions)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cert.pem").write_bytes(own.public_bytes(serialization.Encoding.PEM) + self.pem)
        (folder / "key.pem").write_bytes(pem_of(key))
        return folder / "cert.pem", folder / "key.pem"

    def _signed(self, name: str, key: Any, days: tuple[int, int], extensions: list[Any]) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        one = (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called("an authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days[0]))
            .not_valid_after(now + dt.timedelta(days[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for extension in extensions:
            one = one.add_extension(extension, not isinstance(extension, x509.ExtendedKeyUsage))
        return one.sign(self._key, hashes.SHA256())


def called(name: str) -> x509.Name:
    named = {NameOID.COMMON_NAME: name, NameOID.ORGANIZATION_NAME: "Pictures"}
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in named.items()])


def usage(**uses: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: uses.get(name, False) for name in names})


def pem_of(key: Any, password: bytes = b"", form: str = "PKCS8") -> bytes:
    """A private key in PEM; ``form``: PKCS8, or TraditionalOpenSSL as older tools write it."""
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), locked)
