"""Find the vendor's library, load it once per process, make interfaces from it."""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
from ctypes import c_int, c_void_p
from pathlib import Path

from mt4pump.bridge.callback import Callback
from mt4pump.bridge.interface import WORD_BITS, Interface, ansi_path
from mt4pump.errors import LibraryError
from mt4pump.private_files import changeable_by_others

FILE_NAMES = {32: "mtmanapi.dll", 64: "mtmanapi64.dll"}
WINSOCK_VERSION = 0x0202
WSADATA_BYTES = 1024
"""More than WSADATA needs on either word size (400 and 408)."""
HEADER_BYTES = 4096
PE_MACHINES = {0x014C: 32, 0x8664: 64, 0xAA64: 64, 0x01C4: 32}


class Library:
    """The loaded DLL. ``version`` is what it reports: API version in the high word, build in the low.

    It is never unloaded: repeated loading of the 64-bit DLL leaks (users' reports), so one is kept until the process
    ends, with the one callback object that all its sessions share.
    """

    def __init__(self, path: Path, functions: ctypes.CDLL) -> None:
        self.path = path
        self._create = functions.MtManCreate
        self._create.argtypes = [c_int, ctypes.POINTER(c_void_p)]
        self._create.restype = c_int
        functions.MtManVersion.restype = c_int
        self.version: int = functions.MtManVersion()
        self.callback = Callback()

    @property
    def build(self) -> int:
        """Return the DLL's build number, as 1403."""
        return self.version & 0xFFFF

    def create(self, working_directory: Path) -> Interface:
        """Return a new interface that writes logs, ``symbols.raw`` and ``mailbox`` below ``working_directory``.

        The folder is made when missing. Raises LibraryError.
        """
        path = ansi_path(working_directory)  # first: what fails after MtManCreate would leave an interface behind
        try:
            working_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"working folder {working_directory} of the DLL cannot be made: {error}") from error
        pointer = c_void_p(None)
        result = self._create(self.version, ctypes.byref(pointer))
        if not pointer.value:  # the number returned is not a RET_ code: only the pointer counts
            raise LibraryError(f"{self.path}: MtManCreate({self.version}) gave no interface (returned {result})")
        interface = Interface(pointer.value)
        interface.call("WorkingDirectory", path)
        return interface


def find(dll_path: Path | None) -> Path:
    """Return the library's absolute path: ``dll_path`` if given, else the file of our word size on the usual places.

    Looked through, in order: the folder of the Python program, every folder of PATH, the current folder. The last comes
    last since whoever may write to it could put a library there in place of the one that is meant.
    """
    if dll_path is not None:
        path = dll_path.expanduser().resolve()
        if not path.is_file():
            raise LibraryError(f"{path}: no such file; set dll_path to the Manager API library")
        return path
    name = FILE_NAMES[WORD_BITS]
    places = [Path(sys.executable).parent]
    places += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    places.append(Path.cwd())
    for folder in places:
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise LibraryError(
        f"{name} was not found beside Python ({places[0]}), on PATH or in the current folder ({places[-1]}); this "
        f"Python is {WORD_BITS}-bit and needs {name}: set dll_path to it, or use the simulator: --source simulator"
    )


def word_bits(path: Path) -> int | None:
    """Return 32 or 64 as the file's header says (PE, ELF, Mach-O), or None when it is none of these."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if head[:4] == b"\x7fELF" and len(head) > 4:
        return {1: 32, 2: 64}.get(head[4])
    if head[:4] in {b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf"}:
        return 64
    if head[:2] == b"MZ" and len(head) >= 0x40:
        (offset,) = struct.unpack_from("<I", head, 0x3C)
        if offset + 6 <= len(head) and head[offset : offset + 4] == b"PE\0\0":
            return PE_MACHINES.get(struct.unpack_from("<H", head, offset + 4)[0])
    return None


@functools.cache
def load(path: Path) -> Library:
    """Return the library at absolute ``path``, loaded once per process. Raises LibraryError with what is wrong.

    One that other users may change or replace is refused: its code would run with our rights and the password. On
    Windows ``CDLL`` searches what the library itself needs in its folder and the system's, never in the current folder.
    """
    if fault := changeable_by_others(path) or changeable_by_others(path.parent):
        raise LibraryError(f"{path} is not loaded: {fault}, or set dll_path to another place")
    try:
        bits = word_bits(path)
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error}") from error
    if bits not in {None, WORD_BITS}:
        cure = f"use {FILE_NAMES[WORD_BITS]}, or run mt4pump with a {bits}-bit Python"
        raise LibraryError(f"{path} is {bits}-bit, this Python is {WORD_BITS}-bit ({sys.executable}): {cure}")
    _start_winsock()
    try:
        functions = ctypes.CDLL(str(path))
    except OSError as error:
        what = "not a library at all" if bits is None else "it, or a library that it needs, cannot be loaded"
        raise LibraryError(f"{path}: {what}: {error}") from error
    for export in ("MtManVersion", "MtManCreate"):
        if not hasattr(functions, export):
            raise LibraryError(f"{path} has no export {export}: it is not the Manager API ({FILE_NAMES[WORD_BITS]})")
    return Library(path, functions)


@functools.cache
def _start_winsock() -> None:
    """Do the WSAStartup that the API leaves to its client; counted by Windows, so a further one does no harm."""
    if sys.platform == "win32":
        code = ctypes.WinDLL("ws2_32").WSAStartup(WINSOCK_VERSION, ctypes.create_string_buffer(WSADATA_BYTES))
        if code:
            raise LibraryError(f"WSAStartup failed with {code}: Windows sockets are not available")
