"""The MT4 server: tables of records, and the callbacks that a change of them causes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from mt4pump.mt4.codes import PumpCode, TradeCommand, TradeState, Transaction
from mt4pump.mt4.layout import (
    CON_SYMBOL,
    MAIL_BOX,
    MARGIN_LEVEL,
    NEWS_TOPIC,
    ONLINE_RECORD,
    REQUEST_INFO,
    SYMBOL_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.mt4.record import Decoder, Record
from tests.fake_manager import FakeManager

Row = dict[str, Any]
Callback = tuple[int, int, bytes]
"""Code, action and data of one call of the pump callback."""
LOGINS = (100, 101, 1001, 1002, 2000)
"""Some are prefixes of others, as topics are on the wire."""
PENDING = (TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_SELL_STOP)
ADD, DELETE, UPDATE = int(Transaction.ADD), int(Transaction.DELETE), int(Transaction.UPDATE)
TRADES, USERS = int(PumpCode.UPDATE_TRADES), int(PumpCode.UPDATE_USERS)
TABLES: dict[str, tuple[str, Record, str]] = {
    "trades": ("trade", TRADE_RECORD, "order"),
    "users": ("user", USER_RECORD, "login"),
    "online": ("online", ONLINE_RECORD, "login"),
    "symbols": ("symbol", CON_SYMBOL, "symbol"),
    "requests": ("request", REQUEST_INFO, "id"),
    "margins": ("margin", MARGIN_LEVEL, "login"),
}
"""Kind, record and key of each table that changes; the margins and the orders' activation are marks."""


class Broker:
    """``tables`` are rows by key. `change` changes one thing and returns the callbacks that report it."""

    def __init__(self, random: Random) -> None:
        self.tables: dict[str, dict[Any, Row]] = {name: {} for name in TABLES}
        self.quotes: list[bytes] = []
        self._random = random
        self._time = 1_700_000_000
        self._number = 1_000
        for login in LOGINS:
            self.tables["users"][login] = {"login": login, "group": "real", "balance": 1000.0, "enable": 1}
        for symbol in ("EURUSD", "EURUSD.x", "GBPUSD"):
            self.tables["symbols"][symbol] = {"symbol": symbol, "digits": 5}
        changes: tuple[tuple[Callable[[], list[Callback]], int], ...] = (
            (self._open, 20),
            (self._modify, 16),
            (self._end, 14),
            (self._pay, 6),
            (self._user, 8),
            (self._add_or_delete_user, 2),
            (self._online, 6),
            (self._margin, 6),
            (self._mark, 4),
            (self._symbol, 3),
            (self._request, 4),
            (self._news, 4),
            (self._mail, 4),
            (self._unknown, 1),
        )
        self._changes = [change for change, _ in changes]
        self._weights = [weight for _, weight in changes]
        for _ in range(6):
            self._open()

    def change(self) -> list[Callback]:
        """Change one thing."""
        found: list[Callback] = []
        while not found:
            found = self._random.choices(self._changes, self._weights)[0]()
        return found

    def quote(self) -> Callback:
        """Change the prices of one symbol."""
        symbol = self._random.choice(("EURUSD", "EURUSD.x", "GBPUSD"))
        bid = self._price()
        self.quotes.append(
            SYMBOL_INFO.pack({"symbol": symbol, "digits": 5, "bid": bid, "ask": bid + 0.0001, "lasttime": self._now()})
        )
        return int(PumpCode.UPDATE_BIDASK), 0, b""

    def packed(self, name: str) -> bytes:
        """Return the whole table ``name`` as the API gives it, in no order."""
        if name not in self.tables:
            return b""
        rows = list(self.tables[name].values())
        self._random.shuffle(rows)
        return b"".join(map(TABLES[name][1].pack, rows))

    def rows(self, name: str) -> dict[Any, Row]:
        """Return a table as a reader of its events would know it."""
        _, record, key = TABLES[name]
        rows = Decoder(record, "cp1252").many(b"".join(map(record.pack, self.tables[name].values())))
        return {row[key]: row for row in rows}

    def _price(self) -> float:
        return round(self._random.uniform(0.9, 1.6), 5)

    def _now(self) -> int:
        self._time += self._random.randrange(3)
        return self._time

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _login(self) -> int:
        login: int = self._random.choice(list(self.tables["users"]))
        return login

    def _order(self) -> Row | None:
        orders = list(self.tables["trades"].values())
        return self._random.choice(orders) if orders else None

    def _report(self, code: int, action: int, record: Record, row: Row) -> list[Callback]:
        return [(code, action, record.pack(row))]

    def _open(self) -> list[Callback]:
        if len(self.tables["trades"]) > 12:
            return []
        cmd = self._random.choice((TradeCommand.OP_BUY, TradeCommand.OP_SELL, *PENDING))
        order = {
            "order": self._next(),
            "login": self._login(),
            "symbol": "EURUSD",
            "digits": 5,
            "cmd": int(cmd),
            "volume": self._random.randrange(1, 99),
            "open_time": self._now(),
            "timestamp": self._time,
            "open_price": self._price(),
            "state": int(TradeState.TS_OPEN_NORMAL),
            "conv_rates": [1.0, 0.0],
        }
        self.tables["trades"][order["order"]] = order
        return self._report(TRADES, ADD, TRADE_RECORD, order)

    def _modify(self) -> list[Callback]:
        order = self._order()
        if order is None:
            return []
        if order["cmd"] in PENDING and self._random.random() < 0.4:
            order.update(cmd=order["cmd"] % 2, open_time=self._now())
        else:
            order.update(sl=self._price(), tp=self._price(), timestamp=self._now())
        return self._report(TRADES, UPDATE, TRADE_RECORD, order)

    def _end(self) -> list[Callback]:
        order = self._order()
        if order is None:
            return []
        del self.tables["trades"][order["order"]]
        last = {**order, "timestamp": self._now()}
        if order["cmd"] not in PENDING:
            last |= {"close_time": self._time, "close_price": self._price(), "profit": self._price()}
            last["state"] = int(TradeState.TS_CLOSED_NORMAL)
        form = self._random.randrange(3)
        if form == 0 and order["cmd"] in PENDING:  # the API's other way to report a deleted pending order
            return self._report(TRADES, UPDATE, TRADE_RECORD, {**last, "login": 0})
        reports = self._report(TRADES, UPDATE if form == 1 and "close_time" in last else DELETE, TRADE_RECORD, last)
        return reports * (2 if form == 2 else 1)

    def _pay(self) -> list[Callback]:
        login = self._login()
        order = {"order": self._next(), "login": login, "cmd": int(TradeCommand.OP_BALANCE), "profit": self._price()}
        user = self.tables["users"][login]
        user["balance"] = round(user["balance"] + order["profit"], 2)
        money = {**order, "open_time": self._now(), "close_time": self._time, "state": int(TradeState.TS_CLOSED_NORMAL)}
        return [
            *self._report(TRADES, ADD, TRADE_RECORD, money),
            *self._report(USERS, UPDATE, USER_RECORD, user),
        ]

    def _user(self) -> list[Callback]:
        user = self.tables["users"][self._login()]
        user["leverage"] = self._random.choice((50, 100, 200))
        user["name"] = f"Somebody {self._next()}"  # never published
        return self._report(USERS, UPDATE, USER_RECORD, user)

    def _add_or_delete_user(self) -> list[Callback]:
        if len(self.tables["users"]) < 7 and self._random.random() < 0.6:
            login = 10 * self._next()
            user = {"login": login, "group": "real", "balance": 0.0, "enable": 1}
            self.tables["users"][login] = user
            return self._report(USERS, ADD, USER_RECORD, user)
        login = self._login()
        if len(self.tables["users"]) < 4 or any(order["login"] == login for order in self.tables["trades"].values()):
            return []
        user = self.tables["users"].pop(login)
        rung = [int(PumpCode.UPDATE_ONLINE)] if self.tables["online"].pop(login, None) else []
        rung += [int(PumpCode.UPDATE_MARGINCALL)] if self.tables["margins"].pop(login, None) else []
        return [*self._report(USERS, DELETE, USER_RECORD, user), *((code, 0, b"") for code in rung)]

    def _online(self) -> list[Callback]:
        login = self._login()
        if self.tables["online"].pop(login, None) is None:
            self.tables["online"][login] = {"login": login, "counter": self._next(), "group": "real"}
        return [(int(PumpCode.UPDATE_ONLINE), 0, b"")]

    def _margin(self) -> list[Callback]:
        login = self._login()
        self.tables["margins"][login] = {"login": login, "level_type": self._random.randrange(3)}
        return [(int(PumpCode.UPDATE_MARGINCALL), 0, b"")]

    def _mark(self) -> list[Callback]:
        order = self._order()
        if order is None:
            return []
        order["activation"] = self._random.randrange(4)
        return [(int(PumpCode.UPDATE_ACTIVATION), 0, b"")]

    def _symbol(self) -> list[Callback]:
        symbol = self.tables["symbols"][self._random.choice(list(self.tables["symbols"]))]
        symbol["spread"] = self._random.randrange(50)
        return self._report(int(PumpCode.UPDATE_SYMBOLS), UPDATE, CON_SYMBOL, symbol)

    def _request(self) -> list[Callback]:
        requests, code = self.tables["requests"], int(PumpCode.UPDATE_REQUESTS)
        if requests and self._random.random() < 0.6:
            return self._report(code, DELETE, REQUEST_INFO, requests.pop(self._random.choice(list(requests))))
        row = {"id": self._next(), "login": self._login(), "status": 1}
        requests[row["id"]] = row
        return self._report(code, ADD, REQUEST_INFO, row)

    def _news(self) -> list[Callback]:
        key = self._next()
        return [(int(PumpCode.UPDATE_NEWS), 0, NEWS_TOPIC.pack({"key": key, "time": self._now(), "topic": f"n{key}"}))]

    def _mail(self) -> list[Callback]:
        mail = {"time": self._now(), "sender": 1, "to": self._login(), "subject": f"mail {self._next()}"}
        return [(int(PumpCode.UPDATE_MAIL), 0, MAIL_BOX.pack(mail) + b"text")]

    def _unknown(self) -> list[Callback]:
        return [(40, 1, b"\x01")]


class SimulatedManager(FakeManager):
    """A session on a `Broker`: its tables are read as they are at the moment of the call."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker

    def updated_quotes(self) -> bytes:
        """Return the quotes that changed, and forget them."""
        quotes = b"".join(self._broker.quotes)
        self._broker.quotes.clear()
        return quotes

    def table(self, name: str) -> bytes:
        """Return a whole table."""
        return self._broker.packed(name)

    def hide_symbol(self, symbol: bytes) -> None:
        """Do nothing: all symbols are wanted."""
