"""Shows the outcome of a run to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Outcome
from tests.chaos.verdict import Tally

TEXTS = {"reader", "from"}
DURABLE = ("reader", "runs", "from", "published", "live", "healed", "unexplained")
PASSING = ("reader", "published", "received", "lost", "away", "ends", "unexplained")
LEGEND = """\
published: what the reader can know of; received + lost (as reported) must be the same
away, ends: not provable by it: what came while it was dead, and right before a daemon's end (another reader got it)"""


def show(outcome: Outcome, console: Console) -> None:
    """Print tables and the verdict."""
    console.print(
        f"[bold]chaos, seed {outcome.seed}[/bold]: {outcome.seconds:.0f} s, {outcome.runs} runs of the daemon"
    )
    console.print(_table("durable events: live + healed = published", DURABLE, map(_durable, outcome.tallies)))
    console.print(_table("quotes: received + lost = published", PASSING, map(_passing, outcome.tallies)))
    console.print(LEGEND, style="dim", highlight=False)
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.faults.items()))
    console.print(f"{outcome.durable:,} durable events + {outcome.passing:,} quotes published, at least")
    console.print(f"{sum(outcome.faults.values())} faults: {faults}")
    if outcome.unclean_stops:
        console.print(f"{outcome.unclean_stops} clean stops took longer than the daemon waits for its own threads")
    for tally in outcome.tallies:
        notices = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.notices.items()))
        console.print(f"[bold]{tally.name}[/bold] notices: {notices or 'nothing'}", highlight=False)
        for kind, count in tally.faults.items():
            console.print(f"  [red]{kind}: {count}[/red]")
        for sample in tally.samples:
            console.print(f"    {sample}", markup=False)
    for difference in outcome.differences:
        console.print(f"[red]the daemon's state is not the server's[/red]: {difference}")
    for name in outcome.late:
        console.print(f"[red]{name} did not receive everything in time[/red]")
    if outcome.holes:
        console.print(f"[red]the journal has {outcome.holes} holes[/red]")
    verdict = "[green]every event is explained[/green]" if outcome.passed else "[red]FAILED[/red]"
    console.print(f"unexplained: {sum(tally.unexplained for tally in outcome.tallies)}: {verdict}")


def _table(title: str, names: Iterable[str], rows: Iterable[tuple[str | int, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    return table


def _durable(tally: Tally) -> tuple[str | int, ...]:
    began = "1" if tally.from_start else "its join"
    wrong = _wrong(tally.wrong_durable)
    return tally.name, tally.runs, began, tally.published, tally.live, tally.healed, wrong


def _passing(tally: Tally) -> tuple[str | int, ...]:
    wrong = _wrong(tally.unexplained - tally.wrong_durable)
    return (
        *(tally.name, tally.quotes_published, tally.quotes, tally.quotes_lost),
        *(tally.away, tally.unprovable, wrong),
    )


def _wrong(count: int) -> str:
    return f"[red]{count:,}[/red]" if count else "[green]0[/green]"
