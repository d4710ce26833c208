"""Shows the outcome of a run to people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Outcome
from tests.chaos.verdict import Tally

COLUMNS = (
    ("reader", ""),
    ("lives", "of the reader"),
    ("published", "durable, on its topics"),
    ("live", ""),
    ("healed", "from the journal"),
    ("published", "quotes, provable"),
    ("received", "quotes"),
    ("lost", "quotes, told so"),
    ("away", "quotes while it was dead"),
    ("unprovable", "quotes before a daemon's end"),
    ("unexplained", ""),
)


def show(outcome: Outcome, console: Console) -> None:
    """Print tables and the verdict."""
    table = Table(title=f"chaos, seed {outcome.seed}: {outcome.seconds:.0f} s, {outcome.lives} lives of the daemon")
    for name, what in COLUMNS:
        table.add_column(f"{name}\n[dim]{what}[/dim]", justify="left" if name == "reader" else "right")
    for tally in outcome.tallies:
        table.add_row(*_cells(tally))
    console.print(table)
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.faults.items()))
    console.print(f"{outcome.durable:,} durable events + {outcome.passing:,} quotes published, at least")
    console.print(f"{sum(outcome.faults.values())} faults: {faults}")
    for tally in outcome.tallies:
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.notices.items()))
        console.print(f"[bold]{tally.name}[/bold] was told: {told or 'nothing'}", highlight=False)
        for kind, count in tally.faults.items():
            console.print(f"  [red]{kind}: {count}[/red]")
        for sample in tally.samples:
            console.print(f"    {sample}", markup=False)
    for difference in outcome.differences:
        console.print(f"[red]the daemon's state is not the server's[/red]: {difference}")
    for name in outcome.late:
        console.print(f"[red]{name} was not told everything in time[/red]")
    if outcome.holes:
        console.print(f"[red]the journal has {outcome.holes} holes[/red]")
    verdict = "[green]every event is explained[/green]" if outcome.passed else "[red]FAILED[/red]"
    console.print(f"unexplained: {sum(tally.unexplained for tally in outcome.tallies)}: {verdict}")


def _cells(tally: Tally) -> list[str]:
    numbers = (
        *(tally.lives, tally.published, tally.live, tally.healed),
        *(tally.quotes_published, tally.quotes, tally.quotes_lost, tally.away, tally.unprovable),
    )
    colour = "red" if tally.unexplained else "green"
    return [tally.name, *(f"{number:,}" for number in numbers), f"[{colour}]{tally.unexplained}[/{colour}]"]
