// The trade blotter: what happened to orders, newest first, and what is open.

const ROWS = 300;
const SIDES = ["buy", "sell", "buy limit", "sell limit", "buy stop", "sell stop", "balance", "credit"];
const ENDED = new Set(["closed", "cancelled", "deleted"]);
const MONEY = new Set(["balance", "credit"]);
const number = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const cell = (line, text, className) => {
  const made = line.insertCell();
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

export class Blotter {
  constructor(table, { empty, open }) {
    this.body = table.tBodies[0];
    this.empty = empty;
    this.open = open;
    this.orders = new Map();
    this.volume = 0;
    this.waiting = [];
    this.filter = "";
    this.seen = new Set();
  }

  // Returns whether it is news: the last values after a new connection are not, nor is what came before.
  take({ data, snapshot }) {
    if (!snapshot && data.offset !== undefined) {
      const name = `${data.epoch} ${data.offset}`;
      if (this.seen.has(name)) return false;
      this.seen.add(name);
      if (this.seen.size > 20_000) this.seen = new Set([...this.seen].slice(-10_000));
    }
    this.keep(data);
    if (snapshot) return false;
    this.waiting.push(data);
    if (this.waiting.length > ROWS) this.waiting.shift();
    this.schedule();
    return true;
  }

  keep(trade) {
    if (MONEY.has(trade.change) || trade.cmd >= 6) return;
    this.volume -= this.orders.get(trade.order) ?? 0;
    if (ENDED.has(trade.change)) this.orders.delete(trade.order);
    else {
      this.orders.set(trade.order, trade.volume);
      this.volume += trade.volume;
    }
    this.schedule();
  }

  // Hundreds come at once when a gap is healed: they are drawn once per frame, and only those that have a place.
  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const shown = this.body.offsetParent !== null, trades = this.waiting;
      this.waiting = [];
      for (const trade of trades) this.add(trade, shown);
      while (this.body.rows.length > ROWS) this.body.lastElementChild.remove();
      this.open.textContent = this.orders.size ? `${this.orders.size} open order${this.orders.size === 1 ? "" : "s"}, ${number.format(this.volume / 100)} lots` : "";
    });
  }

  add(trade, shown) {
    const line = this.body.insertRow(0), money = MONEY.has(trade.change) || trade.cmd >= 6;
    const at = new Date(trade.ts / 1e6), closed = ENDED.has(trade.change);
    cell(line, at.toLocaleTimeString("en-GB"), "soft").title = at.toISOString();
    cell(line, trade.login);
    const tag = cell(line, "").appendChild(document.createElement("span"));
    tag.className = "tag";
    tag.dataset.change = trade.change;
    tag.textContent = trade.change ?? trade.action;
    const order = cell(line, money ? trade.comment || SIDES[trade.cmd] || "" : "", "order");
    order.title = `Order ${trade.order}${trade.synthetic ? ", found by comparing tables" : ""}`;
    if (!money) {
      order.appendChild(document.createElement("span")).textContent = SIDES[trade.cmd] ?? trade.cmd;
      order.append(` ${trade.symbol}`);
    }
    cell(line, money ? "" : number.format(trade.volume / 100), "number");
    cell(line, money ? "" : (closed ? trade.close_price : trade.open_price).toFixed(trade.digits), "number");
    const sign = trade.profit > 0 ? "plus" : trade.profit < 0 ? "minus" : "soft";
    cell(line, money || closed ? number.format(trade.profit) : "", `number ${sign}`);
    if (shown) line.className = "new"; // unseen, it would only start when the table is shown
    line.dataset.find = `${trade.login} ${trade.symbol} ${trade.order}`.toLowerCase();
    line.hidden = !line.dataset.find.includes(this.filter);
    this.empty.hidden = true;
  }

  // Last values follow: what is not among them has ended while we were away.
  forget() {
    this.orders.clear();
    this.volume = 0;
  }

  show(filter) {
    this.filter = filter.toLowerCase();
    for (const line of this.body.rows) line.hidden = !line.dataset.find.includes(this.filter);
  }

  refuse(text) {
    if (!this.body.rows.length) this.empty.textContent = text;
  }
}
