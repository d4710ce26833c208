"""Trading accounts and their UserRecords."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mt4pump.mt4.codes import MarginLevelType, PumpCode, Transaction
from mt4pump.mt4.layout import MARGIN_LEVEL, USER_RECORD
from mt4pump.simulator.context import Context
from mt4pump.simulator.groups import LEAK_MARK, GroupTable, SimulatedGroup


@dataclass(frozen=True, slots=True)
class SymbolExposure:
    """One open position. ``margin`` and ``profit`` in deposit currency, ``volume`` in hundredths of a lot.

    ``profit`` is the whole result so far: price, swap and commission.
    """

    symbol: str
    is_buy: bool
    volume: int
    margin: float
    profit: float


class Levels(NamedTuple):
    """Where an account stands, deposit currency; ``margin_level`` percent, 0 when no margin is needed."""

    equity: float
    volume: int
    margin: float
    margin_free: float
    margin_level: float


def position_margin(volume: int, contract_size: float, price: float, margin_rate: float, leverage: int) -> float:
    """Return the margin of one position in deposit currency.

    ``volume`` hundredths of a lot; ``price`` 1.0 for currency pairs, whose margin is counted in the base currency;
    ``margin_rate`` deposit currency per unit of the margin currency.
    """
    return volume / 100 * contract_size * price * margin_rate / leverage


def profit_at(move: float, volume: int, contract_size: float, rate: float) -> float:
    """Return the money made by ``move`` (price, in our favour); ``rate`` deposit currency per quote currency."""
    return round(move * volume / 100 * contract_size * rate, 2)


def levels(balance: float, credit: float, exposures: Iterable[SymbolExposure]) -> Levels:
    """Return where an account with these positions stands."""
    equity, volume = balance + credit, 0
    legs: dict[str, list[float]] = {}
    for exposure in exposures:
        equity += exposure.profit
        volume += exposure.volume
        legs.setdefault(exposure.symbol, [0.0, 0.0])[exposure.is_buy] += exposure.margin
    margin = round(sum(max(sides) for sides in legs.values()), 2)
    equity = round(equity, 2)
    return Levels(equity, volume, margin, round(equity - margin, 2), equity / margin * 100 if margin else 0.0)


def level_type(now: Levels, margin_call: int, margin_stopout: int) -> MarginLevelType:
    """Return whether ``now`` is below the group's limits (percent)."""
    if not now.margin or now.margin_level >= margin_call:
        return MarginLevelType.MARGINLEVEL_OK
    if now.margin_level >= margin_stopout:
        return MarginLevelType.MARGINLEVEL_MARGINCALL
    return MarginLevelType.MARGINLEVEL_STOPOUT


if TYPE_CHECKING:
    from mt4pump.simulator.orders import Order

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


class SimulatedAccount:
    """One account: money in deposit currency, open and pending ``orders`` by ticket, and its record's bytes."""

    __slots__ = (
        "balance",
        "credit",
        "deposit",
        "group",
        "is_gambler",
        "level",
        "leverage",
        "login",
        "orders",
        "record",
    )

    def __init__(self, login: int, group: SimulatedGroup, leverage: int, deposit: float, *, is_gambler: bool) -> None:
        self.login = login
        self.group = group
        self.leverage = leverage
        self.deposit = deposit
        self.balance = deposit
        self.credit = 0.0
        self.is_gambler = is_gambler
        self.level = MarginLevelType.MARGINLEVEL_OK
        self.orders: dict[int, Order] = {}
        self.record = bytearray()

    @property
    def positions(self) -> list[Order]:
        """Return the open positions, oldest ticket first."""
        return [order for order in self.orders.values() if order.is_position]

    def exposures(self) -> list[SymbolExposure]:
        """Return the open positions as the margin arithmetic takes them."""
        return [order.exposure() for order in self.orders.values() if order.is_position]

    def levels(self) -> Levels:
        """Return where the account stands at present prices."""
        return levels(self.balance, self.credit, self.exposures())

    def level_type(self, now: Levels) -> MarginLevelType:
        """Return what ``now`` means in the account's group."""
        return level_type(now, self.group.margin_call, self.group.margin_stopout)

    def margin_level(self) -> bytes:
        """Return the account's MarginLevel record, whose balance has the credit in it."""
        now = self.levels()
        balance = round(self.balance + self.credit, 2)
        return MARGIN_LEVEL.struct.pack(
            self.login, self.group.group.encode("ascii"), self.leverage, 0, balance, now.equity, now.volume,
            now.margin, now.margin_free, now.margin_level, 0, self.level_type(now),
        )  # fmt: skip


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
