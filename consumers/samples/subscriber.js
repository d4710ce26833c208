// A subscriber in Node.js: npm install zeromq @msgpack/msgpack
// node subscriber.js [EVENTS [QUERY [PREFIX ...]]]     node subscriber.js --vectors   (bodies in hex in, JSON out)
"use strict";
const zmq = require("zeromq");
const { decode, encode } = require("@msgpack/msgpack");

const unpack = (body) => decode(body, { useBigInt64: true }); // ts and offset do not fit a number
const say = (...words) => console.log(words.join(" "));

function plain(value) { // JSON; it has no NaN, no infinity, and JavaScript's writer no BigInt
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) return `{"$float":"${value}"}`;
  if (Array.isArray(value)) return `[${value.map(plain).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).map((key) => `${JSON.stringify(key)}:${plain(value[key])}`).join(",")}}`;
}

async function main(events = "tcp://127.0.0.1:5556", query = "tcp://127.0.0.1:5557", ...prefixes) {
  const socket = new zmq.Subscriber({ receiveTimeout: 3000 });
  let epoch = 0n, joined = 0n, seqs = new Map(); // epoch of the stream, of the snapshot; last number by topic

  async function take(topic, body) {
    const seq = BigInt(body.seq);
    if (BigInt(body.epoch) !== epoch) {
      [epoch, seqs] = [BigInt(body.epoch), new Map()];
      say("# epoch", epoch);
    }
    const before = seqs.get(topic) ?? 0n;
    if (seq <= before) return say("# known", topic, seq); // sent twice, or in the snapshot already
    if (seq > before + 1n && (before || joined === epoch)) say("# gap", topic, seq - before - 1n);
    seqs.set(topic, seq);
    say(topic, plain(body));
    if (topic.startsWith("heartbeat") && joined !== epoch) await snapshot(); // all subscriptions work now
  }

  async function snapshot() {
    const socket = new zmq.Request({ receiveTimeout: 5000, linger: 0 });
    socket.connect(query);
    try {
      for (let cursor = null, rows = 0; ; ) {
        await socket.send(encode({ op: "snapshot", topics: prefixes, cursor }));
        const [packed, ...frames] = await socket.receive();
        const head = unpack(packed);
        if (!head.ok || BigInt(head.epoch) !== epoch) return say("# no snapshot", head.error ?? "of another epoch");
        for (let at = 0; at < frames.length; at += 2) say(String(frames[at]), plain(unpack(frames[at + 1])));
        for (const [topic, seq] of Object.entries(head.seqs)) seqs.set(topic, BigInt(seq));
        [rows, cursor] = [rows + frames.length / 2, head.cursor];
        if (cursor === null) return (joined = epoch), say("# snapshot", rows);
      }
    } catch (error) {
      say("# no snapshot", error.message); // the next heartbeat asks again
    } finally {
      socket.close();
    }
  }

  socket.connect(events);
  for (const prefix of [...(prefixes.length ? prefixes : [""]), "heartbeat"]) socket.subscribe(prefix); // heartbeat last
  for (;;) {
    const frames = await socket.receive().catch((error) => {
      if (error.code !== "EAGAIN") throw error;
    });
    if (frames) await take(String(frames[0]), unpack(frames[1]));
    else say("# silence 3 s");
  }
}

if (process.argv[2] === "--vectors") {
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => say(plain(unpack(Buffer.from(line, "hex")))));
} else main(...process.argv.slice(2));
