// The quote board: one row per symbol, drawn at most once per frame.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 120, LEAST = 20, OLD_MS = 60_000;
const pinned = new Set(JSON.parse(localStorage.getItem("pins") ?? "[]"));

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

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
    this.arrow = this.cell.appendChild(element("i"));
    this.box = this.cell.appendChild(element("span"));
    this.head = this.box.appendChild(document.createTextNode(""));
    this.pips = this.box.appendChild(element("b"));
    this.tail = this.box.appendChild(element("sup"));
    this.turn = 0;
  }

  show(price, digits, way) {
    if (price === this.price) return;
    const [head, pips, tail] = parts(price, digits);
    this.head.data = head;
    this.pips.textContent = pips;
    this.tail.textContent = tail;
    if (this.price !== undefined) {
      this.turn = 1 - this.turn; // another name, or the animation would not start again
      this.box.className = `flash-${price > this.price ? "up" : "down"}-${this.turn}`;
    }
    this.arrow.textContent = way > 0 ? "▲" : way < 0 ? "▼" : "";
    this.price = price;
  }
}

class Row {
  constructor(symbol, board) {
    this.symbol = symbol;
    this.points = [];
    this.way = 0;
    this.line = element("tr");
    this.line.tabIndex = -1;
    this.pin = element("button", "", "★");
    this.pin.type = "button";
    this.pin.onclick = () => board.pin(this);
    const pinCell = element("td", "pin");
    pinCell.append(this.pin);
    const name = element("th", "", symbol);
    name.scope = "row";
    this.bid = new PriceCell("bid");
    this.ask = new PriceCell("ask");
    this.spread = element("td", "number");
    this.change = element("td", "number change");
    this.range = element("td", "number range soft");
    this.line.append(pinCell, name, this.makeSpark(), this.bid.cell, this.ask.cell, this.spread, this.change, this.range);
    this.showPin();
  }

  makeSpark() {
    const cell = element("td", "spark"), svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 24`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    this.title = svg.appendChild(document.createElementNS(SVG, "title"));
    this.start = svg.appendChild(document.createElementNS(SVG, "path"));
    this.start.setAttribute("class", "start");
    this.path = svg.appendChild(document.createElementNS(SVG, "path"));
    this.path.setAttribute("class", "line");
    cell.append(svg);
    return cell;
  }

  take(quote, now) {
    const before = this.quote;
    if (before && quote.bid !== before.bid) this.way = Math.sign(quote.bid - before.bid);
    if (!before) this.first = quote.bid;
    this.quote = quote;
    this.at = now;
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
  get changePips() { return (this.quote.bid - this.first) / this.pip; }

  draw() {
    const { bid, ask, digits, low, high } = this.quote, change = this.changePips;
    this.line.className = this.way > 0 ? "way-up" : this.way < 0 ? "way-down" : "";
    this.bid.show(bid, digits, this.way);
    this.ask.show(ask, digits, 0);
    this.spread.textContent = pips(this.spreadPips);
    this.change.textContent = `${change > 0.05 ? "+" : ""}${Math.abs(change) < 0.05 ? "0.0" : pips(change)}`;
    this.change.className = `number change ${change > 0.05 ? "plus" : change < -0.05 ? "minus" : "soft"}`;
    this.range.textContent = high > 0 ? `${low.toFixed(digits)} – ${high.toFixed(digits)}` : "–";
    this.drawSpark(change);
  }

  drawSpark(change) {
    const points = this.points, least = Math.min(...points), size = Math.max(...points) - least || 1;
    const step = (POINTS - 1) / (Math.max(points.length, LEAST) - 1);
    const x = (i) => (POINTS - 1 - (points.length - 1 - i) * step).toFixed(1), y = (value) => (22 - (20 * (value - least)) / size).toFixed(1);
    const way = points.at(-1) > points[0] ? "up" : points.at(-1) < points[0] ? "down" : "flat";
    this.path.setAttribute("d", points.map((value, i) => `${i ? "L" : "M"}${x(i)} ${y(value)}`).join(""));
    this.path.dataset.way = way;
    this.start.setAttribute("d", `M0 ${y(points[0])}H${POINTS - 1}`);
    this.title.textContent = `${way}, ${change.toFixed(1)} pips since the page was opened`;
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
  change: (a, b) => a.changePips - b.changePips,
};

export class Board {
  constructor(table, { empty, count }) {
    this.body = table.tBodies[0];
    this.empty = empty;
    this.count = count;
    this.rows = new Map();
    this.dirty = new Set();
    this.sort = "symbol";
    this.sign = 1;
    this.filter = "";
    this.ticks = 0;
    this.heads = [...table.tHead.querySelectorAll("[data-sort]")];
    for (const head of this.heads) head.firstElementChild.onclick = () => this.sortBy(head.dataset.sort);
    table.addEventListener("keydown", (event) => this.key(event));
    setInterval(() => this.age(), 2000);
  }

  take(quote) {
    let row = this.rows.get(quote.symbol);
    if (!row) {
      row = new Row(quote.symbol, this);
      this.rows.set(quote.symbol, row);
      this.unsorted = true;
    }
    row.take(quote, Date.now());
    this.ticks += 1;
    this.dirty.add(row);
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      for (const row of this.dirty) row.draw();
      this.dirty.clear();
      if (this.unsorted) this.arrange();
    });
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
    this.empty.textContent = rows.length ? "No symbol matches the filter." : "Waiting for quotes…";
    this.count.textContent = rows.length ? (shown === rows.length ? `${shown} symbols` : `${shown} of ${rows.length} symbols`) : "";
  }

  show(filter) {
    this.filter = filter.toLowerCase();
    this.arrange();
  }

  refuse(text) {
    this.empty.textContent = text;
  }

  pin(row) {
    if (!pinned.delete(row.symbol)) pinned.add(row.symbol);
    localStorage.setItem("pins", JSON.stringify([...pinned]));
    row.showPin();
    this.arrange();
  }

  key(event) {
    const line = event.target.closest("tbody tr");
    if (!line) return;
    if (event.key === "Enter" && event.target === line) {
      this.pin([...this.rows.values()].find((row) => row.line === line));
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling";
      let next = line[step];
      while (next?.hidden) next = next[step];
      if (next) {
        line.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    }
  }

  age() {
    const now = Date.now();
    for (const row of this.rows.values()) row.line.classList.toggle("old", now - row.at > OLD_MS);
    if (this.sort !== "symbol" && !this.body.contains(document.activeElement)) this.arrange();
  }
}
