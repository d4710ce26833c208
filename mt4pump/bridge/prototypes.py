"""Calling conventions and the methods we call, by their index in the interface's table.

On Windows methods and callbacks are stdcall (``this`` on the stack, not in ECX) and the two exports cdecl; on 64-bit
there is only one convention. Elsewhere a stand-in library with the same table is called by the C convention.
Source: header builds 509 to 1403, in which no index ever changed its meaning.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_char_p, c_int, c_void_p
from typing import Any, NamedTuple

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
"""Names of `mt4pump.manager_api.manager.TABLES` and the method that reads each."""

ABSENT_IN_64_BIT_DLL = frozenset({"NewsGet", "NewsBodyRequest", "NewsBodyGet"})
"""The vendor says these are not available in mtmanapi64.dll (`NewsBodyRequest` is useless without its `Get`)."""
