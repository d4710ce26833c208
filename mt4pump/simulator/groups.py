"""The simulated account groups and their ConGroup records; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mt4pump.mt4.layout import CON_GROUP, CON_GROUP_SEC
from mt4pump.simulator.market import SECURITIES

LEAK_MARK = "SECRET-"
"""Every secret field of every simulated record begins with it, so that a leak can be searched for."""

EXECUTION_AUTO, MARGIN_MODE_USE_ALL, NEWS_FULL, RIGHTS = 1, 1, 2, 1 | 2 | 4 | 8


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """Terms of a group of accounts.

    ``commission`` is deposit currency per lot and round turn; ``margin_call`` and ``margin_stopout`` are percent.
    """

    group: str
    currency: str
    leverage: int
    commission: float
    margin_call: int
    margin_stopout: int
    interestrate: float = 0.0


GROUPS = (
    SimulatedGroup("real-std", "USD", 200, 0.0, 100, 50),
    SimulatedGroup("real-ecn", "USD", 500, 7.0, 80, 50),
    SimulatedGroup("real-eur", "EUR", 100, 0.0, 100, 50),
    SimulatedGroup("real-vip", "USD", 100, 4.0, 120, 30),
)


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
