"""Names that a Windows DLL exports, read from the file: enough of the PE format for a test on any system."""

from __future__ import annotations

import struct
from pathlib import Path

OPTIONAL_HEADER_AT = 24
SYMBOL_BYTES = 18
EXPORTS_AT = {0x10B: 96, 0x20B: 112}
"""Where the export directory's entry is in the optional header, by its magic: 32-bit, 64-bit."""


def pe_exports(library: Path) -> set[str]:
    """Return the exported names of a DLL, as the file spells them."""
    data = library.read_bytes()
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    assert data[pe : pe + 4] == b"PE\0\0", f"{library} is no PE file"
    sections, optional_bytes = struct.unpack_from("<H12xH", data, pe + 6)
    optional = pe + OPTIONAL_HEADER_AT
    (magic,) = struct.unpack_from("<H", data, optional)
    (directory,) = struct.unpack_from("<I", data, optional + EXPORTS_AT[magic])
    table = optional + optional_bytes

    def at(address: int) -> int:
        for section in range(sections):
            size, start, _, raw = struct.unpack_from("<4I", data, table + 40 * section + 8)
            if start <= address < start + size:
                return int(raw + address - start)
        raise AssertionError(f"{library}: address {address:#x} is in no section")

    count, _, names = struct.unpack_from("<3I", data, at(directory) + 24)
    addresses = struct.unpack_from(f"<{count}I", data, at(names))
    return {data[at(address) : data.index(b"\0", at(address))].decode("ascii") for address in addresses}


def coff_symbols(file: Path) -> set[str]:
    """Return the names in an object file's symbol table, as the compiler decorated them."""
    data = file.read_bytes()
    at, count = struct.unpack_from("<2I", data, 8)
    strings = at + SYMBOL_BYTES * count
    names, place = set(), 0
    while place < count:
        entry = data[at + SYMBOL_BYTES * place : at + SYMBOL_BYTES * (place + 1)]
        zeroes, offset = struct.unpack_from("<2I", entry)
        name = entry[:8].rstrip(b"\0") if zeroes else data[strings + offset : data.index(b"\0", strings + offset)]
        names.add(name.decode("ascii"))
        place += 1 + entry[-1]  # the entries that belong to it follow
    return names


def pe_machine(library: Path) -> int:
    """Return the machine number of a DLL: 0x14C is x86, 0x8664 is x64."""
    data = library.read_bytes()
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    return int(struct.unpack_from("<H", data, pe + 4)[0])
