"""Account groups and trading accounts: their ConGroup, UserRecord and MarginLevel tables."""

from __future__ import annotations

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


class AccountTable:
    """All accounts and their groups; every change of an account is sent as UPDATE_USERS.

    Of more than `LIVE_LEVELS_LIMIT` accounts, the margin levels are those of when each was last checked or last traded:
    all at current prices would take seconds, in which nothing else could happen.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._random = context.random
        self._next_login = FIRST_LOGIN
        self._levels = RecordArray(MARGIN_LEVEL)
        self._stores_levels = False
        self.records = RecordArray(USER_RECORD)
        self.all: list[SimulatedAccount] = []
        self.groups = {group.group: group for group in GROUPS}

    def open(self) -> SimulatedAccount:
        """Open an account; no event is sent."""
        random, login = self._random, self._next_login
        self._next_login += 1
        group = random.choice(tuple(self.groups.values()))
        is_gambler = random.random() < GAMBLER_SHARE
        leverage = GAMBLER_LEVERAGE if is_gambler else random.choice(LEVERAGES)
        deposit = random.choice(DEPOSITS)
        account = SimulatedAccount(login, group, leverage, deposit, deposit, is_gambler)
        self.records[login] = self._record(account)
        self.all.append(account)
        return account

    def register(self) -> None:
        """Open one more account."""
        account = self.open()
        self._context.emit(PumpCode.UPDATE_USERS, Transaction.ADD, self.records[account.login])

    def remove(self, account: SimulatedAccount) -> None:
        """Delete an account that has no orders."""
        self.all.remove(account)
        record = self.records[account.login]
        self.records.discard(account.login)
        self._levels.discard(account.login)
        self._context.emit(PumpCode.UPDATE_USERS, Transaction.DELETE, record)

    def move(self, account: SimulatedAccount, group: SimulatedGroup) -> None:
        """Move an account to another group of the same currency."""
        account.group = group
        self._change(account, Transaction.CHANGE_GRP, group=group.group.encode("ascii"))

    def pay(self, account: SimulatedAccount, *, balance: float = 0.0, credit: float = 0.0) -> None:
        """Add to an account's balance or credit."""
        account.balance = round(account.balance + balance, 2)
        account.credit = round(account.credit + credit, 2)
        self._change(account, Transaction.UPDATE, balance=account.balance, credit=account.credit)

    def change_group(self, name: str, *, interestrate: float) -> None:
        """Set another interest rate for a group."""
        group = self.groups[name] = replace(self.groups[name], interestrate=interestrate)
        self._context.emit(PumpCode.UPDATE_GROUPS, Transaction.UPDATE, con_group(group, self._context.encoding))

    def group_table(self) -> bytes:
        """Return the ConGroup array."""
        return b"".join(con_group(group, self._context.encoding) for group in self.groups.values())

    def margins(self) -> bytes:
        """Return the MarginLevel array: accounts with open positions only, as in the API."""
        if self._stores_levels:
            return self._levels.table()
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

    def _change(self, account: SimulatedAccount, action: int, **values: float | bytes) -> None:
        now = self._context.server_time_s
        self.records.update(account.login, lastdate=now, timestamp=now, **values)
        self.update_level(account)
        self._context.emit(PumpCode.UPDATE_USERS, action, self.records[account.login])

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
