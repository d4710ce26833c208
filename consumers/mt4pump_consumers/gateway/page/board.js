// The quote board: one row per symbol, drawn at most once per frame.

import { History } from "./chart.js";
import { rove } from "./table.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 120, LEAST = 20, OLD_MS = 60_000, DAY_S = 86_400, MARK_MS = 150;
const pinned = new Set(JSON.parse(localStorage.getItem("pins") ?? "[]"));

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// A cell of fixed size whose text can change without a layout of the table.
function textCell(className) {
  const cell = element("td", className), text = cell.appendChild(element("div", "box")).appendChild(document.createTextNode(""));
  return [cell, text];
}

function write(text, value) {
  if (text.data !== value) text.data = value;
}

// A price in three parts: what hardly moves, the pips, and the tenth of a pip.
export function parts(price, digits) {
  const text = price.toFixed(digits);
  const tail = digits === 3 || digits === 5 ? 1 : 0;
  const end = text.length - tail;
  let start = end - 2;
  if (text.slice(start, end).includes(".")) start -= 1;
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

const pips = (value) => value.toFixed(Math.abs(value) < 1000 ? 1 : 0);

class PriceCell {
  constructor(className) {
    this.cell = element("td", `number price ${className}`);
    const box = this.cell.appendChild(element("div", "box"));
    this.arrow = box.appendChild(element("i")).appendChild(document.createTextNode(""));
    this.mark = box.appendChild(element("span"));
    this.head = this.mark.appendChild(document.createTextNode(""));
    this.pips = this.mark.appendChild(element("b")).appendChild(document.createTextNode(""));
    this.tail = this.mark.appendChild(element("sup")).appendChild(document.createTextNode(""));
    this.isMarked = false;
  }

  show(price, digits, direction) {
    if (price === this.price) return;
    const [head, pips, tail] = parts(price, digits);
    write(this.head, head);
    write(this.pips, pips);
    write(this.tail, tail);
    write(this.arrow, direction > 0 ? "▲" : direction < 0 ? "▼" : "");
    this.setMark(this.price !== undefined);
    this.price = price;
  }

  setMark(isMarked) {
    if (isMarked !== this.isMarked) this.mark.className = isMarked ? "moved" : "";
    this.isMarked = isMarked;
  }
}

class Row {
  constructor(symbol, board) {
    this.symbol = symbol;
    this.marked = board.marked;
    this.points = [];
    this.history = new History();
    this.direction = 0;
    this.line = element("tr");
    this.line.tabIndex = -1;
    this.pin = element("button", "", "★");
    this.pin.type = "button";
    this.pin.tabIndex = -1; // P on the row does the same
    this.pin.onclick = () => board.pin(this);
    const pinCell = element("td", "pin");
    pinCell.append(this.pin);
    const name = element("th");
    name.scope = "row";
    const open = name.appendChild(element("button", "open", symbol));
    open.type = "button";
    open.title = `${symbol}: show its chart`;
    open.tabIndex = -1; // Enter on the row does the same
    open.onclick = () => board.onOpen(this);
    this.bid = new PriceCell("bid");
    this.ask = new PriceCell("ask");
    const [spread, change, points, range] = ["number spread-cell", "number change", "number points", "number range soft"].map(textCell);
    [this.spread, this.percent, this.change, this.range] = [spread, change, points, range].map(([, text]) => text);
    this.changeCells = [change[0], points[0]];
    this.line.append(pinCell, name, this.makeSpark(), this.bid.cell, this.ask.cell, spread[0], ...this.changeCells, range[0]);
    this.showPin();
  }

  makeSpark() {
    const cell = element("td", "spark"), svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 24`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    this.title = svg.appendChild(document.createElementNS(SVG, "title")).appendChild(document.createTextNode(""));
    this.start = svg.appendChild(document.createElementNS(SVG, "path"));
    this.start.setAttribute("class", "start");
    this.path = svg.appendChild(document.createElementNS(SVG, "path"));
    this.path.setAttribute("class", "line");
    cell.append(svg);
    return cell;
  }

  add(quote, now) {
    const before = this.quote;
    if (before && quote.bid !== before.bid) this.direction = Math.sign(quote.bid - before.bid);
    const day = Math.floor(quote.time / DAY_S); // by the server's clock
    if (day !== this.day) {
      this.isWholeDay = this.day !== undefined; // the page was open when the day began
      [this.day, this.first] = [day, quote.bid];
      const since = this.isWholeDay ? "the day began" : `${new Date(now).toLocaleTimeString("en-GB")}, the first quote of the day on this page`;
      for (const cell of this.changeCells) cell.title = `Bid since ${since}`;
    }
    this.quote = quote;
    this.at = now;
    this.history.add(quote);
    const second = Math.floor(now / 1000), mid = (quote.bid + quote.ask) / 2;
    if (this.second === second) this.points[this.points.length - 1] = mid;
    else this.points.push(mid);
    this.second = second;
    if (this.points.length > POINTS) this.points.shift();
  }

  get pip() {
    const { digits } = this.quote;
    return 10 ** -(digits === 3 || digits === 5 ? digits - 1 : digits);
  }
  get spreadPips() { return (this.quote.ask - this.quote.bid) / this.pip; }
  get changePoints() { return Math.round((this.quote.bid - this.first) * 10 ** this.quote.digits); }
  get changePercent() { return this.first ? (100 * (this.quote.bid - this.first)) / this.first : 0; }

  // A row that is scrolled away has only its name, and is drawn when it is seen: else each quote costs a layout of all.
  drawIfSeen() {
    this.isLate = this.isDrawn && !this.isSeen;
    if (!this.isLate) this.draw();
  }

  see(isSeen) {
    this.isSeen = isSeen;
    if (isSeen && this.isLate) this.drawIfSeen();
    this.line.classList.toggle("away", !isSeen);
  }

  draw() {
    this.isDrawn = true;
    const { bid, ask, digits, low, high } = this.quote, points = this.changePoints, sign = points > 0 ? "+" : "";
    this.bid.show(bid, digits, this.direction);
    this.ask.show(ask, digits, 0);
    this.drawnAt = this.at;
    this.marked.add(this);
    write(this.spread, pips(this.spreadPips));
    const percent = this.changePercent.toFixed(2);
    write(this.percent, Number(percent) ? `${sign}${percent} %` : "0.00 %");
    write(this.change, `${sign}${points}`);
    write(this.range, high > 0 ? `${low.toFixed(digits)} – ${high.toFixed(digits)}` : "–");
    if (this.sparkSecond === this.second) return; // it has one point a second
    this.sparkSecond = this.second;
    this.drawSpark();
  }

  clearMarks() {
    this.bid.setMark(false);
    this.ask.setMark(false);
  }

  drawSpark() {
    const points = this.points, least = Math.min(...points), size = Math.max(...points) - least || 1;
    const step = (POINTS - 1) / (Math.max(points.length, LEAST) - 1);
    const x = (i) => (POINTS - 1 - (points.length - 1 - i) * step).toFixed(1), y = (value) => (22 - (20 * (value - least)) / size).toFixed(1);
    const trend = points.at(-1) > points[0] ? "up" : points.at(-1) < points[0] ? "down" : "flat";
    this.path.setAttribute("d", points.map((value, i) => `${i ? "L" : "M"}${x(i)} ${y(value)}`).join(""));
    this.start.setAttribute("d", `M0 ${y(points[0])}H${POINTS - 1}`);
    write(this.title, `${trend} in the last two minutes`);
  }

  showPin() {
    const on = pinned.has(this.symbol);
    this.pin.setAttribute("aria-pressed", on);
    this.pin.setAttribute("aria-label", `${on ? "Unpin" : "Pin"} ${this.symbol}`);
  }
}

const ORDERS = {
  symbol: (a, b) => a.symbol.localeCompare(b.symbol),
  spread: (a, b) => a.spreadPips - b.spreadPips,
  change: (a, b) => a.changePercent - b.changePercent,
  points: (a, b) => a.changePoints - b.changePoints,
};

export class Board {
  // onOpen(row): a symbol was chosen. onDraw(row): it has a new quote.
  constructor(table, { empty, count, onOpen, onDraw }) {
    Object.assign(this, { onOpen, onDraw });
    this.body = table.tBodies[0];
    this.empty = empty;
    this.count = count;
    this.rows = new Map();
    this.rowOf = new WeakMap(); // <tr> → row
    this.dirty = new Set();
    this.marked = new Set(); // rows whose prices have just changed
    this.watcher = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) this.rowOf.get(target).see(isIntersecting);
    }, { root: table.closest(".scroll"), rootMargin: "300px" });
    this.sort = "symbol";
    this.sign = 1;
    this.filter = "";
    this.ticks = 0;
    this.none = "Waiting for quotes…";
    this.heads = [...table.tHead.querySelectorAll("[data-sort]")];
    for (const head of this.heads) head.firstElementChild.onclick = () => this.sortBy(head.dataset.sort);
    rove(this.body, (line, event) => this.act(line, event));
    setInterval(() => this.clearMarks(), MARK_MS);
    setInterval(() => this.age(), 2000);
  }

  add(quote) {
    let row = this.rows.get(quote.symbol);
    if (!row) {
      row = new Row(quote.symbol, this);
      this.rows.set(quote.symbol, row);
      this.rowOf.set(row.line, row);
      this.watcher.observe(row.line);
      this.unsorted = true;
    }
    row.add(quote, Date.now());
    this.ticks += 1;
    this.dirty.add(row);
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      for (const row of this.dirty) {
        row.drawIfSeen();
        this.onDraw(row);
      }
      this.dirty.clear();
      if (this.unsorted) this.arrange();
    });
  }

  clearMarks() {
    const now = Date.now();
    for (const row of this.marked) {
      if (now - row.drawnAt < MARK_MS) continue;
      row.clearMarks();
      this.marked.delete(row);
    }
  }

  sortBy(name) {
    this.sign = name === this.sort ? -this.sign : 1;
    this.sort = name;
    for (const head of this.heads) {
      if (head.dataset.sort === name) head.ariaSort = this.sign > 0 ? "ascending" : "descending";
      else head.removeAttribute("aria-sort");
    }
    this.arrange();
  }

  arrange() {
    this.unsorted = false;
    const order = ORDERS[this.sort], first = (row) => (pinned.has(row.symbol) ? 0 : 1);
    const rows = [...this.rows.values()].sort((a, b) => first(a) - first(b) || this.sign * order(a, b) || ORDERS.symbol(a, b));
    const held = document.activeElement; // moving an element takes the focus from it
    this.body.replaceChildren(...rows.map((row) => row.line));
    if (this.body.contains(held)) held.focus({ preventScroll: true });
    let shown = 0;
    for (const row of rows) {
      row.line.hidden = !row.symbol.toLowerCase().includes(this.filter);
      shown += !row.line.hidden;
    }
    const focusable = rows.find((row) => !row.line.hidden);
    if (focusable && !this.body.querySelector('tr[tabindex="0"]:not([hidden])')) focusable.line.tabIndex = 0;
    this.empty.hidden = shown > 0;
    this.empty.textContent = rows.length ? "No symbol matches the filter." : this.none;
    this.count.textContent = rows.length ? (shown === rows.length ? `${shown} symbols` : `${shown} of ${rows.length} symbols`) : "";
  }

  show(filter) {
    this.filter = filter.toLowerCase();
    this.arrange();
  }

  refuse(text) {
    this.none = text;
    this.arrange();
  }

  pin(row) {
    if (!pinned.delete(row.symbol)) pinned.add(row.symbol);
    localStorage.setItem("pins", JSON.stringify([...pinned]));
    row.showPin();
    this.arrange();
  }

  act(line, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.rowOf.get(line);
    if (event.key === "Enter") this.onOpen(row);
    else if (event.key === "p" || event.key === "P") this.pin(row);
  }

  age() {
    const now = Date.now();
    for (const row of this.rows.values()) row.line.classList.toggle("old", now - row.at > OLD_MS);
    if (this.sort !== "symbol" && !this.body.contains(document.activeElement)) this.arrange();
  }
}
