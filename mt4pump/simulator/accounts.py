"""Account groups and trading accounts: their ConGroup, UserRecord and MarginLevel tables."""

from __future__ import annotations

import struct
from dataclasses import replace

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_GROUP, CON_GROUP_SEC, MARGIN_LEVEL, USER_RECORD
from mt4pump.simulator.context import Context, RecordArray
from mt4pump.simulator.market import SECURITIES
from mt4pump.simulator.orders import SimulatedAccount, SimulatedGroup

LEAK_PREFIX = "SECRET-"
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
LIVE_LEVELS_LIMIT = 2_000
"""Up to so many accounts have their margin levels computed at current prices whenever they are read."""
GAMBLER_SHARE = 0.12
"""Part of the accounts that trades far too large: margin calls come from them."""
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

OFFSETS = {name: field.offset for name, field in USER_RECORD.by_name.items()}
GROUP_BYTES = USER_RECORD.by_name["group"].size
put_int, _put_float = struct.Struct("<i").pack_into, struct.Struct("<d").pack_into


def con_group(group: SimulatedGroup, encoding: str) -> bytes:
    """Return the group's ConGroup record; its secrets begin with `LEAK_PREFIX`."""
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
            "smtp_server": "mail.broker.example", "smtp_login": f"{LEAK_PREFIX}smtp-login",
            "smtp_password": f"{LEAK_PREFIX}smtp-password", "support_email": "help@broker.example",
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
        """Set another interest rate for a group and return its new record."""
        self.by_name[name] = replace(self.by_name[name], interestrate=interestrate)
        self._records[name] = con_group(self.by_name[name], self._encoding)
        return self._records[name]

    def table(self) -> bytes:
        """Return the ConGroup array."""
        return b"".join(self._records.values())


class AccountTable:
    """All accounts; every change of a record is sent as UPDATE_USERS.

    Of more than `LIVE_LEVELS_LIMIT` accounts, the margin levels are those of when each was last checked or last traded:
    all at current prices would take seconds, in which nothing else could happen.
    """

    def __init__(self, context: Context, groups: GroupTable) -> None:
        self._context = context
        self._random = context.random
        self._groups = groups
        self._next_login = FIRST_LOGIN
        self._records = RecordArray(USER_RECORD.size)
        self._levels = RecordArray(MARGIN_LEVEL.size)
        self._stores_levels = False
        self.by_login: dict[int, SimulatedAccount] = {}
        self.all: list[SimulatedAccount] = []

    def open(self) -> SimulatedAccount:
        """Open an account; no event is sent."""
        random, login = self._random, self._next_login
        self._next_login += 1
        group = random.choice(tuple(self._groups.by_name.values()))
        is_gambler = random.random() < GAMBLER_SHARE
        leverage = GAMBLER_LEVERAGE if is_gambler else random.choice(LEVERAGES)
        deposit = random.choice(DEPOSITS)
        account = SimulatedAccount(login, group, leverage, deposit, deposit, is_gambler)
        self._records[login] = self._record(account)
        self.by_login[login] = account
        self.all.append(account)
        return account

    def register(self) -> None:
        """Open one more account."""
        account = self.open()
        self._context.emit(PumpCode.UPDATE_USERS, Transaction.ADD, self._records[account.login])

    def remove(self, account: SimulatedAccount) -> None:
        """Delete an account that has no orders."""
        del self.by_login[account.login]
        self.all.remove(account)
        record = self._records[account.login]
        self._records.discard(account.login)
        self._levels.discard(account.login)
        self._context.emit(PumpCode.UPDATE_USERS, Transaction.DELETE, record)

    def move(self, account: SimulatedAccount, group: SimulatedGroup) -> None:
        """Move an account to another group of the same currency."""
        account.group = group
        offset = self._records.offset(account.login) + OFFSETS["group"]
        self._records.data[offset : offset + GROUP_BYTES] = group.group.encode("ascii").ljust(GROUP_BYTES, b"\0")
        self._send_change(Transaction.CHANGE_GRP, account)

    def pay(self, account: SimulatedAccount, *, balance: float = 0.0, credit: float = 0.0) -> None:
        """Add to an account's balance or credit."""
        account.balance = round(account.balance + balance, 2)
        account.credit = round(account.credit + credit, 2)
        offset = self._records.offset(account.login)
        _put_float(self._records.data, offset + OFFSETS["balance"], account.balance)
        _put_float(self._records.data, offset + OFFSETS["credit"], account.credit)
        self._send_change(Transaction.UPDATE, account)

    def users(self) -> bytes:
        """Return the UserRecord array."""
        return bytes(self._records)

    def margins(self) -> bytes:
        """Return the MarginLevel array: accounts with open positions only, as in the API."""
        if self._stores_levels:
            return bytes(self._levels)
        return b"".join(account.margin_level() for account in self.all if account.positions)

    def store_levels(self) -> None:
        """Store the margin levels from now on, if there are too many to compute them at each read."""
        self._stores_levels = len(self.all) > LIVE_LEVELS_LIMIT
        for account in self.all:
            self.update_level(account)

    def update_level(self, account: SimulatedAccount) -> None:
        """Store the margin level of ``account`` at current prices, if levels are stored."""
        if not self._stores_levels:
            return
        if account.positions:
            self._levels[account.login] = account.margin_level()
        else:
            self._levels.discard(account.login)

    def _send_change(self, action: int, account: SimulatedAccount) -> None:
        now, offset = self._context.server_time_s, self._records.offset(account.login)
        put_int(self._records.data, offset + OFFSETS["lastdate"], now)
        put_int(self._records.data, offset + OFFSETS["timestamp"], now)
        self.update_level(account)
        self._context.emit(PumpCode.UPDATE_USERS, action, self._records[account.login])

    def _record(self, account: SimulatedAccount) -> bytes:
        random, login, now = self._random, account.login, self._context.server_time_s
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        country, city, zipcode = random.choice(PLACES)
        return USER_RECORD.pack(
            {
                "login": login, "group": account.group.group, "enable": 1, "enable_change_password": 1,
                "password": f"{LEAK_PREFIX}pw{login}", "password_investor": f"{LEAK_PREFIX}in{login}",
                "password_phone": f"{LEAK_PREFIX}phone-password-{login}", "otp_secret": f"{LEAK_PREFIX}otp-{login}",
                "secure_reserved": f"{LEAK_PREFIX}reserved-{login}", "name": f"{first} {last}", "country": country,
                "city": city, "zipcode": zipcode, "address": f"{1 + login % 97} Market Street",
                "phone": f"+00 555 {login}", "email": f"trader{login}@mail.example", "id": f"ID-{login:08d}",
                "status": "RE" if account.group.group.startswith("real") else "NR", "lead_source": "simulator",
                "regdate": now - random.randrange(86_400, 1000 * 86_400), "lastdate": now, "timestamp": now,
                "leverage": account.leverage, "balance": account.balance, "prevmonthbalance": account.balance,
                "prevbalance": account.balance, "prevmonthequity": account.balance, "prevequity": account.balance,
                "last_ip": 0x0100007F, "send_reports": 1, "user_color": 0xFF000000,
            },
            self._context.encoding,
        )  # fmt: skip
