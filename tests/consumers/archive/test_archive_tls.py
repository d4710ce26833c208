"""Stores over TLS, on real servers with a certificate of our own: a right one is used, a wrong one refused in words."""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from mt4pump_consumers.archive.store import StoreError

from tests.consumers.archive.archive_run import batch_of, trade
from tests.consumers.archive.database_servers import (
    CONFIG,
    ClickhouseServer,
    DatabaseServer,
    PostgresqlServer,
    needs_clickhouse,
    needs_postgresql,
    running,
)

pytestmark = pytest.mark.timeout(600)


def make_certificate(certificate: Path, key_file: Path, address: str) -> None:
    """Write a self-signed certificate for an address and its key."""
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    now, serial = datetime.now(UTC), x509.random_serial_number()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    key_file.chmod(0o600)


class TlsPostgresqlServer(PostgresqlServer):
    """PostgreSQL that takes nobody without TLS; ``address`` is that of its certificate."""

    address = "127.0.0.1"

    def prepare(self) -> None:
        super().prepare()
        make_certificate(self.folder / "own.crt", self.folder / "own.key", self.address)
        access = self.folder / "data" / "pg_hba.conf"
        access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        if self.owner:
            for name in ("own.crt", "own.key"):
                shutil.chown(self.folder / name, **self.owner)

    @property
    def words(self) -> list[str]:
        files = [f"ssl_cert_file={self.folder / 'own.crt'}", f"ssl_key_file={self.folder / 'own.key'}"]
        return [*super().words, *(word for option in ("ssl=on", *files) for word in ("-c", option))]

    def verified(self, database: str, trusted: Path) -> str:
        """Return the address for an archive that trusts one certificate alone."""
        return f"{self.url(database)}?sslmode=verify-full&sslrootcert={trusted}"


class OtherTlsPostgresqlServer(TlsPostgresqlServer):
    """Its certificate is of another machine."""

    address = "127.0.0.9"


@pytest.fixture(name="others", scope="module")
def _others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that no server has."""
    folder = tmp_path_factory.mktemp("others")
    make_certificate(folder / "others.crt", folder / "others.key", "127.0.0.1")
    return folder / "others.crt"


def commits_and_reads(server: DatabaseServer, database: str, address: str) -> bool:
    """Store an event in a new archive; return whether it is there."""
    with closing(server.store(database, store=address, waits=False)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
    return server.execute(database, 'select "offset" from trade') == [(1,)]


@needs_postgresql
def test_postgresql_is_used_with_verify_full_and_a_wrong_certificate_is_refused(others: Path) -> None:
    with running(TlsPostgresqlServer()) as server:
        own, database = server.folder / "own.crt", server.database()
        own.chmod(0o644)
        server.folder.chmod(0o755)
        assert commits_and_reads(server, database, server.verified(database, own))
        with pytest.raises(StoreError, match="certificate verify failed"):
            server.store(database, store=server.verified(database, others), waits=False)
        with pytest.raises(StoreError, match="no encryption"):
            server.store(database, store=f"{server.url(database)}?sslmode=disable", waits=False)
        with pytest.raises(StoreError, match=r"root certificate file .* does not exist"):
            server.store(database, store=server.verified(database, others.with_name("none.crt")), waits=False)


@needs_postgresql
def test_a_certificate_of_another_machine_is_refused() -> None:
    with running(OtherTlsPostgresqlServer()) as server:
        database = server.database()
        address = server.verified(database, server.folder / "own.crt")
        with pytest.raises(StoreError, match=r"server certificate for .* does not match host name"):
            server.store(database, store=address, waits=False)


class TlsClickhouseServer(ClickhouseServer):
    """ClickHouse of Debian, with HTTPS beside HTTP."""

    def prepare(self) -> None:
        super().prepare()
        make_certificate(self.folder / "own.crt", self.folder / "own.key", "127.0.0.1")
        files = f"<certificateFile>{self.folder}/own.crt</certificateFile>"
        files += f"<privateKeyFile>{self.folder}/own.key</privateKeyFile>"
        server = f"<openSSL><server>{files}<verificationMode>none</verificationMode></server></openSSL>"
        config = CONFIG.format(http=self.port, native=self._second_port, folder=self.folder)
        port = f"<https_port>{self.tls_port}</https_port>"
        (self.folder / "config.xml").write_text(config.replace("</yandex>", f"{port}{server}</yandex>"))

    @property
    def tls_port(self) -> int:
        return self._third_port


@needs_clickhouse
def test_clickhouse_is_used_by_https_and_a_wrong_certificate_is_refused(
    others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(TlsClickhouseServer()) as server:
        database = server.database()
        address = (
            server.url(database)
            .replace("clickhouse://", "clickhouses://")
            .replace(str(server.port), str(server.tls_port))
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(server.folder / "own.crt"))
        assert commits_and_reads(server, database, address)
        monkeypatch.setenv("SSL_CERT_FILE", str(others))
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
            server.store(database, store=address, waits=False)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
            server.store(database, store=address, waits=False)
