"""Where the events of ``mt4pump tail`` go: lines, or a screen that is redrawn in place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live

from mt4pump.cli.alerts import AlertTracker
from mt4pump.cli.format import human_event, json_event
from mt4pump.cli.screen import screen
from mt4pump.cli.stats import ReceivedEvent, StreamStats
from mt4pump.log import one_line
from mt4pump.process.streams import pipe_error

CHECK_INTERVAL_S = 1.0
REDRAW_INTERVAL_S = 0.25


class View(Protocol):
    """Where events go."""

    def __enter__(self) -> object:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""

    def event(self, event: ReceivedEvent) -> None:
        """Show one event."""

    def refresh(self, now_s: float) -> None:
        """Show what else has changed; called several times a second."""


def line_view(stats: StreamStats, endpoint: str, *, as_json: bool) -> Lines:
    """Return lines on standard output, as JSON or for people; alerts on standard error."""
    return Lines(stats, endpoint, json_event if as_json else human_event, sys.stdout, sys.stderr)


class Lines:
    """One line per event to ``out``; alerts to ``alert_out``, at most a few per second."""

    def __init__(
        self, stats: StreamStats, endpoint: str, text_of: Callable[[ReceivedEvent], str], out: TextIO, alert_out: TextIO
    ) -> None:
        self._stats = stats
        self._endpoint = endpoint
        self._text_of = text_of
        self._out = out
        self._alert_out = alert_out
        self._alerts = AlertTracker()
        self._checked_s = stats.started_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._report_alerts(time.monotonic())

    def event(self, event: ReceivedEvent) -> None:
        """Write one line."""
        try:
            self._out.write(self._text_of(event) + "\n")
        except OSError as error:
            raise pipe_error(error) from error

    def refresh(self, now_s: float) -> None:
        """Flush the lines; once a second report alerts."""
        try:
            self._out.flush()
        except OSError as error:
            raise pipe_error(error) from error
        if now_s - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = now_s
            self._report_alerts(now_s)

    def _report_alerts(self, now_s: float) -> None:
        for alert in self._alerts.check(self._stats, self._endpoint, now_s):
            print(f"mt4pump tail: {one_line(alert.text)}", file=self._alert_out, flush=True)


class Screen:
    """A table that is redrawn in place."""

    def __init__(self, stats: StreamStats, endpoint: str, console: Console) -> None:
        self._stats = stats
        self._endpoint = endpoint
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._drawn_s = 0.0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def event(self, event: ReceivedEvent) -> None:
        """Do nothing: the event is counted, and drawn at the next refresh."""

    def refresh(self, now_s: float) -> None:
        """Redraw, a few times a second."""
        if now_s - self._drawn_s < REDRAW_INTERVAL_S:
            return
        self._drawn_s = now_s
        self._stats.measure(now_s)
        self._live.update(screen(self._stats, self._endpoint, now_s, self._console.size.height), refresh=True)
