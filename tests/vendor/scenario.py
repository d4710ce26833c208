"""Scripts for a fake library in another process: see script.c for the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mt4pump.bridge.interface import METHODS
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CON_SYMBOL, SYMBOL_INFO, TRADE_RECORD

VARIABLE = "FAKE_MT4_SCRIPT"
"""Environment variable: the script that the library plays from its first interface on."""
LOGIN, PASSWORD, SERVER = 5, "canary-session-password", "fake:443"
QUOTES, TRADES = 50, 20


class Scenario:
    """A script that grows command by command, in ``folder``; ``spell`` names a path as the library's system does."""

    def __init__(self, folder: Path, spell: Callable[[Path], str] = str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._spell = folder, spell
        self._lines: list[str] = []

    def do(self, *words: object) -> None:
        """Add a command as it is."""
        self._lines.append(" ".join(map(str, words)))

    def table(self, method: str, records: Iterable[bytes]) -> None:
        """Set what the table method (``TradesGet``) returns."""
        self.do("table", METHODS[method].slot, self._file(records))

    def quotes(self, records: Iterable[bytes]) -> None:
        """Set prices."""
        self.do("quotes", self._file(records))

    def once_called(self, method: str, times: int = 1) -> None:
        """Wait until the daemon called ``method`` so often."""
        self.do("once_called", METHODS[method].slot, times)

    def once_there(self, name: str) -> Path:
        """Wait for a file that the test makes; returns its path."""
        path = self._folder / name
        self.do("once_there", self._spell(path))
        return path

    def emit(self, code: int, action: int, records: Iterable[bytes], *, pace_ms: int = 0) -> None:
        """Call back once per record."""
        whole = list(records)
        self.do("emit", code, action, len(whole[0]), pace_ms, self._file(whole))

    def write(self) -> str:
        """Write the script and return its path as the library's system spells it."""
        path = self._folder / "script.txt"
        path.write_text("".join(f"{line}\n" for line in self._lines), encoding="utf-8")
        return self._spell(path)

    def _file(self, records: Iterable[bytes]) -> str:
        path = self._folder / f"records-{len(self._lines)}.bin"
        path.write_bytes(b"".join(records))
        return self._spell(path)


def trade(order: int) -> bytes:
    """Return an open order of account 1001."""
    fields = {"order": order, "login": 1001, "symbol": "EURUSD", "digits": 5, "volume": 100, "open_time": 99}
    return TRADE_RECORD.pack({**fields, "open_price": 1.1})


def trading(folder: Path, spell: Callable[[Path], str] = str) -> tuple[Scenario, Path]:
    """Return a session that waits for the file also returned, then moves EURUSD and opens orders 1, 2, 3 ..."""
    scenario = Scenario(folder, spell)
    scenario.do("accept", LOGIN, PASSWORD, SERVER)
    scenario.table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "EURUSD", "digits": 5, "point": 1e-5})])
    price = {"symbol": "EURUSD", "digits": 5, "point": 1e-5, "bid": 1.1, "ask": 1.10012, "high": 1.2, "low": 1.0}
    scenario.quotes([SYMBOL_INFO.pack(price)])
    scenario.do("ping", 200)
    scenario.do("once_pumping")
    scenario.once_called("SymbolAdd")
    go = scenario.once_there("go")
    scenario.do("quotes_run", QUOTES, 1, 20)
    scenario.emit(PumpCode.UPDATE_TRADES, 0, [trade(order) for order in range(1, TRADES + 1)])
    return scenario, go
