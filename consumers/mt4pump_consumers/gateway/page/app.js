// Connects client, board, trades and chart; states, notices, keys, theme, login.

import { Board } from "./board.js";
import { ChartDialog } from "./chart.js";
import { GatewayClient } from "./client.js";
import { Trades } from "./trades.js";

const $ = (id) => document.getElementById(id);
const FEEDS = { live: ["good", "Feed live"], no_feed: ["bad", "No feed"], silent: ["bad", "Daemon silent"] };
const NOTICES = {
  restarted: ["warn", "The daemon was restarted. Prices and trades continue."],
  lost: ["bad", "Some events were lost."],
  not_whole: ["bad", "The journal does not have all events that were missed."],
  feed_lost: ["bad", "The connection to the trade server was lost."],
  feed_back: ["good", "The connection to the trade server is back."],
  silent: ["bad", "The daemon does not answer."],
  alive: ["good", "The daemon answers again."],
  lagging: ["bad", "The gateway is too slow: what you see may be late."],
  caught_up: ["good", "The gateway keeps up again."],
  query_failed: ["warn", "Stored events cannot be read at the moment."],
  refreshed: ["warn", "All open orders were read again after a loss."],
  malformed: ["bad", "Messages that could not be read were dropped."],
};
const UNIMPORTANT = new Set(["connected", "disconnected", "gap", "healed"]); // others report what follows from them
const NOTICES_SHOWN = 200, PAST_TRADES = 50, BATCH_S = 0.05;

const board = new Board($("board"), {
  empty: $("no-quotes"), count: $("count"),
  onOpen: (row) => chart.open(row), onDraw: (row) => chart.update(row),
});
const chart = new ChartDialog($("chart"), { onOpen: (symbol) => client.askHistory(symbol) });
const trades = new Trades(
  Object.fromEntries(["positions", "orders", "executions", "accounts"].map((name) => [name, $(name)])),
  {
    quote: (symbol) => board.rows.get(symbol)?.quote, summary: $("open"),
    empty: Object.fromEntries(["positions", "orders", "executions", "accounts"].map((name) => [name, $(`no-${name}`)])),
  },
);
const url = new URL("ws", location.href.replace(/^http/, "ws"));
const client = new GatewayClient(url, {
  quotes: ["*"], stored: ["trade.*"], last: ["margin.*"], history: PAST_TRADES, batchS: BATCH_S,
  token: sessionStorage.getItem("token"),
});
let feed = null, connection = { state: "connecting", reason: "" }, wasConnected = false;
let missed = 0, lostQuotes = 0, isQuoteLost = false, unseen = 0, quoteAgeS = null, quoteAgeAt = 0;

// ---- states

function setState(id, word, text) {
  const item = $(id), label = item.lastElementChild;
  if (item.dataset.state !== word) item.dataset.state = word;
  if (label.textContent !== text) label.textContent = text;
}

function showAlarm() {
  const bar = $("alarm");
  let text = "", tone = "bad";
  if (!client.isConnected) text = wasConnected || connection.reason ? `Not connected: ${connection.reason || "connecting"}. What you see is not current.` : "";
  else if (feed?.feed === "silent") text = "The daemon is silent. Prices are not current; they continue by themselves when it is back.";
  else if (feed?.feed === "no_feed") {
    text = `No feed: the MT4 session is ${feed.state.replaceAll("_", " ") || "not connected"}. Prices are not current.`;
    tone = "warn";
  }
  bar.hidden = !text;
  if (bar.textContent !== text) bar.textContent = text;
  bar.dataset.tone = tone;
  document.body.classList.toggle("stale", Boolean(text));
  document.title = text ? "Not current – mt4pump" : feed?.server ? `${feed.server} – mt4pump` : "mt4pump";
}

// Skipped quotes are one line for all time: only the newest price counts.
function addLostQuotes() {
  const list = $("notices"), old = [...list.children].find((item) => "quotes" in item.dataset);
  old?.remove();
  addNotice("warn", `${lostQuotes} older quotes were skipped; the prices shown are the newest.`);
  list.firstElementChild.dataset.quotes = "";
  isQuoteLost = false;
}

// The same notice again raises the count of its line instead of adding one; the line of skipped quotes does not count.
function addNotice(tone, text) {
  const list = $("notices"), now = new Date().toLocaleTimeString("en-GB");
  const first = [...list.children].find((item) => !("quotes" in item.dataset));
  if (first?.dataset.text === text) {
    first.dataset.count = Number(first.dataset.count) + 1;
    first.querySelector("span").textContent = `${text} (${first.dataset.count} times)`;
    first.querySelector("time").textContent = now;
    return;
  }
  const item = document.createElement("li"), at = item.appendChild(document.createElement("time"));
  item.append(document.createElement("span"));
  item.lastElementChild.textContent = text;
  at.textContent = now;
  at.className = "soft";
  Object.assign(item.dataset, { tone, text, count: 1 });
  list.prepend(item);
  while (list.children.length > NOTICES_SHOWN) list.lastChild.remove();
  $("no-notices").hidden = true;
}

// ---- the client's events

client.on("state", ({ state, reason, code }) => {
  connection = { state, reason };
  if (state === "connected") {
    wasConnected = true;
    setState("link", "good", "Connected");
  } else {
    setState("link", state === "connecting" ? "busy" : "bad", state === "connecting" ? "Connecting" : "Disconnected");
    setState("feed", "busy", "Feed unknown");
    if (state === "disconnected" && feed) {
      addNotice("bad", `Disconnected: ${reason}.`);
      feed = null;
    }
  }
  showAlarm();
});
client.on("status", (status) => {
  feed = status;
  setState("feed", ...(FEEDS[status.feed] ?? ["busy", status.feed]));
  $("server").textContent = status.server || "–";
  if (typeof status.quote_age_s === "number") [quoteAgeS, quoteAgeAt] = [status.quote_age_s, performance.now()];
  showAlarm();
});
client.on("quote", ({ data, snapshot }) => {
  if (!snapshot) [quoteAgeS, quoteAgeAt] = [0, performance.now()]; // a last value may be of last week
  board.add(data);
});
client.on("event", ({ topic, data, snapshot, past }) => {
  if (topic.startsWith("margin.")) return trades.addMargin(data);
  trades.add(data, { snapshot });
  if (snapshot || past || document.body.dataset.view === "trades") return undefined;
  unseen += 1;
  $("unseen").textContent = unseen > 99 ? "99+" : unseen;
  $("unseen").hidden = false;
  return undefined;
});
client.on("reset", ({ topics }) => (topics.includes("margin.*") ? trades.resetMargins() : trades.reset()));
client.on("gap", ({ count, message }) => {
  missed += count;
  setState("gaps", "bad", missed === 1 ? "1 event missed" : missed ? `${missed} events missed` : "Events missed");
  addNotice("bad", `Events are missing: ${message}.`);
});
client.on("resumed", ({ count }) => {
  if (count) addNotice("good", count === 1 ? "1 trade came while this page was away." : `${count} trades came while this page was away.`);
});
client.on("notice", ({ kind, message, count, topic }) => {
  if (topic?.startsWith("quote.")) { // a lost quote is worth nothing once the next one arrives: one line counts all
    if (kind !== "lost") return;
    lostQuotes += count ?? 0;
    isQuoteLost = true;
  } else if (!UNIMPORTANT.has(kind)) addNotice(...(NOTICES[kind] ?? ["warn", message]));
});
client.on("history", (message) => chart.merge(message));
client.on("refused", ({ id }) => {
  if (id === "quotes") board.refuse("Your token does not include quotes.");
  if (id === "stored") trades.refuse("Your token does not include trades.");
});
client.on("error", ({ message }) => addNotice("bad", `The gateway refused a request: ${message}.`));

// ---- login

const login = $("login");
client.on("token", ({ reason }) => {
  sessionStorage.removeItem("token");
  const isFirst = reason.startsWith("log in first");
  $("login-why").textContent = isFirst ? "This gateway asks for a token." : reason;
  $("login-why").dataset.tone = isFirst ? "" : "bad";
  if (!login.open) login.showModal();
});
client.on("signedIn", ({ name }) => {
  if (login.open) login.close();
  $("leave").hidden = false;
  $("leave").title = `Signed in as ${name}`;
});
login.addEventListener("cancel", (event) => event.preventDefault());
login.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) return;
  $("token").value = "";
  sessionStorage.setItem("token", token);
  client.signIn(token);
});
$("leave").onclick = () => {
  sessionStorage.removeItem("token");
  location.reload();
};

// ---- views, tabs, theme, filter, keys

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
const showTheme = () => (document.documentElement.dataset.theme = theme());
showTheme();
dark.addEventListener("change", showTheme);
$("theme").onclick = () => {
  localStorage.setItem("theme", theme() === "dark" ? "light" : "dark");
  showTheme();
};

function showView(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-pressed", button.dataset.view === name);
  if (name !== "trades") return;
  unseen = 0;
  $("unseen").hidden = true;
}
for (const button of document.querySelectorAll("nav button")) button.onclick = () => showView(button.dataset.view);

const tabs = [...document.querySelectorAll('[role="tab"]')];
function showTab(tab, { focus = false } = {}) {
  for (const each of tabs) {
    each.ariaSelected = each === tab;
    each.tabIndex = each === tab ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
  if (focus) tab.focus();
  localStorage.setItem("tab", tab.dataset.tab);
  trades.show(tab.dataset.tab);
}
for (const [i, tab] of tabs.entries()) {
  tab.onclick = () => showTab(tab);
  tab.onkeydown = ({ key }) => {
    const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1 }[key];
    if (next !== undefined) showTab(tabs.at(next % tabs.length), { focus: true });
  };
}
showTab(tabs.find((tab) => tab.dataset.tab === localStorage.getItem("tab")) ?? tabs[0]);

const filter = $("filter");
filter.addEventListener("input", () => {
  board.show(filter.value.trim());
  trades.setFilter(filter.value.trim());
});
$("help").onclick = () => $("keys").showModal();
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target === filter) {
    if (event.key !== "Escape") return;
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    filter.blur();
    return;
  }
  const views = { 1: "quotes", 2: "trades", 3: "events" };
  if (event.key === "/") {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "t" || event.key === "T") $("theme").click();
  else if (event.key === "?") $("help").click();
  else if (views[event.key]) showView(views[event.key]);
  else if (event.key === "ArrowDown" && event.target === document.body) {
    event.preventDefault();
    document.querySelector('#board tr[tabindex="0"]')?.focus();
  }
});

const ageText = (s) => (s < 1 ? "now" : s < 60 ? `${Math.floor(s)} s` : s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`);
setInterval(() => {
  $("rate").textContent = board.ticks;
  board.ticks = 0;
  if (quoteAgeS !== null) $("age").textContent = ageText(quoteAgeS + (performance.now() - quoteAgeAt) / 1000);
  if (isQuoteLost) addLostQuotes();
}, 1000);
