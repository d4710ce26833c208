// A subscriber in Node.js: npm install zeromq @msgpack/msgpack; node subscriber.js [EVENTS [QUERY [PREFIX ...]]]
"use strict";
const fs = require("fs");
const zmq = require("zeromq");
const msgpack = require("@msgpack/msgpack");

const decode = (body) => msgpack.decode(body, { useBigInt64: true }); // ts does not fit a number
const short = (key, value) => (typeof value !== "bigint" ? value : value < 2n ** 53n ? Number(value) : String(value));
const json = (body) => JSON.stringify(decode(body), short);
const say = (...words) => console.log(words.join(" "));

function keys(path = process.env.MT4PUMP_KEYS) { // NAME.client, as mt4pump keygen client writes it
  if (!path) return {};
  const key = (name) => fs.readFileSync(path, "utf8").match(new RegExp(`^${name}_key = ["'](.{40})["']`, "m"))[1];
  return { curveServerKey: key("server"), curvePublicKey: key("public"), curveSecretKey: key("secret") };
}

async function main(events = "tcp://127.0.0.1:5556", query = "tcp://127.0.0.1:5557", ...prefixes) {
  const socket = new zmq.Subscriber({ receiveTimeout: 3000, ...keys() });
  let epoch = 0, joined = 0, seqs = new Map(); // epoch of the stream, of the snapshot; last number by topic

  async function receive(topic, packed) {
    const body = decode(packed), seq = Number(body.seq);
    if (Number(body.epoch) !== epoch) {
      [epoch, seqs] = [Number(body.epoch), new Map()];
      say("# epoch", epoch);
    }
    const before = seqs.get(topic) ?? 0;
    if (seq <= before) return say("# known", topic, seq); // sent twice, or in the snapshot already
    if (seq > before + 1 && (before || joined === epoch)) say("# gap", topic, seq - before - 1);
    seqs.set(topic, seq);
    say(topic, json(packed));
    if (topic.startsWith("heartbeat") && joined !== epoch) await snapshot(); // all subscriptions are active
  }

  async function snapshot() {
    const socket = new zmq.Request({ receiveTimeout: 5000, linger: 0, ...keys() });
    socket.connect(query);
    try {
      for (let cursor = null, rows = 0; ; ) {
        await socket.send(msgpack.encode({ op: "snapshot", topics: prefixes, cursor }));
        const [packed, ...frames] = await socket.receive();
        const head = decode(packed);
        if (!head.ok || Number(head.epoch) !== epoch) return say("# no snapshot", head.error ?? "of another epoch");
        for (let at = 0; at < frames.length; at += 2) say(String(frames[at]), json(frames[at + 1]));
        for (const [topic, seq] of Object.entries(head.seqs)) seqs.set(topic, Number(seq));
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
    if (frames) await receive(String(frames[0]), frames[1]);
    else say("# silence 3 s");
  }
}

module.exports = { decode };
if (require.main === module) main(...process.argv.slice(2));
