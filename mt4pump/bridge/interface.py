"""One CManagerInterface: every call through its table, one check of every return code, MemFree on every array."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from ctypes import POINTER, addressof, byref, c_char, c_char_p, c_int, c_void_p, memmove, string_at
from pathlib import Path
from typing import Any, NamedTuple

from mt4pump.errors import ConnectionLost, LibraryError, LoginError, ManagerError
from mt4pump.mt4.codes import CONNECTION_LOSSES, LOGIN_REFUSALS, ReturnCode, meaning_of, return_code_name
from mt4pump.mt4.manager import Array

POINTER_BYTES = ctypes.sizeof(c_void_p)
WORD_BITS = 8 * POINTER_BYTES
"""Word size of this Python, which the DLL's must equal; the server's does not matter."""

if sys.platform == "win32":
    METHOD = ctypes.WINFUNCTYPE
else:
    METHOD = ctypes.CFUNCTYPE

NOTIFY_EX = METHOD(None, c_int, c_int, c_void_p, c_void_p)
"""void callback(int code, int type, void *data, void *param)."""

INT_POINTER = POINTER(c_int)


class Method(NamedTuple):
    """Entry ``slot`` of the interface's table; ``arguments`` come after ``this``."""

    slot: int
    result: Any
    arguments: tuple[Any, ...] = ()


METHODS = {
    "Release": Method(2, c_int),
    "MemFree": Method(3, None, (c_void_p,)),
    "ErrorDescription": Method(4, c_char_p, (c_int,)),
    "WorkingDirectory": Method(5, None, (c_char_p,)),
    "Connect": Method(6, c_int, (c_char_p,)),
    "Disconnect": Method(7, c_int),
    "IsConnected": Method(8, c_int),
    "Login": Method(9, c_int, (c_int, c_char_p)),
    "SymbolsGetAll": Method(86, c_void_p, (INT_POINTER,)),
    "SymbolAdd": Method(89, c_int, (c_char_p,)),
    "SymbolHide": Method(90, c_int, (c_char_p,)),
    "GroupsGet": Method(115, c_void_p, (INT_POINTER,)),
    "SymbolInfoUpdated": Method(117, c_int, (c_void_p, c_int)),
    "UsersGet": Method(118, c_void_p, (INT_POINTER,)),
    "OnlineGet": Method(120, c_void_p, (INT_POINTER,)),
    "TradesGet": Method(122, c_void_p, (INT_POINTER,)),
    "MarginsGet": Method(128, c_void_p, (INT_POINTER,)),
    "RequestsGet": Method(130, c_void_p, (INT_POINTER,)),
    "PluginsGet": Method(132, c_void_p, (INT_POINTER,)),
    "PluginParamGet": Method(133, c_int, (c_int, c_void_p)),
    "MailLast": Method(134, c_int, (c_void_p, INT_POINTER)),
    "NewsGet": Method(135, c_void_p, (INT_POINTER,)),
    "NewsBodyRequest": Method(138, None, (c_int,)),
    "NewsBodyGet": Method(139, c_void_p, (c_int,)),
    "PumpingSwitchEx": Method(163, c_int, (NOTIFY_EX, c_int, c_void_p)),
}
"""Only what the pump may call: a request method on a pumping interface can end the pump, so none is bound."""

TABLE_METHODS = {
    "symbols": "SymbolsGetAll",
    "groups": "GroupsGet",
    "users": "UsersGet",
    "online": "OnlineGet",
    "trades": "TradesGet",
    "margins": "MarginsGet",
    "requests": "RequestsGet",
    "plugins": "PluginsGet",
    "news": "NewsGet",
}
"""Names of `mt4pump.mt4.manager.TABLES` and the method that reads each."""

ABSENT_IN_64_BIT_DLL = frozenset({"NewsGet", "NewsBodyRequest", "NewsBodyGet"})
"""The vendor says these are not available in mtmanapi64.dll (`NewsBodyRequest` is useless without its `Get`)."""

ARRAY_LIMIT_BYTES = 1 << 30
"""A table larger than this (a million accounts) is taken for a wrong number, not for memory to read."""
LARGE_ARRAY_BYTES = 1 << 20
"""From this size on an array is copied without the interpreter lock, into memory that is not zeroed first."""
SUCCESS = frozenset({ReturnCode.RET_OK, ReturnCode.RET_OK_NONE})


class Interface:
    """Typed calls on the interface at ``address``. Holds no lock: `DllManager` decides who may call when."""

    def __init__(self, address: int) -> None:
        self._this = c_void_p(address)
        table = ctypes.cast(self._this, POINTER(POINTER(c_void_p))).contents
        self._methods: dict[str, Any] = {}
        for name, (slot, result, arguments) in METHODS.items():
            entry = table[slot]
            self._methods[name] = METHOD(result, c_void_p, *arguments)(entry) if entry else None

    def has(self, name: str) -> bool:
        """Return whether method ``name`` may be called in this DLL."""
        is_absent = sys.platform == "win32" and WORD_BITS == 64 and name in ABSENT_IN_64_BIT_DLL
        return not is_absent and self._methods[name] is not None

    def call(self, name: str, *arguments: Any) -> Any:
        """Call method ``name`` and return what it returns, unchecked."""
        if not self.has(name):
            raise ManagerError(name, ReturnCode.RET_MALFUNCTION, "RET_MALFUNCTION", "this DLL does not have the method")
        return self._methods[name](self._this, *arguments)

    def check(self, name: str, *arguments: Any) -> None:
        """Call a method that returns a RET_ code; raise the named error unless it is success."""
        code = self.call(name, *arguments)
        if code not in SUCCESS:
            raise self.error(name, code)

    def error(self, name: str, code: int) -> ManagerError:
        """Return the error for ``code``, with the API's own description and what users found the number to mean."""
        text = self.call("ErrorDescription", code)
        described = text.decode("ascii", "replace").strip() if text else "no description"
        if meaning := meaning_of(name, code):
            described += f" ({meaning})"
        kind = ManagerError
        if code in CONNECTION_LOSSES:
            kind = ConnectionLost
        elif name == "Login" and code in LOGIN_REFUSALS:
            kind = LoginError
        return kind(name, code, return_code_name(code), described)

    def array(self, name: str, record_bytes: int) -> Array:
        """Return a copy of the array that method ``name`` allocates, and free it. NULL with total 0 is no record."""
        total = c_int(0)
        address = self.call(name, byref(total))
        try:
            if not address and total.value <= 0:
                return b""
            if not address or not 0 <= total.value * record_bytes <= ARRAY_LIMIT_BYTES:
                text = f"array at {address} of {total.value} records"
                raise ManagerError(name, ReturnCode.RET_INVALID_DATA, "RET_INVALID_DATA", text)
            return copy_of(address, total.value * record_bytes)
        finally:
            if address:
                self.call("MemFree", address)

    def text(self, name: str, *arguments: Any) -> bytes | None:
        """Return a copy of the NUL-ended text that method ``name`` allocates, and free it; None for NULL."""
        address = self.call(name, *arguments)
        if not address:
            return None
        try:
            return string_at(address)
        finally:
            self.call("MemFree", address)


def copy_of(address: int, size: int) -> Array:
    """Return a copy of ``size`` bytes at ``address``; other threads run while a large array is copied."""
    if size < LARGE_ARRAY_BYTES:
        return string_at(address, size)
    if sys.platform == "win32":
        memory = mmap.mmap(-1, size)
    else:
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # of a shared one no part can be given back
    memmove(addressof(c_char.from_buffer(memory)), address, size)
    return memoryview(memory).toreadonly()


def plugin_array(record: bytes, element_bytes: int, limit: int = 1024) -> bytes | None:
    """Return the PluginCfg array that a ConPluginParam points at, or None where its 32-bit pointer cannot be whole."""
    pointer = int.from_bytes(record[-8:-4], "little")
    total = int.from_bytes(record[-4:], "little", signed=True)
    if POINTER_BYTES != 4 or not pointer or not 0 <= total <= limit:
        return None
    return string_at(pointer, total * element_bytes)


def ansi_path(path: Path) -> bytes:
    """Return a path as the API's ANSI functions take it; raises LibraryError where the code page lacks a letter."""
    try:
        return str(path).encode("mbcs", "strict") if sys.platform == "win32" else os.fsencode(path)
    except UnicodeEncodeError as error:
        text = f"the API takes paths in Windows' ANSI code page only, and {path} has letters that it lacks"
        raise LibraryError(f"{text}: set data_dir to a folder with plain letters") from error
