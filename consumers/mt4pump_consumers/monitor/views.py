"""Views: a live screen, JSON lines for a pipe, or none."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live

from mt4pump.client import Notice
from mt4pump.process.program import Shutdown
from mt4pump_consumers.monitor import screen
from mt4pump_consumers.monitor.execution import NS, Alert, Execution
from mt4pump_consumers.monitor.state import ExecutionLine, MonitorState

WAIT_S = 0.2


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

    def close(self) -> None:
        """Give the terminal back."""


class JsonLines(MonitorView):
    """One JSON object per line: ``{"type": "execution" | "alert" | "notice", …}``; ends the program with its reader."""

    def __init__(self, out: TextIO, shutdown: Shutdown) -> None:
        self._out = out
        self._shutdown = shutdown
        self._descriptor = out.fileno()
        self._is_gone = False

    def executions(self, executions: Sequence[Execution]) -> None:
        """Write a line each."""
        self._write([{"type": "execution", **done.as_dict()} for done in executions])

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write a line each."""
        self._write([{"type": "alert", **alert.as_dict()} for alert in alerts])

    def notice(self, notice: Notice) -> None:
        """Write a line."""
        reported = {"kind": notice.kind, "text": notice.text, "topic": notice.topic, "count": notice.count}
        self._write([{"type": "notice", "ts": time.time_ns(), **reported}])

    def close(self) -> None:
        """Keep the interpreter from writing to a reader that is gone, when it ends."""
        if self._is_gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._descriptor)

    def _write(self, objects: Sequence[dict[str, Any]]) -> None:
        data = "".join(f"{_json_line(each)}\n" for each in objects).encode()
        while data and not self._is_gone:
            if not self._may_write():
                if self._shutdown.asked():
                    return  # a reader that does not read must not keep the program from its end
                continue
            try:
                data = data[
                    os.write(self._descriptor, data[: select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512]) :
                ]
            except OSError:  # the reader is gone
                self._is_gone = True
                self._shutdown.ask()

    def _may_write(self) -> bool:
        """Wait a moment for room in the pipe; Windows has no such call, and waits inside the write."""
        if sys.platform == "win32":
            return True
        return bool(select.select([], [self._descriptor], [], WAIT_S)[1])


class MonitorScreen(MonitorView):
    """The live screen. The log, which would tear it, goes into it, unless it goes elsewhere than the terminal."""

    def __init__(self, state: MonitorState, refresh_s: float) -> None:
        self._state = state
        self._refresh_s = refresh_s
        self._due_s = 0.0
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)
        self._handler = _StateHandler(state)
        self._others = _on_terminal(logging.getLogger())
        logging.getLogger().addHandler(self._handler)
        for other in self._others:
            logging.getLogger().removeHandler(other)
        self._live.start()

    def refresh(self, now_s: float) -> None:
        """Draw, when the last picture is old enough."""
        if now_s < self._due_s:
            return
        size = self._console.size
        self._live.update(screen.draw(self._state, size.width, size.height), refresh=True)
        # A slow terminal, or a large one, gets fewer pictures rather than all our time.
        took_s = time.monotonic() - now_s
        self._due_s = now_s + max(self._refresh_s, took_s * 4)

    def close(self) -> None:
        """Give the terminal back, and the log to where it went before."""
        self._live.stop()
        root = logging.getLogger()
        root.removeHandler(self._handler)
        for other in self._others:
            root.addHandler(other)


class _StateHandler(logging.Handler):
    """Adds log lines to the state; alerts are there already."""

    def __init__(self, state: MonitorState) -> None:
        super().__init__()
        self._state = state

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "alert"):
            self._state.lines.append(ExecutionLine(int(record.created * NS), record.levelno, record.getMessage()))


def _json_line(value: dict[str, Any]) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")  # the one control character that JSON takes as it is


def _on_terminal(root: logging.Logger) -> list[logging.Handler]:
    return [
        handler for handler in root.handlers if isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
    ]


def view_for(kind: str, state: MonitorState, refresh_s: float, shutdown: Shutdown) -> MonitorView:
    """Return the view that the setting ``view`` names."""
    if kind == "json":
        return JsonLines(sys.stdout, shutdown)
    if kind == "live" or (kind == "auto" and sys.stdout.isatty()):
        return MonitorScreen(state, refresh_s)
    return MonitorView()
