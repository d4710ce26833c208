// What this page and the gateway have seen of a symbol, and the dialog that draws it.

import { CandlestickSeries, ColorType, LineSeries, createChart } from "./vendor/lightweight-charts.js";

const TICKS = 1_000, BARS = 720, MINUTE_S = 60;

const zoneS = () => new Date().getTimezoneOffset() * 60; // the chart draws UTC: show local time

// The last ticks and one-minute bars of the bid.
export class History {
  constructor() {
    this.ticks = [];
    this.bars = [];
  }

  add({ bid, ask, ts }) {
    const last = this.ticks.at(-1), time = Math.max(ts / 1e9 - zoneS(), last ? last.time + 1e-6 : 0);
    this.ticks.push({ time, bid, ask });
    if (this.ticks.length > TICKS) this.ticks.shift();
    const minute = Math.floor(time / MINUTE_S) * MINUTE_S, bar = this.bars.at(-1);
    if (bar?.time === minute) {
      bar.high = Math.max(bar.high, bid);
      bar.low = Math.min(bar.low, bid);
      bar.close = bid;
    } else {
      this.bars.push({ time: minute, open: bid, high: bid, low: bid, close: bid });
      if (this.bars.length > BARS) this.bars.shift();
    }
  }

  // Adds what the gateway has sent before, or while this page was away; what both have seen counts once.
  merge({ ticks, bars }) {
    const zone = zoneS(), byMs = (tick) => Math.round(tick.time * 1000), inOrder = (one, other) => one.time - other.time;
    const all = new Map(ticks.map(([time, bid, ask]) => ({ time: time - zone, bid, ask })).map((tick) => [byMs(tick), tick]));
    for (const tick of this.ticks) all.set(byMs(tick), tick);
    this.ticks = [...all.values()].sort(inOrder).slice(-TICKS);
    const own = new Map(this.bars.map((bar) => [bar.time, bar]));
    for (const [time, open, high, low, close] of bars) {
      const bar = { time: time - zone, open, high, low, close }, seen = own.get(bar.time);
      if (seen) Object.assign(seen, { open, high: Math.max(high, seen.high), low: Math.min(low, seen.low) });
      else own.set(bar.time, bar);
    }
    this.bars = [...own.values()].sort(inOrder).slice(-BARS);
  }
}

export class ChartDialog {
  // onOpen(symbol): its history is wanted, for `merge`.
  constructor(dialog, { onOpen }) {
    Object.assign(this, { dialog, onOpen });
    this.box = dialog.querySelector(".chart");
    this.kind = "ticks";
    this.buttons = [...dialog.querySelectorAll("[data-kind]")];
    for (const button of this.buttons) {
      button.onclick = () => {
        this.kind = button.dataset.kind;
        this.build();
      };
    }
    dialog.addEventListener("close", () => this.remove());
  }

  open(row) {
    this.row = row;
    this.dialog.querySelector("h2").textContent = row.symbol;
    this.dialog.showModal();
    this.build();
    this.onOpen(row.symbol);
  }

  remove() {
    this.chart?.remove();
    this.chart = null;
  }

  build() {
    this.remove();
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.kind === this.kind);
    const page = getComputedStyle(document.documentElement), color = (name) => page.getPropertyValue(`--${name}`).trim();
    const { digits } = this.row.quote, priceFormat = { type: "price", precision: digits, minMove: 10 ** -digits };
    this.chart = createChart(this.box, {
      autoSize: true,
      layout: {
        background: { type: ColorType.Solid, color: color("panel") }, textColor: color("soft"),
        attributionLogo: false, // it needs an inline style, which the page's policy forbids; the link below replaces it
      },
      grid: { vertLines: { color: color("line") }, horzLines: { color: color("line") } },
      timeScale: { timeVisible: true, secondsVisible: this.kind === "ticks", maxBarSpacing: 24, borderColor: color("line") },
      rightPriceScale: { borderColor: color("line") },
    });
    if (this.kind === "ticks") {
      const line = (name, tone) => this.chart.addSeries(LineSeries, { title: name, color: color(tone), lineWidth: 1, priceFormat });
      this.series = { bid: line("bid", "accent"), ask: line("ask", "soft") };
      for (const name of ["bid", "ask"]) {
        this.series[name].setData(this.row.history.ticks.map((tick) => ({ time: tick.time, value: tick[name] })));
      }
    } else {
      const soft = color("soft"), lines = { borderUpColor: soft, wickUpColor: soft, borderDownColor: soft, wickDownColor: soft };
      const style = { ...lines, upColor: color("panel"), downColor: soft, priceFormat }; // a rise is hollow
      this.series = { bars: this.chart.addSeries(CandlestickSeries, style) };
      this.series.bars.setData(this.row.history.bars);
    }
    this.chart.timeScale().fitContent();
    this.dialog.dataset.count = this.row.history[this.kind].length;
  }

  merge(message) {
    if (message.symbol !== this.row?.symbol) return;
    this.row.history.merge(message);
    if (this.chart) this.build();
  }

  update(row) {
    if (!this.chart || row !== this.row) return;
    const tick = row.history.ticks.at(-1);
    if (this.kind === "bars") this.series.bars.update(row.history.bars.at(-1));
    else for (const name of ["bid", "ask"]) this.series[name].update({ time: tick.time, value: tick[name] });
  }
}
