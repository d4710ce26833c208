"""Every place that parses msgpack, JSON, TOML or CSV is known, with what bounds its input: a new one fails here."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARSERS = {
    ("msgpack", "unpackb"),
    ("msgpack", "Unpacker"),
    ("json", "load"),
    ("json", "loads"),
    ("tomllib", "load"),
    ("tomllib", "loads"),
    ("csv", "reader"),
    ("csv", "DictReader"),
    ("csv", "read_csv"),
}
OWN = "packed by this process, or stored by it in a file that nobody else may write"
DATABASE = "of the database that the operator named: see the threat model"
READERS = {
    "mt4pump/client/position.py": "a file of bounded size",
    "mt4pump/process/data_folder.py": "the first 4 KiB of a file",
    "mt4pump/process/sources.py": "a file of bounded size that others may not write",
    "mt4pump/process/values.py": "a setting, whose file has a bounded size",
    "mt4pump/protocol/contract.py": "a file of the package",
    "mt4pump/pump/lifecycle.py": OWN,
    "mt4pump/pump/table_diff.py": OWN,
    "mt4pump/pump/tables.py": OWN,
    "mt4pump/wire.py": "the limits themselves (tests/test_unpacking.py), and a body of its own",
    "mt4pump_consumers/archive/clickhouse_http.py": DATABASE,
    "mt4pump_consumers/archive/clickhouse_reading.py": DATABASE,
    "mt4pump_consumers/archive/clickhouse_store.py": DATABASE,
    "mt4pump_consumers/archive/database.py": DATABASE,
    "mt4pump_consumers/archive/folder.py": OWN,
    "mt4pump_consumers/archive/postgresql_reading.py": DATABASE,
    "mt4pump_consumers/archive/postgresql_store.py": DATABASE,
    "mt4pump_consumers/gateway/protocol.py": "a message of --message-bytes, 17,408 characters before the login",
    "mt4pump_consumers/monitor/recorder.py": OWN,
    "mt4pump_consumers/monitor/store.py": OWN,
    "mt4pump_consumers/nats_bridge/jetstream.py": "the answer of the NATS server, below its max_payload",
    "mt4pump_consumers/spreadsheet.py": "a cell, which is in memory already",
}


def parses(path: Path) -> bool:
    """Return whether a file calls a parser."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in PARSERS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_every_file_that_parses_foreign_bytes_is_known_with_what_bounds_them() -> None:
    found = {
        path.relative_to(root).as_posix()
        for root in (ROOT, ROOT / "consumers")
        for path in (root / ("mt4pump" if root == ROOT else "mt4pump_consumers")).rglob("*.py")
        if parses(path)
    }
    assert found == READERS.keys()
