// A client of the mt4pump gateway, without dependencies: one file to copy into your own page.
//
//   import { GatewayClient } from "./client.js";
//   const client = new GatewayClient("ws://127.0.0.1:8765/ws", { quotes: ["*"], stored: ["trade.*"] });
//   client.on("quote", ({ data }) => show(data.symbol, data.bid, data.ask));
//   client.on("event", ({ topic, data, snapshot }) => book(data.change, data.order));
//
// It keeps one connection open and connects again after each loss, with growing, random waits. Stored events are resumed
// from the confirmed position (see "Resuming" in the consumers' README): each event is delivered once; what is missing
// for good is reported as a gap. Events of this class, each with one object:
//
//   state     {state: "connecting" | "connected" | "disconnected", reason, code}
//   token     {reason}                         the gateway asks for a token: call signIn(token)
//   signedIn  {name}
//   status    the gateway's status: feed ("live", "no_feed", "silent"), state, server, offset, log, quote_age_s
//   quote     {data, snapshot}                 snapshot: the last value, which may be old
//   event     {topic, data, snapshot, past}    snapshot: a last value; past: it happened before this client connected.
//                                              Past events may come after newer ones: sort by offset
//   history   {symbol, ticks, bars}            the answer to askHistory(symbol): ticks as [s since 1970, bid, ask], bars of
//                                              the bid as [s since 1970, open, high, low, close], one a minute
//   reset     {topics}                         forget the last values of these topics: the present ones follow
//   gap       {topic, count, message}          events that cannot be fetched any more; count 0: unknown how many
//   resumed   {count}                          this many events happened while the client was not connected
//   notice    {kind, message, topic, count}
//   refused   {id, message}                    the token does not include "quotes", "stored" or "last"
//   error     {message, code}

const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 10_000, STATUS_INTERVAL_MS = 4_000, SILENCE_LIMIT_MS = 12_000;
const RETRY_MS = 2_000, SEEN_LIMIT = 20_000, PAST_FIRST = 1_000, PAST_LAST = 10_000;
const CLOSE_CODES = {
  1001: "the gateway is stopping", 1006: "the gateway cannot be reached", 1013: "the gateway is full",
  4401: "no token was given in time", 4403: "the token has expired or was withdrawn",
  4408: "this page was too slow to read", 4429: "too many messages",
};

export class GatewayClient {
  // quotes: symbols or patterns. stored: topics of stored events, which are resumed. last: topics of which only last
  // values matter. history: at least so many stored events from before the first connection, if the last 10,000 of the
  // journal have them. batchS: the gateway collects messages for so many seconds. token: a text, or null.
  constructor(url, { quotes = [], stored = [], last = [], history = 0, batchS = 0, token = null } = {}) {
    this.url = url;
    this.wanted = { quotes, stored, last, history, batchS };
    this.token = token;
    this.listeners = new Map();
    this.waitMs = FIRST_WAIT_MS;
    this.socket = null;
    this.position = { log: null, offset: 0 }; // every event up to it was delivered
    this.sequences = new Map(); // topic → [epoch, seq]
    this.seen = new Set(); // "epoch offset" of delivered events
    this.isCaughtUp = false; // nothing is being resumed: a status' `confirmed` is of delivered events
    this.needsLastValues = false; // until the gateway has sent them
    this.isAskingToken = false;
    addEventListener("online", () => this.connectIn(0));
    document.addEventListener("visibilitychange", () => document.hidden || this.socket || this.connectIn(0));
    setInterval(() => this.checkSilence(), 1000);
    queueMicrotask(() => this.connect()); // after the caller has added its listeners
  }

  on(name, listener) {
    this.listeners.set(name, listener);
    return this;
  }

  emit(name, detail = {}) {
    this.listeners.get(name)?.(detail);
  }

  get isConnected() {
    return this.ready === true;
  }

  // ---- the connection

  connect() {
    clearTimeout(this.timer);
    if (this.socket) return;
    this.emit("state", { state: "connecting", reason: "" });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.ready = false;
    this.receivedAt = this.askedAt = performance.now();
    socket.onopen = () => this.send(this.token ? { action: "auth", token: this.token } : { action: "status" });
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.receivedAt = performance.now();
      const received = JSON.parse(data); // a batch is an array
      for (const message of Array.isArray(received) ? received : [received]) this.handle(message);
    };
    socket.onclose = ({ code, reason }) => socket === this.socket && this.disconnected(code, reason);
  }

  connectIn(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), ms);
  }

  disconnected(code, reason) {
    this.socket = null;
    this.ready = this.isCaughtUp = false; // what a new connection confirms first was sent to others, not to us
    this.emit("state", { state: "disconnected", reason: reason || CLOSE_CODES[code] || `closed with code ${code}`, code });
    if (code === 4401 || code === 4403) this.askToken(`Signed out: ${reason || CLOSE_CODES[code]}.`);
    if (!this.isAskingToken) this.connectIn(this.waitMs * (0.7 + 0.6 * Math.random()));
    this.waitMs = Math.min(this.waitMs * 1.7, LONGEST_WAIT_MS);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // A half-open connection delivers nothing: ask for the status regularly, and end a connection that does not answer.
  checkSilence() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const now = performance.now(), isUnanswered = this.askedAt > this.receivedAt;
    if (isUnanswered && now - this.askedAt > SILENCE_LIMIT_MS) {
      const socket = this.socket;
      this.disconnected(1006, "the gateway does not answer");
      socket.close();
    } else if (!isUnanswered && now - this.askedAt > STATUS_INTERVAL_MS) {
      this.askedAt = now;
      this.send({ action: "status" });
    }
  }

  askHistory(symbol) {
    this.send({ action: "history", symbol });
  }

  signIn(token) {
    this.isAskingToken = false;
    this.token = token;
    if (this.socket?.readyState === WebSocket.OPEN) this.send({ action: "auth", token });
    else this.connectIn(0);
  }

  // The first reason counts: later ones follow from it.
  askToken(reason) {
    if (this.isAskingToken) return;
    this.isAskingToken = true;
    this.token = null;
    this.emit("token", { reason });
  }

  // ---- messages of the gateway

  handle(message) {
    switch (message.type) {
      case "quote": return this.emit("quote", message);
      case "status": return this.handleStatus(message);
      case "auth": return this.emit("signedIn", { name: message.name }), this.send({ action: "status" });
      case "resume": return this.handleResume(message);
      case "notice": return this.handleNotice(message);
      case "history": return this.emit("history", message);
      case "error": return this.handleError(message);
      case "subscription": return void (this.isCaughtUp ||= message.id === "stored");
      default: return message.data && this.handleEvent(message);
    }
  }

  handleStatus(status) {
    if (status.log && status.log !== this.position.log) {
      if (this.position.log) this.emit("gap", { count: 0, message: "the daemon began another journal" });
      this.position = { log: status.log, offset: this.position.log ? 0 : this.position.offset };
    }
    if (this.isCaughtUp && status.confirmed) this.position.offset = status.confirmed;
    if (status.id === "last values") this.needsLastValues = false;
    if (!this.ready) {
      this.ready = true;
      this.waitMs = FIRST_WAIT_MS;
      this.emit("state", { state: "connected", reason: "" });
      this.subscribe(status.offset);
    }
    this.emit("status", status);
  }

  subscribe(lastOffset) {
    const { quotes, history, stored, batchS } = this.wanted;
    this.isCaughtUp = false;
    this.news = 0;
    if (batchS) this.send({ action: "batch", window_s: batchS });
    if (quotes.length) this.send({ action: "subscribe", id: "quotes", topics: quotes.map((one) => `quote.${one}`) });
    this.subscribeLast();
    this.pastUntil = 0;
    if (!this.position.offset && this.position.log && history && lastOffset) {
      this.pastUntil = lastOffset; // events from before the first connection: a gap among them is not reported
      this.pastCount = 0;
      this.goBack(PAST_FIRST);
      this.needsLastValues = true; // they are not part of a resume
    }
    if (!this.position.offset && !this.pastUntil) this.emit("reset", { topics: stored });
    this.subscribeStored();
  }

  // Other kinds share the offsets: how far back the wanted events are is only known once they were asked for.
  goBack(offsets) {
    this.pastOffsets = offsets;
    this.position.offset = Math.max(0, this.pastUntil - offsets);
    this.isAtBegin = this.position.offset === 0 || offsets >= PAST_LAST;
  }

  subscribeLast() {
    const { last } = this.wanted;
    if (!last.length) return;
    this.emit("reset", { topics: last });
    this.send({ action: "subscribe", id: "last", topics: last });
  }

  subscribeStored() {
    clearTimeout(this.retry);
    this.retry = null;
    const { log, offset } = this.position, topics = this.wanted.stored;
    if (!topics.length) return;
    if (offset || this.pastUntil) this.send({ action: "resume", id: "stored", topics, offset, log });
    else this.send({ action: "subscribe", id: "stored", topics });
  }

  // An order that ended while events were lost would be shown as open for ever: only the last values show it.
  startOver() {
    this.needsLastValues = true;
    this.emit("reset", { topics: this.wanted.stored });
    this.send({ action: "subscribe", id: "stored", topics: this.wanted.stored });
    this.send({ action: "status", id: "last values" }); // its answer comes after them
  }

  handleEvent({ topic, data, snapshot = false, confirmed }) {
    const isStored = this.wanted.stored.some((one) => matches(topic, one));
    const past = data.offset !== undefined && data.offset <= (this.pastUntil ?? 0);
    if (!snapshot && isStored) {
      if (!past) this.checkSequence(topic, data);
      if (confirmed !== undefined) this.position.offset = confirmed;
      if (data.offset !== undefined) {
        const key = `${data.epoch} ${data.offset}`;
        if (this.seen.has(key)) return; // sent again, because the confirmed position is late
        this.seen.add(key);
        if (this.seen.size > SEEN_LIMIT) this.seen = new Set([...this.seen].slice(-SEEN_LIMIT / 2));
      }
      if (past) this.pastCount += 1;
      else this.news += 1;
    }
    this.emit("event", { topic, data, snapshot, past });
  }

  // A last value can be older than its topic's last event, so that it proves nothing about what follows.
  checkSequence(topic, { epoch, seq }) {
    const [lastEpoch, lastSeq] = this.sequences.get(topic) ?? [0, 0];
    const count = seq - lastSeq - 1;
    if (lastEpoch === epoch && count > 0) {
      this.emit("gap", { topic, count, message: `${topic}: ${count} missing before number ${seq}` });
    }
    if (lastEpoch !== epoch || seq > lastSeq) this.sequences.set(topic, [epoch, seq]);
  }

  handleResume({ whole, more, offset }) {
    const isFirst = this.pastUntil > 0;
    if (!whole && !isFirst) {
      this.emit("gap", { count: 0, message: "events while this page was away could not all be fetched" });
      this.needsLastValues = true;
    }
    this.position.offset = offset; // not the larger one: a journal that lost its end uses numbers again
    if (more) return this.subscribeStored();
    if (isFirst && whole && !this.isAtBegin && this.pastCount < this.wanted.history) {
      this.goBack(10 * this.pastOffsets);
      return this.subscribeStored();
    }
    this.pastUntil = 0;
    this.isCaughtUp = true;
    if (this.needsLastValues) return this.startOver();
    return this.emit("resumed", { count: this.news });
  }

  handleNotice(notice) {
    if (notice.kind === "lost" || notice.kind === "not_whole") {
      if (!notice.topic?.startsWith("quote.")) this.emit("gap", { ...notice, count: notice.count ?? 0 });
      if (notice.topic) this.sequences.delete(notice.topic); // its next number would report the same loss again
    }
    this.emit("notice", notice);
    if (notice.kind !== "refreshed") return;
    this.subscribeLast();
    if (this.isCaughtUp) this.startOver();
    else this.needsLastValues = true; // a resume is under way: it goes first
  }

  handleError({ message, code, id }) {
    if (code === "unauthenticated") this.askToken(message);
    else if (code === "forbidden" && id) this.emit("refused", { id, message });
    else if (code === "unavailable" && id === "stored") this.retry ??= setTimeout(() => this.subscribeStored(), RETRY_MS);
    else this.emit("error", { message, code });
  }
}

function matches(topic, pattern) {
  return pattern.endsWith("*") ? topic.startsWith(pattern.slice(0, -1)) : topic === pattern;
}
