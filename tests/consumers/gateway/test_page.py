"""The page in a real browser: login, quotes move, a trade appears, the daemon goes and comes back."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import mt4pump_consumers.gateway
import pytest

from tests.consumers.gateway.gateway_run import addresses, daemon, gateway

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
LIMIT_MS = 20_000


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if not os.path.exists(CHROMIUM):  # noqa: PTH110
        pytest.skip("there is no chromium; Debian's package of this name is what the page is tested in")
    playwright = pytest.importorskip("playwright.sync_api", reason="PyPI's playwright drives the browser")
    flags = [*QUIET.split(), "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            tmp_path / "browser", executable_path=CHROMIUM, args=flags, viewport={"width": 1440, "height": 860}
        )
        made = browser.pages[0]
        made.set_default_timeout(LIMIT_MS)
        faults: list[str] = []
        made.on("pageerror", lambda error: faults.append(str(error)))
        made.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        yield made
        browser.close()
    assert not faults


def test_login_quotes_trades_and_a_daemon_that_dies_and_returns(page: Page, tmp_path: Path) -> None:
    token = jwt.encode({"exp": time.time() + 300, "topics": ["*"], "sub": "desk"}, SECRET, "HS256")
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
            page.wait_for_function("before => document.querySelector('#board tbody').innerText !== before", arg=before)
            page.wait_for_selector("#blotter tbody tr")
            page.fill("#filter", "eurusd")
            page.wait_for_function("document.querySelectorAll('#board tbody tr:not([hidden])').length === 1")
            page.press("#filter", "Escape")
            first.process.kill()
            page.wait_for_selector("#alarm:not([hidden])")
            assert "silent" in page.inner_text("#alarm")
            with daemon(tmp_path, *where):
                page.wait_for_selector("#alarm", state="hidden")
                before = page.inner_text("#board tbody")
                page.wait_for_function(
                    "before => document.querySelector('#board tbody').innerText !== before", arg=before
                )


def test_a_gateway_that_dies_is_told_and_the_page_connects_again(page: Page, tmp_path: Path) -> None:
    with daemon(tmp_path) as source:
        where = addresses(source)
        with gateway(tmp_path, *where, "--anonymous", "--anonymous-topics", "quote.*") as run:
            port = str(run.port)
            page.goto(run.page)
            page.wait_for_selector("#board tbody tr")
            page.wait_for_function("document.querySelector('#no-trades').innerText.includes('does not include trades')")
            run.program.process.kill()
            page.wait_for_selector('#link[data-state="bad"]')
            page.wait_for_selector("#alarm:not([hidden])")
        with gateway(tmp_path, *where, "--anonymous", "--port", port):
            page.wait_for_selector('#link[data-state="good"]')
            page.wait_for_selector("#alarm", state="hidden")


def test_the_phone_shows_one_view_at_a_time_and_nothing_runs_off_the_side(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    with (
        daemon(tmp_path) as source,
        gateway(tmp_path, *addresses(source), "--anonymous", "--anonymous-topics", "*") as run,
    ):
        page.goto(run.page)
        page.wait_for_selector("#board tbody tr:nth-child(20)")
        box = "document.querySelector('.quotes .scroll')"
        wide = f"{box}.scrollWidth - {box}.clientWidth"
        assert page.evaluate(wide) <= 0
        page.click('nav button[data-view="trades"]')
        page.wait_for_selector("#blotter tbody tr:nth-child(5)")
        assert page.evaluate(wide.replace("quotes", "trades")) <= 0
        cells = "[...document.querySelectorAll('#blotter tbody td')].filter(one => one.scrollWidth > one.clientWidth)"
        assert page.evaluate(f"{cells}.map(one => one.textContent)") == []
        page.click('nav button[data-view="events"]')
        page.wait_for_selector(".events", state="visible")
        page.wait_for_selector(".quotes", state="hidden")


class Scripted:
    """A gateway that says what the test wants: serves the page, and answers each request by ``answers``."""

    URL = "http://127.0.0.1:9/"

    def __init__(self, page: Page) -> None:
        self.link: WebSocketRoute | None = None
        self.asked: list[dict[str, Any]] = []
        self.resume: list[dict[str, Any]] = []
        self.missed: list[tuple[int, int]] = []
        self.unavailable = 0
        self.open_orders: list[int] = []
        self.folder = Path(mt4pump_consumers.gateway.__file__).parent / "page"
        page.route(f"{self.URL}**", self._serve)
        page.route_web_socket(f"{self.URL.replace('http', 'ws')}ws", self._connected)

    def _serve(self, route: Route) -> None:
        route.fulfill(path=self.folder / (route.request.url.removeprefix(self.URL) or "index.html"))

    def _connected(self, link: WebSocketRoute) -> None:
        self.link = link
        link.on_message(lambda text: self._answer(json.loads(text)))

    def _answer(self, request: dict[str, Any]) -> None:
        self.asked.append(request)
        if request["action"] == "status":
            self.say({"type": "status", "feed": "live", "state": "pumping", "server": "s", "log": "a", "offset": 5})
        elif request.get("topics") == ["trade.*"]:
            if request["action"] == "resume":
                if self.unavailable:
                    self.unavailable -= 1
                    error = {"type": "error", "id": request["id"], "code": "unavailable", "message": "not now"}
                    self.say(error)
                    return
                for order, seq in self.missed:
                    self.trade(order, seq)
                answer = {"type": "resume", "topics": ["trade.*"], "log": "a", "count": 0, "more": False}
                self.say({**answer, "offset": 9, **self.resume.pop(0)})
            for order in self.open_orders:
                self.trade(order, 4, snapshot=True)

    def say(self, message: dict[str, Any]) -> None:
        assert self.link is not None
        self.link.send(json.dumps(message))

    def trade(self, order: int, seq: int, *, snapshot: bool = False, confirmed: int | None = None) -> None:
        """Tell of an open order; what came before it is confirmed, unless ``confirmed`` says less."""
        numbers = {"login": 7, "order": order, "cmd": 0, "volume": 100, "open_price": 1.1, "digits": 5, "profit": 0.0}
        words = {"symbol": "EURUSD", "change": "opened", "comment": ""}
        came = {"snapshot": True} if snapshot else {"confirmed": seq if confirmed is None else confirmed}
        data = {**numbers, **words, "epoch": 1, "seq": seq, "offset": seq, "ts": 10**18}
        self.say({"type": "trade", "topic": "trade.7", "data": data, **came})


def shows(page: Page, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#open').textContent.startsWith(text)", arg=text)


def test_open_orders_that_ended_unseen_are_cleared_when_a_resume_is_not_whole(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open orders")
    gateway.trade(4, 6)
    shows(page, "4 open orders")
    gateway.resume, gateway.open_orders = [{"whole": False}], [2]
    assert gateway.link is not None
    gateway.link.close(code=1001, reason="the gateway stops")
    shows(page, "1 open order,")
    assert [one["offset"] for one in gateway.asked if one["action"] == "resume"] == [6]
    page.wait_for_selector('#gaps[data-state="bad"]')
    assert page.inner_text("#gaps") == "Events missed"


def test_a_resume_goes_back_to_what_is_confirmed_until_it_is_answered_and_shows_no_trade_twice(page: Page) -> None:
    gateway = Scripted(page)
    page.goto(gateway.URL)
    page.wait_for_selector('#link[data-state="good"]')
    gateway.trade(1, 4, confirmed=3)
    gateway.trade(2, 8, confirmed=5)  # 6 was lost on its way to the gateway, and is not healed yet
    shows(page, "2 open orders")
    gateway.resume, gateway.missed, gateway.unavailable = [{"whole": True, "count": 2}], [(3, 6), (2, 8)], 1
    assert gateway.link is not None
    gateway.link.close(code=1001, reason="the gateway stops")
    shows(page, "3 open orders")
    assert [one["offset"] for one in gateway.asked if one["action"] == "resume"] == [5, 5]
    page.wait_for_function("document.querySelector('#notices').textContent.includes('1 trade came')")
    assert page.locator("#blotter tbody tr").count() == 3


def test_a_resume_in_parts_of_which_one_was_not_whole_ends_with_last_values(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open orders")
    gateway.trade(4, 6)
    shows(page, "4 open orders")
    gateway.resume, gateway.open_orders = [{"whole": False, "more": True, "offset": 8}, {"whole": True}], [2]
    assert gateway.link is not None
    gateway.link.close(code=1001, reason="the gateway stops")
    shows(page, "1 open order,")
    assert [one["offset"] for one in gateway.asked if one["action"] == "resume"] == [6, 8]


def test_last_values_that_were_read_anew_replace_the_open_orders(page: Page) -> None:
    gateway = Scripted(page)
    gateway.open_orders = [1, 2, 3]
    page.goto(gateway.URL)
    shows(page, "3 open orders")
    gateway.open_orders = [2]
    gateway.say({"type": "notice", "kind": "refreshed", "message": "last values were read anew"})
    shows(page, "1 open order,")
