"""A Manager session on the vendor's DLL: one interface from Create to Release.

Threads: while the pump thread reads, ``_lock`` holds back Disconnect and Release; while a table is read,
``_table_lock`` does, so that quotes can be read meanwhile (the vendor states that the functions of the pump are thread
safe). Who takes both takes ``_table_lock`` first: nobody waits for a table while it holds ``_lock``. The callback takes
no lock, so Disconnect may call it synchronously. When a read does not return within `CLOSE_WAIT_S`, `close` abandons
the interface (counted, a leak), because a release would free memory that the read uses.
Connect, Login and PumpingSwitchEx run without ``_lock``, so that `abort` can call Disconnect meanwhile.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import byref, c_int
from pathlib import Path
from threading import Lock
from time import monotonic

from mt4pump.bridge.dll_log import DllLog
from mt4pump.bridge.interface import TABLE_METHODS, Interface, plugin_array
from mt4pump.bridge.library import Library
from mt4pump.errors import ConnectionLost, LoginError
from mt4pump.mt4.codes import ReturnCode
from mt4pump.mt4.layout import CON_PLUGIN_PARAM, PLUGIN_CFG, SYMBOL_INFO
from mt4pump.mt4.manager import TABLES, Array, Notify
from mt4pump.mt4.record import Record

QUOTES_PER_CALL = 256
PATH_BYTES = 1024
MAIL_LIMIT_BYTES = 16 * 1024 * 1024
CLOSE_WAIT_S = 2.0
CONNECTED_WAIT_S = 0.2
ABORT_WAIT_S = 0.2

log = logging.getLogger(__name__)


class DllManager:
    """The `mt4pump.mt4.manager.Manager` of one session.

    ``working_directory`` is where the DLL keeps its files.
    """

    may_empty_tables = reads_beside_quotes = True
    abandoned = 0
    """Interfaces of this process that were not released because a call in them did not return."""

    def __init__(self, library: Library, working_directory: Path, encoding: str = "cp1252") -> None:
        self._library = library
        self._encoding = encoding
        self._folder = working_directory
        self._interface = library.create(working_directory)
        self._lock, self._table_lock = Lock(), Lock()
        self._closed = self._aborted = False
        self._param = 0
        self._log = DllLog(working_directory, encoding)
        self._quotes = ctypes.create_string_buffer(SYMBOL_INFO.size * QUOTES_PER_CALL)
        self._quotes_view = memoryview(self._quotes).cast("B")

    @contextmanager
    def _reading(self, call: str) -> Iterator[Interface]:
        """Hold the lock and yield the interface; raise ConnectionLost when the session was closed."""
        with self._lock:
            yield self._open_interface(call)

    @contextmanager
    def _excluding_reads(self, limit_s: float) -> Iterator[bool]:
        """Hold both locks; yield False when a read does not return within ``limit_s``."""
        until_s = monotonic() + limit_s
        with ExitStack() as locks:
            for lock in (self._table_lock, self._lock):
                if not lock.acquire(timeout=max(0.0, until_s - monotonic())):
                    yield False
                    return
                locks.callback(lock.release)
            yield True

    def _open_interface(self, call: str) -> Interface:
        if self._closed:
            raise _no_connection(call, "the session was closed")
        return self._interface

    def _unaborted_interface(self, call: str) -> Interface:
        if self._aborted:
            raise _no_connection(call, "the session was aborted")
        return self._open_interface(call)

    def _raise_if_stopped(self, call: str, why: str) -> None:
        if self._param in self._library.callback.stopped:
            raise _no_connection(call, f"STOP_PUMPING came {why}")

    def _ansi(self, call: str, text: str, what: str) -> bytes:
        """Return ``text`` in the server's code page; raise LoginError for a character that it lacks."""
        try:
            return text.encode(self._encoding)
        except UnicodeEncodeError:
            why = f"{what} has letters that code page {self._encoding} lacks; see the setting encoding"
            raise LoginError(call, ReturnCode.RET_INVALID_DATA, "RET_INVALID_DATA", why) from None

    def connect(self, server: str) -> None:
        """Connect to ``host:port``; 443 when no port is given."""
        self._unaborted_interface("Connect").check("Connect", self._ansi("Connect", server, "the server's name"))

    def login(self, login: int, password: str) -> None:
        """Log in as a manager account; other accounts are refused with RET_BAD_ACCOUNT_INFO."""
        self._log.secrets = (password,)
        self._unaborted_interface("Login").check("Login", login, self._ansi("Login", password, "the password"))

    def pump(self, flags: int, notify: Notify) -> None:
        """Switch to pumping. RET_OK means only that the request was accepted; START_PUMPING confirms it."""
        interface, callback = self._unaborted_interface("PumpingSwitchEx"), self._library.callback
        callback.mark_python_thread()  # a switch that fails may call back synchronously
        self._param = callback.open(notify)
        interface.check("PumpingSwitchEx", callback.function, flags, self._param)

    def abort(self) -> None:
        """Disconnect, which ends a Connect or Login that blocks on another thread within a tenth of a second."""
        self._aborted = True  # seen by every call that is not in the DLL yet
        with self._excluding_reads(ABORT_WAIT_S) as is_alone:
            # Else a read or `close` runs: then nothing blocks in Connect or Login.
            if is_alone and not self._closed:
                self._library.callback.mark_python_thread()
                self._interface.call("Disconnect")

    def last_faults(self) -> str:
        """Return the last lines with an error code that the DLL wrote into its own log in this session."""
        return self._log.last_faults()

    def is_connected(self) -> bool:
        """Return IsConnected; True while a read holds the interface."""
        if self._closed:
            return False
        with self._excluding_reads(CONNECTED_WAIT_S) as is_alone:
            return not is_alone or (not self._closed and bool(self._interface.call("IsConnected")))

    def select_symbol(self, symbol: bytes) -> None:
        """SymbolAdd: quotes flow for selected symbols only."""
        with self._reading("SymbolAdd") as interface:
            interface.check("SymbolAdd", symbol.partition(b"\0")[0])

    def hide_symbol(self, symbol: bytes) -> None:
        """SymbolHide: the opposite of SymbolAdd."""
        with self._reading("SymbolHide") as interface:
            interface.check("SymbolHide", symbol.partition(b"\0")[0])

    def updated_quotes(self) -> bytes | memoryview:
        """Return up to `QUOTES_PER_CALL` changed SymbolInfo records; the view is good until the next call."""
        with self._lock:  # not `_reading`, which costs more than the call
            count = self._open_interface("SymbolInfoUpdated").call("SymbolInfoUpdated", self._quotes, QUOTES_PER_CALL)
        return self._quotes_view[: SYMBOL_INFO.size * min(max(count, 0), QUOTES_PER_CALL)]

    def table(self, name: str) -> Array:
        """Return a whole table as one array of records, copied and freed."""
        method = TABLE_METHODS[name]
        with self._table_lock:
            interface = self._open_interface(method)
            self._raise_if_stopped(method, f"before table {name} was read")
            array = interface.array(method, Record.known[TABLES[name]].size) if interface.has(method) else b""
            # IsConnected may stay true after STOP, and turns false late. Called here, because `is_connected` returns
            # True whenever another thread holds a lock.
            self._raise_if_stopped(method, f"while table {name} was read: it may be empty or cut")
            with self._lock:
                is_connected = interface.call("IsConnected")
            if not is_connected:
                raise _no_connection(method, f"the link was gone by the time table {name} was read: it may be cut")
        return array

    def request_news_body(self, key: int) -> None:
        """NewsBodyRequest; does nothing in the 64-bit DLL, which cannot give bodies."""
        with self._reading("NewsBodyRequest") as interface:
            if interface.has("NewsBodyGet"):
                interface.call("NewsBodyRequest", ctypes.c_int32(key).value)

    def news_body(self, key: int) -> bytes | None:
        """Return a requested body, or None: not there yet, or not available in this DLL."""
        with self._reading("NewsBodyGet") as interface:
            if not interface.has("NewsBodyGet"):
                return None
            return interface.text("NewsBodyGet", ctypes.c_int32(key).value)

    def last_mail(self) -> bytes | None:
        """Return the file that the API stored its last mail in: MailBox record, then the body."""
        path, length = ctypes.create_string_buffer(PATH_BYTES), c_int(PATH_BYTES)
        with self._reading("MailLast") as interface:
            interface.check("MailLast", path, byref(length))
        if not path.value:
            return None
        file = self._folder / path.value.decode("mbcs" if ctypes.sizeof(ctypes.c_wchar) == 2 else "utf-8", "replace")
        try:
            with file.open("rb") as stored:
                return stored.read(MAIL_LIMIT_BYTES)
        except OSError as error:
            log.warning("mail file %s cannot be read: %s", file, error)
            return None

    def plugin_parameters(self, position: int) -> bytes | None:
        """Return the PluginCfg array of a plugin; None on 64 bit, where the record's pointer is cut to 32."""
        record = ctypes.create_string_buffer(CON_PLUGIN_PARAM.size)
        with self._reading("PluginParamGet") as interface:
            interface.check("PluginParamGet", position, record)
            return plugin_array(record.raw, PLUGIN_CFG.size)

    def close(self) -> None:
        """Disconnect, then Release, on the calling thread; abandon the interface when a call in it does not return."""
        if self._closed:
            return
        self._closed = True  # seen by every call that is not in the DLL yet
        with self._excluding_reads(CLOSE_WAIT_S) as is_alone:
            if is_alone:
                self._library.callback.mark_python_thread()
                self._interface.call("Disconnect")
                self._library.callback.close(self._param)
                self._interface.call("Release")
                return
        DllManager.abandoned += 1
        self._library.callback.close(self._param)
        log.error("a call into the DLL did not come back within %s s: its interface is left unreleased", CLOSE_WAIT_S)


def _no_connection(call: str, why: str) -> ConnectionLost:
    return ConnectionLost(call, ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", why)
