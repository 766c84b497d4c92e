"""A certificate authority of a test, which vouches for servers on loopback."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """certificate: its own. server, key: the certificate and the private key of a server. All are PEM files."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.certificate, self.server, self.key = (directory / f"{name}.pem" for name in ("authority", "server", "key"))
        own, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name, server = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (directory.name, "server")
        )
        own_builder = _builder(name, name, own).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        own_builder = own_builder.add_extension(_usage(), True)
        self.certificate.write_bytes(own_builder.sign(own, hashes.SHA256()).public_bytes(Encoding.PEM))
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key())
        builder = _builder(name, server, theirs).add_extension(loopback, False).add_extension(issuer, False)
        self.server.write_bytes(builder.sign(own, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.key.write_bytes(theirs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _builder(issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)


def _usage() -> x509.KeyUsage:
    """Returns that a key signs certificates, and is for nothing else."""
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    no = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **no)
