"""Fields of a record: names and types from the layout, units and meanings from the notes; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mt4pump.contract.notes import NOTES
from mt4pump.contract.numbers import NUMBERS
from mt4pump.contract.spec import FLOAT, INT, LIST, MAP, STR, UINT, Spec
from mt4pump.errors import LayoutError
from mt4pump.manager_api.record import PERSONAL, PUBLIC, Field, Record

TYPE_OF_LETTER = {
    **dict.fromkeys("bhiq", INT),
    **dict.fromkeys("BHIQ", UINT),
    **dict.fromkeys("fd", FLOAT),
    **dict.fromkeys("su", STR),
}
"""What a decoded field is, by its kind in `mt4pump.manager_api.record`."""


def record_fields(record: Record, personal: frozenset[str] = frozenset()) -> dict[str, Spec]:
    """Return the fields that a `mt4pump.manager_api.decode.Decoder` of ``record`` gives, in its order.

    Raises LayoutError when a field has no note, so that none is published without an explanation.
    """
    notes = dict(_notes_of(record))
    shown = record.names(PUBLIC) | (record.names(PERSONAL) & personal)
    if missing := shown - notes.keys():
        raise LayoutError(f"{record.name}: no note says what {', '.join(sorted(missing))} means")
    return {field.name: _spec(field, *notes[field.name]) for field in record.fields if field.name in shown}


def _notes_of(record: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name, (unit, meaning) of each noted field. A colon in a unit (``1:n``) is no separator."""
    for row in NOTES[record.name]:
        names, _, rest = row.partition(":")
        unit, _, meaning = rest.strip().partition(": ") if not rest.startswith(":") else ("", "", rest[1:])
        for name in names.split():
            yield name, (unit.strip(), meaning.strip())


def numbers_of(unit: str) -> Mapping[str, int]:
    """Return the numbers that ``enum NAME`` or ``flags NAME`` stands for; none for any other unit."""
    kind, _, name = unit.partition(" ")
    return NUMBERS[name] if kind in {"enum", "flags"} else {}


def _spec(field: Field, unit: str, meaning: str) -> Spec:
    if field.record:
        nested = Spec(MAP, meaning, fields=record_fields(field.record))
        return Spec(LIST, meaning, items=nested) if field.count else nested
    letter = TYPE_OF_LETTER[field.kind]
    if field.count and letter != STR:
        return Spec(LIST, meaning, unit, items=Spec(letter, meaning, unit))
    return Spec(letter, meaning, unit, numbers=numbers_of(unit))
