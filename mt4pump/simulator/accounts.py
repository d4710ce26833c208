"""Account groups and trading accounts: their ConGroup and UserRecord tables."""

from __future__ import annotations

import struct
from dataclasses import replace

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_GROUP, CON_GROUP_SEC, USER_RECORD
from mt4pump.simulator.context import Context
from mt4pump.simulator.market import SECURITIES
from mt4pump.simulator.orders import SimulatedAccount, SimulatedGroup

LEAK_MARK = "SECRET-"
"""Every secret field of every simulated record begins with it, so that a leak can be searched for."""

EXECUTION_AUTO, MARGIN_MODE_USE_ALL, NEWS_FULL, RIGHTS = 1, 1, 2, 1 | 2 | 4 | 8

GROUPS = (
    SimulatedGroup("real-std", "USD", 200, 0.0, 100, 50),
    SimulatedGroup("real-ecn", "USD", 500, 7.0, 80, 50),
    SimulatedGroup("real-eur", "EUR", 100, 0.0, 100, 50),
    SimulatedGroup("real-vip", "USD", 100, 4.0, 120, 30),
)

FIRST_LOGIN = 10_001
LEVERAGES = (50, 100, 100, 200, 200, 500)
DEPOSITS = (500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 100_000.0)
LIVE_LEVELS = 2_000
"""Up to so many accounts have their margin levels counted at present prices whenever they are read."""
GAMBLER_SHARE = 0.12
"""Part of the accounts that trades far too large: they are where margin calls come from."""
GAMBLER_LEVERAGE = 500

FIRST_NAMES = (
    "Anna", "Björn", "Chloé", "David", "Elena", "François", "Giulia", "Hans", "Inés", "José", "Katarína", "Liam",
    "María", "Nguyen", "Olga", "Pedro", "Quentin", "Rashid", "Søren", "Tomás", "Ursula", "Viktor", "Wei", "Yuki", "Zoë",
)  # fmt: skip
LAST_NAMES = (
    "Andersen", "Brown", "Costa", "Dubois", "Eriksson", "Fischer", "García", "Hoffmann", "Ivanov", "Jansen", "Kowalski",
    "López", "Müller", "Novák", "O'Brien", "Petrov", "Rossi", "Schäfer", "Tanaka", "Weiß", "Zhang",
)  # fmt: skip
PLACES = (
    ("Germany", "Köln", "50667"), ("France", "Lyon", "69001"), ("Spain", "Málaga", "29001"),
    ("Italy", "Forlì", "47121"), ("United Kingdom", "Leeds", "LS1 4DY"),
    ("Poland", "Gdańsk", "80-001"), ("Japan", "Osaka", "530-0001"),
    ("Brazil", "São Paulo", "01000-000"), ("Denmark", "Århus", "8000"), ("Cyprus", "Limassol", "3010"),
)  # fmt: skip

MONEY_AT = {name: USER_RECORD.by_name[name].offset for name in ("balance", "credit")}
TIMES_AT = {name: USER_RECORD.by_name[name].offset for name in ("lastdate", "timestamp")}
GROUP_AT = USER_RECORD.by_name["group"]
_put_float = struct.Struct("<d").pack_into
_put_int = struct.Struct("<i").pack_into


def con_group(group: SimulatedGroup, encoding: str) -> bytes:
    """Return the group's ConGroup record; its secrets are filled with marked text."""
    security = CON_GROUP_SEC.pack(
        {
            "show": 1, "trade": 1, "execution": EXECUTION_AUTO, "comm_base": group.commission, "lot_min": 1,
            "lot_max": 10_000, "lot_step": 1, "ie_deviation": 5, "comm_lots": 0, "spread_diff": 0,
        }
    )  # fmt: skip
    return CON_GROUP.pack(
        {
            "group": group.group, "enable": 1, "timeout": 7, "company": "Simulated Brokers Ltd.",
            "signature": "Yours, the simulator", "support_page": "https://broker.example/support",
            "smtp_server": "mail.broker.example", "smtp_login": f"{LEAK_MARK}smtp-login",
            "smtp_password": f"{LEAK_MARK}smtp-password", "support_email": "help@broker.example",
            "templates": "templates", "copies": 1, "default_leverage": group.leverage, "default_deposit": 10_000.0,
            "maxsecurities": 4096, "secgroups": [security] * len(SECURITIES), "currency": group.currency,
            "margin_call": group.margin_call, "margin_mode": MARGIN_MODE_USE_ALL,
            "margin_stopout": group.margin_stopout, "interestrate": group.interestrate, "use_swap": 1,
            "news": NEWS_FULL, "rights": RIGHTS, "hedge_largeleg": 1,
        },
        encoding,
    )  # fmt: skip


class GroupTable:
    """The groups by name, and their records."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self.by_name = {group.group: group for group in GROUPS}
        self._records = {group.group: con_group(group, encoding) for group in GROUPS}

    def change(self, name: str, *, interestrate: float) -> bytes:
        """Give a group another interest rate and return its new record."""
        self.by_name[name] = replace(self.by_name[name], interestrate=interestrate)
        self._records[name] = con_group(self.by_name[name], self._encoding)
        return self._records[name]

    def table(self) -> bytes:
        """Return the ConGroup array."""
        return b"".join(self._records.values())


class AccountTable:
    """All accounts, in the order of their logins; every change of a record is told by UPDATE_USERS."""

    def __init__(self, stage: Context, groups: GroupTable) -> None:
        self._stage = stage
        self._random = stage.random
        self._groups = groups
        self._next_login = FIRST_LOGIN
        self._levels: dict[int, bytes] = {}
        self._stale: dict[int, SimulatedAccount] = {}
        self.by_login: dict[int, SimulatedAccount] = {}
        self.all: list[SimulatedAccount] = []

    def populate(self, count: int) -> None:
        """Open ``count`` accounts without telling anybody."""
        for _ in range(count):
            self._open()

    def register(self) -> SimulatedAccount:
        """Open one more account and tell it."""
        account = self._open()
        self._stage.emit(PumpCode.UPDATE_USERS, Transaction.ADD, bytes(account.record))
        return account

    def remove(self, account: SimulatedAccount) -> None:
        """Delete an account that has no orders, and tell it."""
        del self.by_login[account.login]
        self.all.remove(account)
        self._levels.pop(account.login, None)
        self._stale.pop(account.login, None)
        self._stage.emit(PumpCode.UPDATE_USERS, Transaction.DELETE, bytes(account.record))

    def move(self, account: SimulatedAccount, group: SimulatedGroup) -> None:
        """Move an account to another group of the same currency, and tell it."""
        account.group = group
        raw = group.group.encode("ascii").ljust(GROUP_AT.size, b"\0")
        account.record[GROUP_AT.offset : GROUP_AT.offset + GROUP_AT.size] = raw
        self._touch(account)
        self.touch_level(account)
        self._stage.emit(PumpCode.UPDATE_USERS, Transaction.CHANGE_GRP, bytes(account.record))

    def pay(self, account: SimulatedAccount, *, balance: float = 0.0, credit: float = 0.0) -> None:
        """Add to an account's balance or credit, and tell it."""
        account.balance = round(account.balance + balance, 2)
        account.credit = round(account.credit + credit, 2)
        _put_float(account.record, MONEY_AT["balance"], account.balance)
        _put_float(account.record, MONEY_AT["credit"], account.credit)
        self._touch(account)
        self.touch_level(account)
        self._stage.emit(PumpCode.UPDATE_USERS, Transaction.UPDATE, bytes(account.record))

    def users(self) -> bytes:
        """Return the UserRecord array."""
        return b"".join(account.record for account in self.all)

    def margins(self) -> bytes:
        """Return the MarginLevel array: accounts with open positions only, as in the API.

        Of more than `LIVE_LEVELS` accounts the levels are those of when each was checked last, or traded last: all at
        present prices would take seconds, in which nothing else could happen.
        """
        if len(self.all) <= LIVE_LEVELS:
            return b"".join(account.margin_level() for account in self.all if account.positions)
        for account in self._stale.values():
            self.note_level(account)
        self._stale.clear()
        return b"".join(self._levels.values())

    def touch_level(self, account: SimulatedAccount) -> None:
        """Note that the positions or the money of ``account`` changed."""
        if len(self.all) > LIVE_LEVELS:
            self._stale[account.login] = account

    def note_level(self, account: SimulatedAccount) -> None:
        """Keep the margin level of ``account`` as it is at present prices."""
        if len(self.all) <= LIVE_LEVELS:
            return
        if account.login in self.by_login and account.positions:
            self._levels[account.login] = account.margin_level()
        else:
            self._levels.pop(account.login, None)

    def note_levels(self) -> None:
        """Keep the margin levels of all accounts."""
        for account in self.all:
            self.note_level(account)
        self._stale.clear()

    def _touch(self, account: SimulatedAccount) -> None:
        now = self._stage.clock.server_time_s
        _put_int(account.record, TIMES_AT["lastdate"], now)
        _put_int(account.record, TIMES_AT["timestamp"], now)

    def _open(self) -> SimulatedAccount:
        random, login = self._random, self._next_login
        self._next_login += 1
        group = random.choice(tuple(self._groups.by_name.values()))
        is_gambler = random.random() < GAMBLER_SHARE
        leverage = GAMBLER_LEVERAGE if is_gambler else random.choice(LEVERAGES)
        account = SimulatedAccount(login, group, leverage, random.choice(DEPOSITS), is_gambler=is_gambler)
        account.record = bytearray(self._record(account))
        self.by_login[login] = account
        self.all.append(account)
        return account

    def _record(self, account: SimulatedAccount) -> bytes:
        random, login, now = self._random, account.login, self._stage.clock.server_time_s
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        country, city, zipcode = random.choice(PLACES)
        return USER_RECORD.pack(
            {
                "login": login, "group": account.group.group, "enable": 1, "enable_change_password": 1,
                "password": f"{LEAK_MARK}pw{login}", "password_investor": f"{LEAK_MARK}in{login}",
                "password_phone": f"{LEAK_MARK}phone-password-{login}", "otp_secret": f"{LEAK_MARK}otp-{login}",
                "secure_reserved": f"{LEAK_MARK}reserved-{login}", "name": f"{first} {last}", "country": country,
                "city": city, "zipcode": zipcode, "address": f"{1 + login % 97} Market Street",
                "phone": f"+00 555 {login}", "email": f"trader{login}@mail.example", "id": f"ID-{login:08d}",
                "status": "RE" if account.group.group.startswith("real") else "NR", "lead_source": "simulator",
                "regdate": now - random.randrange(86_400, 1000 * 86_400), "lastdate": now, "timestamp": now,
                "leverage": account.leverage, "balance": account.balance, "prevmonthbalance": account.balance,
                "prevbalance": account.balance, "prevmonthequity": account.balance, "prevequity": account.balance,
                "last_ip": 0x0100007F, "send_reports": 1, "user_color": 0xFF000000,
            },
            self._stage.encoding,
        )  # fmt: skip
