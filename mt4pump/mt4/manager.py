"""What the daemon needs of a Manager: one small protocol, two implementations (`bridge`, `simulator`).

Threads: the supervisor calls `connect`, `login`, `pump`, `is_connected`, `last_faults` and `close`; the pump thread
calls the reads, and `last_faults`; a thread that watches the supervisor's calls may `abort` them. Where a Manager
``reads_beside_quotes``, another thread calls `table` while the pump thread waits for it and calls `updated_quotes`.
The reads must be safe while another thread closes: after `close` they raise `ConnectionLost`, never crash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Notify = Callable[[int, int, bytes], None]
"""``notify(code, action, data)``, called on the Manager's own threads; ``data`` is a private copy, empty for NULL."""

Array = bytes | memoryview
"""An array of records, which belongs to its receiver."""

TABLES = {
    "symbols": "ConSymbol",
    "groups": "ConGroup",
    "users": "UserRecord",
    "online": "OnlineRecord",
    "trades": "TradeRecord",
    "margins": "MarginLevel",
    "requests": "RequestInfo",
    "plugins": "ConPlugin",
    "news": "NewsTopic",
}
"""Tables that can be read whole while pumping, and the record each is an array of."""


class Manager(Protocol):
    """One Manager session, from creation to `close`; never reused. Every call may raise `ManagerError`.

    ``may_empty_tables``: whether a session that is about to end answers with empty tables before `table` raises.
    ``reads_beside_quotes``: whether `table` and `updated_quotes` may be called at the same time.
    """

    may_empty_tables: bool
    reads_beside_quotes: bool

    def connect(self, server: str) -> None:
        """Connect to ``host:port``. Blocks for as long as the API does."""

    def login(self, login: int, password: str) -> None:
        """Log in; raises `LoginError` when the server refuses."""

    def pump(self, flags: int, notify: Notify) -> None:
        """Switch to pumping (CLIENT_FLAGS_*); events come by ``notify`` from now on, on other threads."""

    def abort(self) -> None:
        """End a `connect`, `login` or `pump` that blocks, from another thread; none of them succeeds after this.

        Returns soon. May be called more than once, and while another thread closes.
        """

    def is_connected(self) -> bool:
        """Return whether the API believes that there is a link."""

    def last_faults(self) -> str:
        """Return what the API itself logged of this session's faults, for people; empty where it has nothing."""

    def select_symbol(self, symbol: bytes) -> None:
        """Ask for the quotes of ``symbol``: its name as the 12 raw bytes of the record, NUL included or not."""

    def hide_symbol(self, symbol: bytes) -> None:
        """Ask for the quotes of ``symbol`` no more."""

    def updated_quotes(self) -> bytes | memoryview:
        """Return SymbolInfo records that changed since the last call, empty when none is left.

        A view is good until the next call.
        """

    def table(self, name: str) -> Array:
        """Return the whole table ``name`` (a key of `TABLES`) as one array of records; empty when there is none.

        Raises `ConnectionLost` when the link was gone, or STOP_PUMPING came, by the time it was read: a session that
        ends may answer with empty tables, which would be published as if everything had been deleted.
        """

    def request_news_body(self, key: int) -> None:
        """Ask the server for the body of news ``key``; UPDATE_NEWS_BODY follows."""

    def news_body(self, key: int) -> bytes | None:
        """Return the body of news ``key`` in the server's code page, or None when the API has none."""

    def last_mail(self) -> bytes | None:
        """Return the last mail as stored by the API (MailBox record, then body), or None."""

    def plugin_parameters(self, position: int) -> bytes | None:
        """Return the PluginCfg array of the plugin at ``position``, or None where the API cannot give it."""

    def close(self) -> None:
        """Disconnect and release. Safe to call more than once, and while another thread reads."""


ManagerFactory = Callable[[], Manager]
"""Makes the Manager of the next session; may raise `StartError`."""
