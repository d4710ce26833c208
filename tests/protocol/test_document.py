"""PROTOCOL.md: its tables are the contract's, its examples run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mt4pump.protocol import contract, fields_of
from mt4pump.publisher.descriptors import (
    BURST_BYTES,
    BYTES_PER_S,
    CURVE_BURST_BYTES,
    CURVE_HEARTBEAT_BYTES_PER_S,
    HEARTBEAT_BYTES_PER_S,
    INCOMPLETE_BYTES,
    INCOMPLETE_BYTES_PER_CLIENT,
    INCOMPLETE_BYTES_TOTAL,
    RESTRICTED_BURST_BYTES,
)
from mt4pump.publisher.publisher import PREFIX_BYTES_MAX
from mt4pump.publisher.slow_readers import LARGE_BYTES, WAITING_BYTES_LIMIT
from mt4pump.publisher.subscriptions import SubscriptionLimits
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import REQUEST
from mt4pump.query.server import SKIPPED_FRAME_BYTES, WIRE_SLACK
from mt4pump.security.zap import HANDSHAKE_LIMIT_S
from mt4pump.wire import KINDS, MESSAGE, PROTOCOL
from tests.bus import wire_settings
from tests.protocol.__main__ import main
from tests.protocol.tables import DOCUMENT, TABLE, filled, table, write_tables

TEXT = DOCUMENT.read_text(encoding="utf-8")
SMALL = "before\n<!-- table: codes -->\nold\n<!-- end -->\nafter\n"


def test_its_tables_are_current() -> None:
    assert filled(TEXT) == TEXT, "run python -m tests.protocol"


def test_it_has_every_table() -> None:
    names = {found["name"] for found in TABLE.finditer(TEXT)}
    every = {"kinds", "common", "numbers", "codes"}
    every |= {f"kind {kind}" for kind in KINDS}
    every |= {f"request {op}" for op in contract().requests} | {f"head {op}" for op in contract().heads}
    assert names == every


def test_a_table_names_every_field_nested_ones_included() -> None:
    rows = table("kind heartbeat")
    assert all(f"| `{name}` |" in rows for name in fields_of("heartbeat"))
    assert "| `journal.first_offset` |" in rows
    assert "| `sessions[].quote[].open_hour` |" in table("kind symbol")


def test_it_names_its_version_and_every_change() -> None:
    assert TEXT.startswith(f"# The wire protocol of mt4pump, version {PROTOCOL}\n")
    section = TEXT.partition("### 6.2")[2].partition("### 6.3")[0]
    assert [change for change in CHANGES if f"`{change}`" not in section.partition("<!-- table")[0]] == []


def test_its_limits_are_those_of_the_code() -> None:
    query, subscriptions = QueryOptions(), SubscriptionLimits()
    settings = wire_settings()
    kib, mib = 1024, 1024 * 1024
    client_mib, total_mib = subscriptions.bytes_per_client // mib, subscriptions.bytes_total // mib
    expected = [
        f"A msgpack list on the events endpoint has at most {MESSAGE.list_entries:,} entries",
        f"A request is at most {query.max_request_bytes // kib} KiB. It has at most {query.max_prefixes} prefixes",
        f"a `limit` from 1 to {query.limit_rows:,} (default {query.page_rows:,})",
        f"{REQUEST.values:,} msgpack values, {REQUEST.map_entries} keys and lists of {REQUEST.list_entries:,} entries",
        f"after more than {query.page_bytes // mib} MiB, or after {query.page_s * 1000:.0f} ms of work",
        f"At most {query.waiting_limit} requests, or {query.waiting_bytes // kib} KiB of requests, wait per connection",
        f"and {query.waiting_bytes_total // mib} MiB in all. No request waits longer than {query.waiting_s:g} s",
        f"is sent one page, or {query.unread_bytes_short // kib} KiB of other replies",
        f"together get {query.unread_bytes_per_client // mib} MiB, all clients {query.unread_bytes // mib} MiB",
        f"any connection that has not read for {query.unread_s:g} s",
        f"{query.connections_limit} connections to the query endpoint, and {query.connections_per_client} of one",
        f"closed. So is a connection from which the daemon received no request for {query.silent_s:g} s (10.1)",
        f"a message of more than {WIRE_SLACK * query.max_request_bytes // kib} KiB. Each frame",
        f"beyond those of a request counts {SKIPPED_FRAME_BYTES} bytes more",
        f"A subscription is at most {PREFIX_BYTES_MAX:,} bytes",
        f"`max_connections` ({settings.max_connections:,}) connections",
        f"`max_connections_per_client` ({settings.max_connections_per_client}) of one client",
        f"A handshake takes at most {HANDSHAKE_LIMIT_S:g} s",
        f"at most {subscriptions.per_connection:,} subscriptions with {subscriptions.bytes_per_connection // kib} KiB",
        f"a client {subscriptions.per_client:,} with {client_mib} MiB",
        f"all clients together {subscriptions.total:,} with {total_mib} MiB",
        f"at most {subscriptions.messages_burst:,} subscriptions and withdrawals at once",
        f"and {subscriptions.messages_per_s} per second on average; all connections of a client",
        f"{subscriptions.messages_burst_per_client:,}, and {subscriptions.messages_per_s_per_client:,} per second",
        f"at most {BURST_BYTES // kib} KiB at once ({CURVE_BURST_BYTES // kib:,} KiB with keys)",
        f"with keys), and {BYTES_PER_S // kib} KiB per second",
        f"exceeded a limit it sends at most {RESTRICTED_BURST_BYTES // kib} KiB at once",
        f"a message without an end has at most {INCOMPLETE_BYTES // kib} KiB of one connection",
        f"a client have at most {INCOMPLETE_BYTES_PER_CLIENT // mib} MiB of such messages",
        f"of such messages there, all clients {INCOMPLETE_BYTES_TOTAL // mib} MiB",
        f"heartbeats of {HEARTBEAT_BYTES_PER_S} bytes per second ({CURVE_HEARTBEAT_BYTES_PER_S} with keys)",
        f"Bodies above {LARGE_BYTES // kib} KiB that wait for subscribers",
        f"subscribers have at most {WAITING_BYTES_LIMIT // mib} MiB together",
        f"It keeps it until {query.snapshot_idle_s:g} s after the last use",
        f"It keeps at most {query.snapshots_held} snapshots, {query.snapshots_per_client} of one key",
        f"and {query.snapshots_per_connection} of one connection",
        f"not read for {query.snapshot_evictable_s:g} s, or is older than {query.snapshot_old_s:g} s, is discarded",
    ]
    text = " ".join(TEXT.split())
    assert [each for each in expected if each not in text] == []


def test_its_grammar_names_every_kind() -> None:
    grammar = TEXT.partition("kind-name     =")[2].partition("key  ")[0]
    assert set(re.findall(r'"([a-z]+)"', grammar)) == KINDS.keys() - {"heartbeat"}


def test_its_links_lead_to_its_sections() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links
    assert set(links) <= anchors


def test_its_python_is_python() -> None:
    for example in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        ast.parse(example)


def test_writing_replaces_only_what_is_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "small.md"
    document.write_text(SMALL, encoding="utf-8")
    assert not write_tables(document, check=True)
    assert document.read_text(encoding="utf-8") == SMALL
    assert not write_tables(document, check=False)
    written = document.read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- table: codes -->\n| code |")
    assert written.endswith("|\n<!-- end -->\nafter\n")
    assert write_tables(document, check=True)


def test_a_marker_for_no_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        filled("<!-- table: nonsense -->\n<!-- end -->")


def test_the_command_checks_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("PROTOCOL.md: current")
    assert second.endswith("events.py: current")


def test_the_command_reports_a_document_that_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "small.md"
    document.write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr("tests.protocol.__main__.DOCUMENT", document)
    assert main(["--check"]) == 1
    assert "out of date: run python -m tests.protocol" in capsys.readouterr().out
