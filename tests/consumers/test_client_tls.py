"""`mt4pump_consumers.client_tls`: the authorities that the environment names are read where something is encrypted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection
from mt4pump_consumers.client_tls import trusted_servers
from mt4pump_consumers.monitor.webhook import Webhook, WebhookOptions

from mt4pump.process.program import StartError


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without any."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def test_of_several_folders_one_that_is_there_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = str(tmp_path / "missing")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([missing, str(tmp_path)]))
    trusted_servers(is_encrypted=True)
    for none in (os.pathsep, os.pathsep.join([missing, missing])):
        monkeypatch.setenv("SSL_CERT_DIR", none)
        with pytest.raises(StartError, match=r"no such folder.*openssl rehash makes, or use SSL_CERT_FILE"):
            trusted_servers(is_encrypted=True)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_nothing_of_it_matters_where_nothing_is_encrypted(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    assert trusted_servers(is_encrypted=False).get_ca_certs() == []
    Webhook(tmp_path / "s.db", WebhookOptions("http://127.0.0.1:9/x"))
    ClickhouseConnection("clickhouse://127.0.0.1:9/d", None).close()
    with pytest.raises(StartError, match=variable):
        Webhook(tmp_path / "s.db", WebhookOptions("https://127.0.0.1:9/x"))
