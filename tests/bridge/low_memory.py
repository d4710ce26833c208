"""Memory that a pointer of 32 bits reaches, as all memory of a 32-bit process."""

from __future__ import annotations

import mmap
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import addressof, c_char, create_string_buffer

import pytest

from mt4pump.bridge.interface import POINTER_BYTES

MAP_32BIT = 0x40
"""Linux on x86-64: a mapping in the first 2 GiB. Python names it from 3.13 on."""


@contextmanager
def low_memory(content: bytes) -> Iterator[int]:
    """Give the address of a copy of ``content`` below 4 GiB; skips the test where no such memory can be had."""
    if POINTER_BYTES == 4:
        buffer = create_string_buffer(content, len(content))
        yield addressof(buffer)
        return
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("memory below 4 GiB can be asked for on 32 bit and on Linux on x86-64 only")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
    with mmap.mmap(-1, len(content), flags=flags) as memory:
        memory.write(content)
        view = c_char.from_buffer(memory)
        try:
            yield addressof(view)
        finally:
            del view  # the mapping is not closed while something points into it
