"""wss and https with certificate files that change while the gateway runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from mt4pump_consumers.gateway.connection import Tls
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage

from tests.consumers.gateway.gateway_run import Running, gateway
from tests.consumers.gateway.test_abuse import asked_to_open, close_code, flood, frame
from tests.programs import LIMIT_S

NOBODY = "tcp://127.0.0.1:9"


def make(chain: Path, key_file: Path) -> int:
    """Write a self-signed certificate for 127.0.0.1 and its key; return its serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now, serial = datetime.now(UTC), x509.random_serial_number()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return serial


def served_serial(run: Running, trusted: Path) -> int:
    """Return the serial number of the certificate a client meets, who trusts ``trusted``, over a working connection."""
    return asyncio.run(_served_serial(run.port, ssl.create_default_context(cafile=trusted)))


async def _served_serial(port: int, context: ssl.SSLContext) -> int:
    # The library's client with threads reads and writes one TLS connection at the same time, which OpenSSL forbids:
    # 11 of 18,000 connections to a plain server of the library failed so, none of 18,000 with this client.
    async with asyncio.timeout(LIMIT_S), connect(f"wss://127.0.0.1:{port}", ssl=context, max_queue=None) as link:
        await link.send(json.dumps({"action": "status"}))
        async for received in link:
            message = json.loads(received)
            if isinstance(message, dict) and message["type"] == "status":
                assert message["feed"] == "silent"
                break
        met = link.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(met).serial_number


def met_serial(context: ssl.SSLContext, trusted: Path) -> int:
    """Return the serial number of the certificate that a client of ``context`` meets, without any socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=trusted)
    met = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    sides = (met, context.wrap_bio(to_server, to_client, server_side=True))
    for side in sides * 2:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    certificate = met.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def test_files_that_change_while_they_are_loaded_leave_a_pair_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key, kept = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "kept.pem"
    make(chain, key)
    tls = Tls(chain, key)
    second = make(chain, key)
    os.utime(chain, ns=(1, 1))  # changed for certain, however coarse the clock of the files is
    kept.write_bytes(chain.read_bytes())
    load = ssl.SSLContext.load_cert_chain

    def load_before_a_change(context: ssl.SSLContext, certificate: Path, keyfile: Path) -> None:
        load(context, certificate, keyfile)
        make(chain, tmp_path / "other.pem")

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", load_before_a_change)
        tls.reload()
    assert met_serial(tls.context, kept) == second


def test_changed_certificate_files_are_taken_over_and_a_wrong_pair_is_not(tmp_path: Path) -> None:
    chain, key, other = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "other.pem"
    first = make(chain, key)
    files = ["--tls-certificate", str(chain), "--tls-key", str(key)]
    with gateway(tmp_path, NOBODY, NOBODY, "--anonymous", *files) as run:
        assert served_serial(run, chain) == first
        second = make(chain, key)
        run.program.line("was read again")
        assert served_serial(run, chain) == second
        kept = tmp_path / "kept.pem"
        kept.write_bytes(chain.read_bytes())
        make(chain, other)  # the key is still the one before
        run.program.line("the one before stays")
        assert served_serial(run, kept) == second
        chain.unlink()
        run.program.line("the one before stays")
        assert served_serial(run, kept) == second


def test_a_flood_over_tls_is_closed_with_a_code_that_is_read_after_it(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    make(chain, key)
    files = ["--tls-certificate", str(chain), "--tls-key", str(key)]
    with gateway(tmp_path, NOBODY, NOBODY, "--anonymous", *files) as run:
        context = ssl.create_default_context(cafile=chain)
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # what it does not read fills it
            plain.connect(("127.0.0.1", run.port))
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as link:
                asked_to_open(link)
                link.sendall(frame(9, b"x" * 125) * 90)  # within reason
                time.sleep(0.3)  # the answers fill it
                flood(link, frame(9, b"x" * 125) * 5_000)
                assert close_code(link)[0] == 4429


def test_a_client_without_tls_gets_nothing(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    make(chain, key)
    files = ["--tls-certificate", str(chain), "--tls-key", str(key)]
    with gateway(tmp_path, NOBODY, NOBODY, "--anonymous", *files) as run, pytest.raises((InvalidMessage, OSError)):
        run.connect()


def test_certificate_files_that_cannot_be_used_are_named_at_the_start(tmp_path: Path) -> None:
    make(tmp_path / "chain.pem", tmp_path / "key.pem")
    make(tmp_path / "other.pem", tmp_path / "other-key.pem")
    for key in ("other-key.pem", "missing.pem"):
        files = ["--tls-certificate", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / key)]
        with (
            pytest.raises(AssertionError, match=r"tls-certificate .* cannot be used"),
            gateway(tmp_path, NOBODY, NOBODY, "--anonymous", *files),
        ):
            pytest.fail("it serves")


def test_a_renewed_certificate_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    make(chain, key)
    tls = Tls(chain, key)
    make(chain, key)
    os.utime(chain, ns=(1, 1))  # changed for certain, however coarse the clock of the files is

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "another program has it open")

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
        tls.reload()
        tls.reload()
    with caplog.at_level("INFO"):
        tls.reload()
        tls.reload()
    assert caplog.text.count("another program") == 1
    assert caplog.text.count("was read again") == 1
