"""An SMTP server that keeps what it gets: one .eml file for each mail.

STARTTLS comes before AUTH and AUTH before MAIL. The certificate is signed by an authority of the
server's own, made at its start; clients trust the file that --ca-file names. What the local part of
a recipient says is played:

    reject   550 at RCPT: will never be taken
    later    451 at RCPT: try again
    slow     250 at the end of the data, after --slow seconds
    cut      the connection is cut at the end of the data, before the mail is kept
    lost     the mail is kept, then the connection is cut before the answer
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hmac
import ipaddress
import itertools
import os
import signal
import ssl
import tempfile
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def certificate(subject: str, key, issuer: str, issuer_key, extensions) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])  # noqa: E731
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def tls(ca_file: Path) -> ssl.SSLContext:
    """An authority whose key is forgotten, and a server certificate for loopback signed by it."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = "mloop service bench"
    usage = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
         "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False)
    authority = certificate(authority_name, authority_key, authority_name, authority_key, [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(**{**usage, "key_cert_sign": True, "crl_sign": True}), True),
        (x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), False),
    ])
    served = certificate("localhost", key, authority_name, authority_key, [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(**{**usage, "digital_signature": True}), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False),
    ])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile(dir=ca_file.parent) as chain:
        chain.write(pem(served) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        chain.flush()
        context.load_cert_chain(chain.name)
    ca_file.write_bytes(pem(authority))
    return context


class Sink:
    """Keeps mails and plays what the recipients ask for."""

    def __init__(self, mailbox: Path, slow: float):
        self.mailbox, self.slow, self.numbers = mailbox, slow, itertools.count(1)

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        part = address.split("@")[0]
        if part == "reject":
            return "550 5.1.1 no such mailbox"
        if part == "later":
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient taken"

    async def handle_DATA(self, server, session, envelope):
        asked = {address.split("@")[0] for address in envelope.rcpt_tos}
        if "cut" in asked:
            server.transport.abort()
            return "421 never sent"
        self.keep(envelope)
        if "lost" in asked:
            server.transport.abort()
        if "slow" in asked:
            await asyncio.sleep(self.slow)
        return "250 2.0.0 kept"

    def keep(self, envelope) -> None:
        """The mail with its envelope as two headers in front, complete as soon as it can be seen."""
        head = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {', '.join(envelope.rcpt_tos)}\r\n"
        name = f"{next(self.numbers):06}.eml"
        part = self.mailbox / f".{name}.part"
        part.write_bytes(head.encode() + envelope.original_content)
        part.rename(self.mailbox / name)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mailbox", type=Path, required=True)
    parser.add_argument("--ca-file", type=Path, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--slow", type=float, default=5.0)
    options = parser.parse_args()
    password = os.environ.pop("SMTP_SINK_PASSWORD")
    options.mailbox.mkdir(parents=True, exist_ok=True)

    def authenticate(server, session, envelope, mechanism, login):
        good = isinstance(login, LoginPassword) and hmac.compare_digest(
            login.login + b"\0" + login.password, f"{options.username}\0{password}".encode())
        # Not handled: the server itself answers 535.
        return AuthResult(success=good, handled=False)

    sink, context = Sink(options.mailbox, options.slow), tls(options.ca_file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="localhost", tls_context=context, require_starttls=True,
                     auth_required=True, auth_require_tls=True, authenticator=authenticate,
                     data_size_limit=32 * 1024 * 1024, timeout=60, loop=loop),
        "127.0.0.1", options.port)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    print(f"SMTP on 127.0.0.1:{options.port}, mails go to {options.mailbox}", flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
