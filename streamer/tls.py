"""HTTPS: a certificate that is given, or one that is made for this start (browsers warn once, cameras then work)."""

import datetime
import ipaddress
import socket
import ssl
import tempfile
from pathlib import Path

from livetoon.errors import UsageError

DAYS = 30


def context_of(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """A server's TLS context from PEM files; `key` may be in the same file. UsageError when they do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except FileNotFoundError as error:
        missing = certificate if not certificate.exists() else key
        raise UsageError(f"--cert/--key: {missing} does not exist.") from error
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"--cert {certificate}: not a certificate with its key in PEM ({error}).") from error
    return context


def self_signed(names: frozenset[str]) -> ssl.SSLContext:
    """A TLS context with a new certificate for `names` and this machine's addresses; its key is not kept."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "livetoon")])
    now = datetime.datetime.now(datetime.UTC)
    others = [x509.DNSName(spelled) for name in sorted(names) if (spelled := _spelled(name))]
    others += [x509.IPAddress(address) for address in own_addresses()]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "livetoon.pem"  # the ssl module takes a certificate only from a file
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )
        return context_of(path, None)


def _spelled(name: str) -> str | None:
    """A host name as certificates have it; None for an address or for what cannot be a name."""
    try:
        ipaddress.ip_address(name)
        return None
    except ValueError:
        pass
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def own_addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses under which this machine is known to itself, loopback first."""
    found = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    try:
        known = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        known = []
    for *_, address in known:
        candidate = ipaddress.ip_address(str(address[0]).split("%")[0])
        if candidate not in found:
            found.append(candidate)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # No packet leaves: this only asks the system which of its addresses would be used.
        probe.connect(("192.0.2.1", 9))
        outer = ipaddress.ip_address(probe.getsockname()[0])
        if outer not in found:
            found.append(outer)
    except OSError:
        pass
    finally:
        probe.close()
    return found
