"""A Manager in memory: tables of packed records, a FIFO of quotes, and failures by script."""

from __future__ import annotations

from collections import defaultdict, deque
from threading import Event, get_ident

from mt4pump.errors import ConnectionLost, ManagerError
from mt4pump.mt4.layout import SYMBOL_INFO
from mt4pump.mt4.manager import TABLES, Notify

QUOTES_PER_CALL = 256


def failed(call: str = "TradesGet", code: int = 2, name: str = "RET_ERROR") -> ManagerError:
    """Return an error as the API would give it: this call only, the session lives on."""
    return ManagerError(call, code, name, "scripted failure")


def lost(call: str = "Connect") -> ConnectionLost:
    """Return the error of a session, or a link, that is gone."""
    return ConnectionLost(call, 6, "RET_NO_CONNECT", "scripted loss")


class FakeManager:
    """Implements `mt4pump.mt4.manager.Manager`.

    ``failures[call]`` are raised by the next calls of that name, in order; an Event in ``holds[call]`` is waited for in
    it; ``calls`` are the names called, ``threads[call]`` the threads that did. ``notify`` is known once `pump` was
    called: the test rings it as the API would.
    """

    def __init__(self) -> None:
        self.may_empty_tables = self.reads_beside_quotes = False
        self.faults = ""
        self.tables: dict[str, bytes] = dict.fromkeys(TABLES, b"")
        self.quotes: deque[bytes] = deque()
        self.bodies: dict[int, bytes] = {}
        self.mail: bytes | None = None
        self.parameters: dict[int, bytes | None] = {}
        self.connected = True
        self.notify: Notify | None = None
        self.flags = -1
        self.selected: list[bytes] = []
        self.asked_bodies: list[int] = []
        self.calls: list[str] = []
        self.threads: defaultdict[str, list[int]] = defaultdict(list)
        self.arguments: dict[str, tuple[object, ...]] = {}
        self.failures: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.holds: dict[str, Event] = {}
        self.entered: defaultdict[str, Event] = defaultdict(Event)

    def _called(self, name: str, *arguments: object) -> None:
        self.calls.append(name)
        self.threads[name].append(get_ident())
        self.arguments[name] = arguments
        self.entered[name].set()
        if name in self.holds:
            assert self.holds[name].wait(30), f"the test never let {name} go on"
        if self.failures[name]:
            raise self.failures[name].popleft()

    def connect(self, server: str) -> None:
        self._called("connect", server)

    def login(self, login: int, password: str) -> None:
        self._called("login", login, password)

    def pump(self, flags: int, notify: Notify) -> None:
        self.flags, self.notify = flags, notify
        self._called("pump", flags)

    def abort(self) -> None:
        self._called("abort")

    def last_faults(self) -> str:
        return self.faults

    def is_connected(self) -> bool:
        self._called("is_connected")
        return self.connected

    def select_symbol(self, symbol: bytes) -> None:
        self._called("select_symbol", symbol)
        self.selected.append(symbol)

    def hide_symbol(self, symbol: bytes) -> None:
        self._called("hide_symbol", symbol)
        self.selected.remove(symbol)

    def updated_quotes(self) -> bytes:
        self._called("updated_quotes")
        count = min(len(self.quotes), QUOTES_PER_CALL)
        records = b"".join(self.quotes.popleft() for _ in range(count))
        assert len(records) == count * SYMBOL_INFO.size
        return records

    def table(self, name: str) -> bytes:
        self._called(f"table {name}")
        if not self.connected:
            raise lost(f"table {name}")
        return self.tables[name]

    def request_news_body(self, key: int) -> None:
        self._called("request_news_body", key)
        self.asked_bodies.append(key)

    def news_body(self, key: int) -> bytes | None:
        self._called("news_body", key)
        return self.bodies.get(key)

    def last_mail(self) -> bytes | None:
        self._called("last_mail")
        return self.mail

    def plugin_parameters(self, position: int) -> bytes | None:
        self._called("plugin_parameters", position)
        return self.parameters.get(position)

    def close(self) -> None:
        self._called("close")
