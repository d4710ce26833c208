// The connection to the gateway: keeps one open, tells what it is doing, never gives up.

const FIRST_MS = 400, LAST_MS = 10_000, ASK_MS = 4_000, DEAD_MS = 12_000;
export const CODES = {
  1001: "the gateway is stopping", 1006: "the gateway cannot be reached", 1013: "the gateway is full",
  4401: "no token was given in time", 4403: "the token has expired or was withdrawn",
  4408: "this page was too slow to read", 4429: "too many messages",
};

export class Link {
  // on: {open(), message(object), state(word, text)}; word is "up", "down" or "busy".
  constructor(on) {
    this.on = on;
    this.delayMs = FIRST_MS;
    this.socket = null;
    this.paused = false;
    addEventListener("online", () => this.soon(0));
    document.addEventListener("visibilitychange", () => document.hidden || this.socket || this.soon(0));
    setInterval(() => this.look(), 1000);
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    if (this.socket || this.paused) return;
    this.on.state("busy", "Connecting");
    const socket = new WebSocket(new URL("ws", location.href.replace(/^http/, "ws")));
    this.socket = socket;
    this.heardAt = performance.now();
    socket.onopen = () => this.on.open();
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.heardAt = performance.now();
      const message = JSON.parse(data);
      for (const one of Array.isArray(message) ? message : [message]) this.on.message(one);
    };
    socket.onclose = ({ code, reason }) => socket === this.socket && this.lost(code, reason);
  }

  // Called once the gateway answers as it should: the next failure starts with a short wait again.
  fine() {
    this.delayMs = FIRST_MS;
    this.on.state("up", "Connected");
  }

  lost(code, reason) {
    this.socket = null;
    const why = reason || CODES[code] || `closed with code ${code}`;
    this.on.state("down", "Disconnected", why, code);
    this.soon(this.delayMs * (0.7 + 0.6 * Math.random()));
    this.delayMs = Math.min(this.delayMs * 1.7, LAST_MS);
  }

  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), ms);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  restart() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.soon(0);
  }

  // A half-open connection says nothing: ask now and then, and give up on one that does not answer.
  look() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const quietMs = performance.now() - this.heardAt;
    if (quietMs > DEAD_MS) {
      const socket = this.socket;
      this.lost(1006, "the gateway does not answer");
      socket.close();
    } else if (quietMs > ASK_MS || performance.now() - (this.askedAt ?? 0) > ASK_MS) {
      this.askedAt = performance.now();
      this.send({ action: "status" });
    }
  }
}
