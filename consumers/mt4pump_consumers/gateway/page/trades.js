// Open positions, pending orders, executions and accounts, from trade and margin events. The table that is shown is
// drawn at most four times a second.

import { Table } from "./table.js";

const EXECUTIONS = 300, DRAW_MS = 250;
const TYPES = ["buy", "sell", "buy limit", "sell limit", "buy stop", "sell stop", "balance", "credit"];
const ENDED = new Set(["closed", "cancelled", "deleted"]);
const MONEY = new Set(["balance", "credit"]);
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const side = (trade) => (trade.cmd % 2 ? "sell" : "buy");
const isMoney = (trade) => MONEY.has(trade.change) || trade.cmd >= 6;
const lots = (trade) => money.format(trade.volume / 100);
const net = (trade) => trade.profit + (trade.storage ?? 0) + (trade.commission ?? 0) + (trade.taxes ?? 0);
const parts = (trade) =>
  `profit ${money.format(trade.profit)}, swap ${money.format(trade.storage ?? 0)}, ` +
  `commission ${money.format(trade.commission ?? 0)}, taxes ${money.format(trade.taxes ?? 0)}`;
const tone = (value) => (value > 0 ? "plus" : value < 0 ? "minus" : "soft");
const time = (ns) => new Date(ns / 1e6).toLocaleTimeString("en-GB");
const serverTime = (s) => (s ? new Date(s * 1000).toISOString().slice(0, 16).replace("T", " ") : "–");
const price = (value, trade) => (value ? value.toFixed(trade.digits) : "–");

const ACCOUNT = { head: "Account", text: (row) => row.login, sort: (row) => row.login };
const ORDER = { head: "Order", text: (row) => row.order, sort: (row) => row.order, wide: true };
const SYMBOL = { head: "Symbol", text: (row) => row.symbol, sort: (row) => row.symbol };
const SIDE = { head: "Type", text: (row) => TYPES[row.cmd] ?? row.cmd, className: (row) => side(row), sort: (row) => row.cmd };
const LOTS = { head: "Lots", number: true, text: lots, sort: (row) => row.volume };
const NET = {
  head: "Net profit", number: true, text: (row) => money.format(net(row)), className: (row) => tone(net(row)),
  title: (row) => `${parts(row)}; as of the order's last event`, sort: net,
};

export class Trades {
  // quote(symbol) gives the symbol's last quote, or undefined.
  constructor(tables, { quote, summary, empty }) {
    this.orders = new Map(); // order → its last record
    this.accounts = new Map(); // login → its last margin record
    this.executions = [];
    this.summary = summary;
    this.view = "positions";
    this.filter = "";
    const pip = ({ digits }) => 10 ** -(digits === 3 || digits === 5 ? digits - 1 : digits);
    const now = (row) => quote(row.symbol)?.[side(row) === "buy" ? "bid" : "ask"];
    const moved = (row) => (now(row) === undefined ? 0 : ((now(row) - row.open_price) / pip(row)) * (side(row) === "buy" ? 1 : -1));
    const pips = (row) => (now(row) === undefined ? "–" : moved(row).toFixed(1));
    const stops = [
      { head: "S/L", number: true, wider: true, text: (row) => price(row.sl, row) },
      { head: "T/P", number: true, wider: true, text: (row) => price(row.tp, row) },
    ];
    this.tables = {
      positions: new Table(tables.positions, [
        ACCOUNT, ORDER, SYMBOL, SIDE, LOTS,
        { head: "Open", number: true, wide: true, text: (row) => price(row.open_price, row) },
        { head: "Now", number: true, wider: true, text: (row) => price(now(row), row) },
        { head: "Pips", number: true, text: pips, className: (row) => tone(moved(row)), sort: moved },
        ...stops, NET,
      ], { key: (row) => row.order, empty: empty.positions, none: "No open positions." }),
      orders: new Table(tables.orders, [
        ACCOUNT, ORDER, SYMBOL, SIDE, LOTS,
        { head: "Price", number: true, text: (row) => price(row.open_price, row) },
        { head: "Now", number: true, wider: true, text: (row) => price(now(row), row) },
        ...stops,
        { head: "Expires", wide: true, text: (row) => serverTime(row.expiration), title: () => "server time" },
      ], { key: (row) => row.order, empty: empty.orders, none: "No pending orders." }),
      executions: new Table(tables.executions, [
        { head: "Time", text: (row) => time(row.ts), className: () => "soft", title: (row) => new Date(row.ts / 1e6).toISOString() },
        ACCOUNT,
        { head: "Event", text: (row) => row.change ?? row.action, title: (row) => (row.synthetic ? "found by comparing tables" : "") },
        { ...ORDER, wide: false, wider: true },
        { head: "Symbol", className: () => "text", text: (row) => (isMoney(row) ? row.comment || TYPES[row.cmd] || "" : row.symbol) },
        { head: "Type", wide: true, text: (row) => (isMoney(row) ? "" : TYPES[row.cmd] ?? row.cmd), className: (row) => (isMoney(row) ? "" : side(row)) },
        { ...LOTS, text: (row) => (isMoney(row) ? "" : lots(row)), sort: undefined },
        { head: "Price", number: true, wide: true, text: (row) => (isMoney(row) ? "" : price(ENDED.has(row.change) ? row.close_price : row.open_price, row)) },
        {
          ...NET, sort: undefined,
          text: (row) => (isMoney(row) || row.change === "closed" ? money.format(net(row)) : ""), title: parts,
        },
      ].map((column) => ({ ...column, sort: undefined })), { key: (row) => row.key, empty: empty.executions, none: "No trades yet." }),
      accounts: new Table(tables.accounts, [
        { ...ACCOUNT, total: () => "Total" },
        { head: "Positions", number: true, text: (row) => row.count, sort: (row) => row.count, total: (rows) => sum(rows, "count") },
        { head: "Lots", number: true, text: (row) => money.format(row.lots), sort: (row) => row.lots, total: (rows) => money.format(sum(rows, "lots")) },
        {
          head: "Open profit", number: true, text: (row) => money.format(row.net), className: (row) => tone(row.net),
          sort: (row) => row.net, total: (rows) => money.format(sum(rows, "net")), title: () => "net, as of each order's last event",
          totalClass: (rows) => tone(sum(rows, "net")),
        },
        ...["balance", "equity", "margin", "margin_free"].map((field) => ({
          head: { balance: "Balance", equity: "Equity", margin: "Margin", margin_free: "Free" }[field], number: true,
          group: "margin", wide: field !== "equity", wider: field.startsWith("margin"), text: (row) => (row.margin ? money.format(row.margin[field]) : "–"),
          sort: (row) => row.margin?.[field] ?? 0, title: () => "only of accounts with a margin level that the server reports",
        })),
        { head: "Level", number: true, wide: true, group: "margin", text: (row) => (row.margin?.margin ? `${Math.round(row.margin.margin_level)} %` : "–"), sort: (row) => row.margin?.margin_level ?? Infinity },
      ], { key: (row) => row.login, empty: empty.accounts, none: "No accounts with positions." }),
    };
    setInterval(() => this.draw(), DRAW_MS);
  }

  add(trade, { snapshot }) {
    if (!isMoney(trade)) {
      if (ENDED.has(trade.change) || trade.ended) this.orders.delete(trade.order);
      else this.orders.set(trade.order, trade);
      this.changed = true;
    }
    if (snapshot) return;
    const isOlder = (one) => one.ts < trade.ts || (one.ts === trade.ts && !(one.offset > trade.offset));
    const at = this.executions.findIndex(isOlder); // past and recovered events come late
    const key = `${trade.epoch} ${trade.offset ?? `${trade.login} ${trade.seq}`}`;
    this.executions.splice(at < 0 ? this.executions.length : at, 0, { ...trade, key });
    if (this.executions.length > EXECUTIONS) this.executions.pop();
    this.changed = true;
  }

  addMargin(record) {
    if (record.action === "delete") this.accounts.delete(record.login);
    else this.accounts.set(record.login, record);
    this.changed = true;
  }

  reset() {
    this.orders.clear();
    this.changed = true;
  }

  resetMargins() {
    this.accounts.clear();
    this.changed = true;
  }

  show(view) {
    this.view = view;
    this.changed = true;
    this.draw();
  }

  setFilter(text) {
    this.filter = text.toLowerCase();
    this.changed = true;
    this.draw();
  }

  refuse(text) {
    for (const table of Object.values(this.tables)) table.none = text;
    this.changed = true;
  }

  draw() {
    if (!this.changed && !["positions", "orders"].includes(this.view)) return; // those two show prices
    this.changed = false;
    const open = [...this.orders.values()], positions = open.filter((one) => one.cmd < 2);
    const volume = positions.reduce((all, one) => all + one.volume, 0), count = positions.length;
    this.summary.textContent = count ? `${count} open position${count === 1 ? "" : "s"}, ${money.format(volume / 100)} lots` : "";
    const rows = {
      positions: () => positions,
      orders: () => open.filter((one) => one.cmd >= 2),
      executions: () => this.executions,
      accounts: () => this.accountRows(positions),
    }[this.view]();
    const find = (row) => `${row.login} ${row.symbol ?? ""} ${row.order ?? ""}`.toLowerCase();
    this.tables.accounts.table.classList.toggle("no-margins", this.accounts.size === 0);
    this.tables[this.view].draw(this.filter ? rows.filter((row) => find(row).includes(this.filter)) : rows);
  }

  accountRows(positions) {
    const rows = new Map([...this.accounts].map(([login, margin]) => [login, { login, margin, count: 0, lots: 0, net: 0 }]));
    for (const trade of positions) {
      const row = rows.get(trade.login) ?? { login: trade.login, count: 0, lots: 0, net: 0 };
      row.count += 1;
      row.lots += trade.volume / 100;
      row.net += net(trade);
      rows.set(trade.login, row);
    }
    return [...rows.values()];
  }
}

const sum = (rows, field) => rows.reduce((all, row) => all + row[field], 0);
