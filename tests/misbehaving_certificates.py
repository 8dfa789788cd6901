"""Certificates, good and bad, for a server of tests: made when they are needed, so that none expires in the clone."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Tls: TypeAlias = Literal["good", "expired", "wrong-host", "self-signed"]
KINDS: Final[tuple[Tls, ...]] = get_args(Tls)

_DAY: Final = timedelta(days=1)
_OURS: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
    x509.IPAddress(ip_address("::1")),
)
_OTHERS: Final = (x509.DNSName("other.example.com"),)


@dataclass(frozen=True)
class Certificates:
    """Files in a folder: `cafile`, by which all but the self-signed one are signed, and a file for each kind."""

    cafile: str
    files: dict[Tls, str]

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        """Makes them, for 127.0.0.1, ::1 and localhost."""
        now = datetime.now(UTC)
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("Offload tests' authority")
        ca = _builder(ca_name, ca_name, ca_key, now - _DAY, now + 30 * _DAY)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        ca = ca.add_extension(_usage(signs_certificates=True), critical=True)
        ca_certificate = ca.sign(ca_key, hashes.SHA256())
        cafile = folder / "authority.pem"
        cafile.write_bytes(ca_certificate.public_bytes(serialization.Encoding.PEM))

        files: dict[Tls, str] = {}
        for kind in KINDS:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _name("localhost")
            own = kind == "self-signed"
            end = now - _DAY if kind == "expired" else now + 30 * _DAY
            made = _builder(subject, subject if own else ca_name, key, now - 2 * _DAY, end)
            made = made.add_extension(
                x509.SubjectAlternativeName(_OTHERS if kind == "wrong-host" else _OURS), critical=False
            )
            made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            made = made.add_extension(_usage(signs_certificates=False), critical=True)
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            signer = key if own else ca_key
            made = made.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
            certificate = made.sign(signer, hashes.SHA256())
            file = folder / f"{kind}.pem"
            file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                + certificate.public_bytes(serialization.Encoding.PEM)
            )
            files[kind] = str(file)
        return cls(str(cafile), files)

    def contexts(self) -> dict[Tls, ssl.SSLContext]:
        """A server's context for each kind."""
        contexts: dict[Tls, ssl.SSLContext] = {}
        for kind, file in self.files.items():
            contexts[kind] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
        return contexts


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
