"""The live screen, drawn into text."""

from __future__ import annotations

import io

from rich.console import Console

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.stream import StreamStats
from mt4pump.cli.tail import Screen, screen
from tests.cli.fake_publisher import EPOCH, heartbeat, message

ENDPOINT = "tcp://127.0.0.1:5556"


def drawn(stats: StreamStats, now_s: float, height: int = 20, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(screen(stats, now_s, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def stream_stats() -> StreamStats:
    return StreamStats(ENDPOINT, TopicFilter(), 0.0, with_heartbeat=False)


def test_the_head_shows_endpoint_state_server_epoch_and_age_of_the_heartbeat() -> None:
    stats = stream_stats()
    stats.handle(heartbeat(dropped=4, reconnects=0), 1.0)
    state, *_ = drawn(stats, 1.5)
    assert state == (
        f"{ENDPOINT}  daemon pumping  server mt4.example.com:443  epoch {EPOCH}  heartbeat 0.5 s ago  dropped 4"
    )


def test_totals_and_rows_show_counts_rates_gaps_and_ages() -> None:
    stats = stream_stats()
    for seq in (1, 2, 5):
        stats.handle(message("quote.EURUSD", seq, bid=1.1, ask=1.2, spread=10, digits=1), 1.0)
    stats.handle((b"junk", b""), 1.0)
    stats.handle(heartbeat(), 1.0)
    stats.measure(1.5)
    _, totals, note, head, row = drawn(stats, 2.0)
    assert totals == "2/s  events 3  topics 1  gaps 1  missed 2  repeats 0  garbage 1  restarts 0"
    assert not note
    assert head.split() == ["topic", "last", "count", "rate/s", "gaps", "missed", "age"]
    assert row.split() == [
        "quote.EURUSD",
        *("bid", "1.1", "ask", "1.2", "spread", "10"),
        *("3", "2.0", "1", "2"),
        "1.0",
        "s",
    ]


def test_before_the_first_message_it_shows_that_and_then_what_to_do() -> None:
    assert drawn(stream_stats(), 0.5)[0] == f"{ENDPOINT}  daemon unknown  heartbeat none yet"
    assert drawn(stream_stats(), 3.5)[2].startswith(
        f"nothing received from {ENDPOINT} for 4 s: is the daemon running there?"
    )


def test_it_never_grows_beyond_the_terminal_and_counts_the_hidden_topics() -> None:
    stats = stream_stats()
    stats.handle(heartbeat(), 1.0)
    for number in range(50):
        stats.handle(message(f"trade.{number}", comment="x" * 200), 1.0)
    lines = drawn(stats, 1.0, height=12, width=80)
    assert len(lines) <= 12
    assert all(len(line) <= 80 for line in lines)
    assert lines[2] == "43 quieter topics not shown"


def test_text_of_the_server_cannot_drive_the_terminal_or_rich() -> None:
    stats = stream_stats()
    stats.handle(message("news.\x1b[2J[bold]", comment="[red]\x1b]0;title\x07"), 1.0)
    stats.handle(heartbeat(), 1.0)
    stats.daemon = {"state": "[blink]\x1b[31m", "server": "\x1b[1m", "dropped": "\x07"}
    text = "\n".join(drawn(stats, 1.0))
    assert not any(control in text for control in "\x1b\x07")
    assert "[bold]" in text
    assert "[red]" in text
    assert "[blink]" in text


def test_the_view_draws_on_a_terminal_and_restores_it() -> None:
    stats, out = stream_stats(), io.StringIO()
    console = Console(file=out, width=100, height=20, force_terminal=True, legacy_windows=False)
    with Screen(stats, console) as view:
        event = stats.handle(message("quote.EURUSD", bid=1.1), 1.0)
        assert event is not None
        view.event(event)
        view.refresh(1.0)
        drawn_once = out.getvalue()
        view.refresh(1.1)  # too soon to draw again
        assert out.getvalue() == drawn_once
    enter, leave = "\x1b[?1049h", "\x1b[?1049l"
    assert enter in drawn_once
    assert "quote.EURUSD" in drawn_once
    assert out.getvalue().count(leave) == 1
