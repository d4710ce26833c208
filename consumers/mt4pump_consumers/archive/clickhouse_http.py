"""ClickHouse over its HTTP interface, and Arrow tables as blocks of its Native format.

httpx rather than clickhouse-connect: that asks ``system.settings`` for what servers before 19 do not have, and refuses
them; its own work, types and retries, is what a store must decide itself.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pyarrow as pa
import pyarrow.compute as pc

from mt4pump.process.program import StartError
from mt4pump_consumers.client_tls import trusted_servers

TIMEOUT_S, CONNECT_LIMIT_S = 120.0, 10.0
PORT, TLS_PORT = 8123, 8443
MOST_QUERY_BYTES = 100_000_000
"""Longest statement: the state of some hundred thousand topics is in one."""
ERROR_CHARACTERS = 600
UNTRUSTED = "; name the file of the authority that signed it in SSL_CERT_FILE, in the environment"
ERRNO = re.compile(r"\[Errno -?\d+\] ")
NULLABLE = "Nullable("
BUFFERS = {
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "Bool": pa.uint8(),
    "UInt8": pa.uint8(),
    "DateTime('UTC')": pa.uint32(),
    "DateTime64(3, 'UTC')": pa.int64(),
    "DateTime64(9, 'UTC')": pa.int64(),
}
"""Types whose values are sent as these numbers."""


class ClickhouseError(Exception):
    """The server refused a statement or did not answer, or nothing can be sent."""


class ClickhouseConnection:
    """Sends statements to the database that ``url`` names. Threads may share it; raises ClickhouseError.

    The password is sent as HTTP has it, in base64: an error about a header of its own would have it in its text.
    """

    def __init__(self, url: str, password: str | None) -> None:
        parts = urlsplit(url)
        secure = dict(parse_qsl(parts.query)).get("secure", "").lower() in {"1", "true", "yes"}
        self.is_encrypted = parts.scheme == "clickhouses" or secure
        self.host, self.database = parts.hostname or "localhost", unquote(parts.path.strip("/"))
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = f"{host}:{parts.port or (TLS_PORT if self.is_encrypted else PORT)}"
        self.name = f"clickhouse://{self.host}/{self.database}"
        for library in ("httpx", "httpcore"):  # they log each statement
            logging.getLogger(library).setLevel(logging.WARNING)
        try:
            self._client = httpx.Client(
                base_url=f"{'https' if self.is_encrypted else 'http'}://{address}",
                auth=(unquote(parts.username or "default"), password or ""),
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_LIMIT_S),
                verify=trusted_servers(is_encrypted=self.is_encrypted),
            )
        except StartError as error:
            raise ClickhouseError(str(error)) from error
        except httpx.InvalidURL as error:
            raise ClickhouseError(f"{self.name} is no address ({error}): correct store") from error

    def execute(self, statement: str, body: bytes | None = None, settings: Mapping[str, object] | None = None) -> bytes:
        """Run one statement; ``body`` is the data of an INSERT. Returns the answer once it is whole."""
        values: dict[str, Any] = {"database": self.database, "wait_end_of_query": 1, **(settings or {})}
        content = body
        if body is None:
            content, values["max_query_size"] = statement.encode(), MOST_QUERY_BYTES
        else:
            values["query"] = statement
        try:
            answer = self._client.post("/", params=values, content=content)
        except httpx.HTTPError as error:
            text = f"{type(error).__name__}: {ERRNO.sub('', str(error))}"
            raise ClickhouseError(text + UNTRUSTED * ("CERTIFICATE_VERIFY_FAILED" in text)) from error
        if answer.status_code != httpx.codes.OK:
            raise ClickhouseError(answer.text[:ERROR_CHARACTERS].strip() or f"HTTP status {answer.status_code}")
        return answer.content

    def rows(self, statement: str) -> list[list[Any]]:
        """Return the rows of a query."""
        content = self.execute(
            f"{statement} format JSONCompact", settings={"output_format_json_quote_64bit_integers": 0}
        )
        found: list[list[Any]] = json.loads(content)["data"]
        return found

    def value(self, statement: str) -> Any:
        """Return the first value of the first row; None where there is no row."""
        rows = self.rows(statement)
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text: str | None) -> str:
    """Return a text as SQL has it."""
    return "null" if text is None else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def native_block(columns: Mapping[str, pa.Array], types: Mapping[str, str]) -> bytes:
    """Return columns as one block of the Native format: numbers as they are, so that no price is rounded."""
    rows = len(next(iter(columns.values())))
    parts = [_varint(len(columns)), _varint(rows)]
    for name, array in columns.items():
        found = types[name]
        parts += [_text(name), _text(found)]
        if found.startswith(NULLABLE):
            found = found[len(NULLABLE) : -1]
            parts.append(_values(array.is_null().cast(pa.uint8())))
        parts.append(_column(array, found))
    return b"".join(parts)


def _column(array: pa.Array, found: str) -> bytes:
    if found == "String":
        return _texts(pc.fill_null(array, ""))
    if found == "DateTime('UTC')":
        seconds = pa.timestamp("s", array.type.tz)
        array = pc.max_element_wise(array.cast(seconds, safe=False).cast(pa.int64()), 0)
        array = pc.min_element_wise(array, (1 << 32) - 1)
    elif found.startswith("DateTime64"):
        array = array.cast(pa.int64())
    return _values(pc.fill_null(array.cast(BUFFERS[found]), 0))


def _values(array: pa.Array) -> bytes:
    """Return the numbers of an array without nulls."""
    width = array.type.bit_width // 8
    data: bytes = array.buffers()[1].to_pybytes() if len(array) else b""
    return data[array.offset * width : (array.offset + len(array)) * width]


def _texts(array: pa.Array) -> bytes:
    """Return texts, each after its length: each different one is encoded once."""
    encoded = array.cast(pa.binary()).dictionary_encode()
    unique = [_varint(len(text)) + text for text in encoded.dictionary.to_pylist()]
    return b"".join(pa.array(unique, pa.binary()).take(encoded.indices).to_pylist())


def _text(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def columns_sql(names: Iterable[str]) -> str:
    """Return a list of names as SQL has it."""
    return ", ".join(map(quoted, names))
