"""Calls on the fake library as a C program would make them, without the project's bridge."""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p, cast, string_at
from dataclasses import dataclass, field
from threading import Lock, get_native_id
from typing import Any

from tests.vendor.control import Vendor

if sys.platform == "win32":
    METHOD: Any = ctypes.WINFUNCTYPE
else:
    METHOD: Any = ctypes.CFUNCTYPE
NOTIFY_EX = METHOD(None, c_int, c_int, c_void_p, c_void_p)
SLOT_COUNT = 195


@dataclass
class ReceivedCall:
    """One call of the callback; ``address`` is where its data was."""

    code: int
    action: int
    address: int | None
    data: bytes
    param: int | None
    thread: int


@dataclass
class RawCallback:
    """A callback that writes down what it receives; ``sizes`` says how much of a code's data to copy."""

    sizes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.received: list[ReceivedCall] = []
        self._lock = Lock()
        self.function = NOTIFY_EX(self._receive)

    def _receive(self, code: int, action: int, data: int | None, param: int | None) -> None:
        copy = string_at(data, self.sizes.get(code, 0)) if data else b""
        with self._lock:
            self.received.append(ReceivedCall(code, action, data, copy, param, get_native_id()))

    def codes(self) -> list[int]:
        """Return the codes received so far, in order."""
        with self._lock:
            return [event.code for event in self.received]


class RawInterface:
    """An interface pointer and calls through its table."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.this = c_void_p()
        self.created = vendor.dll.MtManCreate(vendor.dll.MtManVersion(), byref(self.this))
        if self.this:
            self.entries = cast(self.this, POINTER(POINTER(c_void_p * SLOT_COUNT))).contents.contents

    def call(self, method: str | int, *arguments: Any, result: Any = c_int) -> Any:
        """Call a method by name, or an entry of the table by number."""
        slot = method if isinstance(method, int) else self.vendor.methods[method].slot
        kinds = [_kind(argument) for argument in arguments]
        return METHOD(result, c_void_p, *kinds)(self.entries[slot])(self.this, *arguments)

    def array(self, method: str) -> tuple[int | None, int]:
        """Return the address and total that a table method gives; the caller frees."""
        total = c_int(-7)
        return self.call(method, byref(total), result=c_void_p), total.value

    def start(self, callback: RawCallback, flags: int = 0, param: int = 0) -> int:
        """Connect, log in and switch; return the switch's code."""
        self.call("Connect", b"host:443")
        self.call("Login", 1, b"secret")
        return int(self.call("PumpingSwitchEx", callback.function, flags, c_void_p(param)))


def _kind(argument: Any) -> Any:
    if isinstance(argument, int):
        return c_int
    return c_char_p if isinstance(argument, bytes) else c_void_p
