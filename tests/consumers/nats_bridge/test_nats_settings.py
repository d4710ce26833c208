"""Which settings the bridge refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mt4pump_consumers.nats_bridge.connection import NatsConnection
from mt4pump_consumers.nats_bridge.settings import NatsSettings
from pydantic import ValidationError

from mt4pump.process.program import StartError, run_consumer

SECRET = "canary"  # noqa: S105 - what must not be shown


def made(**given: Any) -> NatsSettings:
    """Return settings as they are made of plain values."""
    return NatsSettings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"user": "u"}, "user and password go together"),
        ({"token": "t", "credentials": "file.creds"}, "in one way"),
        ({"tls_key": "key.pem"}, "tls-certificate and tls-key go together"),
        ({"subject_prefix": "a b"}, "subject_prefix"),
        ({"subject_prefix": "a."}, "subject_prefix"),
        ({"subject_prefix": "$JS"}, "subject_prefix"),
        ({"stream": "a.b"}, "letters, digits"),
        ({"servers": ()}, "servers"),
        ({"servers": ("",)}, "nats://host:4222"),
        ({"servers": ("nats://a:port",)}, "nats://host:4222"),
        ({"servers": ("nats://a:70000",)}, "nats://host:4222"),
        ({"servers": ("nats://[::1:4222",)}, "nats://host:4222"),
        ({"servers": ("nats://a:4222", "http://b")}, "nats://host:4222"),
        ({"servers": ("nats://a b:4222",)}, "nats://host:4222"),
        ({"servers": ("nats://u:canary@a:4222",)}, "give user and password"),
        ({"stream_replicas": 6}, "stream_replicas"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], part: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        made(**given)
    assert part in str(refusal.value)


def test_a_server_may_be_named_by_its_host_alone() -> None:
    servers = ("a", "b:4223", "tls://c", "nats://[::1]:4222")
    assert made(servers=servers).servers == ("nats://a", "nats://b:4223", "tls://c", "nats://[::1]:4222")


def test_a_password_is_not_shown() -> None:
    assert SECRET not in repr(made(user="u", password=SECRET))


@pytest.mark.parametrize("prefix", ["broker1", "a.b", "Zürich-2"])
def test_prefixes_may_have_several_words(prefix: str) -> None:
    assert made(subject_prefix=prefix).subject_prefix == prefix


def test_files_that_are_not_there_keep_it_from_starting(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="TLS"):
        NatsConnection(made(tls_ca=tmp_path / "none.pem"), Counter())
    with pytest.raises(StartError, match="credentials"):
        NatsConnection(made(credentials=tmp_path / "none.creds"), Counter())


def test_a_refusal_is_reported_in_our_words_with_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_consumer(NatsSettings, lambda _settings, _ending: 0, "…", ["--servers", "http://a"]) == 2
    received = (
        "mt4pump-nats: settings are wrong:\n"
        "  servers (flag --servers): write a server as nats://host:4222, or tls://host:4222\n"
    )
    assert capsys.readouterr().err == received
