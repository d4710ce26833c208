"""The open orders by ticket: some that changed lately are kept as fields, all others packed; pure.

200,000 orders as dicts take 500 MB, and the garbage collector stops the pump thread for tenths of a second to traverse
them. Packed, an order takes 450 bytes that the collector never visits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping

import msgpack

from mt4pump.mt4.record import Fields

UNPACKED_LIMIT = 2_000
"""Orders kept as fields, at most; the one kept longest is packed first, also if it changed again."""


class OrderRows(MutableMapping[int, Fields]):
    """Ticket → fields of each open order."""

    def __init__(self, rows: Iterable[Fields] = ()) -> None:
        self._unpacked: dict[int, Fields] = {}
        self._packed: dict[int, tuple[int, bytes]] = {}
        """Ticket → login and packed fields: a snapshot selects by login."""
        for row in rows:
            self[row["order"]] = row

    def __len__(self) -> int:
        return len(self._unpacked) + len(self._packed)

    def __iter__(self) -> Iterator[int]:
        yield from self._packed
        yield from self._unpacked

    def __contains__(self, order: object) -> bool:
        return order in self._unpacked or order in self._packed

    def __getitem__(self, order: int) -> Fields:
        fields = self.known(order)
        if fields is None:
            raise KeyError(order)
        return fields

    def __setitem__(self, order: int, fields: Fields) -> None:
        unpacked = self._unpacked
        if order not in unpacked:
            self._packed.pop(order, None)
            if len(unpacked) >= UNPACKED_LIMIT:
                oldest = next(iter(unpacked))
                row = unpacked.pop(oldest)
                self._packed[oldest] = (row["login"], pack_fields(row))
        unpacked[order] = fields

    def __delitem__(self, order: int) -> None:
        if self._unpacked.pop(order, None) is None:
            del self._packed[order]

    def known(self, order: int) -> Fields | None:
        """Return the fields of ``order``, None if it is not open."""
        fields = self._unpacked.get(order)
        if fields is None and (packed := self._packed.get(order)) is not None:
            return unpack_fields(packed[1])
        return fields

    def packed(self) -> dict[int, bytes]:
        """Return ticket → packed fields of each order."""
        packed = {order: row for order, (_, row) in self._packed.items()}
        packed.update((order, pack_fields(fields)) for order, fields in self._unpacked.items())
        return packed

    def take_rows(self) -> Iterator[tuple[int, bytes | Fields]]:
        """Return login and fields, or packed fields, of each order as they are now."""
        unpacked, packed = list(self._unpacked.values()), list(self._packed.values())

        def rows() -> Iterator[tuple[int, bytes | Fields]]:
            for fields in unpacked:
                yield fields["login"], fields
            yield from packed

        return rows()


def pack_fields(fields: Fields) -> bytes:
    """Return the fields of an order as one msgpack map."""
    packed: bytes = msgpack.packb(fields, unicode_errors="replace")
    return packed


def unpack_fields(packed: bytes) -> Fields:
    """Return the fields of a packed order."""
    fields: Fields = msgpack.unpackb(packed)
    return fields
