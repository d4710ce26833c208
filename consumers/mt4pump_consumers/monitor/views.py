"""Views: a live screen, lines for a pipe, for people or as JSON, or none."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live

from mt4pump.client import Notice, one_line
from mt4pump.log import json_line
from mt4pump.process.program import Shutdown
from mt4pump_consumers.monitor import screen
from mt4pump_consumers.monitor.controls import ScreenControls, TerminalKeys
from mt4pump_consumers.monitor.execution import NS, POSITIONS, Alert, Execution, iso_time
from mt4pump_consumers.monitor.state import ExecutionLine, MonitorState

WAIT_S = 0.2
PATIENCE_S = 5.0
"""Time in which a reader takes nothing, after which lines are dropped: rules, store and webhook must go on."""
KEYS_INTERVAL_S = 0.05
NEWLINE = ord("\n")

log = logging.getLogger(__name__)


class MonitorView:
    """Shows what happens; this one shows nothing. Executions and alerts arrive before they are committed."""

    def executions(self, executions: Sequence[Execution]) -> None:
        """Show executions."""

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Show alerts."""

    def notice(self, notice: Notice) -> None:
        """Show a notice of the stream."""

    def refresh(self, now_s: float) -> None:
        """Update the view if it is time."""

    def wait(self, shutdown: Shutdown, timeout_s: float) -> bool:
        """Wait until asked to end, or ``timeout_s``, and keep the view up to date; return whether asked."""
        return shutdown.wait(timeout_s)

    def close(self) -> None:
        """Give the terminal back."""


class LineWriter(MonitorView):
    """Writes lines to a pipe, a file or a terminal that cannot draw; ends the program with its reader.

    Lines for a reader that takes nothing are dropped, whole ones, and counted in ``counts["lines_dropped"]``.
    """

    def __init__(self, out: TextIO, shutdown: Shutdown, counts: Counter[str]) -> None:
        self._shutdown = shutdown
        self._counts = counts
        self._rest = b""  # of a line that was written in part
        self._is_stalled = False
        self._dropped = 0  # since it is stalled
        self._descriptor = out.fileno()
        self._is_gone = False

    def close(self) -> None:
        """Keep the interpreter from writing to a reader that is gone, when it ends."""
        if self._is_gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._descriptor)

    def _write(self, lines: Iterable[str]) -> None:
        rest, self._rest = self._rest, b""
        data = rest + "".join(f"{line}\n" for line in lines).encode()
        is_in_line = bool(rest)
        taken_s = time.monotonic()
        while data and not self._is_gone:
            if not self._may_write():
                if self._shutdown.asked():
                    return  # a reader that does not read must not keep the program from its end
                if self._is_stalled or time.monotonic() - taken_s > PATIENCE_S:
                    self._drop(data, is_in_line=is_in_line)
                    return
                continue
            try:
                size = os.write(self._descriptor, data[: getattr(select, "PIPE_BUF", 512)])
            except OSError:  # the reader is gone
                self._is_gone = True
                self._shutdown.ask()
                return
            is_in_line, data = data[size - 1] != NEWLINE, data[size:]
            taken_s = time.monotonic()
            self._end_stall()

    def _drop(self, data: bytes, *, is_in_line: bool) -> None:
        """Drop whole lines; the rest of one that was written in part is the first that is written later."""
        if not self._is_stalled:
            self._is_stalled = True
            log.warning("standard output takes nothing: its lines are dropped until it does")
        self._rest = data[: data.index(b"\n") + 1] if is_in_line else b""
        count = data.count(b"\n", len(self._rest))
        self._dropped += count
        self._counts["lines_dropped"] += count

    def _end_stall(self) -> None:
        if self._is_stalled:
            log.warning("standard output takes lines again; dropped: %d", self._dropped)
            self._is_stalled, self._dropped = False, 0

    def _may_write(self) -> bool:
        """Wait a moment for room in the pipe; Windows has no such call, and waits inside the write."""
        if sys.platform == "win32":
            return True
        return bool(select.select([], [self._descriptor], [], 0 if self._is_stalled else WAIT_S)[1])


class JsonLines(LineWriter):
    """One JSON object per line: ``{"type": "execution" | "alert" | "notice", …}``."""

    def executions(self, executions: Sequence[Execution]) -> None:
        """Write a line each."""
        self._write(json_line({"type": "execution", **done.as_dict()}) for done in executions)

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write a line each."""
        self._write(json_line({"type": "alert", **alert.as_dict()}) for alert in alerts)

    def notice(self, notice: Notice) -> None:
        """Write a line."""
        reported = {"kind": notice.kind, "text": notice.text, "topic": notice.topic, "count": notice.count}
        self._write([json_line({"type": "notice", "ts": time.time_ns(), **reported})])


class TextLines(LineWriter):
    """One line for people per execution and notice; alerts only if standard output is no terminal: the log has them."""

    def executions(self, executions: Sequence[Execution]) -> None:
        """Write a line each."""
        self._write(execution_line(done) for done in executions)

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write a line each."""
        if not os.isatty(self._descriptor):
            self._write(one_line(f"{iso_time(alert.ts)} alert [{alert.rule}] {alert.text}") for alert in alerts)

    def notice(self, notice: Notice) -> None:
        """Write a line."""
        self._write([one_line(f"{iso_time(time.time_ns())} {notice.kind} {notice.topic or ''} {notice.text}")])


def execution_line(done: Execution) -> str:
    """Return an execution as one line: time (UTC), account, order, and what happened."""
    price = f" at {done.price_text()}" if done.cmd in POSITIONS else ""
    result = f" result {done.result:+,.2f}" if done.change == "closed" else ""
    order = f"{done.change} {done.side} {done.lots:,.2f} {done.symbol}{price}{result}"
    return one_line(f"{iso_time(done.ts)} {done.login} #{done.order} {order}")


class MonitorScreen(MonitorView):
    """The live screen. The log, which would tear it, goes into it, unless it goes elsewhere than the terminal."""

    def __init__(self, state: MonitorState, refresh_s: float, console: Console, shutdown: Shutdown) -> None:
        self._state = state
        self._refresh_s = refresh_s
        self._shutdown = shutdown
        self._due_s = self._keys_due_s = 0.0
        self._console = console
        self._controls = ScreenControls()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)
        self._keys = TerminalKeys()
        self._handler = _StateHandler(state)
        self._others = _on_terminal(logging.getLogger())
        logging.getLogger().addHandler(self._handler)
        for other in self._others:
            logging.getLogger().removeHandler(other)
        try:
            self._live.start()
        except BaseException:
            self.close()
            raise

    def refresh(self, now_s: float) -> None:
        """Handle keys, and draw when one was typed or the last picture is old enough."""
        if now_s >= self._keys_due_s:
            self._keys_due_s = now_s + KEYS_INTERVAL_S
            self._press_keys()
        if now_s < self._due_s:
            return
        size, has_keys = self._console.size, self._keys.is_there
        drawn = screen.draw(self._state, self._controls, size.width, size.height, has_keys=has_keys)
        self._live.update(drawn, refresh=True)
        # A slow terminal, or a large one, gets fewer pictures rather than all our time.
        took_s = time.monotonic() - now_s
        self._due_s = now_s + max(self._refresh_s, took_s * 4)

    def _press_keys(self) -> None:
        for key in self._keys.read():
            self._due_s = 0.0
            if self._controls.press(key, self._state):
                self._shutdown.ask()

    def wait(self, shutdown: Shutdown, timeout_s: float) -> bool:
        """Wait in short slices, so that keys are handled meanwhile."""
        deadline_s = time.monotonic() + timeout_s
        while not shutdown.asked() and (now_s := time.monotonic()) < deadline_s:
            self.refresh(now_s)
            shutdown.wait(min(KEYS_INTERVAL_S, deadline_s - now_s))
        return shutdown.asked()

    def close(self) -> None:
        """Give the terminal back, and the log to where it went before."""
        try:
            self._live.stop()
        finally:  # standard output may be gone, while the terminal of the keys is not
            root = logging.getLogger()
            root.removeHandler(self._handler)
            for other in self._others:
                root.addHandler(other)
            self._keys.close()


class _StateHandler(logging.Handler):
    """Adds log lines to the state; alerts are there already."""

    def __init__(self, state: MonitorState) -> None:
        super().__init__()
        self._state = state

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "alert"):
            self._state.lines.append(ExecutionLine(int(record.created * NS), record.levelno, record.getMessage()))


def _on_terminal(root: logging.Logger) -> list[logging.Handler]:
    return [
        handler for handler in root.handlers if isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
    ]


def view_for(kind: str, state: MonitorState, refresh_s: float, shutdown: Shutdown) -> MonitorView:
    """Return the view that the setting ``view`` names."""
    if kind == "json":
        return JsonLines(sys.stdout, shutdown, state.counts)
    console = Console()
    can_draw = sys.stdout.isatty() and not console.is_dumb_terminal
    if kind == "live" or (kind == "auto" and can_draw):
        return MonitorScreen(state, refresh_s, console, shutdown)
    return MonitorView() if kind == "log" else TextLines(sys.stdout, shutdown, state.counts)
