"""What the monitor knows at this moment, for whoever shows it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mt4pump.client import Margin, Status
from mt4pump_consumers.monitor.alert import Alert
from mt4pump_consumers.monitor.execution import Execution
from mt4pump_consumers.monitor.exposure import AccountExposure

EXECUTIONS_SHOWN = 200
LINES_SHOWN = 50


class Call(NamedTuple):
    """An account in margin call (``level_type`` 1) or stop-out (2). ``ts``: when it was last told of."""

    login: int
    level_type: int
    margin_level: float
    equity: float
    margin: float
    ts: int


class ExecutionLine(NamedTuple):
    """A line of the log, or an alert. ``level`` is logging's number."""

    ts: int
    level: int
    text: str


@dataclass(slots=True)
class MonitorState:
    """All of it. ``is_whole``: the exposure began with a snapshot, so it has what was open before, too.

    ``held_wal_bytes``: size of the store's write-ahead log while another program keeps it from being emptied.
    """

    exposure: AccountExposure = field(default_factory=AccountExposure)
    calls: dict[int, Call] = field(default_factory=dict)
    executions: deque[Execution] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_SHOWN))
    lines: deque[ExecutionLine] = field(default_factory=lambda: deque(maxlen=LINES_SHOWN))
    results: dict[int, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    status: Status | None = None
    is_whole: bool = False
    trouble: str = ""
    held_wal_bytes: int = 0

    def executed(self, done: Execution) -> None:
        """Show an execution, and count what the account won or lost by it since the monitor runs."""
        self.executions.append(done)
        self.counts["executions"] += 1
        if done.change == "closed":
            self.results[done.login] = self.results.get(done.login, 0.0) + done.result

    def alerted(self, alert: Alert, level: int) -> None:
        """Show an alert."""
        self.counts["alerts"] += 1
        self.lines.append(ExecutionLine(alert.ts, level, f"[{alert.rule}] {alert.text}"))

    def margin(self, event: Margin) -> None:
        """Take an account's margin."""
        level = 0 if event.action == "delete" else event.level_type or 0
        login = int(event.key) if event.key.isdecimal() else event.login
        if level:
            numbers = (event.margin_level or 0.0, event.equity or 0.0, event.margin or 0.0)
            self.calls[login] = Call(login, level, *numbers, event.ts)
        else:
            self.calls.pop(login, None)

    def begin(self, *, is_whole: bool) -> None:
        """Forget what a snapshot tells anew."""
        self.exposure.clear()
        self.calls.clear()
        self.is_whole = is_whole

    def symbols(self) -> list[tuple[str, Any]]:
        """Return symbol and sums, the largest gross volume first."""
        return sorted(self.exposure.symbols.items(), key=lambda item: (-item[1].gross, item[0]))

    def accounts(self) -> list[tuple[int, Any]]:
        """Return login and sums, the largest gross volume first."""
        return sorted(self.exposure.accounts.items(), key=lambda item: (-item[1].gross, item[0]))
