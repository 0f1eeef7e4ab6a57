"""Certificates and kubeconfigs of a throw-away cluster."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

VALID_DAYS = 30


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _name(common: str, organisation: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def authority(folder: Path) -> Authority:
    """Makes the cluster's certificate authority and writes ca.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("kubegpu-sim")
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(certificate, key)


def _write_key(path: Path, key: Any) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def issue(
    ca: Authority, folder: Path, file: str, common: str, organisation: str | None = None, hosts: tuple[str, ...] = ()
) -> None:
    """Writes FILE.crt and FILE.key, good for clients and, with ``hosts`` (names or addresses), for servers."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(common, organisation), ca.certificate.subject, key)
    if hosts:
        names: list[x509.GeneralName] = []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(ca.key, hashes.SHA256())
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(folder / f"{file}.key", key)


def service_account_keys(folder: Path) -> None:
    """The pair that signs service account tokens: sa.key, sa.pub (RSA, which every version accepts)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(folder / "sa.key", key)
    (folder / "sa.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def kubeconfig(path: Path, server: str, pki: Path, file: str, seen_at: str | None = None) -> None:
    """Writes a kubeconfig for the client FILE.

    ``seen_at`` is the PKI folder's path where the kubeconfig is read, if that is another file system; without it
    certificate and key are embedded.
    """

    def embedded(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    if seen_at is None:
        cluster = {"server": server, "certificate-authority-data": embedded("ca.crt")}
        user = {
            "client-certificate-data": embedded(f"{file}.crt"),
            "client-key-data": embedded(f"{file}.key"),
        }
    else:
        cluster = {"server": server, "certificate-authority": f"{seen_at}/ca.crt"}
        user = {"client-certificate": f"{seen_at}/{file}.crt", "client-key": f"{seen_at}/{file}.key"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubegpu-sim", "cluster": cluster}],
        "users": [{"name": file, "user": user}],
        "contexts": [{"name": "kubegpu-sim", "context": {"cluster": "kubegpu-sim", "user": file}}],
        "current-context": "kubegpu-sim",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2))  # JSON is YAML
