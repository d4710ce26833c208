"""Typed controls of the fake vendor library.

`Vendor` opens the same file that the bridge opens: a library opened twice is one instance in a process, so what is
set here is what the bridge meets, and what the bridge does is counted here.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from ctypes import POINTER, byref, c_char_p, c_int, c_longlong, c_uint32, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

TEXT_BYTES = 1024
SILENCE_LIMIT_S = 180.0
"""How long the vendor's library waits in Login for a server that says nothing."""
NETWORK_PROBLEM = 255
DURATION_LIMIT = 1 << 20
NEWS_READABLE = sys.platform != "win32" or sys.maxsize < 2**32
"""The vendor's 64-bit DLL has no functions that read news; the bridge calls none there, also not the fake's."""
SYMBOL_INFO_BYTES = 112

INT_POINTER, LONG_POINTER = POINTER(c_int), POINTER(c_longlong)
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "break_protocol": (None, c_int, c_longlong),
    "calls": (c_longlong, c_int),
    "counter": (c_char_p, c_int, LONG_POINTER),
    "durations": (c_longlong, POINTER(c_uint32), c_longlong),
    "durations_clear": (None,),
    "emit": (c_int, c_int, c_int, c_int, c_char_p, c_longlong, c_longlong, c_longlong, c_longlong),
    "emit_on_new_threads": (None, c_int, c_int),
    "emit_quotes": (c_int, c_int, c_char_p, c_longlong, c_longlong),
    "emit_stale": (c_int, c_int, c_int, c_int, c_char_p, c_longlong),
    "interface": (c_int, c_int, c_void_p, c_void_p, c_int),
    "layout": (c_char_p, c_int, INT_POINTER),
    "lose_link": (None, c_int),
    "method": (c_char_p, c_int, INT_POINTER, INT_POINTER),
    "quotes_run": (c_int, c_int, c_longlong, c_int, c_longlong),
    "reset": (c_int, c_longlong),
    "script": (c_int, c_int, c_int, c_int, c_int, c_int, c_longlong),
    "set_accepted": (None, c_char_p, c_int, c_char_p),
    "set_connected": (None, c_int),
    "set_create_fault": (None, c_int),
    "set_every_tick": (c_int, c_int, c_longlong),
    "set_mail": (None, c_char_p, c_int),
    "set_news_body": (None, c_int, c_char_p),
    "set_ping": (None, c_longlong),
    "set_plugin_params": (c_int, c_int, c_char_p, c_int),
    "set_quotes": (c_int, c_char_p, c_int),
    "set_server_utc_offset": (None, c_int),
    "set_start_delay": (None, c_longlong),
    "set_stops": (None, c_int, c_int, c_int),
    "set_table": (c_int, c_int, c_char_p, c_longlong),
    "shutdown": (None,),
    "trap_words": (c_int, c_int),
    "wait": (c_int, c_longlong),
}


class Method(NamedTuple):
    """An implemented entry of the interface's table; ``words``: size of its arguments on x86, without ``this``."""

    slot: int
    words: int


class Given(NamedTuple):
    """What an interface was given: WorkingDirectory and Connect's server, as the bytes that came."""

    directory: bytes
    server: bytes


class Vendor:
    """The fake library's controls. Methods of the API are named as MT4 names them; times are seconds."""

    def __init__(self, library: Path) -> None:
        self.path = library
        self.dll = ctypes.CDLL(str(library))
        self._call: dict[str, Any] = {}
        for name, (result, *arguments) in PROTOTYPES.items():
            function = getattr(self.dll, f"fake_{name}")
            function.restype, function.argtypes = result, arguments
            self._call[name] = function
        self.methods = self._methods()

    def reset(self, limit_s: float = 10.0) -> None:
        """Stop all emission and forget everything; interfaces made before count as released."""
        self._must("reset", _ms(limit_s))

    def shutdown(self) -> None:
        """End the library's threads, as a process that ends should."""
        self._call["shutdown"]()

    def _must(self, name: str, *arguments: Any) -> None:
        assert self._call[name](*arguments), f"fake_{name}{arguments!r:.200} was refused"

    # ---- what the library is, and what happened ----

    def _methods(self) -> dict[str, Method]:
        slot, words = c_int(), c_int()
        found: dict[str, Method] = {}
        while name := self._call["method"](len(found), byref(slot), byref(words)):
            found[name.decode()] = Method(slot.value, words.value)
        return found

    def layout(self) -> dict[str, int]:
        """Return record sizes (``TradeRecord``) and field offsets (``TradeRecord.order``) as compiled into the C."""
        value, found = c_int(), dict[str, int]()
        while name := self._call["layout"](len(found), byref(value)):
            found[name.decode()] = value.value
        return found

    def trap_words(self, slot: int) -> int:
        """Return how many words of arguments the trap at ``slot`` takes; -1 where a method is implemented."""
        return int(self._call["trap_words"](slot))

    def counts(self) -> dict[str, int]:
        """Return every counter by name; see COUNTERS in fake.h."""
        value, found = c_longlong(), dict[str, int]()
        while name := self._call["counter"](len(found), byref(value)):
            found[name.decode()] = value.value
        return found

    def count(self, name: str) -> int:
        """Return one counter."""
        return self.counts()[name]

    def calls(self, method: str | int) -> int:
        """Return how often a method, or a slot of the table, was called since the last reset."""
        slot = method if isinstance(method, int) else self.methods[method].slot
        return int(self._call["calls"](slot))

    def given(self, number: int) -> Given | None:
        """Return what interface ``number`` was given, counted from 0 since the last reset."""
        directory, server = ctypes.create_string_buffer(TEXT_BYTES), ctypes.create_string_buffer(TEXT_BYTES)
        if not self._call["interface"](number, directory, server, TEXT_BYTES):
            return None
        return Given(directory.value, server.value)

    def durations_ns(self) -> list[int]:
        """Return how long the last callbacks took, oldest first, measured in the library; at most `DURATION_LIMIT`."""
        room = (c_uint32 * DURATION_LIMIT)()
        return list(room[: self._call["durations"](room, DURATION_LIMIT)])

    def clear_durations(self) -> None:
        """Forget the durations."""
        self._call["durations_clear"]()

    # ---- what to answer ----

    def set_table(self, method: str, records: Iterable[bytes] = ()) -> None:
        """Set what the table method (``TradesGet``) returns."""
        whole = b"".join(records)
        self._must("set_table", self.methods[method].slot, whole, len(whole))

    def script(
        self, method: str, code: int | None = None, *, times: int = 1, delay_s: float = 0.0, pointer: bool = False
    ) -> None:
        """Have the next ``times`` calls (-1: all) of a method wait and then return ``code``; None: do its work.

        A method that returns an array returns a pointer, or NULL, and ``code`` as its total.
        """
        slot = self.methods[method].slot
        self._must("script", slot, times, code is None, code or 0, pointer, _ms(delay_s))

    def let_go(self, method: str) -> None:
        """Have a call of a method that waits by `script` go on, and later calls do their work."""
        self.script(method, times=0)

    def break_create(self, *, claim_success: bool = False) -> None:
        """Have MtManCreate give no interface; its return value is 0, or a lie."""
        self._call["set_create_fault"](2 if claim_success else 1)

    def accept(self, server: str, login: int, password: str) -> None:
        """Accept only this server (others: 255; empty: any) and this login with this password (others: 65)."""
        self._call["set_accepted"](server.encode(), login, password.encode())

    def start_after(self, delay_s: float | None) -> None:
        """Send START_PUMPING so long after a good switch, or never. Worker 0 sends nothing else meanwhile."""
        self._call["set_start_delay"](-1 if delay_s is None else _ms(delay_s))

    def fall_silent(self, limit_s: float = SILENCE_LIMIT_S, *, times: int = -1) -> None:
        """Have the server accept the next ``times`` logins (-1: all) and say nothing: 255 comes after ``limit_s``.

        A Disconnect from another thread ends such a Login, or a Connect that was made to wait by `script`, at once.
        """
        self.script("Login", NETWORK_PROBLEM, times=times, delay_s=limit_s)

    def set_stops(self, disconnect: int = 1, *, native: bool = True, failed_switch: int = 0) -> None:
        """Set how many STOPs Disconnect makes (on a native thread that it waits for, or synchronously).

        ``failed_switch``: how many come synchronously out of a PumpingSwitchEx that fails.
        """
        self._call["set_stops"](disconnect, native, failed_switch)

    def set_news_body(self, key: int, text: bytes) -> None:
        """Set what NewsBodyGet gives once the body was requested."""
        self._call["set_news_body"](key, text)

    def set_mail(self, path: bytes, length: int) -> None:
        """Set the path and file size that MailLast returns."""
        self._call["set_mail"](path, length)

    def set_plugin_params(self, position: int, records: Iterable[bytes]) -> None:
        """Set the PluginCfg records of the plugin at ``position``; its ConPluginParam points at them with 32 bits."""
        whole = list(records)
        self._must("set_plugin_params", position, b"".join(whole), len(whole))

    def set_server_utc_offset(self, offset_s: int) -> None:
        """Set how far the server's clock is ahead of UTC, for the quotes of `run_quotes`; 3 hours after a reset."""
        self._call["set_server_utc_offset"](offset_s)

    # ---- prices ----

    def set_quotes(self, records: Iterable[bytes]) -> int:
        """Set prices (SymbolInfo records) without ringing BIDASK; returns how many were kept."""
        whole = b"".join(records)
        return int(self._call["set_quotes"](whole, len(whole) // SYMBOL_INFO_BYTES))

    def keep_every_tick(self, limit: int, wait_s: float = 10.0) -> None:
        """Queue whole ticks instead of the latest per symbol; 0 ends it.

        A full queue holds the emitter up for ``wait_s``, then drops and counts.
        """
        self._must("set_every_tick", limit, _ms(wait_s))

    def replay_quotes(self, records: bytes, *, pace_s: float = 0.0, worker: int = 0) -> None:
        """Make each SymbolInfo record its symbol's price and ring BIDASK, one by one."""
        self._must("emit_quotes", worker, records, len(records) // SYMBOL_INFO_BYTES, _ns(pace_s))

    def run_quotes(self, count: int, symbols: int, *, pace_s: float = 0.0, worker: int = 0) -> None:
        """Move the first ``symbols`` prices that were set by a point, each in turn, ringing each of ``count`` times."""
        self._must("quotes_run", worker, count, symbols, _ns(pace_s))

    # ---- events ----

    def emit(self, code: int, action: int = 0, data: bytes = b"", *, times: int = 1, worker: int = 0) -> None:
        """Call back ``times`` times from the native thread ``worker`` (0 to 15); without data, with NULL."""
        self._must("emit", worker, code, action, data, len(data), 1, times, 0)

    def emit_many(
        self, code: int, action: int, records: bytes, stride: int, count: int, *, pace_s: float = 0.0, worker: int = 0
    ) -> None:
        """Call back ``count`` times, going round ``records`` of ``stride`` bytes, ``pace_s`` apart (0: flat out)."""
        self._must("emit", worker, code, action, records, stride, len(records) // stride, count, _ns(pace_s))

    def emit_stale(self, code: int, action: int = 0, data: bytes = b"", *, worker: int = 0) -> None:
        """Call back whoever switched last, even after it was disconnected and released."""
        self._must("emit_stale", worker, code, action, data, len(data))

    def emit_on_new_threads(self, threads: int, code: int) -> None:
        """Call back once from each of ``threads`` fresh native threads, all alive together; returns when they ended."""
        self._call["emit_on_new_threads"](threads, code)

    def ping_every(self, interval_s: float) -> None:
        """Send PING from a thread of its own; 0 ends it."""
        self._call["set_ping"](_ms(interval_s))

    def wait(self, limit_s: float = 10.0) -> None:
        """Return when all that was asked for has been emitted, START included."""
        assert self._call["wait"](_ms(limit_s)), f"still emitting after {limit_s} s"

    # ---- the link ----

    def set_connected(self, *, connected: bool) -> None:
        """Set what IsConnected says, and nothing else."""
        self._call["set_connected"](connected)

    def lose_link(self, stops: int = 1) -> None:
        """Break the link of whoever pumps; STOP comes ``stops`` times from a thread of its own."""
        self._call["lose_link"](stops)

    def break_protocol(self, stops: int = 1, delay_s: float = 0.0) -> None:
        """End the pumping by an error of the protocol: tables are empty at once, IsConnected stays 1, STOP is late."""
        self._call["break_protocol"](stops, _ms(delay_s))


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
