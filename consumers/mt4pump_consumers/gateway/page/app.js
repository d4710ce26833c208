// Puts the page together: link → board, blotter, states; keys, theme, login.

import { Blotter } from "./blotter.js";
import { Board } from "./board.js";
import { Link } from "./link.js";

const $ = (id) => document.getElementById(id);
const board = new Board($("board"), { empty: $("no-quotes"), count: $("count") });
const blotter = new Blotter($("blotter"), { empty: $("no-trades"), open: $("open") });
const FEEDS = { live: ["good", "Feed live"], no_feed: ["bad", "No feed"], silent: ["bad", "Daemon silent"] };
const BAD = new Set(["lost", "not_whole", "silent", "feed_lost", "lagging", "query_failed", "disconnected"]);
const NOTICES = 200;

// Every stored event up to it came. The highest offset that came says less: one that was lost is healed after higher ones.
const place = { log: null, offset: 0 };
const RETRY_MS = 2_000;
const sequence = new Map(); // topic → [epoch, seq]
let missed = 0, feed = null, linkWhy = "", quoteAgeS = null, quoteAgeAt = 0, unseen = 0, wasUp = false, lostQuotes = 0, lostTimer = null, broken = false, news = 0, retryTimer = null;

function state(id, word, text) {
  const item = $(id);
  if (item.dataset.state !== word) item.dataset.state = word;
  const label = item.lastElementChild;
  if (label.textContent !== text) label.textContent = text;
}

function note(kind, text, tone = BAD.has(kind) ? "bad" : "good") {
  const item = document.createElement("li"), at = document.createElement("time");
  at.textContent = new Date().toLocaleTimeString("en-GB");
  at.className = "soft";
  const name = document.createElement("b"), words = document.createElement("span");
  name.textContent = kind.replaceAll("_", " ");
  words.textContent = text;
  item.dataset.tone = tone;
  item.append(at, name, words);
  $("notices").prepend(item);
  while ($("notices").children.length > NOTICES) $("notices").lastChild.remove();
  $("no-notices").hidden = true;
}

function gap(count, text) {
  missed += count;
  state("gaps", "bad", missed === 1 ? "1 event missed" : missed ? `${missed} events missed` : "Events missed");
  note("gap", text, "bad");
}

function alarm() {
  const bar = $("alarm");
  let text = "", tone = "bad";
  if (link.socket === null || !wasUp) text = wasUp || linkWhy ? `Not connected: ${linkWhy || "connecting"}. What you see is not current.` : "";
  else if (feed?.feed === "silent") text = "The daemon is silent. Prices are not current; they go on by themselves when it is back.";
  else if (feed?.feed === "no_feed") {
    text = `No feed: the MT4 session is ${feed.state.replaceAll("_", " ") || "not up"}. Prices are not current.`;
    tone = "warn";
  }
  bar.hidden = !text;
  if (bar.textContent !== text) bar.textContent = text;
  bar.dataset.tone = tone;
  document.body.classList.toggle("stale", Boolean(text));
}

function showFeed(status) {
  if (feed && feed.feed !== status.feed) note(status.feed, FEEDS[status.feed]?.[1] ?? status.feed, status.feed === "live" ? "good" : "bad");
  feed = status;
  const [word, text] = FEEDS[status.feed] ?? ["busy", status.feed];
  state("feed", word, text);
  $("server").textContent = status.server || "–";
  if (typeof status.quote_age_s === "number") {
    quoteAgeS = status.quote_age_s;
    quoteAgeAt = performance.now();
  }
  if (status.log !== place.log && status.log) {
    if (place.log) note("new journal", "the daemon counts its events anew", "bad");
    place.log = status.log;
    place.offset = 0;
  }
  alarm();
}

function checkSequence({ topic, data, snapshot }) {
  if (snapshot) return; // a last value can be older than the topic's last event: it proves nothing about what follows
  const [epoch, seq] = sequence.get(topic) ?? [0, 0];
  const count = data.seq - seq - 1;
  if (epoch === data.epoch && count > 0) {
    gap(count, `${topic}: ${count === 1 ? "1 event" : `${count} events`} before number ${data.seq} did not come`);
  }
  if (epoch !== data.epoch || data.seq > seq) sequence.set(topic, [data.epoch, data.seq]);
}

const TAKERS = {
  quote({ data }) {
    quoteAgeS = 0;
    quoteAgeAt = performance.now();
    board.take(data);
  },
  trade(message) {
    checkSequence(message);
    if (message.confirmed !== undefined) place.offset = message.confirmed;
    if (!blotter.take(message)) return;
    news += 1;
    if (document.body.dataset.view !== "trades") {
      unseen += 1;
      $("unseen").textContent = unseen > 99 ? "99+" : unseen;
      $("unseen").hidden = false;
    }
  },
  status(message) {
    if (!entered) enter(message);
    showFeed(message);
  },
  notice({ kind, message, count, topic }) {
    if (topic?.startsWith("quote.")) {
      // A quote that was missed is worth nothing once the next one is there; one line tells of all of them.
      if (kind !== "lost" && kind !== "gap") return;
      lostQuotes += kind === "lost" ? (count ?? 0) : 0;
      lostTimer ??= setTimeout(() => {
        if (lostQuotes) note("quotes skipped", `${lostQuotes} older quotes did not come; the prices shown are the newest`, "");
        lostQuotes = 0;
        lostTimer = null;
      }, 500);
    } else if (kind === "lost" || kind === "not_whole") gap(count ?? 0, message);
    else {
      note(kind, message);
      if (kind === "refreshed") startOver();
    }
  },
  auth(message) {
    if (login.open) login.close();
    $("leave").hidden = false;
    $("leave").title = `Signed in as ${message.name}`;
    link.send({ action: "status" });
  },
  resume(message) {
    if (!message.whole) {
      gap(0, "trades while this page was away could not all be fetched");
      broken = true;
    }
    if (message.more) {
      link.send({ ...subscriptions.trades(), offset: message.offset });
      return;
    }
    place.offset = message.offset; // not the larger one: a journal that lost its end uses numbers again
    if (!message.whole) {
      broken = false;
      blotter.forget(); // last values follow by themselves
      return;
    }
    if (broken) startOver();
    else if (news) note("caught up", news === 1 ? "1 trade came while this page was away" : `${news} trades came while this page was away`, "good");
  },
  error({ message, code, id }) {
    if (code === "unauthenticated") askToken(message);
    else if (id === "quotes") board.refuse("Your token does not include quotes.");
    else if (id === "trades" && code === "forbidden") blotter.refuse("Your token does not include trades.");
    else if (id === "trades" && code === "unavailable") retryTimer ??= setTimeout(askTrades, RETRY_MS);
    else note("error", message, "bad");
  },
};

const subscriptions = {
  quotes: () => ({ action: "subscribe", id: "quotes", topics: ["quote.*"] }),
  trades: () => place.offset
    ? { action: "resume", id: "trades", topics: ["trade.*"], offset: place.offset, log: place.log }
    : { action: "subscribe", id: "trades", topics: ["trade.*"] },
};

// What ended unseen would be shown as open for ever: only the last values tell.
function startOver() {
  broken = false;
  blotter.forget();
  link.send({ action: "subscribe", id: "trades", topics: ["trade.*"] });
}

function askTrades() {
  clearTimeout(retryTimer);
  retryTimer = null;
  link.send(subscriptions.trades());
}

let entered = false;
function enter(status) {
  entered = wasUp = true;
  news = 0;
  linkWhy = "";
  link.fine();
  if (place.log && status.log && place.log !== status.log) Object.assign(place, { log: status.log, offset: 0 });
  if (!place.offset) blotter.forget();
  link.send(subscriptions.quotes());
  askTrades();
  alarm();
}

const link = new Link({
  open() {
    entered = false;
    const token = sessionStorage.getItem("token");
    link.send(token ? { action: "auth", token } : { action: "status" });
  },
  message: (message) => TAKERS[message.type]?.(message),
  state(word, text, why = "", code = 0) {
    state("link", { up: "good", busy: "busy" }[word] ?? "bad", text);
    if (word !== "down") return;
    if (entered) note("disconnected", why);
    entered = false;
    linkWhy = why;
    state("feed", "busy", "Feed unknown");
    if (code === 4401 || code === 4403) askToken(`Signed out: ${why}.`);
    alarm();
  },
});

const login = $("login");
function askToken(why) {
  sessionStorage.removeItem("token");
  $("login-why").textContent = why.startsWith("log in first") ? "This gateway asks for a token." : why;
  $("login-why").dataset.tone = why.startsWith("log in first") ? "" : "bad";
  if (!login.open) login.showModal();
}
login.addEventListener("cancel", (event) => event.preventDefault());
login.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) return;
  $("token").value = "";
  sessionStorage.setItem("token", token);
  if (link.socket?.readyState === WebSocket.OPEN) link.send({ action: "auth", token });
  else link.soon(0);
});
$("leave").onclick = () => {
  sessionStorage.removeItem("token");
  location.reload();
};

function theme(name) {
  document.documentElement.dataset.theme = name;
}
const dark = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
theme(chosen());
dark.addEventListener("change", () => theme(chosen()));
$("theme").onclick = () => {
  localStorage.setItem("theme", chosen() === "dark" ? "light" : "dark");
  theme(chosen());
};

function view(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-pressed", button.dataset.view === name);
  if (name === "trades") {
    unseen = 0;
    $("unseen").hidden = true;
  }
}
for (const button of document.querySelectorAll("nav button")) button.onclick = () => view(button.dataset.view);

const filter = $("filter");
filter.addEventListener("input", () => {
  board.show(filter.value.trim());
  blotter.show(filter.value.trim());
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
  else if (views[event.key]) view(views[event.key]);
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
}, 1000);
