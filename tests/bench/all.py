"""``python -m tests.bench.all [--rounds N] [--only WORDS]``: every figure of speed in one table, each beside its peer.

Each round measures ours and the peer one after the other; the table shows medians, and the median of the rounds'
ratios. ``--only`` runs the lines whose name has the words. Takes about three minutes per round. The last lines start
real servers, as Debian has them: PostgreSQL, ClickHouse, NATS. `tests.bench.gateway` (500 clients, three servers) and
`tests.bench.big` (a big server) stand for themselves: they take minutes each.

What limits a paced stream: callback, pump thread, libzmq's thread and the reader's process are four, where the bare
loop has three. On two cores a message waits for a core: at 20,000 and 50,000 quotes/s p50 is 2 to 3 times the bare
loop's, p99 some milliseconds, the scheduler's time slice. It is neither the switch interval (0.02 to 5 ms give the
same) nor the heartbeat (once or ten times a second give the same); no wake-up of the pump thread takes above 0.5 ms.

What limits trades: of 16 to 22 µs on the pump thread (a quiet and a busy machine) SQLite takes 4, decoding 2.8, packing
1.6, the comparison with the last record 1.7, sending 1.4; the rest are some 20 calls of Python. So one core gives at
most 45,000 to 60,000/s. Other threads of the daemon need 6 µs more per trade (callbacks 2.3, libzmq 1.6, checkpointer
0.7, whoever waits for the end 1.5), most of it with the interpreter lock; the pump thread was running 0.7 of the time.
What would not help: one `struct` per record in place of the packer saves 1.0 of 1.5 µs even if it never had to choose
the short form of an integer; `operator.ne` over all values takes 2.1 µs where the comparison takes 1.7; a decoder that
makes its dict last saves 0.2, one copy of the body fewer 0.2.

What limits a replay: the query thread needs 2.5 µs of CPU per event (SQLite's row 1.2, two frames 1.0), libzmq's thread
0.6, the reader 1.6, so two cores give at most 400,000 events/s. A reply is as many frames as events: the wire is fixed.

What limits a snapshot of 300,000 rows beside the stream of a big server (`tests.bench.big`): 1.3 s are work of the
query thread (0.9 s alone: sort 0.5, pages 0.45), 1.2 s rests and 1.1 s naps that leave the interpreter to the pump
thread, and 1.7 s pass while the client receives 130 pages and asks for each next one. Without any rest or nap it
takes 3.0 to 3.5 s.

What limits quotes flat out: of 2.2 µs per quote 0.4 are ours (decoding 0.08, packing 0.15, numbering and the loop
0.17), and two sends take 0.64 where nothing else runs. The rest is the library's call and waiting for a core: the
feed's thread, libzmq's thread and the reader's process want the same two. At 2,000 quotes/s the pump thread takes 4.4
% of a core, the other threads of the daemon 0.2, and the feed's thread, which is the DLL's with our callback, 5.7.

What an idle daemon does: the pump thread looks for subscriptions 5 times a second, the query thread for closed
connections 5 times (0.2 and 0.15 % of a core); the ZAP thread waits for what comes over connections (0.13 %; 1.6 %
where the system does not report that, and it checks them 100 times). A heartbeat each second is in the first.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import msgpack
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mt4pump.cli.bench import Case, Outcome, bench_settings, machine, run_case, until
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.stream import Stream
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.daemon import Daemon
from mt4pump.pump.loop import QUIET_AFTER_S
from tests.bench import archive, archive_databases, journal, nats
from tests.bench.native import NativeFeed
from tests.consumers.archive.database_servers import running

SWITCH_INTERVAL_S = 0.0005
FLAT_OUT = 200_000
ROWS = {"postgresql": 50_000, "clickhouse": 200_000}
PACED_S = 3
CLIENT_QUOTES, CLIENT_READ = 50_000, 1_000
CPU_S = 5.0
LIMIT_S = 60.0


class Figures(NamedTuple):
    """What one round of one line gave; ``peer`` is None where there is none."""

    ours: float
    peer: float | None = None


class Line(NamedTuple):
    """One line of the table; ``aim`` says what its ratio, or its figure, should be."""

    name: str
    unit: str
    aim: str
    measure: Callable[[], Figures]


def flat_out(kind: str, path: str, share: int = 1) -> Figures:
    """Return messages per second of ours and of the peer ``path``, which gets a part of the messages."""
    peer = _run(Case(path, "quote", math.inf, 1, FLAT_OUT // share))
    return Figures(_run(Case("mt4pump", kind, math.inf, 1, FLAT_OUT)).sent_per_second, peer.sent_per_second)


def latency(rate: float, pick: Callable[[Outcome], float]) -> Figures:
    """Return the µs that ``pick`` takes of quotes at ``rate`` per second, of ours and of the bare loop."""
    count = int(rate) * PACED_S
    bare, ours = (_run(Case(path, "quote", rate, 1, count)) for path in ("bare", "mt4pump"))
    return Figures(pick(ours), pick(bare))


def _run(case: Case) -> Outcome:
    return run_case(case, NativeFeed)


def p50(outcome: Outcome) -> float:
    """Return the median latency in µs."""
    return outcome.received.p50_us


def trades_p50() -> Figures:
    """Return the median latency in µs of trades that come at 50,000 per second."""
    return Figures(p50(_run(Case("mt4pump", "trade", 50_000.0, 1, 100_000))))


def p99(outcome: Outcome) -> float:
    """Return the latency in µs that one in a hundred exceeds."""
    return outcome.received.p99_us


def cpu(rate: float) -> Figures:
    """Return the share of a core in percent at ``rate`` quotes per second, the native feed included."""
    feed = NativeFeed()
    with tempfile.TemporaryDirectory() as folder:
        settings = bench_settings(folder, 100_000).model_copy(update={"heartbeat_interval_s": 1.0})
        daemon = Daemon(settings, feed.source)
        daemon.start()
        try:
            until(lambda: daemon.published("session") > 0, LIMIT_S)
            if rate:
                feed.feed("quote", int(rate * 2 * CPU_S), rate)
            else:
                time.sleep(QUIET_AFTER_S + 1)
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            time.sleep(CPU_S)
            return Figures(100 * (time.process_time() - began_cpu_s) / (time.perf_counter() - began_s))
        finally:
            daemon.stop()


def live_beside_replay() -> Figures:
    """Return p99 in µs of 5,000 quotes/s beside an endless replay whose reader gives way, and without one."""
    beside = journal.live_beside_replay(gives_way=True).p99_us
    assert beside is not None
    return Figures(beside, p99(_run(Case("mt4pump", "quote", 5_000.0, 1, 20_000))))


def client() -> Figures:
    """Return quotes per CPU second through the client's core, and of a loop that only unpacks them."""
    body = {"symbol": "S", "bid": 1.1, "ask": 1.2, "spread": 10, "time": 1, "digits": 5, "high": 1.0, "low": 1.0}
    messages = [
        (b"quote.S%02d" % (number % 50), msgpack.packb({**body, "epoch": 1, "seq": number // 50 + 1, "ts": 5}))
        for number in range(CLIENT_QUOTES)
    ]
    stream = Stream(
        SubscriptionSet(["*"]),
        HeartbeatMonitor(silence_s=5, lag_limit=10**6, lag_limit_s=10),
        StreamOptions(query=False),
        None,
    )
    began_s = time.process_time()
    for start in range(0, CLIENT_QUOTES, CLIENT_READ):
        stream.handle(messages[start : start + CLIENT_READ], 1.0, 5)
        stream.out.clear()
    ours_s = time.process_time() - began_s
    began_s = time.process_time()
    for _, packed in messages:
        msgpack.unpackb(packed)
    return Figures(CLIENT_QUOTES / ours_s, CLIENT_QUOTES / (time.process_time() - began_s))


def parquet() -> Figures:
    """Return quotes per CPU second into Parquet, by the archive and by pyarrow alone."""
    frames = archive.quotes(FLAT_OUT)
    ours, bare = (archive.measured(work, frames)[0] for work in (archive.archived, archive.bare))
    return Figures(ours, bare)


def database(name: str) -> Figures:
    """Return rows per second into a database, by the archive and by the database's library alone."""
    frames, chosen = archive.quotes(ROWS[name]), archive_databases.DATABASES[name]
    with running(chosen.server()) as server:
        works = (archive_databases.archived, chosen.bare)
        return Figures(*(archive_databases.measured(work, server, frames)[0] for work in works))


def replay() -> Figures:
    """Return events per second of a replay while nothing is live."""
    per_s = journal.replay_alone().per_second
    assert per_s is not None
    return Figures(per_s)


LINES = (
    Line("quotes flat out, beside a bare pyzmq loop", "quotes/s", "≥ 0.60", lambda: flat_out("quote", "bare")),
    Line("quotes flat out, beside the naive pipeline", "quotes/s", "≥ 25", lambda: flat_out("quote", "naive", 15)),
    Line("trades flat out with journal, beside bare", "events/s", "≥ 100,000", lambda: flat_out("trade", "bare")),
    Line("trades paced at 50,000/s, p50", "µs", "≤ 2,000", trades_p50),
    Line("p50 at 1,000 quotes/s, beside bare", "µs", "≤ 1.4", lambda: latency(1_000.0, p50)),
    Line("p50 at 5,000 quotes/s, beside bare", "µs", "≤ 1.4", lambda: latency(5_000.0, p50)),
    Line("p99 at 20,000 quotes/s, beside bare", "µs", "≤ 2", lambda: latency(20_000.0, p99)),
    Line("p50 at 50,000 quotes/s, beside bare", "µs", "≤ 5", lambda: latency(50_000.0, p50)),
    Line("CPU at 2,000 quotes/s, with its feed", "% of a core", "≤ 5", lambda: cpu(2_000.0)),
    Line("CPU of an idle daemon", "% of a core", "≤ 0.5", lambda: cpu(0.0)),
    Line("replay of 300,000 events", "events/s", "≥ 500,000", replay),
    Line("p99 at 5,000 quotes/s beside a replay, and without", "µs", "≤ 2", live_beside_replay),
    Line("client's core, beside unpacking alone", "quotes/CPU s", "≥ 400,000", client),
    Line("archive into Parquet, beside pyarrow alone", "quotes/CPU s", "≥ 100,000", parquet),
    Line("archive into PostgreSQL, beside psycopg alone", "rows/s", "≥ 20,000", lambda: database("postgresql")),
    Line("archive into ClickHouse, beside httpx alone", "rows/s", "≥ 50,000", lambda: database("clickhouse")),
    Line("journal into NATS JetStream, beside nats-py alone", "events/s", "≥ 0.60", lambda: Figures(*nats.measured())),
)  # fmt: skip


def shown(value: float) -> str:
    """Return a figure for the table."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def main() -> int:
    """Measure all lines and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.all", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="run the lines whose name has these words")
    args = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lines = [line for line in LINES if args.only in line.name]
    found: dict[str, list[Figures]] = {line.name: [] for line in lines}
    planned = [line for _ in range(args.rounds) for line in lines]
    for line in track(planned, "measuring", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        found[line.name].append(line.measure())
    view = Table(title=f"Medians of {args.rounds} rounds", caption=machine(), caption_justify="left")
    for name in ("what", "unit", "ours", "peer", "ours/peer", "aim"):
        view.add_column(name, justify="left" if name in {"what", "unit"} else "right")
    for line in lines:
        rounds = found[line.name]
        ours = shown(statistics.median(each.ours for each in rounds))
        pairs = [(each.ours, each.peer) for each in rounds if each.peer]
        peer = shown(statistics.median(other for _, other in pairs)) if pairs else ""
        ratio = f"{statistics.median(mine / other for mine, other in pairs):.2f}" if pairs else ""
        view.add_row(line.name, line.unit, ours, peer, ratio, line.aim)
    Console(width=150).print(view)
    return 0


if __name__ == "__main__":
    sys.exit(main())
