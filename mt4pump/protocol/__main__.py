"""``python -m mt4pump.protocol``: write the tables of PROTOCOL.md, or print the contract as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mt4pump.protocol.asyncapi import asyncapi
from mt4pump.protocol.json_schema import json_schema
from mt4pump.protocol.kinds import common_fields, kinds_for
from mt4pump.protocol.markdown import filled
from mt4pump.protocol.queries import queries
from mt4pump.wire import PROTOCOL

DOCUMENT = Path(__file__).resolve().parents[1] / "PROTOCOL.md"
USAGE = """python -m mt4pump.protocol [--check | --json | --json-schema | --asyncapi]
without a flag: write the tables of PROTOCOL.md; --check: only report whether they are current
--json: print the contract; --json-schema: as one JSON Schema; --asyncapi: the AsyncAPI document
"""


def main(arguments: list[str]) -> int:
    """Execute the one flag; return the exit code."""
    documents = {
        "--json": lambda: {"protocol": PROTOCOL, "kinds": kinds_for(), "common": common_fields(), **queries()},
        "--json-schema": json_schema,
        "--asyncapi": asyncapi,
    }
    flag = arguments[0] if arguments else ""
    if len(arguments) > 1 or flag not in {"", "--check", *documents}:
        sys.stderr.write(USAGE)
        return 2
    if flag in documents:
        sys.stdout.write(json.dumps(documents[flag](), indent=1, ensure_ascii=False) + "\n")
        return 0
    return write_tables(DOCUMENT, check=flag == "--check")


def write_tables(document: Path, *, check: bool) -> int:
    """Write the tables of ``document`` if they are out of date; with ``check`` only report it and return 1."""
    before = document.read_text(encoding="utf-8")
    after = filled(before)
    current = after == before
    if not (current or check):
        document.write_text(after, encoding="utf-8", newline="\n")
    state = "current" if current else "out of date: run python -m mt4pump.protocol" if check else "written"
    sys.stdout.write(f"tables of {document}: {state}\n")
    return 1 if check and not current else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
