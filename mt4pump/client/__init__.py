"""The Python client of mt4pump: subscribe, ask for last values, replay. Consumers need no other package of mt4pump.

::

    from mt4pump.client import Quote, Subscriber, Trade

    with Subscriber("tcp://127.0.0.1:5556", topics=["quote.EURUSD", "trade.*"]) as sub:
        for event in sub:
            if isinstance(event, Quote):
                print(event.symbol, event.bid, event.ask)
            elif isinstance(event, Trade):
                print(event.login, event.order, event.change, event.offset)

Handlers instead of a loop, here with asyncio (plain functions work, too)::

    sub = AsyncSubscriber("tcp://127.0.0.1:5556", topics=["*"])

    @sub.on("quote.EURUSD")
    async def quoted(quote: Quote) -> None: ...

    @sub.on(kind="trade")
    async def traded(trade: Trade) -> None: ...

    @sub.on_notice
    def noticed(notice: Notice) -> None: ...

    async with sub:
        await sub.run()

Every trade once, also across restarts of this program::

    with Subscriber("tcp://127.0.0.1:5556", topics=["trade.*"], position_file="monitor.position") as sub:
        for trade in sub:
            store(trade)   # the file is written about once a second; sub.commit() writes it now

``topics`` are exact names and patterns (``quote.*``, ``quote.???JPY``); ``*`` is everything, heartbeats included.

An event counts as done when the next one is asked for. If ``store`` raises, that event comes again the next time.
After a crash up to a second's events come again: ``event.offset`` (with `Position.log`) distinguishes them.

What is promised: per topic, each durable event comes exactly once and in order, as long as the daemon's journal has
it. What is lost for good is reported in a ``lost`` notice, with its count; so is a lost quote, which is not stored
unless the daemon is set so. Nobody can tell how many quotes a daemon published right before it was killed
(``restarted``). Through a forwarder or proxy a heartbeat does not prove that nothing is missing.

What a daemon sends is checked against PROTOCOL 12. A reply has at most 64 MiB and 200,000 frames, a snapshot has its
`SnapshotLimits`; at most 128 MiB of events wait for the journal. Beyond that a `Query` raises `ClientError`; a
subscriber drops the message (``malformed``) or asks again later (``query_failed``). An interval between heartbeats
above 60 s is ignored.

Notices (``notices=True``, ``on_notice``; they are always logged):

- ``connected`` ``disconnected``: the connection, as ZeroMQ sees it.
- ``restarted``: another run of the daemon (``epoch``).
- ``gap`` (topic, count): events are missing and are asked for; ``healed`` (count): they were recovered.
- ``lost`` (topic, count): they are gone for good.
- ``not_whole``: the journal no longer has, or never had, what was asked of it; or it is another journal.
- ``silent`` ``alive``: no heartbeat (daemon or network down); heartbeats again.
- ``feed_lost`` ``feed_back``: the daemon runs without a session with the trade server; the session runs again.
- ``lagging`` ``caught_up``: this reader is too slow; no longer.
- ``query_failed``: the daemon was silent or refused a query, or its reply does not fit (``code``). It is tried again;
  until then nothing can be recovered.
- ``malformed`` (count): messages that no daemon sends were dropped. It is broken, or no daemon. At most one a minute.
"""

from __future__ import annotations

from mt4pump.client.async_subscriber import AsyncSubscriber
from mt4pump.client.event import Event, Notice
from mt4pump.client.events import (
    Activation,
    Group,
    Heartbeat,
    Mail,
    Margin,
    News,
    Online,
    Plugin,
    Quote,
    Request,
    Session,
    SymbolConfig,
    Trade,
    User,
)
from mt4pump.client.keys import ClientKeys
from mt4pump.client.liveness import Status
from mt4pump.client.position import Position
from mt4pump.client.query import Query, Replay, Snapshot, SnapshotLimits
from mt4pump.client.subscriber import Subscriber
from mt4pump.errors import ClientError
from mt4pump.log import mend_streams, one_line
from mt4pump.process.signals import SignalSafeEvent, console_events
from mt4pump.process.systemd import Notifier

__all__ = [
    "Activation",
    "AsyncSubscriber",
    "ClientError",
    "ClientKeys",
    "Event",
    "Group",
    "Heartbeat",
    "Mail",
    "Margin",
    "News",
    "Notice",
    "Notifier",
    "Online",
    "Plugin",
    "Position",
    "Query",
    "Quote",
    "Replay",
    "Request",
    "Session",
    "SignalSafeEvent",
    "Snapshot",
    "SnapshotLimits",
    "Status",
    "Subscriber",
    "SymbolConfig",
    "Trade",
    "User",
    "console_events",
    "mend_streams",
    "one_line",
]
