"""``python -m tests.bench.page [--rounds N] [--seconds S]``: frames per second of the page, beside a bare one.

A process of its own plays the gateway: 300 symbols, 100 open positions, quotes at a rate, in batches where the page
asks for them. Chromium shows in turn a blank page, a bare page that writes the same quotes into a plain table once per
frame, and ours. Shown are medians of all rounds: frames per second, the longest frame of 100, CPU of the page's main
thread per frame. Where the bare page is slow as well the machine is the limit: without a GPU the same cores draw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import mt4pump_consumers.gateway
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.consumers.gateway.test_page import CHROMIUM, LIMIT_MS, QUIET

PAGE = Path(mt4pump_consumers.gateway.__file__).parent / "page"
SYMBOLS = [f"SYM{number:03}" for number in range(300)]
POSITIONS, ACCOUNTS = 100, 20
RATES = (600, 3_000)
"""Quotes per second; the gateway sends a symbol at most 10 times a second, so 300 symbols are 3,000 at most."""
TURN_S = 0.01
SETTLE_MS = 1_500
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
BLANK = "<!doctype html><title>blank</title>"
BARE = """<!doctype html><title>bare</title><meta charset="utf-8"><style>div { height: 800px; overflow: auto }</style>
<div><table id="board"><tbody></tbody></table></div><script>
const rows = new Map(), changed = new Set(), body = document.querySelector("tbody");
const link = new WebSocket(location.href.replace(/^http/, "ws"));
link.onopen = () => link.send('{"action": "batch", "window_s": 0.05}');
link.onmessage = ({ data }) => {
  for (const message of [JSON.parse(data)].flat()) if (message.type === "quote") add(message.data);
};
function add(quote) {
  let row = rows.get(quote.symbol);
  if (!row) {
    rows.set(quote.symbol, (row = body.insertRow()));
    for (let i = 0; i < 6; i++) row.insertCell().append("");
    row.cells[0].firstChild.data = quote.symbol;
    row.first = quote.bid;
  }
  row.quote = quote;
  if (!changed.size) requestAnimationFrame(draw);
  changed.add(row);
}
function draw() {
  for (const { cells, quote, first } of changed) {
    const change = quote.bid - first;
    const texts = [quote.bid.toFixed(5), quote.ask.toFixed(5), ((quote.ask - quote.bid) * 1e4).toFixed(1),
      ((100 * change) / first).toFixed(2), (change * 1e5).toFixed(0)];
    texts.forEach((text, i) => (cells[i + 1].firstChild.data = text));
  }
  changed.clear();
}
</script>"""
FRAMES = """async (seconds) => {
  const gaps = [], start = performance.now();
  let last = start;
  await new Promise((done) => {
    const frame = (now) => {
      gaps.push(now - last);
      last = now;
      if (now - start < seconds * 1000) requestAnimationFrame(frame);
      else done();
    };
    requestAnimationFrame(frame);
  });
  gaps.sort((one, other) => one - other);
  return [gaps.length, (1000 * gaps.length) / (last - start), gaps[Math.floor(gaps.length * 0.99)]];
}"""


class Outcome(NamedTuple):
    """What one page did in one round."""

    fps: float
    longest_ms: float
    main_ms: float


class PlayedGateway:
    """One process that serves the pages and plays a gateway; ``rate`` is of quotes per second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._random = random.Random(1)  # noqa: S311 - prices
        self._prices = {symbol: 1.1 + self._random.random() for symbol in SYMBOLS}

    async def run(self, ready: Connection) -> None:
        """Serve until the process is ended; print the port."""
        async with serve(self._play, "127.0.0.1", 0, process_request=self._page, compression=None) as server:
            ready.send(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().create_future()

    def _page(self, _: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Upgrade"):
            return None
        name = request.path.lstrip("/") or "index.html"
        made = {"blank": BLANK, "bare": BARE}.get(name)
        if made is None and not (PAGE / name).is_file():
            return Response(404, "Not Found", Headers(), b"")
        body = made.encode() if made is not None else (PAGE / name).read_bytes()
        kind = KINDS.get(Path(name).suffix, "text/html")
        return Response(200, "OK", Headers({"Content-Type": kind, "Content-Length": str(len(body))}), body)

    async def _play(self, link: ServerConnection) -> None:
        windows: list[float] = []
        for text in map(self._quote, SYMBOLS):
            await link.send(text)
        quotes = asyncio.create_task(self._send_quotes(link, windows))
        async for message in link:
            request = json.loads(message)
            if request["action"] == "batch":
                windows.append(request["window_s"])
            if request["action"] == "subscribe" and request["topics"] == ["trade.*"]:
                for order in range(POSITIONS):
                    await link.send(position(order))
            elif (answer := answer_to(request)) is not None:
                await link.send(json.dumps(answer))
        quotes.cancel()

    async def _send_quotes(self, link: ServerConnection, windows: list[float]) -> None:
        began_s, sent = time.perf_counter(), 0
        while True:
            await asyncio.sleep(windows[-1] if windows else TURN_S)
            due = int((time.perf_counter() - began_s) * self._rate) - sent
            sent += due
            texts = [self._quote(self._random.choice(SYMBOLS)) for _ in range(due)]
            if windows:
                await link.send(f"[{','.join(texts)}]")
            else:
                for text in texts:
                    await link.send(text)

    def _quote(self, symbol: str) -> str:
        self._prices[symbol] += self._random.choice((-1, 1)) * self._random.randint(1, 3) * 1e-5
        bid = round(self._prices[symbol], 5)
        data: dict[str, Any] = {
            "symbol": symbol,
            "bid": bid,
            "ask": round(bid + 2e-4, 5),
            "digits": 5,
            "low": 1.0,
            "high": 2.2,
        }
        data |= {"time": int(time.time()), "ts": time.time_ns()}
        return json.dumps({"type": "quote", "topic": f"quote.{symbol}", "data": data})


def position(order: int) -> str:
    """Return an open position as a last value."""
    login = order % ACCOUNTS
    data: dict[str, Any] = {
        "login": login,
        "order": order,
        "cmd": order % 2,
        "volume": 100,
        "open_price": 1.1,
        "digits": 5,
    }
    data |= {"profit": 3.0 * (order % 3 - 1), "symbol": SYMBOLS[order], "change": "opened", "comment": ""}
    data |= {"storage": -0.5, "commission": -1.0, "taxes": 0.0, "epoch": 1, "seq": order + 1, "offset": order + 1}
    data["ts"] = time.time_ns()
    return json.dumps({"type": "trade", "topic": f"trade.{login}", "snapshot": True, "data": data})


def answer_to(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a gateway answers to a status or a resume."""
    if request["action"] == "status":
        number = {"id": request["id"]} if "id" in request else {}
        return {
            "type": "status",
            "feed": "live",
            "state": "pumping",
            "server": "Demo",
            "log": "a",
            "offset": 1,
        } | number
    if request["action"] == "resume":
        position = {"log": "a", "offset": 1, "count": 0, "more": False, "whole": True}
        return {"type": "resume", "topics": request["topics"], **position}
    return None


def play(rate: int, ready: Connection) -> None:
    """Play a gateway, in a process of its own."""
    asyncio.run(PlayedGateway(rate).run(ready))


def measure(browser: Browser, address: str, seconds: float, *, rows: int) -> Outcome:
    """Return what the page at ``address`` does once it has its rows."""
    page = browser.new_page(viewport={"width": 1440, "height": 860})
    page.set_default_timeout(LIMIT_MS)
    try:
        page.goto(address)
        if rows:
            page.wait_for_selector(f"#board tbody tr:nth-child({rows})", state="attached")
        page.wait_for_timeout(SETTLE_MS)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before_s = main_thread_s(session)
        count, fps, longest_ms = page.evaluate(FRAMES, seconds)
        return Outcome(fps, longest_ms, 1000 * (main_thread_s(session) - before_s) / count)
    finally:
        page.close()


def main_thread_s(session: Any) -> float:
    """Return the CPU time of the page's main thread."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def median(outcomes: list[Outcome], pick: Callable[[Outcome], float]) -> float:
    """Return the median of one figure."""
    return statistics.median(map(pick, outcomes))


def run(rounds: int, seconds: float) -> dict[tuple[int, str], list[Outcome]]:
    """Return the outcomes by rate and page."""
    outcomes: dict[tuple[int, str], list[Outcome]] = {}
    context = multiprocessing.get_context("spawn")
    ports, players = {}, []
    for rate in RATES:
        ours, theirs = context.Pipe()
        player = context.Process(target=play, args=(rate, theirs), daemon=True)
        player.start()
        players.append(player)
        ports[rate] = ours.recv()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        for _ in range(rounds):
            for rate in RATES:
                for name, path, rows in (("blank", "blank", 0), ("bare", "bare", 300), ("ours", "", 300)):
                    got = measure(browser, f"http://127.0.0.1:{ports[rate]}/{path}", seconds, rows=rows)
                    outcomes.setdefault((rate, name), []).append(got)
        browser.close()
    for player in players:
        player.kill()
    return outcomes


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each page is measured in each round")
    args = parser.parse_args()
    outcomes = run(args.rounds, args.seconds)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    table = Table(title=f"300 symbols, 1440 x 860, {os.cpu_count()} cores, load {load}, medians of {args.rounds}")
    for name in ("page", "quotes/s", "fps", "lowest fps", "p99 frame ms", "main thread ms/frame"):
        table.add_column(name, justify="left" if name == "page" else "right")
    for (rate, name), got in outcomes.items():
        figures = [median(got, lambda one: one.fps), min(one.fps for one in got)]
        figures += [median(got, lambda one: one.longest_ms), median(got, lambda one: one.main_ms)]
        table.add_row(name, f"{rate:,}", *(f"{figure:.1f}" for figure in figures))
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
