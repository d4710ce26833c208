"""The page in a real browser: login, quotes move, a trade appears, the daemon goes and comes back."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

import jwt
import mt4pump_consumers.gateway
import pytest

from tests.consumers.gateway.gateway_run import addresses, daemon, gateway
from tests.consumers.metrics.metrics_run import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
AXE = ROOT / "consumers" / "samples" / "node_modules" / "axe-core" / "axe.min.js"
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
LIMIT_MS = 60_000
ROUNDING = 1
"""scrollWidth and clientWidth are whole numbers: a page without a scroll bar may have a difference of one pixel."""
pytestmark = pytest.mark.timeout(300)  # several waits, each of which may take long on a busy machine


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if not os.path.exists(CHROMIUM):  # noqa: PTH110
        pytest.skip("there is no chromium; Debian's package of this name is what the page is tested in")
    playwright = pytest.importorskip("playwright.sync_api", reason="PyPI's playwright drives the browser")
    flags = [*QUIET.split(), "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            tmp_path / "browser",
            executable_path=CHROMIUM,
            args=flags,
            viewport={"width": 1440, "height": 860},
            timeout=LIMIT_MS,
        )
        made = browser.pages[0]
        made.set_default_timeout(LIMIT_MS)
        faults: list[str] = []
        made.on("pageerror", lambda error: faults.append(str(error)))
        made.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        yield made
        browser.close()
    assert not faults


def wait_until(page: Page, expression: str, arg: object = None) -> None:
    """Wait until a script is true. The page's policy forbids `Page.wait_for_function`, which evaluates text in it."""
    ends_s = time.monotonic() + LIMIT_MS / 1000
    while not page.evaluate(expression, arg):
        assert time.monotonic() < ends_s, f"never: {expression}"
        page.wait_for_timeout(50)


def test_login_quotes_trades_and_a_daemon_that_dies_and_returns(page: Page, tmp_path: Path) -> None:
    token = jwt.encode({"exp": time.time() + 300, "topics": ["*"], "sub": "support"}, SECRET, "HS256")
    with daemon(tmp_path) as first:
        where = addresses(first)
        with gateway(tmp_path, *where, "--jwt-secret", SECRET) as run:
            run.program.line("the feed is live")
            page.goto(run.page)
            page.wait_for_selector("#login[open]")
            page.fill("#token", "wrong")
            page.press("#token", "Enter")
            page.wait_for_selector('#login-why[data-tone="bad"]')
            page.fill("#token", token)
            page.press("#token", "Enter")
            page.wait_for_selector("#login:not([open])", state="attached")
            page.wait_for_selector("#board tbody tr:nth-child(20)")
            page.wait_for_selector('#feed[data-state="good"]')
            before = page.inner_text("#board tbody")
            wait_until(page, "before => document.querySelector('#board tbody').innerText !== before", arg=before)
            page.wait_for_selector("#positions tbody tr")
            page.fill("#filter", "eurusd")
            wait_until(page, "() => document.querySelectorAll('#board tbody tr:not([hidden])').length === 1")
            page.press("#filter", "Escape")
            first.process.kill()
            page.wait_for_selector("#alarm:not([hidden])")
            shown = "document.querySelector('#alarm').textContent.includes('silent')"
            wait_until(page, f"() => {shown} && document.title.startsWith('Not current')")
            with daemon(tmp_path, *where):
                page.wait_for_selector("#alarm", state="hidden")
                before = page.inner_text("#board tbody")
                wait_until(page, "before => document.querySelector('#board tbody').innerText !== before", arg=before)


def test_a_gateway_that_dies_is_shown_and_the_page_connects_again(page: Page, tmp_path: Path) -> None:
    with daemon(tmp_path) as source:
        where = addresses(source)
        with gateway(tmp_path, *where, "--anonymous", "--anonymous-topics", "quote.*") as run:
            port = str(run.port)
            page.goto(run.page)
            page.wait_for_selector("#board tbody tr")
            wait_until(page, "document.querySelector('#no-positions').innerText.includes('does not include trades')")
            run.program.process.kill()
            page.wait_for_selector('#link[data-state="bad"]')
            page.wait_for_selector("#alarm:not([hidden])")
        with gateway(tmp_path, *where, "--anonymous", "--port", port):
            page.wait_for_selector('#link[data-state="good"]')
            page.wait_for_selector("#alarm", state="hidden")


def test_the_phone_shows_one_view_at_a_time_and_nothing_runs_off_the_side_at_any_width(
    page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    with (
        daemon(tmp_path) as source,
        gateway(tmp_path, *addresses(source), "--anonymous", "--anonymous-topics", "*") as run,
    ):
        page.goto(run.page)
        page.wait_for_selector("#board tbody tr:nth-child(20)")
        box = "document.querySelector('.quotes .scroll')"
        wide = f"{box}.scrollWidth - {box}.clientWidth"
        assert page.evaluate(wide) <= ROUNDING
        page.click('nav button[data-view="trades"]')
        all_tabs_fit(page)
        page.click('nav button[data-view="events"]')
        page.wait_for_selector(".events", state="visible")
        page.wait_for_selector(".quotes", state="hidden")
        for width in (1280, 1440, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            all_tabs_fit(page)


def all_tabs_fit(page: Page) -> None:
    """Check that no column of a tab is outside its panel."""
    for tab in ("positions", "orders", "executions", "accounts"):
        page.click(f"#tab-{tab}")
        page.wait_for_selector(f"#{tab} tbody tr:nth-child(2)")
        panel = f"document.querySelector('#panel-{tab}')"
        assert page.evaluate(f"{panel}.scrollWidth - {panel}.clientWidth") <= ROUNDING, tab


class Scripted:
    """A gateway under the test's control: it serves the page, and answers each request as the test says."""

    URL = "http://127.0.0.1:9/"

    def __init__(self, page: Page) -> None:
        self.link: WebSocketRoute | None = None
        self.requests: list[dict[str, Any]] = []
        self.past: dict[int, int] = {}
        """Orders that were opened before the page connected, by offset."""
        self.resume: list[dict[str, Any]] = []
        self.missed: list[tuple[int, int]] = []
        self.unavailable = 0
        self.open_orders: list[int] = []
        self.confirmed: int | None = None
        """What each status confirms."""
        self.state: dict[str, Any] = {"feed": "live", "state": "pumping"}
        """What each status says; see `set_state`."""
        self.last_offset = 5
        self.history: dict[str, Any] = {"ticks": [], "bars": []}
        self.folder = Path(mt4pump_consumers.gateway.__file__).parent / "page"
        page.route(f"{self.URL}**", self._serve)
        page.route_web_socket(f"{self.URL.replace('http', 'ws')}ws", self._connected)

    @property
    def resumed_from(self) -> list[int]:
        """Offsets of all resumes after the first one, which asks for the past."""
        return [one["offset"] for one in self.requests if one["action"] == "resume"][1:]

    def _serve(self, route: Route) -> None:
        route.fulfill(path=self.folder / (route.request.url.removeprefix(self.URL) or "index.html"))

    def _connected(self, link: WebSocketRoute) -> None:
        self.link = link
        link.on_message(lambda text: self._answer(json.loads(text)))

    def _answer(self, request: dict[str, Any]) -> None:
        self.requests.append(request)
        if request["action"] == "status":
            self.send(self._status() | ({"id": request["id"]} if "id" in request else {}))
        elif request["action"] == "history":
            self.send({"type": "history", "symbol": request["symbol"], **self.history})
        elif request.get("topics") == ["trade.*"]:
            if request["action"] == "resume" and not self._resumed(request):
                return
            for order in self.open_orders:
                self.trade(order, 4, snapshot=True)

    def _status(self) -> dict[str, Any]:
        facts = {"type": "status", **self.state, "server": "s", "log": "a", "offset": self.last_offset}
        return facts | ({} if self.confirmed is None else {"confirmed": self.confirmed})

    def set_state(self, **state: object) -> None:
        """Set what each status says, and send one; the answer to a request of the page may follow at any time."""
        self.state = state
        self.send(self._status())

    def _resumed(self, request: dict[str, Any]) -> bool:
        """Answer a resume; return whether last values follow."""
        answer = {"type": "resume", "topics": ["trade.*"], "log": "a", "count": 0, "more": False, "whole": True}
        if not any(one.get("id") == "last values" for one in self.requests):
            for offset, order in self.past.items():
                if offset > request["offset"]:
                    self.trade(order, offset)
            self.send({**answer, "offset": self.last_offset})
            return False
        if self.unavailable:
            self.unavailable -= 1
            self.send({"type": "error", "id": request["id"], "code": "unavailable", "message": "not now"})
            return False
        for order, seq in self.missed:
            self.trade(order, seq)
        answer |= {"offset": 9, **self.resume.pop(0)}
        self.send(answer)
        return not answer["whole"]

    def send(self, message: dict[str, Any]) -> None:
        assert self.link is not None
        self.link.send(json.dumps(message))

    def trade(
        self, order: int, seq: int, *, snapshot: bool = False, confirmed: int | None = None, **changes: object
    ) -> None:
        """Send an open order; what came before it is confirmed, unless ``confirmed`` says less."""
        numbers = {"login": 7, "order": order, "cmd": 0, "volume": 100, "open_price": 1.1, "digits": 5, "profit": 3.0}
        texts = {"symbol": "EURUSD", "change": "opened", "comment": ""}
        kind = {"snapshot": True} if snapshot else {"confirmed": seq if confirmed is None else confirmed}
        data = {**numbers, **texts, "storage": -0.5, "commission": -1.0, "taxes": 0.0}
        data |= {"epoch": 1, "seq": seq, "offset": seq, "ts": 10**18, **changes}
        self.send({"type": "trade", "topic": "trade.7", "data": data, **kind})

    def quote(self, symbol: str, bid: float, ts: int = 10**18, digits: int = 5, **more: object) -> None:
        numbers = {"bid": bid, "ask": bid + 0.0002, "digits": digits, "low": 0.0, "high": 0.0, "time": 1_000, "ts": ts}
        self.send({"type": "quote", "topic": f"quote.{symbol}", "data": {"symbol": symbol, **numbers}, **more})

    def disconnect(self) -> None:
        assert self.link is not None
        self.link.close(code=1001, reason="the gateway stops")


def shows(page: Page, text: str) -> None:
    wait_until(page, "text => document.querySelector('#open').textContent.startsWith(text)", arg=text)


def opened(page: Page) -> Scripted:
    """Open the page at a scripted gateway; return it once the feed is live."""
    gateway = Scripted(page)
    page.goto(gateway.URL)
    wait_until(page, "() => document.querySelector('#feed').dataset.state === 'good'")
    return gateway


CELLS = """tab => [...document.querySelectorAll(`#${tab} tbody td, #${tab} tfoot td`)].map(cell => [
  cell.closest('table').querySelectorAll('thead th')[cell.cellIndex].textContent.trim(), cell.textContent.trim(),
  getComputedStyle(cell).color])"""
BOARD = """[...document.querySelectorAll('#board tbody :is(th, td, div, span, b, sup, i, th button)')]
  .filter(one => !one.closest('.pin')).map(one => getComputedStyle(one).color)"""
SIGNED = ("Net profit", "Open profit", "Pips")
"""Columns of profit and loss."""


def palette(page: Page) -> dict[str, str]:
    """Return the page's colours of text by name, as a computed style has them."""
    script = """name => { const one = document.body.appendChild(document.createElement('i'));
      one.style.color = `var(--${name})`; const found = getComputedStyle(one).color; one.remove(); return found; }"""
    return {name: page.evaluate(script, name) for name in ("text", "soft", "up", "down")}


def test_only_side_and_profit_have_a_colour(page: Page) -> None:
    gateway = opened(page)
    colours = palette(page)
    assert len(set(colours.values())) == 4
    neutral = {colours["text"], colours["soft"]}
    for number, (bid, order) in enumerate([(1.1, 1), (1.3, 2), (1.2, 3)]):  # prices that rise and fall
        gateway.quote("EURUSD", bid, 10**18 + number)
        gateway.quote("GBPUSD", 3 - bid, 10**18 + number)
        gateway.trade(order, 6 + order, cmd=order % 2, profit=50.0 * (-1) ** order, sl=1.0, tp=2.0)
    gateway.trade(4, 10, cmd=2, expiration=1_000)
    gateway.trade(5, 11, cmd=3)
    shows(page, "3 open positions")
    wait_until(page, "document.querySelectorAll('#board tbody tr').length === 2")
    assert set(page.evaluate(BOARD)) <= neutral
    seen = set()
    for tab in ("positions", "orders", "executions", "accounts"):
        page.click(f"#tab-{tab}")
        page.wait_for_selector(f"#{tab} tbody td")
        for head, text, colour in page.evaluate(CELLS, tab):
            if not text:
                continue  # nothing is seen of its colour
            if head == "Type":
                wanted = colours["up" if text.lower().startswith("buy") else "down"]
            elif head in SIGNED and re.search("[1-9]", text):
                wanted = colours["down" if text.startswith(("-", "\u2212")) else "up"]
            else:
                assert colour in neutral, (tab, head, text)
                continue
            assert colour == wanted, (tab, head, text)
            seen.add((tab, head, colour))
    expected = {("positions", "Type"), ("positions", "Pips"), ("positions", "Net profit"), ("orders", "Type")}
    for tab, head in expected:
        assert {(tab, head, colours["up"]), (tab, head, colours["down"])} <= seen
    assert {("executions", "Type"), ("accounts", "Open profit")} <= {(tab, head) for tab, head, _ in seen}


def test_the_page_starts_with_trades_of_the_past_and_the_open_positions(page: Page) -> None:
    gateway = Scripted(page)
    gateway.past, gateway.open_orders = {1: 1, 2: 2, 3: 3}, [3, 8]
    page.goto(gateway.URL)
    shows(page, "2 open positions, 2.00 lots")
    page.click("#tab-executions")
    page.wait_for_selector("#executions tbody tr:nth-child(3)")
    assert page.locator("#executions tbody tr").count() == 3
    assert page.is_hidden("#unseen")
    assert page.inner_text("#gaps") == "No gaps"
    page.click("#tab-positions")
    assert page.locator("#positions tbody td:last-child").all_inner_texts() == ["1.50", "1.50"]
    title = page.get_attribute("#positions tbody tr:first-child td:last-child", "title")
    assert title is not None
    assert title.startswith("profit 3.00, swap -0.50, commission -1.00")
    page.click("#tab-accounts")
    assert page.locator("#accounts tbody td").all_inner_texts()[:4] == ["7", "2", "2.00", "3.00"]


def test_the_page_goes_back_in_the_journal_until_it_has_fifty_trades(page: Page) -> None:
    gateway = Scripted(page)
    gateway.last_offset = 40_000
    gateway.past = {39_900: 60, **{31_000 + number: number for number in range(55)}, 5: 99}
    page.goto(gateway.URL)
    page.click("#tab-executions")
    page.wait_for_selector("#executions tbody tr:nth-child(56)")
    assert [one["offset"] for one in gateway.requests if one["action"] == "resume"] == [39_000, 30_000]
    orders = page.locator("#executions tbody td:nth-child(4)").all_inner_texts()
    assert orders == ["60", *(str(number) for number in reversed(range(55)))]


def test_positions_that_were_closed_meanwhile_are_removed_when_a_resume_is_not_whole(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open positions")
    gateway.trade(4, 6)
    shows(page, "4 open positions")
    gateway.resume, gateway.open_orders = [{"whole": False}], [2]
    gateway.disconnect()
    shows(page, "1 open position,")
    assert gateway.resumed_from == [6]
    page.wait_for_selector('#gaps[data-state="bad"]')
    assert page.inner_text("#gaps") == "Events missed"


def test_a_late_record_of_a_closed_order_opens_no_position(page: Page) -> None:
    gateway = opened(page)
    gateway.trade(1, 6)
    gateway.trade(2, 7)
    shows(page, "2 open positions")
    gateway.trade(2, 8, change="closed")
    gateway.trade(2, 9, change="modified", ended=True)
    gateway.trade(3, 10, symbol="GBPUSD")
    page.wait_for_selector("#positions tbody >> text=GBPUSD")
    shows(page, "2 open positions")


def test_a_resume_starts_at_the_confirmed_offset_until_it_is_answered_and_shows_no_trade_twice(page: Page) -> None:
    gateway = opened(page)
    gateway.trade(1, 6, confirmed=5)
    gateway.trade(2, 8, confirmed=5)  # 7 was lost on its way to the gateway, and is not recovered yet
    shows(page, "2 open positions")
    gateway.resume, gateway.missed, gateway.unavailable = [{"count": 2}], [(3, 7), (2, 8)], 1
    gateway.disconnect()
    shows(page, "3 open positions")
    assert gateway.resumed_from == [5, 5]
    wait_until(page, "() => document.querySelector('#notices').textContent.includes('1 trade came')")
    page.click("#tab-executions")
    assert page.locator("#executions tbody tr").count() == 3


def test_a_resume_ignores_what_the_first_status_of_the_new_connection_confirms(page: Page) -> None:
    gateway = opened(page)
    gateway.trade(1, 6, confirmed=5)
    shows(page, "1 open position")
    gateway.resume, gateway.missed = [{"count": 2}], [(2, 7), (3, 8)]
    gateway.confirmed = 8  # by what the gateway sent to others while this page was away
    gateway.disconnect()
    shows(page, "3 open positions")
    assert gateway.resumed_from == [5]


def test_a_resume_in_parts_of_which_one_was_not_whole_ends_with_last_values(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open positions")
    gateway.trade(4, 6)
    shows(page, "4 open positions")
    gateway.resume, gateway.open_orders = [{"whole": False, "more": True, "offset": 8}, {}], [2]
    gateway.disconnect()
    shows(page, "1 open position,")
    assert gateway.resumed_from == [6, 8]


def test_last_values_that_were_read_again_replace_the_positions(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open positions")
    gateway.open_orders = [2]
    gateway.send({"type": "notice", "kind": "refreshed", "message": "last values were read again"})
    shows(page, "1 open position,")


def test_a_notice_that_repeats_is_one_line(page: Page) -> None:
    gateway = opened(page)
    for _ in range(3):
        gateway.send({"type": "notice", "kind": "feed_lost", "message": "internal text"})
    wait_until(page, "() => document.querySelector('#notices').textContent.includes('(3 times)')")
    assert page.locator("#notices li").count() == 1
    assert "The connection to the trade server was lost." in page.inner_text("#notices")
    gateway.send({"type": "notice", "kind": "lost", "topic": "quote.EURUSD", "count": 7, "message": "internal text"})
    wait_until(page, "() => document.querySelector('#notices').textContent.includes('7 older quotes')")
    gateway.send({"type": "notice", "kind": "feed_lost", "message": "internal text"})
    wait_until(page, "() => document.querySelector('#notices').textContent.includes('(4 times)')")
    assert page.locator("#notices li").count() == 2


def test_a_symbol_opens_its_chart_by_mouse_and_by_keyboard(page: Page) -> None:
    gateway = opened(page)
    for number in range(30):
        gateway.quote("EURUSD", 1.1 + number / 10_000, 10**18 + number * 10**9)
        gateway.quote("USDJPY", 1.1)
    page.click("#board .open")
    page.wait_for_selector("#chart[open] canvas")
    assert page.inner_text("#chart h2") == "EURUSD"
    page.click('#chart [data-kind="bars"]')
    page.wait_for_selector("#chart canvas")
    gateway.quote("EURUSD", 1.2, 10**18 + 60 * 10**9)
    page.keyboard.press("Escape")
    page.wait_for_selector("#chart", state="hidden")
    page.focus('#board tr[tabindex="0"]')
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chart[open] canvas")
    assert page.inner_text("#chart h2") == "USDJPY"


def test_a_chart_has_what_the_gateway_sent_before_the_page_was_open(page: Page) -> None:
    gateway = opened(page)
    minute_s = 10**9 - 10**9 % 60
    ticks = [[minute_s - 120 + number, 1.0 + number / 1_000, 1.1] for number in range(200)]
    bars = [[minute_s - 120 + 60 * number, 1.0, 1.5, 0.5, 1.2] for number in range(3)]
    gateway.history = {"ticks": ticks, "bars": bars}
    gateway.quote("EURUSD", 1.3, (minute_s + 3) * 10**9)
    gateway.quote("EURUSD", 1.7, (minute_s + 100) * 10**9)
    for kind, count in (("ticks", 201), ("bars", 4)):  # one tick, and a bar, are of both
        page.click("#board .open")
        page.click(f'#chart [data-kind="{kind}"]')
        wait_until(page, "count => document.querySelector('#chart').dataset.count === String(count)", arg=count)
        page.keyboard.press("Escape")
    assert [one["symbol"] for one in gateway.requests if one["action"] == "history"] == ["EURUSD"] * 2


def test_a_table_has_one_row_in_the_tab_order_and_keys_move_it(page: Page) -> None:
    gateway = opened(page)
    for number in range(100):
        gateway.quote(f"S{number:02}", 1.1)
    page.wait_for_selector("#board tbody tr:nth-child(100)")
    page.focus('#board tr[tabindex="0"]')
    places = []
    for key in ("End", "ArrowUp", "PageUp", "Home", "ArrowDown", "PageDown"):
        page.keyboard.press(key)
        places.append(
            page.evaluate("[...document.querySelectorAll('#board tbody tr')].indexOf(document.activeElement)")
        )
    assert places[:2] == [99, 98]
    assert 0 < places[2] < 97
    assert places[3:5] == [0, 1]
    assert places[5] == 1 + 98 - places[2]
    assert page.locator('#board tbody tr[tabindex="0"]').count() == 1
    page.keyboard.press("p")
    page.wait_for_selector('#board tbody tr:first-child [aria-pressed="true"]')


def test_of_three_hundred_symbols_only_those_that_are_seen_are_drawn_at_each_quote(page: Page) -> None:
    gateway = opened(page)
    for number in range(300):
        gateway.quote(f"S{number:03}", 1.1)
    page.wait_for_selector("#board tbody tr:nth-child(300).away")
    drawn = "() => document.querySelectorAll('#board tbody tr:not(.away)').length"
    assert 10 < page.evaluate(drawn) < 60
    last = "document.querySelector('#board tbody tr:last-child .bid')"
    before = page.evaluate(f"{last}.textContent")
    gateway.quote("S299", 1.2)
    gateway.quote("S000", 1.3)
    wait_until(page, "() => document.querySelector('#board tbody tr:first-child .bid').textContent.includes('1.3')")
    assert page.evaluate(f"{last}.textContent") == before
    page.focus('#board tr[tabindex="0"]')
    page.keyboard.press("End")
    wait_until(page, f"() => {last}.textContent.includes('1.2') && {last}.offsetHeight > 0")
    page.keyboard.press("Home")
    page.wait_for_selector("#board tbody tr:last-child.away", state="attached")


def test_no_number_is_cut_at_any_width(page: Page) -> None:
    gateway = opened(page)
    wide = (("BTCUSD", 112_847.51, 2), ("BTCJPY", 9_366_847, 0), ("DE40", 18174.9, 1), ("EURUSD", 1.08, 5))
    for symbol, bid, digits in wide:
        gateway.quote(symbol, bid, digits=digits)
    page.wait_for_selector("#board tbody tr:nth-child(4)")
    for symbol, bid, digits in wide:
        gateway.quote(symbol, bid * 1.0234, digits=digits)
    wait_until(page, "() => document.querySelectorAll('#board .change').length === 4")
    wait_until(
        page, "() => [...document.querySelectorAll('#board .change')].every(one => one.textContent === '+2.34 %')"
    )
    cut = """[...document.querySelectorAll('#board .box')].filter(box => box.offsetWidth).filter(box => {
      const range = document.createRange(); range.selectNodeContents(box.querySelector('span') ?? box);
      const text = range.getBoundingClientRect(), room = box.getBoundingClientRect();
      return text.left < room.left - 0.5 || text.right > room.right + 0.5;
    }).map(box => box.textContent)"""
    for width in (*range(320, 1921, 20), 386, 561, 861, 1101, 1401, 1701):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(cut) == [], width


def test_the_age_of_the_last_quote_is_not_that_of_a_last_value(page: Page) -> None:
    gateway = opened(page)
    gateway.set_state(feed="live", state="pumping", quote_age_s=7200.0)
    gateway.quote("EURUSD", 1.1, snapshot=True)
    page.wait_for_selector("#board >> text=EURUSD")
    wait_until(page, "() => document.querySelector('#age').textContent === '2 h'")
    gateway.quote("EURUSD", 1.2)
    wait_until(page, "() => document.querySelector('#age').textContent === 'now'")


def test_the_change_of_the_day_is_in_percent_and_in_points(page: Page) -> None:
    gateway = opened(page)
    gateway.quote("EURUSD", 1.0)
    page.wait_for_selector("#board tbody tr")
    gateway.quote("EURUSD", 1.0123)
    wait_until(page, "() => document.querySelector('#board tbody .change').textContent === '+1.23 %'")
    assert page.locator("#board tbody :is(.change, .points)").all_inner_texts() == ["+1.23 %", "+1230"]
    gateway.quote("EURUSD", 0.99)
    wait_until(page, "() => document.querySelector('#board tbody .change').textContent === '-1.00 %'")


def test_the_accounts_have_totals_and_the_tabs_work_with_the_keyboard(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open positions")
    gateway.send({"type": "margin", "topic": "margin.9", "data": {"login": 9, "margin": 5.0, "equity": 10.0, "seq": 1}})
    page.focus("#tab-positions")
    page.keyboard.press("End")
    page.wait_for_selector("#accounts tbody tr:nth-child(2)")
    assert page.evaluate("document.activeElement.id") == "tab-accounts"
    assert page.locator("#accounts tfoot td").all_inner_texts()[:4] == ["Total", "3", "3.00", "4.50"]
    page.keyboard.press("Home")
    page.wait_for_selector("#panel-positions", state="visible")
    page.focus('#positions tr[tabindex="0"]')
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement === document.querySelector('#positions tbody tr:last-child')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_has_no_fault_that_axe_finds(page: Page, theme: Literal["light", "dark"]) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install in consumers/samples")
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    gateway = Scripted(page)
    gateway.past, gateway.open_orders = {1: 1, 2: 2}, [3, 8]
    page.goto(gateway.URL)
    shows(page, "2 open positions")
    for symbol in ("EURUSD", "USDJPY"):
        gateway.quote(symbol, 1.1)
        gateway.quote(symbol, 1.2)
    gateway.send({"type": "notice", "kind": "feed_lost", "message": ""})
    page.wait_for_selector("#board tbody tr:nth-child(2)")
    source = AXE.read_text(encoding="utf-8")
    page.evaluate(source)

    def check(shown: str) -> None:
        faults = page.evaluate("axe.run().then(({violations}) => violations)")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in faults] == [], shown

    for tab in ("positions", "orders", "executions", "accounts"):
        page.click(f"#tab-{tab}")
        check(tab)
    page.click("#board .open")
    page.wait_for_selector("#chart[open] canvas")
    check("chart")
    page.keyboard.press("Escape")
    gateway.set_state(feed="no_feed", state="reconnecting")
    page.wait_for_selector("#alarm:not([hidden])")
    check("alarm")
    page.set_viewport_size({"width": 390, "height": 844})
    check("phone")


def test_a_lost_session_is_not_current_at_once(page: Page) -> None:
    gateway = opened(page)
    gateway.set_state(feed="no_feed", state="reconnecting")
    said = "() => document.querySelector('#alarm').innerText.includes('the MT4 session is reconnecting')"
    wait_until(page, said)  # the page is not current before its first status either
    assert page.evaluate("() => document.title.startsWith('Not current') && document.body.classList.contains('stale')")
    gateway.set_state(feed="live", state="pumping")
    wait_until(page, "() => document.title.startsWith('s ') && !document.body.classList.contains('stale')")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; give the origin of its pages."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_sample_resumes_after_a_kill_of_the_gateway(page: Page, tmp_path: Path) -> None:
    with served(ROOT / "consumers") as origin:
        flags = ("--anonymous", "--anonymous-topics", "*", "--origins", origin)
        with daemon(tmp_path) as source:
            where = addresses(source)
            with gateway(tmp_path, *where, *flags) as run:
                port = str(run.port)
                page.goto(f"{origin}/samples/browser/?gateway=ws://127.0.0.1:{port}/ws")
                page.wait_for_selector("#quotes tr:nth-child(2)")
                page.wait_for_selector("#trades li:nth-child(3)")
                run.program.process.kill()
                wait_until(page, "() => document.querySelector('#state').textContent.startsWith('disconnected')")
            with gateway(tmp_path, *where, *flags, "--port", port):
                wait_until(page, "() => document.querySelector('#trades').textContent.includes('was not connected')")
                assert "missing" not in page.inner_text("#trades")
