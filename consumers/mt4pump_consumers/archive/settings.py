"""The archive's settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from mt4pump.process.program import CONSTRAINTS_PLACE, ConsumerSettings
from mt4pump.process.settings import Disagreement, setting
from mt4pump.process.values import PathValue, Seconds, byte_size, is_loopback

FILES, DATABASE, EVENTS, METRICS = "Files", "Database", "Events", "Metrics"
SERVER_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}|")
"""A server code, which is a part of paths; empty: none."""
CLICKHOUSE_SCHEMES = frozenset({"clickhouse", "clickhouses"})
POSTGRESQL_LIBRARIES = f"pip install -c deploy/constraints.txt 'mt4pump[postgresql]' ({CONSTRAINTS_PLACE})"


def is_clickhouse(url: str) -> bool:
    """Return whether an address is one of ClickHouse."""
    return urlsplit(url).scheme in CLICKHOUSE_SCHEMES


def database_url(text: str) -> str:
    """Check the address of a database, which is logged: no password may be in it."""
    try:
        parts = urlsplit(text.strip())
        known = {"postgresql", "postgres", *CLICKHOUSE_SCHEMES}
        is_usable = parts.scheme in known and parts.path not in {"", "/"} and (parts.port is None or parts.port > 0)
        is_usable = is_usable and not parts.fragment and text.strip().isprintable()
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError(
            "write the store as postgresql://user@host:5432/database or clickhouse://user@host:8123/database; "
            "without it the archive writes files"
        )
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.password is not None or any(name.endswith("password") for name in names):  # sslpassword as well
        text = "a password does not belong into the address, which is logged: give store-password"
        raise ValueError(f"{text} (to verify: PGPASSWORD or CLICKHOUSE_PASSWORD in the environment)")
    return text.strip()


class ArchiveSettings(ConsumerSettings):
    """Settings of the archive."""

    program = help_command = "mt4pump-archive"
    libraries = (
        "the archive's libraries come with: pip install -c deploy/constraints.txt 'mt4pump[archive]'; "
        "there are none for 32-bit Python: run the archive on a 64-bit one, or on another machine "
        f"({CONSTRAINTS_PLACE})"
    )

    path: PathValue = setting(FILES, "folder of the Parquet files", Path("archive"))
    commit_interval_s: Annotated[Seconds, Field(ge=0.05, le=3600)] = setting(
        FILES, "longest seconds until events are committed", 10.0
    )
    commit_events: int = setting(FILES, "events after which a commit does not wait any longer", 1_000_000, ge=1)
    buffer_events: int = setting(
        FILES, "events that may wait while the store cannot be written; then reading stops", 500_000, ge=1_000
    )
    compact_files: int = setting(FILES, "small files of a kind and day that are joined into one", 32, ge=2)
    keep_days: int = setting(FILES, "days after which a day is deleted; 0: never", 0, ge=0)
    max_bytes: Annotated[int, Field(ge=0), BeforeValidator(byte_size)] = setting(
        FILES, "size above which the oldest days are deleted, as 500GB; 0: no limit", 0
    )

    store: Annotated[str, AfterValidator(database_url)] | None = setting(
        DATABASE,
        "database to store in instead of files, as postgresql://user@host/database or clickhouse://...",
        metavar="URL",
    )
    store_password: SecretStr | None = setting(DATABASE, "the user's password")

    topics: tuple[str, ...] = setting(EVENTS, "topics and patterns to store", ("*",), min_length=1, metavar="TOPIC")
    start: Literal["journal", "now"] = setting(
        EVENTS, "where a new archive begins: with all that the daemon's journal has, or now", "journal"
    )

    metrics_host: str = setting(METRICS, "loopback address of /metrics and /healthz", "127.0.0.1", metavar="ADDRESS")
    metrics_port: int = setting(METRICS, "port of /metrics and /healthz; 0: none", 9567, ge=0, le=65_535)

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what would be unsafe, as metrics are served without TLS, and what a database does not do."""
        if not is_loopback(self.metrics_host):
            yield Disagreement(("metrics_host",), "is open to other machines: give a loopback address, as 127.0.0.1")
        if self.store is not None and self.max_bytes:
            yield Disagreement(("max_bytes", "store"), "max_bytes deletes files: for a database give keep_days")
