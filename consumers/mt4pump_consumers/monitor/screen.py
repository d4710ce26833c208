"""The live screen; pure: returns what rich draws of state and controls, exactly as large as the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from mt4pump.client import Status, one_line
from mt4pump_consumers.monitor.controls import ScreenControls
from mt4pump_consumers.monitor.layout import GROUP_GAP, HEAD_LINES, Lines, beside, sized, table_lines
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.tables import STOP_OUT

WIDE = 150
"""Columns from which on all tables stand beside each other."""
EXECUTIONS_WIDTH = 104
"""Width of all columns of the executions."""
STATES = {"pumping": "bold green", "logged_in": "bold yellow", "connecting": "bold yellow"}
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LINE_CALLS = 20
HEIGHT_MIN = 8


def draw(state: MonitorState, controls: ScreenControls, width: int, height: int, *, has_keys: bool) -> RenderableType:
    """Return the whole screen; its last line names the keys, if there are any."""
    head = [state_line(state), subject_line(state, controls)]
    foot = [keys_line(controls)] if has_keys else []
    room = max(height - len(head) - len(foot), HEIGHT_MIN)
    if controls.is_zoomed:
        body = table_lines(controls.focus, state, controls, width, room)
    elif width >= WIDE:
        body = _wide(state, controls, width, room)
    else:
        body = _narrow(state, controls, width, room)
    return Group(*sized([*head, *body, *foot], width, max(height, HEIGHT_MIN)))


def _narrow(state: MonitorState, controls: ScreenControls, width: int, room: int) -> Lines:
    """Executions; two tables beside each other; margin calls in a line, and messages."""
    low = 0 if controls.subject else max(3, room // 7)
    upper = max(HEAD_LINES + 2, (room - 1 - low) * 2 // 5)
    middle = room - 1 - low - upper
    left = (width - GROUP_GAP) // 2
    right = width - GROUP_GAP - left
    one, other = _pair(controls)
    pair = [table_lines(one, state, controls, left, middle), table_lines(other, state, controls, right, middle)]
    lines = [calls_line(state), *table_lines("executions", state, controls, width, upper)]
    lines += beside(pair, [left, right], middle)
    return lines + (table_lines("messages", state, controls, width, low) if low else [])


def _wide(state: MonitorState, controls: ScreenControls, width: int, room: int) -> Lines:
    """Executions, two tables and margin calls beside each other; messages below over the whole width."""
    low = 0 if controls.subject else min(max(4, room // 7), 10)
    high = room - low
    first = min(EXECUTIONS_WIDTH, width // 2)
    middle = (width - first - 2 * GROUP_GAP) // 2
    last = width - first - middle - 2 * GROUP_GAP
    one, other = controls.names[:2]
    calls = 0
    if controls.subject is None:  # margin calls get a third at most, and what the symbols leave
        spare = high - len(state.exposure.symbols) - HEAD_LINES
        calls = max(HEAD_LINES, min(len(state.calls) + HEAD_LINES, max(high // 3, spare)))
    stack = table_lines(one, state, controls, middle, high - calls)
    stack += table_lines("calls", state, controls, middle, calls) if calls else []
    blocks = [table_lines("executions", state, controls, first, high), stack]
    lines = beside([*blocks, table_lines(other, state, controls, last, high)], [first, middle, last], high)
    return lines + (table_lines("messages", state, controls, width, low) if low else [])


def _pair(controls: ScreenControls) -> tuple[str, str]:
    """Return the tables that stand beside each other; margin calls, which have a line, only with the focus."""
    one, other = controls.names[:2]
    return one, "calls" if controls.focus == "calls" else other


# ---- the lines at the top and at the bottom ----


def state_line(state: MonitorState) -> Text:
    """Return how the feed is: the daemon, its session, its last quote."""
    line = Text("mt4pump monitor  ", no_wrap=True, overflow="ellipsis", style="bold")
    status = state.status
    if status is None or status.age_s is None:
        return line.append("no heartbeat yet: is mt4pump there?", "bold yellow")
    if not status.alive:
        line.append(f"DAEMON SILENT {age_text(status.age_s)}", "bold white on red")
        return line.append(f"  was {one_line(status.state)}", "not bold")
    line.append(one_line(status.state), STATES.get(status.state, "bold red"))
    line.append(f"  {one_line(status.server)}", "not bold")
    line.append("  quote ", "not bold dim")
    line.append(_quote_age(status), "not bold")
    if not status.durable:
        line.append("  no journal" if status.log is None else "  JOURNAL FAILS", "bold yellow")
    return line


def _quote_age(status: Status) -> str:
    return "none yet" if status.feed_age_s is None else f"{age_text(status.feed_age_s)} ago"


def counts_line(state: MonitorState) -> Text:
    """Return the counters; what should be zero and is not stands out."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"executions {state.counts['executions']:,}  alerts {state.counts['alerts']:,}")
    positions = sum(sums.positions for sums in state.exposure.symbols.values())
    line.append(f"  open {positions:,}" + ("" if state.is_whole else " (without older ones)"))
    for name, style in (("healed", "yellow"), ("lost", "bold red"), ("unsent", "yellow"), ("failed", "bold red")):
        if count := state.counts[name]:
            line.append(f"  {name} {count:,}", style)
    if state.held_wal_bytes:
        line.append(f"  store's log held {state.held_wal_bytes / 2**20:,.0f} MB", "bold yellow")
    if state.problem:
        line.append(f"  {one_line(state.problem)}", "bold white on red")
    return line


def calls_line(state: MonitorState) -> Text:
    """Return the accounts in margin call, the lowest level first, as far as there is room."""
    found = sorted(state.calls.values(), key=lambda call: call.margin_level)
    line = Text("margin calls ", "bold red" if found else "bold", no_wrap=True, overflow="ellipsis")
    line.append(f"{len(found):,}" if found else "none", "" if found else "not bold dim")
    for call in found[:LINE_CALLS]:
        words = f"  {call.login} {'STOP-OUT ' if call.level_type >= STOP_OUT else ''}{call.margin_level:.0f}%"
        line.append(words, "bold red" if call.level_type >= STOP_OUT else "not bold yellow")
    return line


def subject_line(state: MonitorState, controls: ScreenControls) -> Text:
    """Return the counters, behind the symbol or account that is open."""
    line = counts_line(state)
    if controls.subject is None:
        return line
    return Text.assemble((f" {controls.subject} ", "bold reverse"), "  ", line, no_wrap=True)


def keys_line(controls: ScreenControls) -> Text:
    """Return the keys, or the filter that is typed."""
    if controls.is_typing:
        text = controls.tables[controls.focus].filter
        return Text(f"filter {controls.focus}: {text}_   Enter keep  Esc clear", "yellow", no_wrap=True)
    return Text(controls.help, "dim", no_wrap=True, overflow="ellipsis")


def age_text(age_s: float) -> str:
    """Return an age in the unit that fits."""
    if age_s < 10:
        return f"{age_s:.1f} s"
    for limit_s, unit_s, unit in ((MINUTE_S * 2, 1, "s"), (HOUR_S * 2, MINUTE_S, "min"), (DAY_S * 2, HOUR_S, "h")):
        if age_s < limit_s:
            return f"{age_s / unit_s:.0f} {unit}"
    return f"{age_s / DAY_S:.0f} d"
