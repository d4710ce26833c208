"""The tables of a trade server, which change while no session receives it; made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from mt4pump.mt4.codes import TradeCommand, TradeState
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_SYMBOL,
    MARGIN_LEVEL,
    ONLINE_RECORD,
    REQUEST_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.mt4.record import Decoder, Fields, Record
from tests.fake_manager import FakeManager

Row = dict[str, Any]
ACCOUNTS, ORDERS, SYMBOLS, GROUPS = 60, 150, 12, 5
PENDING = (TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_SELL_LIMIT, TradeCommand.OP_BUY_STOP, TradeCommand.OP_SELL_STOP)
RECORDS: dict[str, tuple[Record, str]] = {
    "trades": (TRADE_RECORD, "order"),
    "users": (USER_RECORD, "login"),
    "online": (ONLINE_RECORD, "login"),
    "margins": (MARGIN_LEVEL, "login"),
    "symbols": (CON_SYMBOL, "symbol"),
    "groups": (CON_GROUP, "group"),
    "requests": (REQUEST_INFO, "id"),
}


class ChangingServer:
    """``tables`` are rows by key. `change` makes changes; ``done`` counts them by their kind."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - chance that can be repeated is the point
        self.tables: dict[str, dict[Any, Row]] = {name: {} for name in RECORDS}
        self.done: dict[str, int] = {}
        self._ticket = 1_000
        self._login = 100
        self._number = 0
        self._time = 1_700_000_000
        for number in range(SYMBOLS):
            self.tables["symbols"][f"SYM{number}"] = {"symbol": f"SYM{number}", "digits": 5, "spread": 2}
        for number in range(GROUPS):
            self.tables["groups"][f"group{number}"] = {"group": f"group{number}", "enable": 1, "margin_call": 80}
        for _ in range(ACCOUNTS):
            self._new_account()
        for _ in range(ORDERS):
            self.random.choice((self._open, self._open, self._place))()
        self._kinds: tuple[tuple[Callable[[], bool], int], ...] = (
            (self._open, 18),
            (self._close, 16),
            (self._close_part, 8),
            (self._close_by, 4),
            (self._modify, 14),
            (self._place, 8),
            (self._modify_pending, 4),
            (self._cancel, 5),
            (self._activate, 5),
            (self._mark, 4),
            (self._pay, 8),
            (self._change_account, 4),
            (self._new_account, 2),
            (self._delete_account, 2),
            (self._come_or_go, 6),
            (self._margin, 5),
            (self._change_symbol, 2),
            (self._change_group, 1),
            (self._request, 3),
        )

    def fill(self, manager: FakeManager) -> None:
        """Give a session the tables as they are now."""
        for name, (record, _) in RECORDS.items():
            rows = list(self.tables[name].values())
            self.random.shuffle(rows)  # no order is promised
            manager.tables[name] = b"".join(map(record.pack, rows))

    def rows(self, name: str) -> dict[Any, Fields]:
        """Return a table as a reader would see it."""
        record, key = RECORDS[name]
        packed = b"".join(map(record.pack, self.tables[name].values()))
        return {row[key]: row for row in Decoder(record, "cp1252").many(packed)}

    def change(self, count: int) -> None:
        """Make ``count`` changes, and move the prices of all orders."""
        kinds, weights = zip(*self._kinds, strict=True)
        while count:
            change: Callable[[], bool] = self.random.choices(kinds, weights)[0]
            if change():
                self.done[change.__name__.strip("_")] = self.done.get(change.__name__.strip("_"), 0) + 1
                count -= 1
        for order in self.tables["trades"].values():
            order["close_price"] = self._price()
            order["profit"] = round(self.random.uniform(-500, 500), 2)

    # ---- the changes ----

    def _price(self) -> float:
        return round(self.random.uniform(0.9, 1.6), 5)

    def _now(self) -> int:
        self._time += self.random.randrange(3)
        return self._time

    def _orders(self, *, pending: bool) -> list[Row]:
        return [order for order in self.tables["trades"].values() if (order["cmd"] in PENDING) == pending]

    def _one(self, *, pending: bool) -> Row | None:
        found = self._orders(pending=pending)
        return self.random.choice(found) if found else None

    def _new_order(self, cmd: int, **more: Any) -> Row:
        self._ticket += self.random.randrange(1, 3)
        order = {
            "order": self._ticket,
            "login": self.random.choice(list(self.tables["users"])),
            "symbol": self.random.choice(list(self.tables["symbols"])),
            "cmd": int(cmd),
            "volume": self.random.randrange(1, 500),
            "open_time": self._now(),
            "open_price": self._price(),
            "state": int(TradeState.TS_OPEN_NORMAL),
            "timestamp": self._time,
            "comment": self.random.choice(("", "EA", "tp", "x" * 31)),
            "conv_rates": [1.0, 0.0],
            **more,
        }
        self.tables["trades"][order["order"]] = order
        return order

    def _open(self) -> bool:
        self._new_order(self.random.choice((TradeCommand.OP_BUY, TradeCommand.OP_SELL)))
        return True

    def _place(self) -> bool:
        self._new_order(self.random.choice(PENDING), expiration=self.random.choice((0, self._time + 3600)))
        return True

    def _remove(self, *, pending: bool) -> Row | None:
        order = self._one(pending=pending)
        return self.tables["trades"].pop(order["order"]) if order else None

    def _close(self) -> bool:
        order = self._remove(pending=False)
        if order:
            self._credit(order["login"], self.random.uniform(-100, 100))
        return order is not None

    def _close_part(self) -> bool:
        order = self._one(pending=False)
        if order is None or order["volume"] < 2:
            return False
        del self.tables["trades"][order["order"]]
        rest = self.random.randrange(1, order["volume"])
        kept = {name: order[name] for name in ("login", "symbol", "open_time", "open_price")}
        state = int(TradeState.TS_OPEN_REMAND)
        self._new_order(order["cmd"], **kept, volume=rest, state=state, comment=f"from #{order['order']}")
        return True

    def _close_by(self) -> bool:
        return self._close() and self._close()

    def _modify(self) -> bool:
        order = self._one(pending=False)
        if order is None:
            return False
        order.update(sl=self._price(), tp=self.random.choice((0.0, self._price())), timestamp=self._now())
        return True

    def _modify_pending(self) -> bool:
        order = self._one(pending=True)
        if order is None:
            return False
        order.update(open_price=self._price(), expiration=self._time + self.random.randrange(9_999), sl=self._price())
        return True

    def _cancel(self) -> bool:
        return self._remove(pending=True) is not None

    def _activate(self) -> bool:
        order = self._one(pending=True)
        if order is None:
            return False
        order.update(cmd=order["cmd"] % 2, open_time=self._now(), expiration=0, activation=0)
        return True

    def _mark(self) -> bool:
        order = self.random.choice(list(self.tables["trades"].values()))
        order["activation"] = self.random.choice((0, 1, 2, 3))
        return True

    def _credit(self, login: int, amount: float) -> None:
        user = self.tables["users"].get(login)
        if user is not None:
            user["balance"] = round(user["balance"] + amount, 2)

    def _pay(self) -> bool:
        self._credit(self.random.choice(list(self.tables["users"])), self.random.uniform(1, 1_000))
        return True

    def _change_account(self) -> bool:
        user = self.random.choice(list(self.tables["users"].values()))
        groups = list(self.tables["groups"])
        changes: tuple[Row, ...] = (
            {"leverage": self.random.choice((50, 100, 200))},
            {"group": self.random.choice(groups)},
            {"enable": 1 - user["enable"]},
            {"name": f"Somebody {self._now()}"},  # nobody may see it: no event, and no difference
            {"status": self.random.choice(("RE", "VIP", ""))},
        )
        user.update(self.random.choice(changes))
        return True

    def _new_account(self) -> bool:
        self._login += self.random.randrange(1, 9)
        group = self.random.choice(list(self.tables["groups"]))
        user = {"login": self._login, "group": group, "balance": 1000.0, "leverage": 100, "enable": 1}
        self.tables["users"][self._login] = user
        return True

    def _delete_account(self) -> bool:
        login = self.random.choice(list(self.tables["users"]))
        if len(self.tables["users"]) < ACCOUNTS // 2:
            return False
        for name in ("users", "online", "margins"):
            self.tables[name].pop(login, None)
        trades = self.tables["trades"]
        for order in [order for order, row in trades.items() if row["login"] == login]:
            del trades[order]
        return True

    def _come_or_go(self) -> bool:
        login = self.random.choice(list(self.tables["users"]))
        if self.tables["online"].pop(login, None) is None:
            self.tables["online"][login] = {"login": login, "group": self.tables["users"][login]["group"]}
        return True

    def _margin(self) -> bool:
        login = self.random.choice(list(self.tables["users"]))
        level = self.random.choice((0, 1, 2))
        self.tables["margins"][login] = {"login": login, "level_type": level, "margin": self._price()}
        return True

    def _change_symbol(self) -> bool:
        symbols = self.tables["symbols"]
        name = self.random.choice(list(symbols))
        what = self.random.randrange(3)
        if what == 0 and len(symbols) > SYMBOLS // 2:
            del symbols[name]
        elif what == 1:
            self._number += 1
            fresh = f"NEW{self._number}"
            symbols[fresh] = {"symbol": fresh, "digits": 3}
        else:
            symbols[name].update(spread=self.random.randrange(1, 50), swap_long=self._price())
        return True

    def _change_group(self) -> bool:
        self.random.choice(list(self.tables["groups"].values()))["margin_call"] = self.random.randrange(10, 99)
        return True

    def _request(self) -> bool:
        requests = self.tables["requests"]
        if requests and self.random.random() < 0.5:
            del requests[self.random.choice(list(requests))]
        else:
            self._number += 1
            number = self._number
            login = self.random.choice(list(self.tables["users"]))
            requests[number] = {"id": number, "login": login, "status": 1}
        return True
