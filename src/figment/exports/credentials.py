"""Content credentials (C2PA): a statement in each exported image that it was generated, and by what, signed with a certificate of the user's.

figment has no certificate of its own, and a statement that nobody vouches for proves nothing: whoever brings none gets none.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from figment import files, png, records
from figment.errors import FigmentError, missing_extra
from figment.images_in.provenance import source_type
from figment.saving import suffix

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
#: A thumbnail would be a second image in each file. What was signed is read again, which finds a certificate that validators refuse.
SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": True}}
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
USAGE = "--sign CERT.pem KEY.pem"


class Credentials:
    """Signs image files with a certificate and its key, both files in PEM.

    ``certificate`` begins with the signer's own, which those of the authorities above may follow; ``key`` has no password. One image is
    signed here and now, so that a certificate which C2PA does not take is told before anything is written. Raises FigmentError for that, for files
    that cannot be read, and where c2pa-python is missing.
    """

    def __init__(self, certificate: Path | str, key: Path | str) -> None:
        try:
            import c2pa
        except ImportError as error:
            raise missing_extra("c2pa-python", "c2pa") from error
        self._path = files.as_path(certificate)
        chain = _read(self._path)
        algorithm, private, self.signer = _opened(self._path, chain, files.as_path(key))
        self.fingerprint = records.digest(chain)
        try:
            # No address of a server for time stamps: nothing is sent anywhere.
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, chain, private, None))
            self._context = c2pa.Context.from_dict(SETTINGS, signer=signer)
        except c2pa.C2paError as error:
            raise self._refused(error) from error
        self.sign(png.encode(np.zeros((1, 1, 3), np.uint8)), manifest("figment", trained=False))

    def sign(self, data: bytes, said: Mapping[str, Any]) -> bytes:
        """A PNG, JPEG or WebP file with a :func:`manifest` in it, and its pixels and other metadata as they were. Raises FigmentError."""
        import c2pa

        signed = io.BytesIO()
        try:
            with c2pa.Builder(said, self._context) as builder:
                builder.sign(KINDS[suffix(data)], io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise self._refused(error) from error
        return signed.getvalue()

    def _refused(self, error: Exception) -> FigmentError:
        return FigmentError(
            f"--sign: C2PA does not take the certificate in {self._path} ({str(error)[:200].rstrip('.')}). It takes one that is valid today, is no"
            " authority's own, and is for signing C2PA claims, documents or e-mail (its extended key usage)."
        )


def manifest(generator: str, *, trained: bool) -> dict[str, Any]:
    """What is signed: this image was created by ``generator``, a model that was ``trained`` or a mere procedure."""
    created = {
        "action": "c2pa.created",
        "digitalSourceType": source_type(trained),
        "softwareAgent": {"name": generator},
    }
    return {
        "claim_generator_info": [{"name": "figment", "version": metadata.version("figment-vision")}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }


def _read(path: Path) -> bytes:
    try:
        return files.read_bytes(path, "certificate or key")
    except OSError as error:
        raise FigmentError(
            f"--sign: {path} cannot be read: {error.strerror or error}. Give a certificate and its key, two files in PEM: {USAGE}"
        ) from error


def _opened(certificate: Path, chain: bytes, key: Path) -> tuple[str, bytes, str]:
    """The algorithm, the key in the one form that c2pa-python takes (PKCS #8), and whose certificate it is."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        own = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise FigmentError(
            f"--sign: {certificate} holds no certificate in PEM. The certificate comes first, then the key: {USAGE}"
        ) from error
    try:
        private = serialization.load_pem_private_key(_read(key), password=None)
    except TypeError as error:
        raise FigmentError(
            f"--sign: the key in {key} has a password, and none is asked for. Write it without one into a file that nobody else may read:"
            f" openssl pkey -in {shlex.quote(str(key))} -out KEY.pem"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FigmentError(
            f"--sign: {key} holds no private key in PEM. The certificate comes first, then the key: {USAGE}"
        ) from error
    if private.public_key() != own.public_key():
        raise FigmentError(
            f"--sign: the key in {key} is not that of the first certificate in {certificate}. Give two that belong together: {USAGE}"
        )
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _algorithm(private, key), plain, own.subject.rfc4514_string()


def _algorithm(private: Any, path: Path) -> str:
    """What C2PA signs with by such a key (specification 2.4, section 13.2)."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in CURVES:
        return CURVES[private.curve.name]
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise FigmentError(
        f"--sign: C2PA does not take a key such as that in {path}. It takes elliptic curves P-256, P-384 and P-521, Ed25519, and RSA."
    )
