// What this page has seen of a symbol, and the dialog that draws it.

import { CandlestickSeries, ColorType, LineSeries, createChart } from "./vendor/lightweight-charts.js";

const TICKS = 1_000, BARS = 720, MINUTE_S = 60;

// The last ticks and one-minute bars of the bid.
export class History {
  constructor() {
    this.ticks = [];
    this.bars = [];
  }

  add({ bid, ask, ts }) {
    const zone = new Date().getTimezoneOffset() * 60, last = this.ticks.at(-1); // the chart draws UTC: show local time
    const time = Math.max(ts / 1e9 - zone, last ? last.time + 1e-6 : 0);
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
}

export class ChartDialog {
  constructor(dialog) {
    this.dialog = dialog;
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
  }

  remove() {
    this.chart?.remove();
    this.chart = null;
  }

  build() {
    this.remove();
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.kind === this.kind);
    const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(`--${name}`).trim();
    const { digits } = this.row.quote, priceFormat = { type: "price", precision: digits, minMove: 10 ** -digits };
    this.chart = createChart(this.box, {
      autoSize: true,
      layout: {
        background: { type: ColorType.Solid, color: color("panel") }, textColor: color("soft"),
        attributionLogo: false, // it needs an inline style, which the page's policy forbids; the link below replaces it
      },
      grid: { vertLines: { color: color("line") }, horzLines: { color: color("line") } },
      timeScale: { timeVisible: true, secondsVisible: this.kind === "ticks", borderColor: color("line") },
      rightPriceScale: { borderColor: color("line") },
    });
    if (this.kind === "ticks") {
      const line = (name, tone) => this.chart.addSeries(LineSeries, { title: name, color: color(tone), lineWidth: 1, priceFormat });
      this.series = { bid: line("bid", "accent"), ask: line("ask", "soft") };
      for (const name of ["bid", "ask"]) {
        this.series[name].setData(this.row.history.ticks.map((tick) => ({ time: tick.time, value: tick[name] })));
      }
    } else {
      const [up, down] = [color("up"), color("down")];
      const colors = { upColor: up, borderUpColor: up, wickUpColor: up, downColor: down, borderDownColor: down, wickDownColor: down };
      this.series = { bars: this.chart.addSeries(CandlestickSeries, { ...colors, priceFormat }) };
      this.series.bars.setData(this.row.history.bars);
    }
    this.chart.timeScale().fitContent();
  }

  update(row) {
    if (!this.chart || row !== this.row) return;
    const tick = row.history.ticks.at(-1);
    if (this.kind === "bars") this.series.bars.update(row.history.bars.at(-1));
    else for (const name of ["bid", "ask"]) this.series[name].update({ time: tick.time, value: tick[name] });
  }
}
