"""The live screen of ``mt4pump tail``; pure: `StreamStats` in, something that rich can draw out."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mt4pump.cli.alerts import StreamAlert, silence
from mt4pump.cli.format import age_text, summary
from mt4pump.cli.stats import StreamStats, TopicStats
from mt4pump.log import one_line

HEAD_LINES = 5
"""Lines above and below the table's rows."""
ALARMS = frozenset({"nothing", "no heartbeat", "late"})
STATE_STYLES = {"pumping": "bold green", "lost": "bold red", "stopping": "bold red"}


def screen(stats: StreamStats, endpoint: str, now_s: float, height: int) -> Group:
    """Return the whole screen, at most ``height`` lines high."""
    rows = stats.most_active(height - HEAD_LINES)
    parts = [state_line(stats, endpoint, now_s), totals_line(stats)]
    parts.append(alert_line(silence(stats, endpoint, now_s), hidden=len(stats.rows) - len(rows)))
    return Group(*parts, table(rows, now_s))


def state_line(stats: StreamStats, endpoint: str, now_s: float) -> Text:
    """Return the daemon's state as its heartbeat says it."""
    daemon = stats.daemon
    state = one_line(str(daemon.get("state", "unknown")))
    line = Text(f"{endpoint}  daemon ", no_wrap=True, overflow="ellipsis")
    line.append(state, STATE_STYLES.get(state, "bold yellow"))
    if stats.heartbeat_s is None:
        return line.append("  heartbeat none yet")
    line.append(f"  server {one_line(str(daemon.get('server') or '-'))}  epoch {stats.epoch}")
    line.append(f"  heartbeat {age_text(now_s - stats.heartbeat_s)} ago")
    for name in ("dropped", "reconnects"):
        if count := daemon.get(name):
            line.append(f"  {name} {one_line(str(count))}", "bold red")
    return line


def totals_line(stats: StreamStats) -> Text:
    """Return the reader's own counters; what should be zero and is not stands out."""
    found = stats.sequence
    line = Text(f"{stats.rate:.0f}/s  events {stats.events}  topics {len(stats.rows)}", no_wrap=True)
    for name, count in (
        ("gaps", found.gaps),
        ("missed", found.missed),
        ("repeats", found.repeats),
        ("garbage", stats.garbage),
        ("restarts", stats.restarts),
    ):
        line.append(f"  {name} {count}", "bold red" if count else "")
    return line


def alert_line(alert: StreamAlert | None, hidden: int) -> Text:
    """Return the line above the table: what is wrong, else how many topics have no room."""
    if alert is not None:
        return Text(
            one_line(alert.text), "bold red" if alert.kind in ALARMS else "yellow", no_wrap=True, overflow="ellipsis"
        )
    return Text(f"{hidden} quieter topics not shown" if hidden else "", "dim")


def table(rows: list[TopicStats], now_s: float) -> Table:
    """Return the topics."""
    made = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    made.add_column("topic", no_wrap=True)
    made.add_column("last", no_wrap=True, ratio=1, overflow="ellipsis")
    for name in ("count", "rate/s", "gaps", "missed", "age"):
        made.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        cells = (f"{row.count}", f"{row.rate:.1f}", f"{row.gaps}", f"{row.missed}", age_text(now_s - row.received_s))
        last = Text(summary(row.topic, row.body))
        made.add_row(Text(one_line(row.topic)), last, *cells, style="red" if row.missed else "")
    return made
