"""What a broker's server does besides trading: online traders, dealer requests, plugins, configuration, news, mail."""

from __future__ import annotations

import time
from itertools import count

from mt4pump.mt4.codes import PumpCode, RequestStatus, TradeCommand, Transaction
from mt4pump.mt4.layout import (
    CON_PLUGIN,
    MAIL_BOX,
    NEWS_TOPIC,
    NEWS_TOPIC_NEW,
    ONLINE_RECORD,
    PLUGIN_CFG,
    PLUGIN_INFO,
    REQUEST_INFO,
    TRADE_TRANS_INFO,
)
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.context import Context, RecordArray
from mt4pump.simulator.market import Market
from mt4pump.simulator.orders import SimulatedAccount

REQUESTS_AT_ONCE = 8
TT_ORDER_REQ_OPEN = 65
FIRST_ONLINE_SHARE = 0.3
EXTRA_ACCOUNTS = 20
"""How many accounts more than at the start there may be."""
DEALER = 42
PLUGINS = (
    ("bridge.dll", "Liquidity bridge", ("Liquidity provider", "Markup points")),
    ("quotes.dll", "Quote filter", ("Max jump points", "Stale after seconds")),
    ("swaps.dll", "Swap manager", ("Rollover time", "Triple day")),
)

NEWS_KEPT = 64
"""Topics in the news table; older ones are removed."""
FIRST_KEY = 7001
ENGLISH = 0x09
NEWS_FLAG_PRIORITY = 1

SUBJECTS = (
    ("Economy", "{place} consumer prices rise {n}.{d}% in a year"),
    ("Economy", "{place} jobless rate at {n}.{d}%"),
    ("Central banks", "{place} central bank leaves its rate at {n}.{d}%"),
    ("Markets", "Shares in {place} end {n}.{d}% higher"),
    ("Markets", "Gold steady as traders wait for {place} data"),
    ("Energy", "Crude oil gains {n}.{d}% on supply worries in {place}"),
)
NEWS_PLACES = ("US", "Euro area", "UK", "Japan", "Swiss", "Canadian", "Australian", "New Zealand", "China")
MAILS = (
    ("Planned maintenance", "The server will be restarted on Saturday between 03:00 and 04:00 server time."),
    ("Swap rates changed", "New swap rates apply from Monday. Please see the contract specification."),
    ("Holiday trading hours", "Trading hours change during the holidays."),
    ("Margin call notice", "Some accounts of your groups are below their margin call level."),
)
SENDER, RECIPIENT = 1, 42


class BackOffice:
    """Online list, requests, plugins, and the changes that administrators make."""

    def __init__(self, context: Context, market: Market, accounts: AccountTable) -> None:
        self._context = context
        self._random = context.random
        self._market = market
        self._accounts = accounts
        self.online = RecordArray(ONLINE_RECORD)
        self._login_counts = count(1)
        self._requests: dict[int, dict[str, object]] = {}
        self._request_numbers = count(1)
        self._parameters = {file: [str(self._random.randrange(1, 30)) for _ in names] for file, _, names in PLUGINS}
        self._enabled = {file: 1 for file, _, _ in PLUGINS}
        self._accounts_limit = len(accounts.all) + EXTRA_ACCOUNTS
        for account in accounts.all:
            if self._random.random() < FIRST_ONLINE_SHARE:
                self._log_in(account)

    def requests(self) -> bytes:
        """Return the RequestInfo array."""
        return b"".join(map(REQUEST_INFO.pack, self._requests.values()))

    def plugins(self) -> bytes:
        """Return the ConPlugin array."""
        return b"".join(
            CON_PLUGIN.pack(
                {
                    "file": file, "enabled": self._enabled[file], "configurable": 1, "manager_access": 1,
                    "info": PLUGIN_INFO.pack({"name": name, "version": 101, "copyright": "Simulated"}),
                }
            )
            for file, name, _ in PLUGINS
        )  # fmt: skip

    def plugin_parameters(self, position: int) -> bytes | None:
        """Return the PluginCfg array of a plugin; None when there is none at ``position``."""
        if not 0 <= position < len(PLUGINS):
            return None
        file, _, names = PLUGINS[position]
        values = self._parameters[file]
        return b"".join(
            PLUGIN_CFG.pack({"name": name, "value": value}) for name, value in zip(names, values, strict=True)
        )

    def change_online(self) -> None:
        """Log a trader in or out."""
        self._toggle_online(self._random.choice(self._accounts.all))

    def _toggle_online(self, account: SimulatedAccount) -> None:
        """Log ``account`` in or out. The event has no data: sources disagree on what it points at."""
        if account.login in self.online:
            self.online.discard(account.login)
            self._context.emit(PumpCode.UPDATE_ONLINE, Transaction.DELETE, b"")
        else:
            self._log_in(account)
            self._context.emit(PumpCode.UPDATE_ONLINE, Transaction.ADD, b"")

    def advance_requests(self) -> None:
        """Add a request, or advance the oldest one: waiting, locked by a dealer, answered."""
        account = self._random.choice(self._accounts.all)
        if not self._requests or (len(self._requests) < REQUESTS_AT_ONCE and self._random.random() < 0.4):
            self._add_request(account)
            return
        number, fields = next(iter(self._requests.items()))
        if fields["status"] == RequestStatus.DC_REQUEST:
            fields |= {"status": RequestStatus.DC_LOCKED, "manager": DEALER}
            self._send_request(fields, Transaction.UPDATE)
        else:
            del self._requests[number]
            self._send_request(fields | {"status": RequestStatus.DC_ANSWERED}, Transaction.DELETE)

    def change_symbol(self) -> None:
        """Set new swaps for a symbol."""
        random = self._random
        instrument = random.choice(self._market.instruments)
        swaps = {"swap_long": round(random.uniform(-40, 10), 1), "swap_short": round(random.uniform(-40, 10), 1)}
        self._context.emit(PumpCode.UPDATE_SYMBOLS, Transaction.UPDATE, self._market.describe(instrument, **swaps))

    def change_group(self) -> None:
        """Set another interest rate for a group."""
        name = self._random.choice(tuple(self._accounts.groups))
        self._accounts.change_group(name, interestrate=round(self._random.uniform(0, 3), 2))

    def change_plugin(self) -> None:
        """Switch a plugin on or off, or change one of its parameters; the event has no data."""
        file, _, _ = self._random.choice(PLUGINS)
        if self._random.random() < 0.3:
            self._enabled[file] = 1 - self._enabled[file]
        else:
            values = self._parameters[file]
            values[self._random.randrange(len(values))] = str(self._random.randrange(1, 30))
        self._context.emit(PumpCode.UPDATE_PLUGINS, 0, b"")

    def change_accounts(self) -> None:
        """Move an account to another group, open a new one, or delete one that has no orders."""
        account = self._random.choice(self._accounts.all)
        chance = self._random.random()
        if chance < 0.4:
            own, groups = account.group, self._accounts.groups.values()
            others = [each for each in groups if each.currency == own.currency and each.group != own.group]
            if others:
                self._accounts.move(account, self._random.choice(others))
        elif chance < 0.7 and len(self._accounts.all) < self._accounts_limit:
            self._accounts.register()
        else:
            self._remove_one()

    def _remove_one(self) -> None:
        """Delete an account that has no orders, if there is one."""
        account = next((account for account in self._accounts.all if not account.orders), None)
        if account and len(self._accounts.all) > 1:
            if account.login in self.online:
                self._toggle_online(account)
            self._accounts.remove(account)

    def _log_in(self, account: SimulatedAccount) -> None:
        self.online[account.login] = ONLINE_RECORD.pack(
            {
                "counter": next(self._login_counts), "login": account.login, "group": account.group.group,
                "ip": 0x0A000000 | (account.login & 0xFFFF),
            }
        )  # fmt: skip

    def _add_request(self, account: SimulatedAccount) -> None:
        random = self._random
        instrument = random.choice(self._market.instruments)
        is_buy = random.random() < 0.5
        price = (instrument.ask if is_buy else instrument.bid) / instrument.scale
        cmd = TradeCommand.OP_BUY if is_buy else TradeCommand.OP_SELL
        trade = TRADE_TRANS_INFO.pack(
            {"type": TT_ORDER_REQ_OPEN, "cmd": cmd, "symbol": instrument.raw_name, "volume": 100, "price": price}
        )
        number = next(self._request_numbers)
        fields = self._requests[number] = {
            "id": number, "status": RequestStatus.DC_REQUEST, "time": self._context.server_time_s,
            "login": account.login, "group": account.group.group, "balance": account.balance,
            "credit": account.credit, "trade": trade,
            "prices": [instrument.bid / instrument.scale, instrument.ask / instrument.scale],
        }  # fmt: skip
        self._send_request(fields, Transaction.ADD)

    def _send_request(self, fields: dict[str, object], action: int) -> None:
        self._context.emit(PumpCode.UPDATE_REQUESTS, action, REQUEST_INFO.pack(fields))


class SimulatedNews:
    """The news table, the ``bodies`` of its news in the server's code page by key, and the last mail."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._random = context.random
        self._keys = count(FIRST_KEY)
        self._topics: dict[int, bytes] = {}
        self.bodies: dict[int, bytes] = {}
        self.last_mail: bytes | None = None
        for _ in range(3):
            self._add()

    def publish(self) -> None:
        """Publish news with UPDATE_NEWS."""
        self._context.emit(PumpCode.UPDATE_NEWS, 0, self._add())

    def publish_new(self) -> None:
        """Publish news as the newer record, with UPDATE_NEWS_NEW; it is not in the news table."""
        category, subject = self._subject()
        record = NEWS_TOPIC_NEW.pack(
            {
                "key": next(self._keys), "language": ENGLISH, "subject": subject, "category": category,
                "flags": NEWS_FLAG_PRIORITY if self._random.random() < 0.2 else 0, "body_len": 0,
                "languages_list": [ENGLISH], "datetime": self._context.server_time_s,
            }
        )  # fmt: skip
        self._context.emit(PumpCode.UPDATE_NEWS_NEW, 0, record)

    def send_mail(self) -> None:
        """Send the manager a mail."""
        subject, text = self._random.choice(MAILS)
        body = text.encode(self._context.encoding, "replace")
        record = MAIL_BOX.pack(
            {
                "time": self._context.server_time_s, "sender": SENDER, "from": "Simulated Brokers Ltd.",
                "to": RECIPIENT, "subject": subject, "bodylen": len(body),
            },
            self._context.encoding,
        )  # fmt: skip
        self.last_mail = record + body
        self._context.emit(PumpCode.UPDATE_MAIL, 0, record)

    def table(self) -> bytes:
        """Return the NewsTopic array, oldest first."""
        return b"".join(self._topics.values())

    def _subject(self) -> tuple[str, str]:
        random = self._random
        category, pattern = random.choice(SUBJECTS)
        return category, pattern.format(place=random.choice(NEWS_PLACES), n=random.randrange(6), d=random.randrange(10))

    def _add(self) -> bytes:
        """Add news to the table and return its record."""
        category, topic = self._subject()
        key = next(self._keys)
        text = f"{topic}.\r\nThis text was made up by the simulator: nothing of it happened.\r\n"
        body = self.bodies[key] = text.encode(self._context.encoding, "replace")
        now = self._context.server_time_s
        fields = {
            "key": key, "time": now, "ctm": time.strftime("%H:%M:%S", time.gmtime(now)), "topic": topic,
            "category": category, "keywords": "simulated", "bodylen": len(body),
            "priority": int(self._random.random() < 0.2), "langid": ENGLISH,
        }  # fmt: skip
        record = self._topics[key] = NEWS_TOPIC.pack(fields, self._context.encoding)
        if len(self._topics) > NEWS_KEPT:
            oldest = next(iter(self._topics))
            del self._topics[oldest], self.bodies[oldest]
        return record
