"""Outcomes as a table that a person reads, or as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable

import zmq
from rich.table import Table

from mt4pump import __version__
from mt4pump.bench.runs import Case, Outcome

NAMES = {"mt4pump": "mt4pump", "bare": "bare pyzmq loop", "naive": "naive asyncio"}


def machine() -> str:
    """Return what the figures were measured on, and when."""
    cpu = platform.processor() or platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    day = time.strftime("%Y-%m-%d")
    return (
        f"mt4pump {__version__}, {day}, {platform.system()} {cpu}, {os.cpu_count()} cores, {python}, "
        f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"
    )


def rate_text(rate: float) -> str:
    """Return a pace as people say it."""
    return "flat out" if math.isinf(rate) else f"{rate:,.0f}/s"


def table(outcomes: Iterable[Outcome]) -> Table:
    """Return one row per outcome; ratios are against the other paths of the same kind, pace and subscribers."""
    outcomes = list(outcomes)
    view = Table(title="One-way, callback to subscriber in another process", caption=machine(), caption_justify="left")
    for name in ("events", "pace", "subscribers", "path"):
        view.add_column(name)
    for name in ("sent/s", "of bare", "x naive", "received/s", "lost", "p50 µs", "p99 µs", "p99.9 µs"):
        view.add_column(name, justify="right")
    view.add_column("note")
    for outcome in outcomes:
        view.add_row(*row(outcome, outcomes))
    return view


def row(outcome: Outcome, outcomes: list[Outcome]) -> tuple[str, ...]:
    """Return the cells of one outcome."""
    case, got = outcome.case, outcome.received
    return (
        case.kind,
        rate_text(case.rate),
        str(case.subscribers),
        NAMES[case.path],
        f"{outcome.sent_per_second:,.0f}",
        ratio(outcome, outcomes, "bare", percent=True),
        ratio(outcome, outcomes, "naive", percent=False),
        f"{got.per_second:,.0f}",
        f"{case.events - got.messages:,}",
        *latencies(outcome),
        outcome.note,
    )


def latencies(outcome: Outcome) -> tuple[str, ...]:
    """Return p50, p99 and p99.9 in µs; dashes flat out, where they tell the length of the queue."""
    got = outcome.received
    if math.isinf(outcome.case.rate):
        return ("-",) * 3
    return tuple(f"{value:,.0f}" for value in (got.p50_us, got.p99_us, got.p999_us))


def ratio(outcome: Outcome, outcomes: list[Outcome], path: str, *, percent: bool) -> str:
    """Return how fast ``outcome`` sent compared with ``path`` flat out in the same run, or nothing to compare."""
    if outcome.case.path == path or not math.isinf(outcome.case.rate):
        return ""
    peer = next((other for other in outcomes if same_run(other.case, outcome.case, path)), None)
    if peer is None:
        return ""
    value = outcome.sent_per_second / peer.sent_per_second
    return f"{100 * value:.0f} %" if percent else f"{value:.1f}"


def same_run(other: Case, case: Case, path: str) -> bool:
    """Return whether ``other`` is ``case`` taken on ``path``; the peers send quotes, whatever ours sends."""
    return other.path == path and (other.rate, other.subscribers) == (case.rate, case.subscribers)


def as_json(outcomes: Iterable[Outcome]) -> str:
    """Return the outcomes as JSON, with the machine."""
    rows = []
    for outcome in outcomes:
        case = outcome.case._asdict() | {"rate": None if math.isinf(outcome.case.rate) else outcome.case.rate}
        rows.append(
            case | {"sent_per_second": outcome.sent_per_second, "note": outcome.note} | outcome.received._asdict()
        )
    return json.dumps({"machine": machine(), "python": sys.version, "outcomes": rows}, indent=2)
